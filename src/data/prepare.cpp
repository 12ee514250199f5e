// Journal: prepare_state.json in OUTPUT.llama2zh.partial says up to which chunk the input is done, how long
// each file was then, and what the collector knew. It is written after the files it speaks of are on
// the disk. On resuming the files are cut to it; chunks of a half-read file are read again, but not
// tokenised.
#include "llama2zh/data/prepare.h"

#include <chrono>
#include <memory>
#include <optional>

#include "data/store_writer.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/manifest.h"

namespace llama2zh {
namespace {

constexpr const char* kStateFile = "prepare_state.json";
constexpr const char* kHashFile = "hashes";
constexpr uint64_t kMaxBadRowBytes = uint64_t{16} << 20;
constexpr auto kQuiet = std::chrono::seconds(2);

using Clock = std::chrono::steady_clock;

int64_t id_bytes_for(const Tokenizer& tokenizer) { return tokenizer.vocab_size() <= 65536 ? 2 : 4; }

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

// The growing store and its journal.
class StoreBuilder : public RowStorage {
 public:
  StoreBuilder(const fs::path& folder, RowKind kind, const Tokenizer& tokenizer,
               const PrepareOptions& options, ordered_json key)
      : folder_(folder),
        kind_(kind),
        tokenizer_(tokenizer),
        layout_{kind, id_bytes_for(tokenizer), options.shard_tokens},
        splits_(options.held_out > 0),
        key_(std::move(key)) {}

  // Takes up what the folder holds of the same work; else empties it.
  ChunkPlace open(RowCollector& collector) {
    const ordered_json state = read_state();
    if (state.is_null()) {
      for (const auto& entry : fs::directory_iterator(folder_)) fs::remove_all(entry.path());
      open_sets({}, {});
      open_files(0, 0);
      return {};
    }
    open_sets(state.at("sets").at(0), splits_ ? state.at("sets").at(1) : ordered_json());
    open_files(state.at("hashes"), state.at("bad_bytes"));
    RowCollector::State rows;
    rows.counts = {counts_from_json(state.at("counts").at(0)),
                   counts_from_json(state.at("counts").at(1))};
    rows.open = state.at("open");
    rows.open_characters = state.at("open_characters");
    collector.restore(rows, read_hashes());
    return {state.at("file"), state.at("chunk")};
  }

  void append(size_t set, const EncodedRow& row) override { writer(set).append(row); }
  void abandon(size_t set) override { writer(set).abandon(); }
  void note_bad(const std::string& text) override {
    if (bad_rows_->size() < kMaxBadRowBytes)
      bad_rows_->append((text + "\n").data(), text.size() + 1);
  }
  void note_hash(uint64_t hash) override { hashes_->append(&hash, sizeof hash); }

  int64_t tokens() const {
    return train_->written().tokens + (validation_ ? validation_->written().tokens : 0);
  }

  void write_journal(ChunkPlace next, const RowCollector::State& rows) {
    sync();
    ordered_json state = {
        {"key", key_},
        {"file", next.file},
        {"chunk", next.chunk},
        {"counts", {counts_to_json(rows.counts[0]), counts_to_json(rows.counts[1])}},
        {"open", rows.open},
        {"open_characters", rows.open_characters},
        {"hashes", hashes_->size()},
        {"bad_bytes", bad_rows_->size()}};
    state["sets"].push_back(set_state(*train_));
    if (validation_) state["sets"].push_back(set_state(*validation_));
    write_json_file(folder_ / kStateFile, state);
  }

  // Leaves nothing but the store in the folder.
  void finish(const RowCollector::State& rows) {
    sync();
    const bool none_bad = bad_rows_->size() == 0;
    Manifest manifest;
    manifest.kind = kStoreKind;
    manifest.tokenizer_sha256 = tokenizer_.fingerprint();
    manifest.vocab_size = tokenizer_.vocab_size();
    manifest.extra = {{"row_kind", row_kind_name(kind_)},
                      {"id_bytes", layout_.id_bytes},
                      {"key", key_},
                      {"sets", {{kTrainSet, set_json(*train_, rows.counts[kTraining])}}}};
    if (validation_)
      manifest.extra["sets"][kValidationSet] = set_json(*validation_, rows.counts[kHeldOut]);
    train_.reset();
    validation_.reset();
    hashes_.reset();
    bad_rows_.reset();
    fs::remove(folder_ / kStateFile);
    fs::remove(folder_ / kHashFile);
    if (none_bad) fs::remove(folder_ / kBadRowsFile);
    write_manifest(folder_, manifest);
  }

