// Row by row: bad? blank, too long or short? seen before? held out? A text in parts is decided on at
// its first part.
#include "data/row_collector.h"

#include "llama2zh/base/error.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr const char* kSkipAdvice = "correct it, or set data.skip_bad_rows";
constexpr uint64_t kHoldOutSeed = 20230724;

}  // namespace

bool is_held_out(uint64_t hash, double share) {
  if (share <= 0) return false;
  const uint64_t mixed = xxh64({reinterpret_cast<const char*>(&hash), sizeof hash}, kHoldOutSeed);
  return static_cast<double>(mixed >> 11) * 0x1p-53 < share;
}

void MemoryStorage::append(size_t set, const EncodedRow& row) {
  const auto add = [&](const EncodedRow& whole) {
    if (whole.supervised.empty())
      rows_[set]->add(whole.ids, std::vector<uint8_t>(whole.ids.size(), 1));
    else
      rows_[set]->add(whole.ids, whole.supervised);
  };
  if (row.begins && row.ends) return add(row);
  open_.ids.insert(open_.ids.end(), row.ids.begin(), row.ids.end());
  if (!row.ends) return;
  add(open_);
  open_ = {};
}

bool HashSet::insert(uint64_t hash) {
  if (hash == 0) hash = 1;  // 0 marks a free slot
  if (2 * (used_ + 1) > slots_.size()) grow();
  size_t slot = hash & (slots_.size() - 1);
  while (slots_[slot] != 0) {
    if (slots_[slot] == hash) return false;
    slot = (slot + 1) & (slots_.size() - 1);
  }
  slots_[slot] = hash;
  ++used_;
  return true;
}

void HashSet::grow() {
  std::vector<uint64_t> old(std::max<size_t>(1024, 2 * slots_.size()));
  old.swap(slots_);
  used_ = 0;
  for (const uint64_t hash : old) {
    if (hash != 0) insert(hash);
  }
}

void RowCollector::restore(const State& state, const std::vector<uint64_t>& hashes) {
  state_ = state;
  for (const uint64_t hash : hashes) seen_.insert(hash);
}

bool RowCollector::full() const {
  return options_.max_rows > 0 && state_.counts[kTraining].rows >= options_.max_rows;
}

bool RowCollector::take(EncodedChunk& chunk) {
  for (const EncodedRow& row : chunk.rows) {
    if (full()) return false;
    add(row);
  }
  if (chunk.file_error && !full()) {
    abandon_open();
    state_.open = kNone;
    note_bad(chunk.file_error);
  }
  return !full();
}

void RowCollector::add(const EncodedRow& row) {
  if (row.error) {
    if (!row.begins) abandon_open();
    if (row.begins || state_.open != kSkipping) note_bad(row.error);
    state_.open = row.ends ? kNone : kSkipping;
    return;
  }
  if (row.begins) return add_first(row);
  if (state_.open >= 0) {
    const auto set = static_cast<size_t>(state_.open);
    storage_->append(set, row);
    state_.open_characters += row.characters;
    if (row.ends) finish_row(set, state_.open_characters);
  }
  if (row.ends) state_.open = kNone;
}

void RowCollector::add_first(const EncodedRow& row) {
  RowCounts& counts = state_.counts[kTraining];
  if (row.overlong) ++counts.overlong;
  bool kept = false;
  if (row.filtered) {
    ++counts.filtered;
  } else if (row.ids.empty()) {
    ++counts.dropped;
  } else if (options_.deduplicate && !seen_.insert(row.hash)) {
    ++counts.duplicates;
  } else {
    kept = true;
  }
  state_.open = row.ends ? kNone : kSkipping;
  if (!kept) return;
  if (options_.deduplicate) storage_->note_hash(row.hash);
  const size_t set = is_held_out(row.hash, options_.held_out) ? kHeldOut : kTraining;
  storage_->append(set, row);
  if (row.ends) return finish_row(set, row.characters);
  state_.open = static_cast<int64_t>(set);
  state_.open_characters = row.characters;
}

void RowCollector::finish_row(size_t set, int64_t characters) {
  ++state_.counts[set].rows;
  state_.counts[set].characters += characters;
}

void RowCollector::abandon_open() {
  if (state_.open >= 0) storage_->abandon(static_cast<size_t>(state_.open));
}

// A kData error is about one row; others (a file that is cut off, the disk) end the run.
void RowCollector::note_bad(const std::exception_ptr& problem) {
  try {
    std::rethrow_exception(problem);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kData) throw;
    if (!options_.skip_bad_rows) throw Error(ErrorKind::kData, "", error.what(), kSkipAdvice);
    RowCounts& counts = state_.counts[kTraining];
    if (counts.bad++ == 0) counts.first_bad = error.what();
    storage_->note_bad(error.what());
  }
}

void RowCollector::check_not_empty(const std::vector<std::string>& files) const {
  const RowCounts& counts = state_.counts[kTraining];
  if (counts.rows + state_.counts[kHeldOut].rows > 0) return;
  const std::string where = files.size() > 3
                                ? cat(files[0], " and ", files.size() - 1, " more files")
                                : join(files, ", ");
  std::string reason = "the data is empty: no row to use";
  if (counts.dropped > 0) reason += cat("; ", counts.dropped, " blank or too long");
  if (counts.filtered > 0) reason += cat("; ", counts.filtered, " too short or long");
  if (counts.bad > 0) reason += cat("; ", counts.bad, " bad, the first: ", counts.first_bad);
  fail_data(where, reason);
}

}  // namespace llama2zh
