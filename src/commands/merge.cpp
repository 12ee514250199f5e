// llama2zh merge: base + adapters -> a plain model folder, compared with what it was made from.
#include "llama2zh/model/merge.h"

#include <cstdio>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/formats/meta.h"
#include "llama2zh/formats/peft.h"

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
        option("overwrite", &T::overwrite, "Replace the output folder if it is not empty."),
        option("json", &T::json_output, "Report as one JSON object."));
  }
};

std::unique_ptr<Tokenizer> find_tokenizer(const MergeVerbOptions& options) {
  std::vector<fs::path> places;
  if (!options.tokenizer.empty())
    return std::make_unique<Tokenizer>(Tokenizer::load(options.tokenizer));
  if (fs::exists(fs::path(options.adapter.back()) / "tokenizer.model"))
    places.emplace_back(options.adapter.back());
  places.emplace_back(options.base);
  if (!fs::exists(places.front() / "tokenizer.model")) {
    fail_usage(
        "--tokenizer",
        cat("neither ", options.adapter.back(), " nor ", options.base, " holds a tokenizer.model"),
        "name the tokenizer of the merged model");
  }
  return std::make_unique<Tokenizer>(Tokenizer::load(places.front()));
}

ordered_json compare_json(const MergeComparison& comparison) {
  return {{"max_logit_difference", comparison.max_abs_difference},
          {"kl_divergence", comparison.mean_kl_divergence},
          {"top1_agreement", comparison.top1_agreement},
          {"positions", comparison.positions}};
}

}  // namespace

int run_merge(const std::vector<std::string>& args) {
  MergeVerbOptions options;
  const CommandSpec spec{.verb = "merge",
                         .summary =
                             "Adds adapters to their base in fp32, rounds once, and writes a "
                             "folder that needs no adapter.",
                         .examples = {"llama2zh merge --base llama-2-7b-zh --adapter pretrain-out "
                                      "--adapter sft-out --output chinese-llama2"},
                         .required = {"base", "adapter", "output"}};
  const OptionTable table = bind_options(options);
  if (parse_command_line(spec, table, args).help) return 0;

  const std::unique_ptr<Tokenizer> tokenizer = find_tokenizer(options);
  const OpenModel base = open_model(options.base);
  check_vocabulary(*tokenizer, base.config, options.base);
  StagedFolder folder(options.output, options.overwrite ? Existing::kReplace : Existing::kRefuse);
  const bool to_meta = options.format == "meta";
  // Meta's layout is written from the merged Hugging Face folder, which then goes.
  const fs::path hf_folder = to_meta ? folder.path() / "hf" : folder.path();
  fs::create_directories(hf_folder);

  MergeOptions merge{.base = options.base,
                     .adapters = {options.adapter.begin(), options.adapter.end()},
                     .output = hf_folder,
                     .max_shard_bytes = static_cast<uint64_t>(options.max_shard_gb * 1e9),
                     .dtype = options.dtype};
  merge_adapters(merge, tokenizer.get());
  ordered_json report = {{"output", options.output},
                         {"parameters", base.config.parameter_count()},
                         {"vocab_size", base.config.vocab_size}};
  if (options.compare) {
    const MergeComparison comparison = compare_merge(hf_folder, merge);
    report["comparison"] = compare_json(comparison);
    require_agreement(comparison, options.output);
  }
  if (to_meta) {
    const OpenModel merged = open_model(hf_folder);
    write_meta_checkpoint(folder.path(), *merged.source, merged.config.to_json(),
                          static_cast<int>(options.parts));
    fs::copy_file(hf_folder / "tokenizer.model", folder.path() / "tokenizer.model");
    fs::remove_all(hf_folder);
  }
  folder.commit();

  if (options.json_output) {
    std::puts(report.dump().c_str());
    return 0;
  }
  std::puts(cat(options.output, ": ", with_thousands(base.config.parameter_count()),
                " parameters, vocabulary ", base.config.vocab_size)
                .c_str());
  if (report.contains("comparison")) {
    const auto& comparison = report["comparison"];
    std::printf(
        "against base + adapter on %lld positions: largest log-probability difference %.3g, KL "
        "divergence %.3g, same next token %.2f %%\n",
        static_cast<long long>(comparison["positions"].get<int64_t>()),
        comparison["max_logit_difference"].get<double>(), comparison["kl_divergence"].get<double>(),
        100 * comparison["top1_agreement"].get<double>());
  }
  return 0;
}

}  // namespace llama2zh
