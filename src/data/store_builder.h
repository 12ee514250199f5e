#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/row_collector.h"
#include "data/store_writer.h"
#include "llama2zh/data/prepare.h"

namespace llama2zh {

// In an unfinished store's folder: what prepare_store() goes on from.
inline constexpr const char* kPrepareStateFile = "prepare_state.json";

// The growing store and its journal. One thread.
class StoreBuilder : public RowStorage {
 public:
  StoreBuilder(const fs::path& folder, RowKind kind, const Tokenizer& tokenizer,
               const PrepareOptions& options, ordered_json key);

  // Takes up what the folder holds of the same work; else empties it.
  ChunkPlace open(RowCollector& collector);

  void append(size_t set, const EncodedRow& row) override { writer(set).append(row); }
  void abandon(size_t set) override { writer(set).abandon(); }
  void note_bad(const std::string& text) override;
  void note_hash(uint64_t hash) override { hashes_->append(&hash, sizeof hash); }

  int64_t tokens() const;
  void write_journal(ChunkPlace next, const RowCollector::State& rows);
  // Leaves nothing but the store in the folder.
  void finish(const RowCollector::State& rows);

 private:
  SetWriter& writer(size_t set) { return set == kHeldOut ? *validation_ : *train_; }
  static ordered_json set_state(const SetWriter& writer);
  static ordered_json set_json(const SetWriter& writer, const RowCounts& counts);
  // Null if there is none of this work.
  ordered_json read_state() const;
  void open_sets(const ordered_json& train, const ordered_json& validation);
  void open_files(uint64_t hashes, uint64_t bad_rows);
  std::vector<uint64_t> read_hashes() const;
  void sync();

  fs::path folder_;
  RowKind kind_;
  const Tokenizer& tokenizer_;
  SetWriter::Layout layout_;
  bool splits_;
  ordered_json key_;
  std::unique_ptr<SetWriter> train_, validation_;
  std::unique_ptr<GrowingFile> hashes_, bad_rows_;
};

}  // namespace llama2zh
