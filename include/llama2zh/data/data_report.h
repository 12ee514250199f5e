#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "llama2zh/data/datasets.h"
#include "llama2zh/tokenizer/text_count.h"

namespace llama2zh {

struct DataReportOptions {
  int64_t gram_size = 13;   // characters of Chinese, words of other languages
  double gram_share = 0.5;  // of a test row's n-grams in training rows that makes it contaminated
  int64_t named = 10;       // rows of each kind that are named
  bool duplicates = true;   // looked for; costs 16 to 32 bytes a row
};

// How often something happened, and where the first times.
struct NamedRowsCount {
  int64_t count = 0;
  std::vector<std::string> places;  // "file:line", of bad rows the whole message
};

struct StoreSetName {
  std::string folder, set;
};

// One set of files and stores, read as training reads it. A store's rows are what training sees:
// bad, blank and over-long ones are gone or cut already, roles are part of the text.
struct SetReport {
  std::string name;
  std::vector<std::string> files;
  std::vector<StoreSetName> stores;
  int64_t rows = 0;  // that can be used
  int64_t blank = 0, filtered = 0;
  int64_t deduplicated = 0;        // left out by data.deduplicate: to the letter an earlier row
  NamedRowsCount bad;              // no JSON, no known form, a file that is cut off
  NamedRowsCount template_errors;  // of a known form that the template can't encode or learn from
  NamedRowsCount duplicates;       // of an earlier row, but for case, spaces and punctuation
  bool looked_for_duplicates = true;
  // Rows longer than block_size, by what the configuration does with them.
  NamedRowsCount dropped;
  int64_t cut = 0, split = 0, tokens_cut = 0;
  std::map<int64_t, int64_t> lengths;  // tokens, before anything is cut -> rows
  int64_t tokens = 0, supervised = 0;  // after it
  LetterCounts letters;
  std::array<int64_t, kLanguageNames.size()> languages{};  // rows
  std::array<int64_t, 4> messages{};                       // by Role
  // Of test sets: rows that training has too, and those with gram_share of their n-grams there.
  // Rows of fewer units than an n-gram has are only compared whole.
  NamedRowsCount in_training, overlapping;
  int64_t too_short_for_grams = 0;

  int64_t length_at(double share) const;  // quantile of the rows' lengths; 0 without rows
};

struct DataReport {
  SetReport train;
  std::vector<SetReport> test;
};

// Reads all rows once, in bounded memory but for 16 to 32 bytes a row where duplicates are looked for, and of test rows
// some 32 bytes an n-gram. Bad rows are counted whatever skip_bad_rows says; max_rows holds of files.
// Files and stores as in open_training_data(): without validation files, what validation_split holds
// out (of a store, what it held out when it was made) is a test set. kFormat for a store of another
// tokenizer.
DataReport report_data(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer,
                       const DataReportOptions& options);

}  // namespace llama2zh
