// Journal: prepare_state.json in OUTPUT.llama2zh.partial says up to which chunk the input is done, how long
// each file was then, and what the collector knew. It is written after the files it speaks of are on
// the disk. On resuming the files are cut to it; chunks of a half-read file are read again, but not
// tokenised.
#include "data/store_builder.h"

#include <algorithm>
#include <utility>

#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/manifest.h"

namespace llama2zh {
namespace {

constexpr const char* kHashFile = "hashes";
constexpr uint64_t kMaxBadRowBytes = uint64_t{16} << 20;

int64_t id_bytes_for(const Tokenizer& tokenizer) { return tokenizer.vocab_size() <= 65536 ? 2 : 4; }

}  // namespace

StoreBuilder::StoreBuilder(const fs::path& folder, RowKind kind, const Tokenizer& tokenizer,
                           const PrepareOptions& options, ordered_json key)
    : folder_(folder),
      kind_(kind),
      tokenizer_(tokenizer),
      layout_{kind, id_bytes_for(tokenizer), options.shard_tokens},
      splits_(options.held_out > 0),
      key_(std::move(key)) {}

ChunkPlace StoreBuilder::open(RowCollector& collector) {
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

void StoreBuilder::note_bad(const std::string& text) {
  if (bad_rows_->size() < kMaxBadRowBytes) bad_rows_->append((text + "\n").data(), text.size() + 1);
}

int64_t StoreBuilder::tokens() const {
  return train_->written().tokens + (validation_ ? validation_->written().tokens : 0);
}

void StoreBuilder::write_journal(ChunkPlace next, const RowCollector::State& rows) {
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
  write_json_file(folder_ / kPrepareStateFile, state);
}

void StoreBuilder::finish(const RowCollector::State& rows) {
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
  fs::remove(folder_ / kPrepareStateFile);
  fs::remove(folder_ / kHashFile);
  if (none_bad) fs::remove(folder_ / kBadRowsFile);
  write_manifest(folder_, manifest);
}

ordered_json StoreBuilder::set_state(const SetWriter& writer) {
  ordered_json state = set_to_json(writer.written());
  state["open_tokens"] = writer.open_tokens();
  state["open_supervised"] = writer.open_supervised();
  return state;
}

ordered_json StoreBuilder::set_json(const SetWriter& writer, const RowCounts& counts) {
  StoreSet set = writer.written();
  set.counts = counts;
  return set_to_json(set);
}

ordered_json StoreBuilder::read_state() const {
  if (!fs::exists(folder_ / kPrepareStateFile)) return nullptr;
  ordered_json state = read_ordered_json_file(folder_ / kPrepareStateFile);
  if (state.is_object() && state.value("key", ordered_json()) == key_) {
    log_info(cat("going on with the unfinished ", folder_.string()));
    return state;
  }
  log_warning(cat(folder_.string(),
                  " is unfinished work on other files or with other options: starting anew"));
  return nullptr;
}

void StoreBuilder::open_sets(const ordered_json& train, const ordered_json& validation) {
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

void StoreBuilder::open_files(uint64_t hashes, uint64_t bad_rows) {
  hashes_ = std::make_unique<GrowingFile>(folder_ / kHashFile, hashes);
  bad_rows_ = std::make_unique<GrowingFile>(folder_ / kBadRowsFile, bad_rows);
}

std::vector<uint64_t> StoreBuilder::read_hashes() const {
  const std::string bytes = read_file(folder_ / kHashFile, uint64_t{1} << 40);
  std::vector<uint64_t> hashes(bytes.size() / 8);
  std::copy(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(hashes.size() * 8),
            reinterpret_cast<char*>(hashes.data()));
  return hashes;
}

void StoreBuilder::sync() {
  train_->sync();
  if (validation_) validation_->sync();
  hashes_->sync();
  bad_rows_->sync();
}

}  // namespace llama2zh
