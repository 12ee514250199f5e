// llama2zh data stats and data check: what the rows of a run are, and whether something is wrong with
// them.
#include "commands/data_report.h"

#include <cstdio>
#include <filesystem>
#include <tuple>

#include "commands/data_source.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/memory.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/plot/histogram.h"
#include "llama2zh/plot/png.h"

namespace llama2zh {
namespace {

struct DataReportVerb {
  std::string kind = "auto";
  std::string plot;
  int64_t ngram = 13;
  double ngram_share = 0.5;
  int64_t named = 10;
  bool duplicates = true;
  bool json = false;
  static auto options() {
    using T = DataReportVerb;
    return std::tuple(
        option("kind", &T::kind,
               "Read the rows as `pretrain` or `sft` would; auto: by the form of the first row.",
               one_of({"auto", "pretrain", "sft"})),
        option("plot", &T::plot,
               "Draw the lengths of the training rows into this .svg or .png; empty: don't."),
        option("ngram", &T::ngram,
               "Characters (Chinese) or words in a row that test and training rows are compared "
               "by.",
               between(1, 1000)),
        option("ngram_share", &T::ngram_share,
               "A test row overlaps if training has this share of its n-grams.", between(1e-6, 1)),
        option("named", &T::named, "Name so many rows of each kind at most.", at_least(0)),
        option(
            "duplicates", &T::duplicates,
            "Look for duplicates, in 16 to 32 bytes a row; without, memory does not grow with the "
            "rows."),
        option("json", &T::json, "The report as one JSON object."));
  }
};

void draw_lengths(const DataReport& report, const DataConfig& config, const std::string& output) {
  HistogramOptions chart;
  chart.title = cat("Lengths of ", with_thousands(report.train.rows), " training rows");
  chart.x = "tokens in a row, before anything is cut";
  chart.y = "rows";
  const int64_t median = report.train.length_at(0.5), high = report.train.length_at(0.95);
  chart.marks = {{static_cast<double>(median), cat("median ", with_thousands(median))},
                 {static_cast<double>(high), cat("95 % ", with_thousands(high))},
                 {static_cast<double>(config.block_size),
                  cat("block_size ", with_thousands(config.block_size))}};
  std::string picture = draw_histogram(report.train.lengths, chart);
  if (fs::path(output).extension() == ".png")
    picture = svg_to_png(picture, chart.width, chart.height, 2);
  write_file_atomic(output, picture);
}

void check_plot(const std::string& output) {
  const std::string kind = fs::path(output).extension();
  if (!output.empty() && kind != ".svg" && kind != ".png")
    fail_usage("plot", cat("'", output, "' is neither .svg nor .png"),
               "name a file with one of these endings");
}

// The problems that were found.
std::vector<std::string> run_report(const CommandSpec& spec, const std::vector<std::string>& args) {
  DataReportVerb verb;
  RunConfig run;
  OptionTable table = bind_options(verb);
  const OptionTable of_run = bind_options(run);
  table.insert(table.end(), of_run.begin(), of_run.end());
  if (parse_command_line(spec, table, args).help) return {};
  check_plot(verb.plot);
  const Tokenizer tokenizer = load_run_tokenizer(run);
  const RowKind kind = find_row_kind(verb.kind, run.data);
  const DataReportOptions options{verb.ngram, verb.ngram_share, verb.named, verb.duplicates};
  give_back_freed_memory();
  const DataReport report = report_data(run.data, kind, tokenizer, options);
  if (!verb.plot.empty()) draw_lengths(report, run.data, verb.plot);
  ordered_json out = data_report_json(report, run.data, options);
  std::vector<std::string> problems = data_problems(report);
  out["problems"] = problems;
  std::fputs((verb.json ? out.dump() + "\n" : data_report_text(out)).c_str(), stdout);
  return problems;
}

CommandSpec report_spec(const std::string& verb, const std::string& summary) {
  return {.verb = verb,
          .summary = summary,
          .examples = {cat("llama2zh ", verb, " --config configs/sft_7b.json"),
                       cat("llama2zh ", verb,
                           " train.json --data.validation-files test.json --model.tokenizer "
                           "llama-2-7b-zh --plot lengths.svg"),
                       cat("llama2zh ", verb, " store --model.tokenizer llama-2-7b-zh")},
          .positional = {"data.train_files"},
          .config_file = true};
}

}  // namespace

int run_data_stats(const std::vector<std::string>& args) {
  run_report(report_spec("data stats",
                         "What the rows of a run are: lengths in tokens, roles, languages, bad "
                         "rows, duplicates, over-long rows and what the configuration does with "
                         "them, and how much of the test rows training has. Only reports."),
             args);
  return 0;
}

int run_data_check(const std::vector<std::string>& args) {
  const std::vector<std::string> problems =
      run_report(report_spec("data check",
                             "As `data stats`; exit status 1 if there are bad rows, rows that the "
                             "template can't encode, duplicates in a set, rows dropped for their "
                             "length, test rows in training (whole, or by n-grams), or no row."),
                 args);
  return problems.empty() ? 0 : 1;
}

}  // namespace llama2zh
