// llama2zh bench train: the rate and memory of optimizer steps on random tokens, the counterpart of
// a peer's script that trains on random ids with the same recipe.
#include <span>
#include <string>
#include <vector>

#include "commands/bench_training.h"
#include "commands/verbs.h"
#include "llama2zh/base/random.h"

namespace llama2zh {
namespace {

// The original system's recipe of pretraining.
RunConfig pretraining_recipe() {
  RunConfig run;
  run.lora.rank = 24;
  run.lora.dropout = 0.1;
  run.data.block_size = 512;
  run.train.micro_batch_size = 2;
  run.train.learning_rate = 1e-4;
  run.train.weight_decay = 0.01;
  return run;
}

// One row of tokens for `blocks` blocks; ids 0 to 2 are the special ones.
TokenRows random_tokens(int64_t blocks, const RunConfig& run, int64_t vocab_size) {
  Random random(static_cast<uint64_t>(run.train.seed));
  const auto count = static_cast<size_t>(blocks * run.data.block_size);
  std::vector<TokenId> ids(count);
  for (TokenId& id : ids) {
    id = static_cast<TokenId>(3 + random.below(static_cast<uint64_t>(vocab_size - 3)));
  }
  TokenRows rows;
  rows.add(ids, std::vector<uint8_t>(count, 1));
  return rows;
}

}  // namespace

int run_bench_train(const std::vector<std::string>& args) {
  BenchOptions bench;
  RunConfig run = pretraining_recipe();
  const CommandSpec spec{
      .verb = "bench train",
      .summary =
          "Times optimizer steps on random tokens, as a run takes them: tokens/s with and without "
          "the optimizer, the share of the machine's matrix products, peak memory. Takes the "
          "options of pretrain; the defaults are the original recipe's.",
      .examples = {"llama2zh bench train --shape m13",
                   "llama2zh bench train --shape m135 --micro-batch-size 4 --json",
                   "llama2zh bench train --config configs/pretrain_7b.json --model.path MODEL"},
      .config_file = true};
  const OptionTable table = bench_option_table(bench, run);
  if (parse_command_line(spec, table, args).help) return 0;

  const BenchModel model = open_bench_model(bench, run);
  const int64_t blocks = (bench.warmup + bench.steps) * run.train.gradient_accumulation_steps *
                         run.train.micro_batch_size;
  const TokenRows rows = random_tokens(blocks, run, model.model->config.vocab_size);
  LoaderOptions options;
  options.block_size = run.data.block_size;
  options.micro_batch_size = run.train.micro_batch_size;
  options.shuffle = false;
  const BatchLoader loader(rows, options);
  const BenchMeasurement measurement = measure_steps(
      *model.model, run.train, sharding_of(run.distributed), loader, bench.warmup, bench.steps);
  print_report(bench_report("train", model, run, measurement), bench.json_output);
  return 0;
}

}  // namespace llama2zh
