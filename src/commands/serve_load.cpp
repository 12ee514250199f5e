// Clients that measure: each reads its stream as it comes and notes when.
#include "commands/serve_load.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

#include "llama2zh/base/error.h"
#include "llama2zh/base/random.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

using Clock = std::chrono::steady_clock;

class Client {
 public:
  Client(const ServeLoad& load, Clock::time_point zero) : load_(&load), zero_(zero) {}

  // `due`: when it was to be asked; waiting for that counts. Below 0: now.
  LoadOutcome ask(const LoadPrompt& prompt, double due = -1) {
    out_ = {};
    rest_.clear();
    beginning_.clear();
    out_.start = due < 0 ? now() : due;
    HttpCall call = load_->server;
    call.method = "POST";
    call.target = "/v1/completions";
    call.headers.push_back({"Content-Type", "application/json"});
    call.body = body_of(prompt).dump();
    call.on_piece = [this](std::string_view piece) { return read(piece); };
    try {
      const HttpAnswer answer = http_call(call);
      if (answer.status != 200)
        fail(cat("status ", answer.status, ": ", beginning_));
      else if (out_.first == 0)
        fail("there was no text in the answer");
    } catch (const std::exception& error) {  // JSON of an unexpected form, too
      fail(error.what());
    }
    out_.end = now();
    if (out_.output_tokens == 0) out_.output_tokens = pieces_;
    return out_;
  }

 private:
  double now() const { return std::chrono::duration<double>(Clock::now() - zero_).count(); }
  void fail(const std::string& error) {
    if (out_.error.empty()) out_.error = error;
  }
  json body_of(const LoadPrompt& prompt) const {
    json body = {
        {"prompt", prompt.prompt},
        {"max_tokens", prompt.max_tokens},
        {"temperature", 0},
        {"ignore_eos", true},  // of vLLM and llama.cpp too: lengths are as they are asked for
        {"stream", true},
        {"stream_options", {{"include_usage", true}}}};
    if (!load_->model.empty()) body["model"] = load_->model;
    return body;
  }
  bool read(std::string_view piece) {
    if (beginning_.size() < kShown) beginning_ += piece.substr(0, kShown - beginning_.size());
    rest_ += piece;
    for (size_t end = rest_.find('\n'); end != std::string::npos; end = rest_.find('\n')) {
      const std::string line(trim(rest_.substr(0, end)));
      rest_.erase(0, end + 1);
      if (line.starts_with("data: {")) note(json::parse(line.substr(6), nullptr, false));
    }
    return true;
  }
  void note(const json& event) {
    if (!event.is_object()) return fail("a broken event came");
    if (event.contains("error")) return fail(event["error"].dump());
    if (event.contains("usage") && event["usage"].is_object()) {
      out_.prompt_tokens = event["usage"].value("prompt_tokens", int64_t{0});
      out_.output_tokens = event["usage"].value("completion_tokens", int64_t{0});
    }
    const json choices = event.value("choices", json::array());
    if (choices.empty() || choices[0].value("text", "").empty()) return;
    const double time = now();
    if (out_.first == 0) {
      out_.first = time;
      pieces_ = 0;
    } else {
      out_.gaps.push_back(time - last_);
    }
    last_ = time;
    ++pieces_;
  }

  static constexpr size_t kShown = 200;  // of an answer that is none

  const ServeLoad* load_;
  Clock::time_point zero_;
  LoadOutcome out_;
  std::string rest_, beginning_;
  double last_ = 0;
  int64_t pieces_ = 0;
};

void run_closed(const ServeLoad& load, Clock::time_point zero, std::vector<LoadOutcome>& out) {
  std::atomic<size_t> next = 0;
  std::vector<std::thread> clients;
  for (int64_t i = 0; i < load.concurrency; ++i) {
    clients.emplace_back([&] {
      Client client(load, zero);
      for (size_t at = next++; at < load.prompts.size() && !stop_requested(); at = next++)
        out[at] = client.ask(load.prompts[at]);
    });
  }
  for (std::thread& client : clients) client.join();
}

void run_open(const ServeLoad& load, Clock::time_point zero, std::vector<LoadOutcome>& out) {
  Random random(static_cast<uint64_t>(load.seed));
  std::vector<std::thread> clients;
  double at = 0;
  for (size_t i = 0; i < load.prompts.size() && !stop_requested(); ++i) {
    std::this_thread::sleep_until(
        zero + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(at)));
    clients.emplace_back([&, i, at] { out[i] = Client(load, zero).ask(load.prompts[i], at); });
    at += -std::log1p(-random.uniform()) / load.rate;
  }
  for (std::thread& client : clients) client.join();
}

}  // namespace

std::vector<LoadOutcome> run_load(const ServeLoad& load) {
  LoadOutcome never;
  never.error = "not begun";
  std::vector<LoadOutcome> out(load.prompts.size(), never);
  const Clock::time_point zero = Clock::now();
  if (load.rate > 0)
    run_open(load, zero, out);
  else
    run_closed(load, zero, out);
  return out;
}

}  // namespace llama2zh
