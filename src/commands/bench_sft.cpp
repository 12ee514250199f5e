// llama2zh bench sft: rows a second on real dialogues, packed as a run packs them or padded as the
// original recipe did.
#include <string>
#include <vector>

#include "commands/bench_training.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/data/datasets.h"
#include "llama2zh/model/load.h"

namespace llama2zh {
namespace {

// The original system's recipe of fine-tuning; rows in the order of the file.
RunConfig sft_recipe() {
  RunConfig run;
  run.lora.rank = 20;
  run.lora.dropout = 0.1;
  run.data.block_size = 1024;
  run.data.shuffle = false;
  run.train.micro_batch_size = 1;
  run.train.learning_rate = 2e-5;
  return run;
}

void add_row_rates(ordered_json& report, const BenchMeasurement& measurement) {
  const StepTiming sum = measurement.sum();
  const auto rate = [&](int64_t count) {
    return static_cast<double>(count) / sum.backward_seconds;
  };
  const double whole = sum.backward_seconds + sum.update_seconds;
  report["rows"] = sum.rows;
  report["rows_s"] = rate(sum.rows);
  report["rows_s_with_optimizer"] = static_cast<double>(sum.rows) / whole;
  report["supervised_tok_s"] = rate(sum.supervised);
}

}  // namespace

int run_bench_sft(const std::vector<std::string>& args) {
  BenchOptions bench;
  RunConfig run = sft_recipe();
  const CommandSpec spec{
      .verb = "bench sft",
      .summary =
          "Times optimizer steps on real dialogues: rows/s, packed or (--no-packing) padded to "
          "block_size. Takes the options of sft; the defaults are the original recipe's.",
      .examples = {"llama2zh bench sft --shape m13 --model.tokenizer TOKENIZER "
                   "--data.train_files alpaca_zh.json --max-rows 200",
                   "llama2zh bench sft --model.path MODEL --data.train_files rows.json "
                   "--no-packing --json"},
      .required = {"data.train_files"},
      .config_file = true};
  const OptionTable table = bench_option_table(bench, run);
  if (parse_command_line(spec, table, args).help) return 0;

  if (run.model.tokenizer.empty()) run.model.tokenizer = run.model.path;
  if (run.model.tokenizer.empty()) {
    fail_usage("model.tokenizer", "a shape has no tokenizer", "pass --model.tokenizer");
  }
  const Tokenizer tokenizer = load_tokenizer(run.model.tokenizer);
  const Datasets data = load_datasets(run.data, RowKind::kSft, tokenizer);
  const BenchModel model = open_bench_model(bench, run);
  check_vocabulary(tokenizer, model.model->config, model.name, /*allow_padding=*/true);
  LoaderOptions options;
  options.kind = RowKind::kSft;
  options.block_size = run.data.block_size;
  options.micro_batch_size = run.train.micro_batch_size;
  options.packing = run.data.packing;
  options.cross_documents = run.data.cross_documents;
  options.shuffle = run.data.shuffle;
  options.seed = static_cast<uint64_t>(run.train.seed);
  options.pad_id = tokenizer.eos_id();
  const BatchLoader loader(data.train.rows, options);
  const BenchMeasurement measurement = measure_steps(
      *model.model, run.train, sharding_of(run.distributed), loader, bench.warmup, bench.steps);
  ordered_json report = bench_report("sft", model, run, measurement);
  report["packing"] = run.data.packing;
  add_row_rates(report, measurement);
  print_report(report, bench.json_output);
  return 0;
}

}  // namespace llama2zh