 private:
  SetWriter& writer(size_t set) { return set == kHeldOut ? *validation_ : *train_; }

  static ordered_json set_state(const SetWriter& writer) {
    ordered_json state = set_to_json(writer.written());
    state["open_tokens"] = writer.open_tokens();
    state["open_supervised"] = writer.open_supervised();
    return state;
  }
  static ordered_json set_json(const SetWriter& writer, const RowCounts& counts) {
    StoreSet set = writer.written();
    set.counts = counts;
    return set_to_json(set);
  }

  // Null if there is none of this work.
  ordered_json read_state() const {
    if (!fs::exists(folder_ / kStateFile)) return nullptr;
    ordered_json state = read_ordered_json_file(folder_ / kStateFile);
    if (state.is_object() && state.value("key", ordered_json()) == key_) {
      log_info(cat("going on with the unfinished ", folder_.string()));
      return state;
    }
    log_warning(cat(folder_.string(),
                    " is unfinished work on other files or with other options: starting anew"));
    return nullptr;
  }

  void open_sets(const ordered_json& train, const ordered_json& validation) {
    const auto open = [&](const char* name, const ordered_json& state) {
      StoreSet written;
      if (!state.is_null()) written = set_from_json(state);
      return std::make_unique<SetWriter>(
          folder_, name, layout_, written,
          state.is_null() ? 0 : state.at("open_tokens").get<int64_t>(),
          state.is_null() ? 0 : state.at("open_supervised").get<int64_t>());
    };
    train_ = open(kTrainSet, train);
    if (splits_) validation_ = open(kValidationSet, validation);
  }

  void open_files(uint64_t hashes, uint64_t bad_rows) {
    hashes_ = std::make_unique<GrowingFile>(folder_ / kHashFile, hashes);
    bad_rows_ = std::make_unique<GrowingFile>(folder_ / kBadRowsFile, bad_rows);
  }

  std::vector<uint64_t> read_hashes() const {
    const std::string bytes = read_file(folder_ / kHashFile, uint64_t{1} << 40);
    std::vector<uint64_t> hashes(bytes.size() / 8);
    std::copy(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(hashes.size() * 8),
              reinterpret_cast<char*>(hashes.data()));
    return hashes;
  }

  void sync() {
    train_->sync();
    if (validation_) validation_->sync();
    hashes_->sync();
    bad_rows_->sync();
  }

  fs::path folder_;
  RowKind kind_;
  const Tokenizer& tokenizer_;
  SetWriter::Layout layout_;
  bool splits_;
  ordered_json key_;
  std::unique_ptr<SetWriter> train_, validation_;
  std::unique_ptr<GrowingFile> hashes_, bad_rows_;
};

// Tokenises and journals; false when a stop was asked for.
bool run_files(const DataConfig& config, const PrepareOptions& options, const RowEncoder& encoder,
               RowCollector& collector, StoreBuilder& builder) {
  const ChunkPlace start = builder.open(collector);
  PrepareProgress progress(options.files);
  Clock::time_point journaled = Clock::now();
  int64_t chunks = 0;
  bool stopped = stop_requested();
  if (!stopped && !(config.max_rows > 0 && collector.state().counts[0].rows >= config.max_rows)) {
    encode_files(options.files, start, encoder, config.threads, [&](EncodedChunk& chunk) {
      const bool more = collector.take(chunk);
      if (options.on_chunk) options.on_chunk(++chunks);
      const RowCollector::State& state = collector.state();
      progress.update(chunk, state.counts[0].rows + state.counts[1].rows, builder.tokens(),
                      state.counts[0].bad);
      stopped = stop_requested();
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
    fail_format((folder.path() / kStateFile).string(), error.what(), "remove the folder");
  }
  return PrepareOutcome::kFinished;
}

}  // namespace llama2zh
