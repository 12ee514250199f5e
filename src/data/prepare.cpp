// Tokenising files into a store; what is in the making is in store_builder.cpp.
#include "llama2zh/data/prepare.h"

#include <chrono>
#include <memory>
#include <optional>

#include "data/store_builder.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/manifest.h"

namespace llama2zh {
namespace {

constexpr auto kQuiet = std::chrono::seconds(2);

using Clock = std::chrono::steady_clock;

// Shows how far tokenising is, once it takes longer than kQuiet.
class PrepareProgress {
 public:
  explicit PrepareProgress(const std::vector<std::string>& files) {
    for (const std::string& file : files) {
      before_.push_back(total_);
      std::error_code ignored;
      const uint64_t size = fs::file_size(file, ignored);
      total_ += ignored ? 0 : size;
    }
  }
  void update(const EncodedChunk& chunk, int64_t rows, int64_t tokens, int64_t bad) {
    text_bytes_ += chunk.text_bytes;
    if (!bar_) {
      if (Clock::now() - start_ < kQuiet) return;
      bar_.emplace("tokenizing", megabytes(total_), "MB");
    }
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    char speed[32];
    std::snprintf(speed, sizeof speed, "%.1f", static_cast<double>(text_bytes_) / 1e6 / seconds);
    bar_->update(megabytes(before_[chunk.place.file] + chunk.consumed),
                 cat(speed, " MB/s of text, ", with_thousands(rows), " rows, ",
                     with_thousands(tokens), " tokens", bad > 0 ? cat(", bad ", bad) : ""));
  }
  void finish() {
    if (bar_) bar_->finish();
  }

 private:
  static int64_t megabytes(uint64_t bytes) { return static_cast<int64_t>(bytes / 1000000); }
  std::vector<uint64_t> before_;  // bytes of the files before each
  uint64_t total_ = 0, text_bytes_ = 0;
  Clock::time_point start_ = Clock::now();
  std::optional<Progress> bar_;
};

// Tokenises and journals; false when a stop was asked for.
bool run_files(const DataConfig& config, const PrepareOptions& options, const RowEncoder& encoder,
               RowCollector& collector, StoreBuilder& builder) {
  const ChunkPlace start = builder.open(collector);
  PrepareProgress progress(options.files);
  Clock::time_point journaled = Clock::now();
  int64_t chunks = 0;
  bool stopped = options.stop();
  if (!stopped && !(config.max_rows > 0 && collector.state().counts[0].rows >= config.max_rows)) {
    encode_files(options.files, start, encoder, config.threads, [&](EncodedChunk& chunk) {
      const bool more = collector.take(chunk);
      if (options.on_chunk) options.on_chunk(++chunks);
      const RowCollector::State& state = collector.state();
      progress.update(chunk, state.counts[0].rows + state.counts[1].rows, builder.tokens(),
                      state.counts[0].bad);
      stopped = options.stop();
      const double passed = std::chrono::duration<double>(Clock::now() - journaled).count();
      if (stopped || passed >= options.journal_seconds) {
        ChunkPlace next = chunk.place;
        chunk.ends_file ? (++next.file, next.chunk = 0) : ++next.chunk;
        builder.write_journal(next, state);
        journaled = Clock::now();
      }
      return more && !stopped;
    });
  }
  progress.finish();
  return !stopped;
}

}  // namespace

ordered_json store_key(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer,
                       const PrepareOptions& options) {
  ordered_json key = {{"row_kind", row_kind_name(kind)},
                      {"tokenizer", tokenizer.fingerprint()},
                      {"special_ids", {tokenizer.bos_id(), tokenizer.eos_id()}},
                      {"skip_bad_rows", config.skip_bad_rows},
                      {"deduplicate", config.deduplicate},
                      {"min_characters", config.min_characters},
                      {"max_characters", config.max_characters},
                      {"max_rows", config.max_rows},
                      {"validation_split", options.held_out},
                      {"shard_tokens", options.shard_tokens}};
  if (kind == RowKind::kPretrain) {
    key["field"] = config.field;
    key["txt_documents"] = config.txt_documents;
  } else {
    key["format"] = config.format;
    key["template"] = config.chat_template;
    key["system"] = config.system;
    key["overlong"] = config.overlong;
    key["block_size"] = config.block_size;
  }
  for (const std::string& file : options.files) {
    std::error_code error;
    const fs::path path = fs::weakly_canonical(file, error);
    const auto size = fs::file_size(path, error);
    const auto changed = fs::last_write_time(path, error).time_since_epoch().count();
    if (error) fail_io(file, "the file can't be examined", error.value());
    key["files"].push_back({{"path", path.string()}, {"bytes", size}, {"changed", changed}});
  }
  return key;
}

PrepareOutcome prepare_store(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer,
                             const PrepareOptions& options) {
  const ordered_json key = store_key(config, kind, tokenizer, options);
  const std::unique_ptr<RowEncoder> encoder = RowEncoder::create(config, kind, tokenizer);
  StagedFolder folder(options.output, options.existing, Unfinished::kKeep);
  try {
    StoreBuilder builder(folder.path(), kind, tokenizer, options, key);
    RowCollector collector(
        {config.skip_bad_rows, config.deduplicate, config.max_rows, options.held_out}, builder);
    if (!run_files(config, options, *encoder, collector, builder)) return PrepareOutcome::kStopped;
    collector.check_not_empty(options.files);
    builder.finish(collector.state());
    folder.commit();
  } catch (const fs::filesystem_error& error) {
    fail_io(folder.path().string(), "the store can't be written", error.code().value());
  } catch (const json::exception& error) {
    fail_format((folder.path() / kPrepareStateFile).string(), error.what(), "remove the folder");
  }
  return PrepareOutcome::kFinished;
}

}  // namespace llama2zh
