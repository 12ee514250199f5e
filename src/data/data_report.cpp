// Test sets first, with the n-grams of their rows; then training rows stream by and mark which of these
// they have. What is counted of a row does not depend on others but for duplicates, of which the hash is
// kept.
#include "llama2zh/data/data_report.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "data/row_facts.h"
#include "data/set_names.h"
#include "data/set_reader.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/data/token_store.h"

namespace llama2zh {
namespace {

// What is kept of a test row until the training rows were seen.
struct TestRow {
  size_t set = 0;
  std::string place;
  uint64_t hash = 0;
  std::vector<uint64_t> grams;
};

class TestReader : public SetReader {
 public:
  TestReader(SetReport& report, const DataConfig& config, RowKind kind,
             const DataReportOptions& options, Side side, size_t set, std::vector<TestRow>& rows)
      : SetReader(report, config, kind, options, side), set_(set), rows_(rows) {}

 protected:
  void compare(const RowFacts& facts, const std::string& place) override {
    rows_.push_back({set_, place, facts.hash, facts.gram_hashes});
  }

 private:
  size_t set_;
  std::vector<TestRow>& rows_;
};

// What of the test rows was met in training rows.
struct SeenInTraining {
  std::unordered_map<uint64_t, bool> rows;  // by hash
  std::vector<bool> grams;                  // by number in the index
};

class TrainReader : public SetReader {
 public:
  TrainReader(SetReport& report, const DataConfig& config, RowKind kind,
              const DataReportOptions& options, Side side, SeenInTraining& seen)
      : SetReader(report, config, kind, options, side), seen_(seen) {}

 protected:
  void compare(const RowFacts& facts, const std::string&) override {
    const auto row = seen_.rows.find(facts.hash);
    if (row != seen_.rows.end()) row->second = true;
    for (const int64_t gram : facts.grams_in_test) seen_.grams[static_cast<size_t>(gram)] = true;
  }

 private:
  SeenInTraining& seen_;
};

// Files as they are expanded; a store gives rows of `set`.
void add_names(SetReport& report, const std::vector<std::string>& names, const std::string& set,
               const Tokenizer& tokenizer) {
  std::vector<std::string> patterns;
  for (const std::string& name : names) {
    if (!is_token_store(name)) {
      patterns.push_back(name);
      continue;
    }
    const StoreInfo info = read_store_info(name);
    if (info.tokenizer_sha256 != tokenizer.fingerprint())
      fail_format(name, "the store was made with another tokenizer than the one named",
                  "name the tokenizer that it was made with");
    if (info.sets.count(set) != 0) report.stores.push_back({name, set});
  }
  if (!patterns.empty()) report.files = expand_files(patterns);
}

std::vector<std::string> training_names(const DataConfig& config) {
  std::vector<std::string> names = config.train_files;
  for (const MixtureSource& source : config.mixture) names.push_back(source.path);
  if (names.empty()) fail_usage("data.train_files", "no training files are named");
  return names;
}

// As training has them: the validation files or, without any, what is held out of training's.
std::vector<SetReport> test_sets(const DataConfig& config, const Tokenizer& tokenizer) {
  std::vector<SetReport> sets;
  if (config.validation_files.empty()) {
    SetReport held_out;
    held_out.name = "validation";
    add_names(held_out, training_names(config), "validation", tokenizer);
    if (config.validation_split <= 0) held_out.files.clear();
    if (!held_out.files.empty() || !held_out.stores.empty()) sets.push_back(std::move(held_out));
    return sets;
  }
  SetNames names;
  for (const std::string& name : config.validation_files) {
    SetReport named;
    add_names(named, {name}, "train", tokenizer);
    for (const std::string& file : named.files) {
      sets.emplace_back().name = names.of(file);
      sets.back().files = {file};
    }
    if (named.stores.empty()) continue;
    sets.emplace_back().name = names.of(name);
    sets.back().stores = named.stores;
  }
  return sets;
}

void judge_test_rows(const std::vector<TestRow>& rows, const GramIndex& index,
                     const SeenInTraining& seen, const DataReportOptions& options,
                     std::vector<SetReport>& sets) {
  for (const TestRow& row : rows) {
    SetReport& set = sets[row.set];
    if (seen.rows.at(row.hash)) note(set.in_training, row.place, options.named);
    if (row.grams.empty()) {
      ++set.too_short_for_grams;
      continue;
    }
    const auto shared = std::count_if(row.grams.begin(), row.grams.end(), [&](uint64_t gram) {
      return seen.grams[static_cast<size_t>(index.find(gram))];
    });
    if (static_cast<double>(shared) >= options.gram_share * static_cast<double>(row.grams.size()))
      note(set.overlapping, row.place, options.named);
  }
}

}  // namespace

int64_t SetReport::length_at(double share) const {
  int64_t all = 0;
  for (const auto& [length, count] : lengths) all += count;
  auto left = static_cast<int64_t>(std::floor(static_cast<double>(all - 1) * share)) + 1;
  for (const auto& [length, count] : lengths) {
    left -= count;
    if (left <= 0) return length;
  }
  return 0;
}

DataReport report_data(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer,
                       const DataReportOptions& options) {
  DataReport report;
  report.train.name = "train";
  add_names(report.train, training_names(config), "train", tokenizer);
  report.test = test_sets(config, tokenizer);
  const bool split = config.validation_files.empty() && config.validation_split > 0;
  const auto gram_size = static_cast<size_t>(options.gram_size);
  DataConfig of_test = config;
  if (!split) of_test.max_rows = 0;
  std::vector<TestRow> test_rows;
  const FactsEncoder keeper(config, kind, tokenizer, gram_size, nullptr);
  for (size_t i = 0; i < report.test.size(); ++i) {
    const Side side = split ? Side::kToTest : Side::kWhole;
    TestReader(report.test[i], of_test, kind, options, side, i, test_rows).read(keeper, tokenizer);
  }

  SeenInTraining seen;
  std::vector<uint64_t> grams;
  for (const TestRow& row : test_rows) {
    seen.rows.emplace(row.hash, false);
    grams.insert(grams.end(), row.grams.begin(), row.grams.end());
  }
  const GramIndex index(std::move(grams));
  seen.grams.resize(index.size());
  const FactsEncoder finder(config, kind, tokenizer, gram_size, &index);
  TrainReader(report.train, config, kind, options, split ? Side::kToTrain : Side::kWhole, seen)
      .read(finder, tokenizer);
  judge_test_rows(test_rows, index, seen, options, report.test);
  return report;
}

}  // namespace llama2zh
