#include "serve/access_log.h"

#include <chrono>
#include <ctime>

#include "llama2zh/base/json.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

std::string utc_now() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto millis =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[64];
  const size_t size = std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
  char fraction[8];
  std::snprintf(fraction, sizeof(fraction), ".%03dZ", static_cast<int>(millis));
  return std::string(text, size) + fraction;
}

}  // namespace

std::string access_text(const HttpAccess& access) {
  if (access.request == nullptr) return cat("unreadable request -> ", access.status);
  const HttpRequest& request = *access.request;
  return cat(request.remote, " ", request.method, " ",
             json(request.target).dump(-1, ' ', false, json::error_handler_t::replace), " -> ",
             access.status, ", ", access.sent_bytes, " bytes, ", rounded(access.seconds, 3), " s, ",
             request.id);
}

std::string access_json(const HttpAccess& access) {
  ordered_json out = {{"time", utc_now()}};
  if (access.request != nullptr) {
    out["id"] = access.request->id;
    out["remote"] = access.request->remote;
    out["method"] = access.request->method;
    out["target"] = access.request->target;
    out["user_agent"] = std::string(access.request->header("User-Agent"));
  }
  out["status"] = access.status;
  out["bytes"] = access.sent_bytes;
  out["seconds"] = rounded(access.seconds, 4);
  return out.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace llama2zh
