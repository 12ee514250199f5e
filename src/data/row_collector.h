#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "data/encode_files.h"

namespace llama2zh {

// Where kept rows go: set 0 is for training, 1 is held out.
inline constexpr size_t kTraining = 0, kHeldOut = 1;

class RowStorage {
 public:
  virtual ~RowStorage() = default;
  // Appends to the open row, or opens one (row.begins); closes it (row.ends).
  virtual void append(size_t set, const EncodedRow& row) = 0;
  virtual void abandon(size_t set) = 0;         // takes the open row back
  virtual void note_bad(const std::string&) {}  // a row that was skipped, and why
  virtual void note_hash(uint64_t) {}           // of a row that was kept, with deduplicate
};

// Into TokenRows.
class MemoryStorage : public RowStorage {
 public:
  MemoryStorage(TokenRows& train, TokenRows& held_out) : rows_{&train, &held_out} {}
  void append(size_t set, const EncodedRow& row) override;
  void abandon(size_t) override { open_ = {}; }

 private:
  std::array<TokenRows*, 2> rows_;
  EncodedRow open_;
};

// 64-bit hashes that were seen: open addressing, 16 to 32 bytes each.
class HashSet {
 public:
  bool insert(uint64_t hash);  // false: it was there

 private:
  void grow();
  std::vector<uint64_t> slots_;
  size_t used_ = 0;
};

// Whether a split of `share` holds the row out; depends on nothing but the hash of its text.
bool is_held_out(uint64_t hash, double share);

struct CollectorOptions {
  bool skip_bad_rows = false;
  bool deduplicate = false;
  int64_t max_rows = 0;  // 0: all
  double held_out = 0;   // share of the rows, by the hash of their text
};

// Decides in the rows' order what becomes of each row, and counts.
class RowCollector {
 public:
  // What is needed to go on after an interruption, beside the hashes.
  struct State {
    std::array<RowCounts, 2> counts;
    int64_t open = kNone;  // a text whose parts are under way: its set, or kSkipping
    int64_t open_characters = 0;
  };
  static constexpr int64_t kNone = -1, kSkipping = -2;

  RowCollector(const CollectorOptions& options, RowStorage& storage)
      : options_(options), storage_(&storage) {}
  void restore(const State& state, const std::vector<uint64_t>& hashes);

  // False when max_rows are there. A bad row is a kData error unless they are skipped.
  bool take(EncodedChunk& chunk);
  const State& state() const { return state_; }
  // kData if no row was kept.
  void check_not_empty(const std::vector<std::string>& files) const;

 private:
  bool full() const;
  void add(const EncodedRow& row);
  void add_first(const EncodedRow& row);
  void finish_row(size_t set, int64_t characters);
  void note_bad(const std::exception_ptr& problem);
  void abandon_open();

  CollectorOptions options_;
  RowStorage* storage_;
  State state_;
  HashSet seen_;
};

}  // namespace llama2zh
