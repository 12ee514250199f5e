// A record is  u64 length | u32 masked crc32c of these 8 bytes | data | u32 masked crc32c of data
// with masked = rotr(crc, 15) + 0xA282EAD8, and data an Event message: wall_time = 1, step = 2,
// file_version = 3 (in the first record only), summary = 5, session_log = 7. A Summary has values
// (1) of a tag (1) and a simple_value (2). A SessionLog of status (1) START (1) with step n tells
// readers that points of step n and later in earlier files are void. Readers take the files of a
// folder in the order of their names, which begin with the time in seconds.
#include "llama2zh/train/event_file.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/wire.h"

namespace llama2zh {
namespace {

constexpr std::string_view kEventPrefix = "events.out.tfevents.";

uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

template <typename Integer>
std::string little_endian(Integer value) {
  std::string bytes;
  for (size_t i = 0; i < sizeof value; ++i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

WireWriter event_at(int64_t step) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  WireWriter event;
  event.fixed64(1, std::chrono::duration<double>(now).count());
  event.varint(2, static_cast<uint64_t>(step));
  return event;
}

std::string host_name() {
  char name[256] = "localhost";
  if (::gethostname(name, sizeof name - 1) != 0) return "localhost";
  return name;
}

// Seconds now, but later than those of any file in the folder, so that the new one sorts last.
int64_t file_time(const fs::path& folder) {
  int64_t seconds = std::time(nullptr);
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kEventPrefix)) continue;
    seconds = std::max<int64_t>(seconds, std::atoll(name.c_str() + kEventPrefix.size()) + 1);
  }
  return seconds;
}

fs::path new_event_file(const fs::path& folder) {
  try {
    fs::create_directories(folder);
    char time[24];
    std::snprintf(time, sizeof time, "%010lld", static_cast<long long>(file_time(folder)));
    return folder / cat(kEventPrefix, time, ".", host_name(), ".", ::getpid(), ".0");
  } catch (const fs::filesystem_error& error) {
    fail_io(folder.string(), "the folder for TensorBoard can't be made", error.code().value());
  }
}

}  // namespace

EventFile::EventFile(const fs::path& folder, int64_t after_step) : path_(new_event_file(folder)) {
  out_.open(path_, std::ios::binary | std::ios::trunc);
  if (!out_) fail_io(path_.string(), "can't be opened for writing", errno);
  WireWriter version = event_at(0);
  version.bytes(3, "brain.Event:2");
  write_record(version.str());
  if (after_step <= 0) return;
  WireWriter session;
  session.varint(1, 1);
  WireWriter start = event_at(after_step + 1);
  start.bytes(7, session.str());
  write_record(start.str());
}

void EventFile::scalar(std::string_view tag, int64_t step, double number) {
  WireWriter value, summary, event = event_at(step);
  value.bytes(1, tag);
  value.fixed32(2, static_cast<float>(number));
  summary.bytes(1, value.str());
  event.bytes(5, summary.str());
  write_record(event.str());
}

void EventFile::write_record(std::string_view event) {
  const std::string length = little_endian(static_cast<uint64_t>(event.size()));
  out_ << length << little_endian(masked_crc(length)) << event << little_endian(masked_crc(event))
       << std::flush;
  if (!out_) fail_io(path_.string(), "can't be written", errno);
}

fs::path event_folder(const fs::path& output_dir, int64_t after_step) {
  const fs::path runs = output_dir / "runs";
  if (after_step > 0 && fs::is_directory(runs)) {
    fs::path newest;
    for (const auto& entry : fs::directory_iterator(runs)) {
      if (!entry.is_directory()) continue;
      if (newest.empty() || entry.last_write_time() > fs::last_write_time(newest)) {
        newest = entry.path();
      }
    }
    if (!newest.empty()) return newest;
  }
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  char text[32];
  std::strftime(text, sizeof text, "%b%d_%H-%M-%S", ::localtime_r(&now, &local));
  return runs / cat(text, "_", host_name());
}

}  // namespace llama2zh
