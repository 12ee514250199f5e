// llama2zh prepare: raw files to a token store, on all cores, resumable.
#include "llama2zh/data/prepare.h"

#include <cstdio>
#include <string>
#include <tuple>
#include <vector>

#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/data/token_store.h"
#include "llama2zh/model/load.h"
#include "llama2zh/train/run_config.h"

namespace llama2zh {
namespace {

struct PrepareVerbOptions {
  std::string output;
  std::string kind = "auto";
  int64_t shard_tokens = PrepareOptions().shard_tokens;
  static auto options() {
    using T = PrepareVerbOptions;
    return std::tuple(
        option("output", &T::output, "Folder of the token store; it appears when it is whole."),
        option("kind", &T::kind,
               "For pretrain or sft; auto: by the form of the first file's first row.",
               one_of({"auto", "pretrain", "sft"})),
        option("shard_tokens", &T::shard_tokens, "A file ends with the row that reaches so many.",
               between(1024, 1e12)));
  }
};

RowKind kind_of_rows(const std::string& kind, const std::vector<std::string>& files) {
  if (kind != "auto") return kind == "sft" ? RowKind::kSft : RowKind::kPretrain;
  return guess_row_kind(files.front());
}

void print_counted(const char* name, int64_t count) {
  if (count > 0) std::printf("  %-12s %s\n", name, with_thousands(count).c_str());
}

void print_store(const std::string& output) {
  const StoreInfo info = read_store_info(output);
  std::printf("Store: %s, for %s, ids of %lld bytes\n", output.c_str(),
              info.kind == RowKind::kSft ? "sft" : "pretrain",
              static_cast<long long>(info.id_bytes));
  for (const auto& [name, set] : info.sets) {
    std::printf("  %-12s %s rows, %s tokens, %s characters\n", name.c_str(),
                with_thousands(set.rows).c_str(), with_thousands(set.tokens).c_str(),
                with_thousands(set.counts.characters).c_str());
  }
  const RowCounts& counts = info.sets.at("train").counts;
  print_counted("dropped", counts.dropped);
  print_counted("filtered", counts.filtered);
  print_counted("duplicates", counts.duplicates);
  print_counted("overlong", counts.overlong);
  print_counted("bad", counts.bad);
  if (counts.bad > 0)
    std::printf("  first bad row: %s (all: %s/bad_rows.txt)\n", counts.first_bad.c_str(),
                output.c_str());
}

// The exit code.
int prepare(const PrepareVerbOptions& verb, const RunConfig& run) {
  const std::string& path = run.model.tokenizer.empty() ? run.model.path : run.model.tokenizer;
  if (path.empty()) {
    fail_usage("model.tokenizer", "no tokenizer is named",
               "give --model.tokenizer or --model.path");
  }
  if (run.data.train_files.empty())
    fail_usage("data.train_files", "no files are named", "give --train-files");
  const Tokenizer tokenizer = load_tokenizer(path);
  PrepareOptions options;
  options.files = expand_files(run.data.train_files);
  options.output = verb.output;
  options.existing = run.overwrite ? Existing::kReplace : Existing::kRefuse;
  options.held_out = run.data.validation_split;
  options.shard_tokens = verb.shard_tokens;
  install_stop_signals();
  const RowKind kind = kind_of_rows(verb.kind, options.files);
  if (prepare_store(run.data, kind, tokenizer, options) == PrepareOutcome::kStopped) {
    log_info("stopped; the same command goes on from here");
    return 128 + stop_signal();
  }
  print_store(verb.output);
  return 0;
}

}  // namespace

int run_prepare(const std::vector<std::string>& args) {
  CommandSpec spec;
  spec.verb = "prepare";
  spec.summary =
      "Tokenises files into a store that training reads without tokenising again. Takes a run's "
      "configuration: model.tokenizer (or model.path) and the section data count, and "
      "data.validation_split holds texts out by their hash.";
  spec.examples = {
      "llama2zh prepare --tokenizer chinese-llama2 --train-files corpus/ --output zh-tokens",
      "llama2zh prepare --config configs/pretrain_7b.json --output zh-tokens --deduplicate "
      "--validation-split 0.001"};
  spec.required = {"output"};
  spec.config_file = true;
  PrepareVerbOptions verb;
  RunConfig run;
  OptionTable table = bind_options(verb);
  const OptionTable of_run = bind_options(run);
  table.insert(table.end(), of_run.begin(), of_run.end());
  if (parse_command_line(spec, table, args).help) return 0;
  return prepare(verb, run);
}

}  // namespace llama2zh
