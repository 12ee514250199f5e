// llama2zh merge: base + adapters -> a plain model folder, compared with what it was made from.
#include "llama2zh/model/merge.h"

#include <cstdio>
#include <string>
#include <tuple>
#include <vector>

#include "commands/staged_output.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/formats/meta.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/model/load.h"

namespace llama2zh {
namespace {

struct MergeVerbOptions {
  std::string base;
  std::vector<std::string> adapter;
  std::string output;
  std::string format = "hf";
  std::string dtype = "auto";
  std::string tokenizer;
  int64_t parts = 1;
  double max_shard_gb = 5;
  bool compare = true;
  bool allow_other_base = false;
  bool overwrite = false;
  bool json_output = false;
  static auto options() {
    using T = MergeVerbOptions;
    return std::tuple(
        option("base", &T::base, "Base model folder, its vocabulary extended already."),
        option("adapter", &T::adapter,
               "Adapter folders, merged in this order; of trained embeddings and heads the last "
               "one's are taken."),
        option("output", &T::output, "Folder to write."),
        option("format", &T::format,
               "hf (config.json, safetensors) or meta (params.json, consolidated.*.pth).",
               one_of({"hf", "meta"})),
        option("dtype", &T::dtype, "Type of the result; auto: the base's.",
               one_of({"auto", "float32", "bfloat16", "float16"})),
        option("tokenizer", &T::tokenizer,
               "Tokenizer to put beside the weights; empty: the last adapter's, else the base's."),
        option("parts", &T::parts, "Format meta: number of consolidated files.", between(1, 64)),
        option("max_shard_gb", &T::max_shard_gb, "Largest weights file, in GB of 1e9 bytes.",
               greater_than(0)),
        option("compare", &T::compare, "End by comparing logits with base + adapters."),
        option("allow_other_base", &T::allow_other_base,
               "Merge although an adapter's manifest names another base."),
        option("overwrite", &T::overwrite, "Replace the output folder if it is not empty."),
        option("json", &T::json_output, "Report as one JSON object."));
  }
};

CommandSpec merge_spec() {
  return {.verb = "merge",
          .summary =
              "Adds adapters to their base in fp32, rounds once, and writes a folder that needs no "
              "adapter.",
          .examples = {"llama2zh merge --base llama-2-7b-zh --adapter pretrain-out --adapter "
                       "sft-out --output chinese-llama2"},
          .required = {"base", "adapter", "output"}};
}

fs::path find_tokenizer(const MergeVerbOptions& options) {
  if (!options.tokenizer.empty()) return options.tokenizer;
  for (const fs::path& place : {fs::path(options.adapter.back()), fs::path(options.base)})
    if (holds_tokenizer(place)) return place;
  fail_usage("--tokenizer",
             cat("neither ", options.adapter.back(), " nor ", options.base, " holds a tokenizer"),
             "name the tokenizer of the merged model");
}

std::vector<NamedInput> merge_inputs(const MergeVerbOptions& options) {
  std::vector<NamedInput> inputs = {{"--base", options.base}, {"--tokenizer", options.tokenizer}};
  for (const std::string& adapter : options.adapter) inputs.push_back({"--adapter", adapter});
  return inputs;
}

// The comparison's numbers; kData if the merged model is another than base + adapters.
ordered_json compare_checked(const fs::path& merged, const MergeOptions& merge,
                             const std::string& output) {
  const MergeComparison comparison = compare_merge(merged, merge);
  require_agreement(comparison, output);
  return {{"max_logit_difference", comparison.max_abs_difference},
          {"kl_divergence", comparison.mean_kl_divergence},
          {"top1_agreement", comparison.top1_agreement},
          {"positions", comparison.positions}};
}

// Meta's layout is written from the merged Hugging Face folder, which then goes.
void rewrite_as_meta(const fs::path& hf_folder, const fs::path& folder, int parts) {
  const OpenModel merged = open_model(hf_folder);
  write_meta_checkpoint(folder, StoppableSource(*merged.source), merged.config.to_json(), parts);
  fs::copy_file(hf_folder / "tokenizer.model", folder / "tokenizer.model");
  Manifest manifest = read_manifest(hf_folder);
  fs::remove_all(hf_folder);
  write_manifest(folder, manifest);
}

void print_merge(const ordered_json& report, bool json_output) {
  if (json_output) {
    std::puts(report.dump().c_str());
    return;
  }
  std::puts(cat(report["output"].get<std::string>(), ": ",
                with_thousands(report["parameters"].get<int64_t>()), " parameters, vocabulary ",
                report["vocab_size"].get<int64_t>())
                .c_str());
  if (!report.contains("comparison")) return;
  const auto& comparison = report["comparison"];
  std::printf(
      "against base + adapter on %lld positions: largest log-probability difference %.3g, KL "
      "divergence %.3g, same next token %.2f %%\n",
      static_cast<long long>(comparison["positions"].get<int64_t>()),
      comparison["max_logit_difference"].get<double>(), comparison["kl_divergence"].get<double>(),
      100 * comparison["top1_agreement"].get<double>());
}

}  // namespace

int run_merge(const std::vector<std::string>& args) {
  MergeVerbOptions options;
  const OptionTable table = bind_options(options);
  if (parse_command_line(merge_spec(), table, args).help) return 0;

  const bool to_meta = options.format == "meta";
  const auto parts = static_cast<int>(options.parts);
  const Tokenizer tokenizer = load_tokenizer(find_tokenizer(options));
  const OpenModel base = open_model(options.base);
  check_vocabulary(tokenizer, base.config, options.base);
  if (to_meta) check_meta_parts(base.config.to_json(), parts);
  if (to_meta && tokenizer.sentencepiece() == nullptr) {
    fail_usage("--format", "Meta's layout has no place for a byte-level BPE tokenizer",
               "use --format hf");
  }
  MergeOptions merge{.base = options.base,
                     .adapters = {options.adapter.begin(), options.adapter.end()},
                     .output = {},
                     .max_shard_bytes = static_cast<uint64_t>(options.max_shard_gb * 1e9),
                     .dtype = options.dtype,
                     .allow_other_base = options.allow_other_base};
  StagedFolder folder = stage_output(options.output, options.overwrite, merge_inputs(options));
  merge.output = to_meta ? folder.path() / "hf" : folder.path();
  fs::create_directories(merge.output);

  merge_adapters(merge, &tokenizer);
  ordered_json report = {{"output", options.output},
                         {"parameters", base.config.parameter_count()},
                         {"vocab_size", base.config.vocab_size}};
  if (options.compare) report["comparison"] = compare_checked(merge.output, merge, options.output);
  if (to_meta) rewrite_as_meta(merge.output, folder.path(), parts);
  throw_if_stopped();
  folder.commit();
  print_merge(report, options.json_output);
  return 0;
}

}  // namespace llama2zh
