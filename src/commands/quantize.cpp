// llama2zh quantize: a model's matrices in 8 or 4 bits, and what that changed.
#include "llama2zh/model/quantize.h"

#include <cstdio>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "commands/staged_output.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/data/datasets.h"
#include "llama2zh/eval/compare_models.h"
#include "llama2zh/model/load.h"

namespace llama2zh {
namespace {

constexpr int64_t kAutoGroup = 0;

struct QuantizeVerbOptions {
  std::string model;
  std::string output;
  int64_t bits = 8;
  int64_t group_size = kAutoGroup;
  std::string method = "rtn";
  std::vector<std::string> calibration;
  int64_t calibration_tokens = 16384;
  bool lm_head = false;
  bool embed_tokens = false;
  std::string activations = "int8";
  std::vector<std::string> evaluate;
  int64_t evaluate_tokens = 4096;
  std::string field = "auto";
  std::string tokenizer;
  double max_shard_gb = 5;
  bool overwrite = false;
  bool json_output = false;
  static auto options() {
    using T = QuantizeVerbOptions;
    return std::tuple(
        option("model", &T::model, "Model folder (or file) to quantize."),
        option("output", &T::output, "Folder to write."),
        option("bits", &T::bits, "Bits of a weight: 8 or 4.", between(4, 8)),
        option("group_size", &T::group_size,
               "Neighbours in a row that share a scale: 32, 64, 128; -1: the whole row. 0: 32 with "
               "4 bits, -1 with 8.",
               between(-1, 128)),
        option("method", &T::method,
               "rtn: to the nearest. gptq: chosen so that the layers' outputs on --calibration "
               "change least. awq: to the nearest, with the inputs that carry most on "
               "--calibration scaled up first.",
               one_of({"rtn", "gptq", "awq"})),
        option("calibration", &T::calibration,
               "gptq, awq: text files like what the model will read (.txt, .json, .jsonl, .gz, "
               ".zst)."),
        option("calibration_tokens", &T::calibration_tokens,
               "Tokens of them to use, in sequences of 512.", at_least(512)),
        option("lm_head", &T::lm_head, "Quantize the head too, to the nearest where it is tied."),
        option("embed_tokens", &T::embed_tokens, "Quantize the embeddings too."),
        option("activations", &T::activations,
               "Of products in use. int8: rounded by groups, fast. float: as they are.",
               one_of({"int8", "float"})),
        option("evaluate", &T::evaluate,
               "Text files on which the result is compared with the source: perplexity of both, KL "
               "divergence, largest logit difference."),
        option("evaluate_tokens", &T::evaluate_tokens, "Tokens of each file to use.", at_least(16)),
        option("field", &T::field, "JSON key of texts; auto takes input or text."),
        option("tokenizer", &T::tokenizer, "Tokenizer; empty: the model's."),
        option("max_shard_gb", &T::max_shard_gb, "Largest weights file, in GB of 1e9 bytes.",
               greater_than(0)),
        option("overwrite", &T::overwrite, "Replace the output folder if it is not empty."),
        option("json", &T::json_output, "Report as one JSON object."));
  }
};

CommandSpec quantize_spec() {
  return {
      .verb = "quantize",
      .summary = "Writes a model with int8 or int4 weights, which every verb reads like any other.",
      .examples = {"llama2zh quantize --model chinese-llama2 --bits 8 --output "
                   "chinese-llama2-int8 --evaluate zh.txt en.txt",
                   "llama2zh quantize --model chinese-llama2 --bits 4 --method gptq "
                   "--calibration zh.jsonl en.jsonl --lm-head --output chinese-llama2-int4"},
      .required = {"model", "output"}};
}

QuantizationConfig quantization_of(const QuantizeVerbOptions& options) {
  QuantizationConfig config;
  if (options.bits != 4 && options.bits != 8)
    fail_usage("--bits", cat("is ", options.bits), "expected 4 or 8");
  const int64_t group = options.group_size;
  if (group != kAutoGroup && group != -1 && group != 32 && group != 64 && group != 128)
    fail_usage("--group-size", cat("is ", group), "expected -1, 32, 64 or 128");
  if (options.method != "rtn" && options.calibration.empty())
    fail_usage(cat("--method ", options.method), "it needs text to calibrate on",
               "give --calibration FILE");
  if (options.method == "rtn" && !options.calibration.empty())
    fail_usage("--calibration", "--method rtn does not use it",
               "leave it out, or choose --method gptq or awq");
  config.bits = options.bits;
  config.group_size = group == kAutoGroup ? (options.bits == 4 ? 32 : -1) : group;
  config.method = options.method;
  config.lm_head = options.lm_head;
  config.embed_tokens = options.embed_tokens;
  config.activations = options.activations;
  return config;
}

// The first tokens of files, in the order of the files, `most` at the most.
std::vector<TokenId> tokens_of(const std::vector<std::string>& files,
                               const QuantizeVerbOptions& options, const Tokenizer& tokenizer,
                               int64_t most) {
  std::vector<TokenId> ids;
  for (const std::string& file : files) {
    const size_t share = ids.size() + static_cast<size_t>(most) / files.size();
    for_each_text(file, options.field, [&](std::string_view text, std::string_view) {
      if (ids.size() >= share) return;
      // Encoding costs more than reading: no more of a book than can be of use.
      const size_t enough = (share - ids.size()) * 16;
      std::string_view part = text.substr(0, std::min(text.size(), enough));
      while (part.size() < text.size() && !part.empty() &&
             (static_cast<unsigned char>(text[part.size()]) & 0xC0) == 0x80)
        part.remove_suffix(1);
      const std::vector<TokenId> more = tokenizer.encode(part);
      const size_t count = std::min(more.size(), share - ids.size());
      ids.insert(ids.end(), more.begin(), more.begin() + static_cast<std::ptrdiff_t>(count));
    });
  }
  if (ids.size() < 16) fail_data(files.front(), "the files hold too little text to work with");
  return ids;
}

std::vector<std::vector<int64_t>> calibration_sequences(const QuantizeVerbOptions& options,
                                                        const Tokenizer& tokenizer,
                                                        const LlamaConfig& config) {
  if (options.calibration.empty()) return {};
  const std::vector<TokenId> ids =
      tokens_of(options.calibration, options, tokenizer, options.calibration_tokens);
  const auto length = static_cast<size_t>(std::min<int64_t>(512, config.context_length()));
  std::vector<std::vector<int64_t>> sequences;
  for (size_t begin = 0; begin < ids.size(); begin += length - 1) {
    std::vector<int64_t> sequence = {tokenizer.bos_id()};
    const size_t end = std::min(ids.size(), begin + length - 1);
    sequence.insert(sequence.end(), ids.begin() + static_cast<std::ptrdiff_t>(begin),
                    ids.begin() + static_cast<std::ptrdiff_t>(end));
    sequences.push_back(std::move(sequence));
  }
  return sequences;
}

// What quantizing has changed, file by file; the folder is read back for it.
ordered_json measure(const OpenModel& source, const OpenModel& result,
                     const QuantizeVerbOptions& options, const Tokenizer& tokenizer) {
  ordered_json rows = ordered_json::array();
  if (options.evaluate.empty()) return rows;
  const at::ScalarType dtype = parse_dtype("auto", source.config, at::kCPU);
  const auto reference = load_model(source, dtype, at::kCPU);
  const auto model = load_model(result, dtype, at::kCPU);
  for (const std::string& file : options.evaluate) {
    const std::vector<TokenId> ids = tokens_of({file}, options, tokenizer, options.evaluate_tokens);
    Progress progress("comparing on " + file, static_cast<int64_t>(ids.size()), "tokens");
    int64_t done = 0;
    const ModelDistance distance =
        compare_models(*reference, *model, tokenizer.bos_id(), ids,
                       std::min<int64_t>(512, source.config.context_length()),
                       [&](int64_t tokens) { progress.update(done += tokens); });
    progress.finish();
    rows.push_back({{"file", file},
                    {"tokens", distance.positions},
                    {"source_perplexity", distance.reference_perplexity()},
                    {"perplexity", distance.perplexity()},
                    {"kl_divergence", distance.mean_kl()},
                    {"max_logit_difference", distance.max_logit_difference},
                    {"top1_agreement", distance.top1_agreement()}});
  }
  return rows;
}

void print_report(const ordered_json& report) {
  std::printf("%s: %s instead of %s, %.2f bits a weight\n",
              report["output"].get<std::string>().c_str(),
              human_bytes(report["bytes"].get<uint64_t>()).c_str(),
              human_bytes(report["source_bytes"].get<uint64_t>()).c_str(),
              report["bits_per_weight"].get<double>());
  if (report["evaluation"].empty()) {
    std::puts(
        "What it changes was not measured: name texts with --evaluate, Chinese and English ones.");
    return;
  }
  std::printf("%10s %12s %12s %9s %12s %12s %10s  %s\n", "tokens", "perplexity", "source's",
              "change", "KL", "logit diff.", "same top", "file");
  for (const ordered_json& row : report["evaluation"]) {
    const double now = row["perplexity"], before = row["source_perplexity"];
    std::printf("%10s %12.4f %12.4f %+8.2f%% %12.5f %12.3f %9.2f%%  %s\n",
                with_thousands(row["tokens"].get<int64_t>()).c_str(), now, before,
                100 * (now / before - 1), row["kl_divergence"].get<double>(),
                row["max_logit_difference"].get<double>(),
                100 * row["top1_agreement"].get<double>(), row["file"].get<std::string>().c_str());
  }
}

std::vector<NamedInput> quantize_inputs(const QuantizeVerbOptions& options) {
  std::vector<NamedInput> inputs = {{"--model", options.model}, {"--tokenizer", options.tokenizer}};
  for (const std::string& file : options.calibration) inputs.push_back({"--calibration", file});
  for (const std::string& file : options.evaluate) inputs.push_back({"--evaluate", file});
  return inputs;
}

QuantizeReport write_quantized(const OpenModel& source, const fs::path& folder,
                               const QuantizeVerbOptions& options, const Tokenizer& tokenizer) {
  QuantizeOptions quantize{.quantization = quantization_of(options),
                           .calibration = calibration_sequences(options, tokenizer, source.config),
                           .compute_dtype = parse_dtype("auto", source.config, at::kCPU),
                           .max_shard_bytes = static_cast<uint64_t>(options.max_shard_gb * 1e9)};
  int64_t matrices = 0, done = 0;
  LlamaConfig config = source.config;
  for (const TensorInfo& info : expected_tensors(config, at::kFloat))
    matrices += is_quantized(quantize.quantization, info.name, config.tie_word_embeddings) ? 1 : 0;
  Progress progress("quantizing", matrices, "matrices");
  QuantizeReport report = quantize_model(source, folder, quantize,
                                         [&](const std::string&) { progress.update(++done); });
  progress.finish();
  tokenizer.save(folder, tokenizer.template_name());
  Manifest manifest{.kind = "model",
                    .tokenizer_sha256 = tokenizer.fingerprint(),
                    .vocab_size = config.vocab_size};
  manifest.extra = {{"quantization", quantize.quantization.to_json()},
                    {"source", model_identity(source)}};
  write_manifest(folder, manifest);
  return report;
}

}  // namespace

int run_quantize(const std::vector<std::string>& args) {
  QuantizeVerbOptions options;
  const OptionTable table = bind_options(options);
  if (parse_command_line(quantize_spec(), table, args).help) return 0;

  const QuantizationConfig quantization = quantization_of(options);
  options.calibration = expand_files(options.calibration);
  options.evaluate = expand_files(options.evaluate);
  const Tokenizer tokenizer =
      load_tokenizer(options.tokenizer.empty() ? options.model : options.tokenizer);
  const OpenModel source = open_model(options.model);
  refuse_quantized(source, "it can't be quantized again");
  check_vocabulary(tokenizer, source.config, options.model);
  StagedFolder folder = stage_output(options.output, options.overwrite, quantize_inputs(options));
  const QuantizeReport quantized = write_quantized(source, folder.path(), options, tokenizer);

  const OpenModel result = open_model(folder.path());
  ordered_json report = {{"output", options.output},
                         {"quantization", quantization.to_json()},
                         {"source_bytes", weight_bytes(source)},
                         {"bytes", weight_bytes(result)}};
  report["bits_per_weight"] = 8 * static_cast<double>(weight_bytes(result)) /
                              static_cast<double>(source.config.parameter_count());
  if (options.method == "awq") report["awq_alphas"] = quantized.awq_alphas;
  report["evaluation"] = measure(source, result, options, tokenizer);
  throw_if_stopped();
  folder.commit();
  if (options.json_output) {
    std::puts(report.dump().c_str());
  } else {
    print_report(report);
  }
  return 0;
}

}  // namespace llama2zh
