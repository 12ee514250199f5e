// Files are read in rounds of a few megabytes: one thread reads rows, all tokenise them, and the
// results are appended in the rows' order, so that the number of threads changes nothing.
#include "llama2zh/data/datasets.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <set>

#include "data/row_encoder.h"
#include "data/row_file.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/random.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr size_t kRoundBytes = size_t{8} << 20;
constexpr size_t kRoundRows = 8192;
// Which rows are held out does not change with the run's seed: validation losses stay comparable.
constexpr uint64_t kSplitSeed = 20230724;
constexpr auto kQuietTime = std::chrono::seconds(2);
constexpr const char* kSkipAdvice = "correct it, or set data.skip_bad_rows";

// Shows how far tokenising is, once it takes longer than kQuietTime.
class TokenizingProgress {
 public:
  void update(const RowCounts& counts, int64_t tokens) {
    if (!bar_) {
      if (std::chrono::steady_clock::now() - start_ < kQuietTime) return;
      bar_ = std::make_unique<Progress>("tokenizing", 0, "rows");
    }
    bar_->update(counts.rows, cat(with_thousands(tokens), " tokens"));
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::unique_ptr<Progress> bar_;
};

// Reads rows until enough for a round; false when the file is at its end. An error of the file
// itself is kept in `error`: the rows before it come first.
bool read_round(RowFile& file, std::vector<RawRow>& rows, std::exception_ptr& error) {
  rows.clear();
  try {
    RawRow row;
    for (size_t bytes = 0; bytes < kRoundBytes && rows.size() < kRoundRows;) {
      if (!file.next(row)) return false;
      bytes += row.text.size();
      rows.push_back(std::move(row));
    }
  } catch (...) {
    error = std::current_exception();
    return false;
  }
  return true;
}

class RowReader {
 public:
  RowReader(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer, int64_t max_rows)
      : skip_bad_(config.skip_bad_rows),
        max_rows_(max_rows),
        encoder_(RowEncoder::create(config, kind, tokenizer)) {}

  NamedRows read(std::string name, const std::vector<std::string>& files) {
    NamedRows result{std::move(name), {}, {}};
    for (const std::string& file : files) {
      if (!full(result)) read_file_rows(file, result);
    }
    if (result.rows.size() == 0) fail_empty(result.counts, files);
    return result;
  }
  // Of each kept row, in order.
  const std::vector<int64_t>& characters() const { return characters_; }

 private:
  bool full(const NamedRows& result) const {
    return max_rows_ > 0 && result.rows.size() >= max_rows_;
  }

  void read_file_rows(const std::string& file, NamedRows& result) {
    std::unique_ptr<RowFile> source = RowFile::open(file);
    std::vector<RawRow> raw;
    std::exception_ptr file_error;
    bool more = true;
    while (more && !full(result)) {
      more = read_round(*source, raw, file_error);
      for (const EncodedRow& row : encoder_->encode(raw, file)) {
        if (full(result)) break;
        add(row, result);
      }
      progress_.update(result.counts, result.rows.total_tokens());
    }
    if (file_error && !full(result)) note_bad(file_error, result.counts);
  }

  void add(const EncodedRow& row, NamedRows& result) {
    RowCounts& counts = result.counts;
    if (row.error) return note_bad(row.error, counts);
    if (row.overlong) ++counts.overlong;
    if (row.ids.empty()) {
      ++counts.dropped;
      return;
    }
    ++counts.rows;
    counts.characters += row.characters;
    characters_.push_back(row.characters);
    result.rows.add(row.ids, row.supervised);
  }

  // A kData error is about one row; others (a file that is cut off, the disk) end the run.
  void note_bad(const std::exception_ptr& problem, RowCounts& counts) const {
    try {
      std::rethrow_exception(problem);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::kData) throw;
      if (!skip_bad_) throw Error(ErrorKind::kData, "", error.what(), kSkipAdvice);
      if (counts.bad++ == 0) counts.first_bad = error.what();
    }
  }

  [[noreturn]] static void fail_empty(const RowCounts& counts,
                                      const std::vector<std::string>& files) {
    const std::string where = files.size() > 3
                                  ? cat(files[0], " and ", files.size() - 1, " more files")
                                  : join(files, ", ");
    std::string reason = "the data is empty: no row to use";
    if (counts.dropped > 0) reason += cat("; ", counts.dropped, " blank or too long");
    if (counts.bad > 0) reason += cat("; ", counts.bad, " bad, the first: ", counts.first_bad);
    fail_data(where, reason);
  }

  bool skip_bad_;
  int64_t max_rows_;
  std::unique_ptr<RowEncoder> encoder_;
  std::vector<int64_t> characters_;
  TokenizingProgress progress_;
};

std::string set_name(const std::string& file, std::set<std::string>& taken) {
  std::filesystem::path name = std::filesystem::path(file).filename();
  if (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
  const std::string stem = name.stem().string();
  std::string unique = stem;
  for (int i = 2; !taken.insert(unique).second; ++i) unique = cat(stem, "-", i);
  return unique;
}

NamedRows hold_out(NamedRows& train, const std::vector<int64_t>& characters, double share) {
  const int64_t n = train.rows.size();
  if (n < 2) {
    fail_usage("data.validation_split", "a single row can't be split",
               "name held-out files with data.validation_files");
  }
  const auto wanted = static_cast<int64_t>(std::llround(share * static_cast<double>(n)));
  std::vector<int64_t> held = permutation(n, kSplitSeed, 0);
  held.resize(static_cast<size_t>(std::clamp<int64_t>(wanted, 1, n - 1)));
  std::sort(held.begin(), held.end());
  NamedRows validation{"validation", train.rows.take(held), {}};
  validation.counts.rows = validation.rows.size();
  for (const int64_t row : held)
    validation.counts.characters += characters[static_cast<size_t>(row)];
  train.counts.rows = train.rows.size();
  train.counts.characters -= validation.counts.characters;
  return validation;
}

}  // namespace

Datasets load_datasets(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer) {
  if (config.train_files.empty()) {
    fail_usage("data.train_files", "no training files are named");
  }
  const std::vector<std::string> train_files = expand_files(config.train_files);
  const std::vector<std::string> validation_files = expand_files(config.validation_files);
  Datasets datasets;
  RowReader training(config, kind, tokenizer, config.max_rows);
  datasets.train = training.read("train", train_files);
  RowReader validation(config, kind, tokenizer, 0);
  std::set<std::string> names = {"train"};
  for (const std::string& file : validation_files)
    datasets.validation.push_back(validation.read(set_name(file, names), {file}));
  if (validation_files.empty() && config.validation_split > 0)
    datasets.validation.push_back(
        hold_out(datasets.train, training.characters(), config.validation_split));
  return datasets;
}

}  // namespace llama2zh
