// The records by their format; tests/oracles/tensorboard_oracle.py reads them with TensorBoard.
#include "llama2zh/train/event_file.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/temp_folder.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/wire.h"
#include "llama2zh/train/train_log.h"

namespace llama2zh {
namespace {

struct ReadEvent {
  int64_t step = 0;
  double wall_time = 0;
  std::string version, tag;
  float value = 0;
  bool starts = false;
};

template <typename Integer>
Integer take(std::string_view& bytes) {
  Integer value{};
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes.remove_prefix(sizeof value);
  return value;
}

uint32_t unmasked(uint32_t masked) {
  const uint32_t rotated = masked - 0xA282EAD8u;
  return (rotated >> 17) | (rotated << 15);
}

ReadEvent parse_event(std::string_view data) {
  ReadEvent event;
  WireReader reader(data, "event");
  for (WireField field; reader.next(field);) {
    if (field.number == 1) event.wall_time = field.as_double();
    if (field.number == 2) event.step = static_cast<int64_t>(field.value);
    if (field.number == 3) event.version = field.bytes;
    if (field.number == 7) event.starts = field.bytes == std::string_view("\x08\x01");
    if (field.number != 5) continue;
    WireReader summary(field.bytes, "summary");
    WireField value;
    EXPECT_TRUE(summary.next(value));
    WireReader parts(value.bytes, "value");
    for (WireField part; parts.next(part);) {
      if (part.number == 1) event.tag = part.bytes;
      if (part.number == 2) event.value = part.as_float();
    }
  }
  return event;
}

std::vector<ReadEvent> read_events(const fs::path& file) {
  const std::string text = read_file(file);
  std::string_view rest = text;
  std::vector<ReadEvent> events;
  while (!rest.empty()) {
    const std::string_view head = rest.substr(0, 8);
    const auto length = take<uint64_t>(rest);
    EXPECT_EQ(unmasked(take<uint32_t>(rest)), crc32c(head));
    const std::string_view data = rest.substr(0, length);
    rest.remove_prefix(length);
    EXPECT_EQ(unmasked(take<uint32_t>(rest)), crc32c(data));
    events.push_back(parse_event(data));
  }
  return events;
}

TEST(EventFile, RecordsOfANewRun) {
  const TempFolder folder;
  EventFile file(folder / "runs/today", 0);
  file.scalar("train/loss", 7, 2.5);
  const auto events = read_events(file.path());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_GT(events[0].wall_time, 1.7e9);
  EXPECT_EQ(events[1].step, 7);
  EXPECT_EQ(events[1].tag, "train/loss");
  EXPECT_EQ(events[1].value, 2.5f);
}

TEST(EventFile, AResumedRunVoidsLaterStepsAndSortsLast) {
  const TempFolder folder;
  const fs::path runs = event_folder(folder.path(), 0);
  const EventFile first(runs, 0);
  EXPECT_EQ(event_folder(folder.path(), 4), runs);
  const EventFile second(event_folder(folder.path(), 4), 4);
  EXPECT_LT(first.path().filename(), second.path().filename());
  const auto events = read_events(second.path());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_TRUE(events[1].starts);
  EXPECT_EQ(events[1].step, 5);
}

TEST(TrainLog, ProgressNoteSaysWhatIsKnown) {
  LogRecord record;
  record.loss = 2.34561;
  record.learning_rate = 1e-4;
  record.grad_norm = 0.5234;
  record.tokens_per_second = 812.3;
  record.memory.allocated = uint64_t{9} << 30;
  EXPECT_EQ(progress_note(record), "loss 2.3456  lr 1.00e-04  grad 0.523  812 tokens/s  9.0 GiB");
  record.mfu = 0.6123;
  EXPECT_EQ(progress_note(record),
            "loss 2.3456  lr 1.00e-04  grad 0.523  812 tokens/s  MFU 61.2%  9.0 GiB");
}

TEST(TrainLog, WritesHuggingFacesTags) {
  const TempFolder folder;
  {
    TrainLog log(folder / "trainer_log.jsonl", 0, /*tensorboard=*/true);
    LogRecord record;
    record.step = 3;
    record.loss = 1.5;
    record.mfu = 0.25;
    log.write(record);
    EvalResult result;
    result.loss = 2;
    result.tokens = 1;
    result.name = "zh";
    log.write(result, 3, 9, 0.5, /*only_set=*/true);
    log.write(result, 3, 9, 0.5, /*only_set=*/false);
  }
  const fs::path runs = event_folder(folder.path(), 1);
  std::map<std::string, float> values;
  for (const auto& entry : fs::directory_iterator(runs)) {
    for (const ReadEvent& event : read_events(entry.path())) values[event.tag] = event.value;
  }
  EXPECT_EQ(values.at("train/loss"), 1.5f);
  EXPECT_EQ(values.at("train/mfu"), 0.25f);
  EXPECT_EQ(values.at("eval/loss"), 2.0f);
  EXPECT_EQ(values.at("eval/zh_loss"), 2.0f);
  for (const char* tag : {"train/grad_norm", "train/learning_rate", "train/epoch"}) {
    EXPECT_EQ(values.count(tag), 1u) << tag;
  }
}

}  // namespace
}  // namespace llama2zh
