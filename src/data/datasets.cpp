// Rows in memory: what is small, or looked at once. Training goes by training_data.h.
#include "llama2zh/data/datasets.h"

#include <cstdio>
#include <filesystem>
#include <memory>

#include "data/row_collector.h"
#include "data/set_names.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

struct RowsInMemory {
  NamedRows train, held_out;
};

RowsInMemory read_rows(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer,
                       const CollectorOptions& options, const std::vector<std::string>& files) {
  RowsInMemory result{{"train", {}, {}}, {"validation", {}, {}}};
  const std::unique_ptr<RowEncoder> encoder = RowEncoder::create(config, kind, tokenizer);
  MemoryStorage storage(result.train.rows, result.held_out.rows);
  RowCollector collector(options, storage);
  encode_files(files, {}, *encoder, config.threads,
               [&](EncodedChunk& chunk) { return collector.take(chunk); });
  collector.check_not_empty(files);
  result.train.counts = collector.state().counts[kTraining];
  result.held_out.counts = collector.state().counts[kHeldOut];
  return result;
}

}  // namespace

std::string SetNames::of(const std::string& file) {
  std::filesystem::path name = std::filesystem::path(file).filename();
  if (name.empty()) name = std::filesystem::path(file).parent_path().filename();
  if (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
  const std::string stem = name.stem().string();
  std::string unique = stem;
  for (int i = 2; !taken_.insert(unique).second; ++i) unique = cat(stem, "-", i);
  return unique;
}

void check_split(double asked, SplitSide train, SplitSide held_out) {
  constexpr double kTolerance = 0.05;
  if (train.rows == 0 || held_out.rows == 0) {
    fail_usage(
        "data.validation_split",
        cat("of ", train.rows + held_out.rows, " rows ", held_out.rows, " would be held out"),
        "take another share, or name held-out files with data.validation_files; a .txt is one row "
        "unless data.txt_documents is blank_lines or lines");
  }
  const auto held = static_cast<double>(held_out.tokens);
  const double share = held / (held + static_cast<double>(train.tokens));
  if (share <= 2 * asked || share <= asked + kTolerance) return;
  char percent[16];
  std::snprintf(percent, sizeof percent, "%.1f %%", 100 * share);
  fail_usage("data.validation_split",
             cat("is ", asked, ", but rows are held out whole, which takes ", percent,
                 " of the tokens away from training"),
             "a .txt is one row unless data.txt_documents is blank_lines or lines; or give more "
             "and smaller "
             "files or .jsonl rows, or name held-out files with data.validation_files");
}

Datasets load_datasets(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer) {
  if (config.train_files.empty()) {
    fail_usage("data.train_files", "no training files are named");
  }
  const std::vector<std::string> train_files = expand_files(config.train_files);
  const std::vector<std::string> validation_files = expand_files(config.validation_files);
  const double held_out = validation_files.empty() ? config.validation_split : 0;
  Datasets datasets;
  CollectorOptions options{config.skip_bad_rows, config.deduplicate, config.max_rows, held_out};
  RowsInMemory rows = read_rows(config, kind, tokenizer, options, train_files);
  datasets.train = std::move(rows.train);
  options.max_rows = 0;
  options.held_out = 0;
  SetNames names;
  for (const std::string& file : validation_files) {
    NamedRows set = read_rows(config, kind, tokenizer, options, {file}).train;
    set.name = names.of(file);
    datasets.validation.push_back(std::move(set));
  }
  if (held_out > 0) {
    const TokenRows& train = datasets.train.rows;
    const TokenRows& held = rows.held_out.rows;
    check_split(held_out, {train.size(), train.total_tokens()}, {held.size(), held.total_tokens()});
    datasets.validation.push_back(std::move(rows.held_out));
  }
  return datasets;
}

}  // namespace llama2zh
