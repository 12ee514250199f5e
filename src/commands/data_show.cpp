// Shows what a run would learn from: its rows as tokens, with those that the loss counts marked.
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "commands/data_source.h"
#include "commands/verbs.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/data/datasets.h"
#include "llama2zh/data/loader.h"
#include "llama2zh/data/token_store.h"
#include "llama2zh/data/training_data.h"
#include "llama2zh/train/run_config.h"

namespace llama2zh {
namespace {

struct DataShowOptions {
  int64_t n = 3;
  std::string kind = "auto";
  int64_t max_tokens = 512;
  bool counts = false;
  bool json = false;
  static auto options() {
    return std::tuple(
        option("n", &DataShowOptions::n, "Training rows to show, from the first.", at_least(0)),
        option("kind", &DataShowOptions::kind,
               "Read the rows as `pretrain` or `sft` would; auto: by the form of the first row.",
               one_of({"auto", "pretrain", "sft"})),
        option("max_tokens", &DataShowOptions::max_tokens,
               "Show at most so many tokens of a row; 0: all. JSON output has all.", at_least(0)),
        option(
            "counts", &DataShowOptions::counts,
            "Read all training files and count rows, tokens and blocks; else only the rows shown "
            "are read."),
        option("json", &DataShowOptions::json,
               "One object {\"ids\", \"pieces\", \"supervised\"} a row."));
  }
};

// What is shown: rows in memory, or a run's mapped ones.
struct ShownRows {
  std::string name;
  const RowSource* rows = nullptr;
  RowCounts counts;
};

struct TokenRow {
  std::vector<TokenId> ids;
  std::vector<uint8_t> supervised;
};

TokenRow read_row(const RowSource& rows, int64_t row) {
  TokenRow result;
  rows.read(rows.begin(row), static_cast<int64_t>(rows.length(row)), result.ids, result.supervised);
  return result;
}

// Control characters of a piece would reach the terminal.
std::string printable(const std::string& piece) {
  std::string out;
  for (const char c : utf8_sanitize(piece)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      out += c;
    } else {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\x%02X", byte);
      out += escaped;
    }
  }
  return out;
}

std::string marked(const std::string& piece, bool supervised, bool colour) {
  if (colour) return cat(supervised ? "\x1b[32m" : "\x1b[2m", piece, "\x1b[0m");
  return supervised ? cat("[", piece, "]") : piece;
}

void print_token_row(const ShownRows& data, int64_t row, const Tokenizer& tokenizer,
                     const DataShowOptions& options) {
  const auto [ids, supervised] = read_row(*data.rows, row);
  const size_t shown = options.max_tokens == 0
                           ? ids.size()
                           : std::min(ids.size(), static_cast<size_t>(options.max_tokens));
  const bool colour = use_colour();
  std::string pieces, numbers;
  for (size_t i = 0; i < shown; ++i) {
    pieces +=
        (i > 0 ? " " : "") + marked(printable(tokenizer.piece(ids[i])), supervised[i] != 0, colour);
    numbers += cat(i > 0 ? " " : "", ids[i]);
  }
  const std::string rest =
      shown < ids.size()
          ? cat(" ... and ", with_thousands(static_cast<int64_t>(ids.size() - shown)), " more")
          : "";
  std::printf("\nrow %lld: %s tokens, %s supervised\n%s%s\nids: %s%s\n",
              static_cast<long long>(row) + 1,
              with_thousands(static_cast<int64_t>(ids.size())).c_str(),
              with_thousands(std::count(supervised.begin(), supervised.end(), 1)).c_str(),
              pieces.c_str(), rest.c_str(), numbers.c_str(), rest.c_str());
}

void print_row_json(const ShownRows& data, int64_t row, const Tokenizer& tokenizer) {
  const auto [ids, supervised] = read_row(*data.rows, row);
  ordered_json out;
  out["ids"] = ids;
  out["pieces"] = ordered_json::array();
  for (const TokenId id : ids) out["pieces"].push_back(utf8_sanitize(tokenizer.piece(id)));
  out["supervised"] = supervised;
  std::puts(out.dump().c_str());
}

LoaderOptions shown_loader(RowKind kind, const RunConfig& run) {
  LoaderOptions loader;
  loader.kind = kind;
  loader.block_size = run.data.block_size;
  loader.packing = run.data.packing;
  loader.cross_documents = run.data.cross_documents;
  loader.shuffle = run.data.shuffle;
  loader.seed = static_cast<uint64_t>(run.train.seed);
  return loader;
}

ordered_json count_rows(const ShownRows& data, RowKind kind, const RunConfig& run) {
  std::vector<int64_t> lengths;
  for (int64_t row = 0; row < data.rows->size(); ++row)
    lengths.push_back(static_cast<int64_t>(data.rows->length(row)));
  std::sort(lengths.begin(), lengths.end());
  const auto quantile = [&](size_t percent) {
    return lengths[(lengths.size() - 1) * percent / 100];
  };
  const RowCounts& counts = data.counts;
  return {{"rows", counts.rows},
          {"bad", counts.bad},
          {"overlong", counts.overlong},
          {"dropped", counts.dropped},
          {"filtered", counts.filtered},
          {"duplicates", counts.duplicates},
          {"characters", counts.characters},
          {"tokens", data.rows->total_tokens()},
          {"supervised", data.rows->total_supervised()},
          {"median_length", quantile(50)},
          {"p95_length", quantile(95)},
          {"max_length", quantile(100)},
          {"block_size", run.data.block_size},
          {"blocks", BatchLoader(*data.rows, shown_loader(kind, run)).batches(0)}};
}

void print_counts(const ordered_json& counts, const std::string& first_bad, bool whole) {
  std::printf("\n%s\n", whole ? "all training rows:" : "of these rows:");
  for (const auto& [key, value] : counts.items()) {
    std::printf("  %-14s %s\n", key.c_str(), with_thousands(value.get<int64_t>()).c_str());
  }
  if (!first_bad.empty()) std::printf("  first bad row: %s\n", first_bad.c_str());
}

void show_source(const ShownRows& source, RowKind kind, const Tokenizer& tokenizer,
                 const DataShowOptions& options, const RunConfig& run) {
  for (int64_t row = 0; row < std::min(options.n, source.rows->size()); ++row) {
    if (options.json)
      print_row_json(source, row, tokenizer);
    else
      print_token_row(source, row, tokenizer, options);
  }
  const ordered_json counts = count_rows(source, kind, run);
  if (!options.json)
    print_counts(counts, source.counts.first_bad, options.counts);
  else if (options.counts)
    std::puts(ordered_json{{"counts", counts}}.dump().c_str());
}

// The sources of a mixture and what an epoch takes of each.
void print_shares(const TrainingData& data, RowKind kind, const RunConfig& run) {
  const auto blocks = BatchLoader(data.mixed_rows(), shown_loader(kind, run)).sources();
  int64_t all = 0;
  for (const auto& source : blocks) all += source.in_epoch;
  std::printf("\nan epoch of the mixture: %s blocks\n", with_thousands(all).c_str());
  for (size_t i = 0; i < blocks.size(); ++i) {
    std::printf("  %s: %.2f %%, %s of %s blocks\n", data.train[i].set.name.c_str(),
                100.0 * static_cast<double>(blocks[i].in_epoch) / static_cast<double>(all),
                with_thousands(blocks[i].in_epoch).c_str(),
                with_thousands(blocks[i].blocks).c_str());
  }
}

// Of stores and mixtures, as a run opens them.
void show_run_data(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer,
                   const DataShowOptions& options, const RunConfig& run) {
  const TrainingData data = open_training_data(config, kind, tokenizer);
  if (data.stopped) return;
  for (const TrainingSource& source : data.train) {
    if (!options.json && data.train.size() > 1) std::printf("\n%s:\n", source.set.name.c_str());
    show_source({source.set.name, source.set.rows.get(), source.set.counts}, kind, tokenizer,
                options, run);
  }
  if (!options.json && data.train.size() > 1) print_shares(data, kind, run);
}

void show_rows(DataShowOptions options, const RunConfig& run) {
  const Tokenizer tokenizer = load_run_tokenizer(run);
  DataConfig data = run.data;
  data.validation_files.clear();
  data.validation_split = 0;
  const RowKind kind = find_row_kind(options.kind, data);
  if (!options.json) {
    std::printf("%s rows, %stokenizer %s (%s pieces); %s\n",
                kind == RowKind::kSft ? "sft" : "pretrain",
                kind == RowKind::kSft ? cat("template ", data.chat_template, ", ").c_str() : "",
                tokenizer.path().string().c_str(), with_thousands(tokenizer.vocab_size()).c_str(),
                use_colour() ? "green tokens are supervised" : "[tokens] are supervised");
  }
  if (!data.mixture.empty() ||
      std::any_of(data.train_files.begin(), data.train_files.end(), is_token_store)) {
    options.counts = options.counts || !options.json;  // all of it is there
    return show_run_data(data, kind, tokenizer, options, run);
  }
  if (!options.counts) {
    const int64_t wanted = std::max<int64_t>(1, options.n);
    data.max_rows = data.max_rows > 0 ? std::min(data.max_rows, wanted) : wanted;
  }
  const NamedRows train = load_datasets(data, kind, tokenizer).train;
  show_source({train.name, &train.rows, train.counts}, kind, tokenizer, options, run);
}

}  // namespace

int run_data_show(const std::vector<std::string>& args) {
  CommandSpec spec;
  spec.verb = "data show";
  spec.summary = "Rows of a run as tokens, with the loss mask.";
  spec.examples = {"llama2zh data show --config configs/sft_7b.json --n 2",
                   "llama2zh data show --config configs/pretrain_7b.json --counts"};
  spec.config_file = true;
  DataShowOptions options;
  RunConfig run;
  OptionTable table = bind_options(options);
  const OptionTable of_run = bind_options(run);
  table.insert(table.end(), of_run.begin(), of_run.end());
  if (parse_command_line(spec, table, args).help) return 0;
  show_rows(options, run);
  return 0;
}

}  // namespace llama2zh
