#pragma once

#include <cstdint>
#include <exception>
#include <string>

#include "data/row_collector.h"
#include "data/row_facts.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/data/data_report.h"

namespace llama2zh {

// One more of them; its place where fewer than `named` are there.
void note(NamedRowsCount& rows, const std::string& place, int64_t named);

// Which rows of files a set has where data.validation_split holds some out.
enum class Side { kWhole, kToTrain, kToTest };

// Counts the rows of one set.
class SetReader {
 public:
  SetReader(SetReport& report, const DataConfig& config, RowKind kind,
            const DataReportOptions& options, Side side)
      : report_(report), config_(config), kind_(kind), options_(options), side_(side) {
    report_.looked_for_duplicates = options.duplicates;
  }
  virtual ~SetReader() = default;

  void read(const FactsEncoder& encoder, const Tokenizer& tokenizer);

 protected:
  // Of each row (or part of a text) that is used, where it can be compared with other sets' rows.
  virtual void compare(const RowFacts&, const std::string& /*place*/) {}
  SetReport& report() { return report_; }

 private:
  void read_files(const FactsEncoder& encoder, Progress& progress);
  void read_store(const StoreSetName& store, const FactsEncoder& encoder,
                  const Tokenizer& tokenizer, Progress& progress);
  bool full() const;
  void decide(const EncodedRow& row);
  bool is_mine(const EncodedRow& row);
  void note_error(const std::exception_ptr& problem, NamedRowsCount& rows) const;
  void take(const EncodedRow& row, const std::string& file);
  void note_overlong(const EncodedRow& row, const std::string& place);
  void add(const EncodedRow& row, const RowFacts& facts, const std::string& place);

  SetReport& report_;
  const DataConfig& config_;
  RowKind kind_;
  const DataReportOptions& options_;
  Side side_;
  int64_t rows_of_training_ = 0;                  // passed over by a reader of held-out rows
  bool held_out_ = false, deduplicated_ = false;  // the row under way
  HashSet seen_, texts_;                          // texts_: with data.deduplicate
  int64_t length_ = 0;                            // of the parts of the row so far
  bool spoilt_ = false;                           // the rest of the row is left out
};

}  // namespace llama2zh
