#include "data/set_reader.h"

#include <algorithm>

#include "data/encode_files.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/data/token_store.h"

namespace llama2zh {

void note(NamedRowsCount& rows, const std::string& place, int64_t named) {
  if (rows.count++ < named) rows.places.push_back(place);
}

void SetReader::read(const FactsEncoder& encoder, const Tokenizer& tokenizer) {
  Progress progress(report_.name, 0, "rows");
  if (!report_.files.empty()) read_files(encoder, progress);
  for (const StoreSetName& store : report_.stores) read_store(store, encoder, tokenizer, progress);
  progress.finish();
}

void SetReader::read_files(const FactsEncoder& encoder, Progress& progress) {
  encode_files(report_.files, {}, encoder, config_.threads, [&](EncodedChunk& chunk) {
    throw_if_stopped();
    for (const EncodedRow& row : chunk.rows) {
      if (full()) return false;
      if (row.begins) decide(row);
      if (is_mine(row)) take(row, report_.files[chunk.place.file]);
    }
    if (chunk.file_error && side_ != Side::kToTest) note_error(chunk.file_error, report_.bad);
    progress.update(report_.rows);
    return !full();
  });
}

// Rows as they are stored; what they say is read off their tokens.
void SetReader::read_store(const StoreSetName& store, const FactsEncoder& encoder,
                           const Tokenizer& tokenizer, Progress& progress) {
  const std::string where = cat(store.folder, " (", store.set, ")");
  const auto rows = open_token_store(store.folder, store.set);
  deduplicated_ = false;
  for (int64_t i = 0; i < rows->size(); ++i) {
    throw_if_stopped();
    EncodedRow row;
    rows->read(rows->begin(i), static_cast<int64_t>(rows->length(i)), row.ids, row.supervised);
    row.full_length = static_cast<int64_t>(row.ids.size());
    row.facts = encoder.facts_of_text(tokenizer.decode(row.ids), i + 1);
    take(row, where);
    progress.update(report_.rows);
  }
}

// As training counts: rows for training.
bool SetReader::full() const {
  const int64_t rows = side_ == Side::kToTest ? rows_of_training_ : report_.rows;
  return config_.max_rows > 0 && rows >= config_.max_rows;
}

// As RowCollector does. A row that can't be used is training's to report.
void SetReader::decide(const EncodedRow& row) {
  const bool usable = !row.error && !row.filtered && !row.ids.empty();
  deduplicated_ = usable && config_.deduplicate && !texts_.insert(row.hash);
  held_out_ = side_ != Side::kWhole && usable && is_held_out(row.hash, config_.validation_split);
}
bool SetReader::is_mine(const EncodedRow& row) {
  if (side_ == Side::kWhole) return true;
  if (!held_out_ && !deduplicated_ && row.ends && !row.error && !row.ids.empty())
    ++rows_of_training_;
  return held_out_ == (side_ == Side::kToTest);
}

void SetReader::note_error(const std::exception_ptr& problem, NamedRowsCount& rows) const {
  try {
    std::rethrow_exception(problem);
  } catch (const Error& error) {
    note(rows, error.what(), options_.named);
  }
}

void SetReader::take(const EncodedRow& row, const std::string& file) {
  const RowFacts& facts = *row.facts;
  const std::string place = facts.line > 0 ? cat(file, ":", facts.line) : file;
  if (row.begins) {
    length_ = 0;
    spoilt_ = false;
  }
  if (row.error) {
    if (!spoilt_) note_error(row.error, facts.understood ? report_.template_errors : report_.bad);
    spoilt_ = true;
  }
  if (spoilt_) return;
  if (row.filtered) {
    ++report_.filtered;
    return;
  }
  if (row.overlong) note_overlong(row, place);
  if (row.begins && row.ids.empty()) {
    if (!row.overlong) ++report_.blank;
    spoilt_ = true;  // no part of it is used
    return;
  }
  if (deduplicated_) {
    report_.deduplicated += row.begins;
    return;
  }
  add(row, facts, place);
}

void SetReader::note_overlong(const EncodedRow& row, const std::string& place) {
  if (row.ids.empty())
    note(report_.dropped, place, options_.named);
  else
    ++report_.cut;
  report_.tokens_cut += row.full_length - static_cast<int64_t>(row.ids.size());
  if (row.ids.empty()) ++report_.lengths[row.full_length];
}

// Of a text in parts, each part.
void SetReader::add(const EncodedRow& row, const RowFacts& facts, const std::string& place) {
  report_.tokens += static_cast<int64_t>(row.ids.size());
  report_.supervised += row.supervised.empty()
                            ? static_cast<int64_t>(row.ids.size())
                            : std::count(row.supervised.begin(), row.supervised.end(), 1);
  report_.letters += facts.letters;
  length_ += row.full_length;
  if (row.begins) {
    if (options_.duplicates && !seen_.insert(facts.hash))
      note(report_.duplicates, place, options_.named);
    ++report_.languages[static_cast<size_t>(language_of(facts.letters))];
    for (size_t i = 0; i < facts.messages.size(); ++i) report_.messages[i] += facts.messages[i];
  }
  compare(facts, place);
  if (!row.ends) return;
  ++report_.rows;
  ++report_.lengths[length_];
  if (kind_ == RowKind::kPretrain && length_ > config_.block_size) ++report_.split;
}

}  // namespace llama2zh
