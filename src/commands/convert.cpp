// llama2zh convert: Hugging Face (safetensors, .bin), Meta consolidated.*.pth and llama2.c .bin in; Hugging Face and Meta out.
#include <ATen/core/grad_mode.h>

#include <cstdio>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "commands/staged_output.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/formats/meta.h"
#include "llama2zh/model/load.h"

namespace llama2zh {
namespace {

struct ConvertOptions {
  std::string input;
  std::string output;
  std::string to = "hf";
  std::string tokenizer;
  std::string dtype = "auto";
  int64_t parts = 1;
  double max_shard_gb = 5;
  bool overwrite = false;
  bool json_output = false;
  static auto options() {
    using T = ConvertOptions;
    return std::tuple(
        option("input", &T::input,
               "Model: a Hugging Face folder, a Meta folder (params.json, consolidated.*.pth) or a "
               "llama2.c .bin file."),
        option("output", &T::output, "Folder to write."),
        option("to", &T::to,
               "hf (config.json, safetensors) or meta (params.json, consolidated.*.pth).",
               one_of({"hf", "meta"})),
        option("tokenizer", &T::tokenizer,
               "Tokenizer to put beside the weights; empty: the one found in or above the input, "
               "if any."),
        option("dtype", &T::dtype, "Format hf: type of the weights; auto: as they are.",
               one_of({"auto", "float32", "bfloat16", "float16"})),
        option("parts", &T::parts, "Format meta: number of consolidated files.", between(1, 64)),
        option("max_shard_gb", &T::max_shard_gb, "Largest weights file, in GB of 1e9 bytes.",
               greater_than(0)),
        option("overwrite", &T::overwrite, "Replace the output folder if it is not empty."),
        option("json", &T::json_output, "Report as one JSON object."));
  }
};

// Meta keeps tokenizer.model one folder above the weights.
std::optional<Tokenizer> convert_tokenizer(const ConvertOptions& options) {
  if (!options.tokenizer.empty()) return Tokenizer::load(options.tokenizer);
  const fs::path input = options.input;
  if (!fs::is_directory(input)) return std::nullopt;
  if (fs::exists(input / "tokenizer.model")) return Tokenizer::load(input);
  const fs::path above = fs::absolute(input).lexically_normal().parent_path() / "tokenizer.model";
  if (is_meta_folder(input) && fs::exists(above)) return Tokenizer::load(above);
  return std::nullopt;
}

at::ScalarType convert_dtype(const ConvertOptions& options, const OpenModel& model) {
  if (options.dtype == "float32") return at::kFloat;
  if (options.dtype == "bfloat16") return at::kBFloat16;
  if (options.dtype == "float16") return at::kHalf;
  return model.source->require("model.embed_tokens.weight").dtype;
}

void write_as_meta(const fs::path& folder, const OpenModel& model, const Tokenizer* tokenizer,
                   const ConvertOptions& options) {
  write_meta_checkpoint(folder, StoppableSource(*model.source), model.config.to_json(),
                        static_cast<int>(options.parts));
  if (tokenizer != nullptr)
    write_file_atomic(folder / "tokenizer.model", read_file(tokenizer->path()));
  write_manifest(folder,
                 Manifest{.kind = "model",
                          .tokenizer_sha256 = tokenizer != nullptr ? tokenizer->fingerprint() : "",
                          .vocab_size = model.config.vocab_size});
}

void write_as_hf(const fs::path& folder, const OpenModel& model, const Tokenizer* tokenizer,
                 const ConvertOptions& options) {
  const at::ScalarType dtype = convert_dtype(options, model);
  SaveOptions save{.dtype = dtype,
                   .max_shard_bytes = static_cast<uint64_t>(options.max_shard_gb * 1e9),
                   .template_name = {}};
  if (tokenizer != nullptr) save.template_name = tokenizer->template_name();
  const StoppableSource source(*model.source);
  save_model(
      folder, model.config, [&](const std::string& name) { return source.load(name).to(dtype); },
      tokenizer, save);
}

void print_conversion(const ordered_json& report, bool json_output) {
  if (json_output) {
    std::puts(report.dump().c_str());
    return;
  }
  std::puts(cat(report["output"].get<std::string>(), ": ",
                with_thousands(report["parameters"].get<int64_t>()), " parameters in ",
                report["format"].get<std::string>(), " layout",
                report["tokenizer"].get<bool>() ? "" : ", without a tokenizer (pass --tokenizer)")
                .c_str());
}

CommandSpec convert_spec() {
  return {
      .verb = "convert",
      .summary = "Rewrites a model in another layout, one tensor in memory at a time.",
      .examples = {"llama2zh convert --input llama-2-7b-meta --output llama-2-7b --to hf",
                   "llama2zh convert --input chinese-llama2 --output chinese-llama2-meta --to meta",
                   "llama2zh convert --input stories260K.bin --tokenizer tok512.model --output "
                   "stories --to hf"},
      .required = {"input", "output"}};
}

}  // namespace

int run_convert(const std::vector<std::string>& args) {
  ConvertOptions options;
  const OptionTable table = bind_options(options);
  if (parse_command_line(convert_spec(), table, args).help) return 0;

  at::NoGradGuard no_grad;
  const OpenModel model = open_model(options.input);
  refuse_quantized(model, "it can't be converted");
  const bool to_meta = options.to == "meta";
  if (to_meta) check_meta_parts(model.config.to_json(), static_cast<int>(options.parts));
  const std::optional<Tokenizer> found = convert_tokenizer(options);
  const Tokenizer* const tokenizer = found ? &*found : nullptr;
  if (tokenizer != nullptr) check_vocabulary(*tokenizer, model.config, options.input);
  StagedFolder folder =
      stage_output(options.output, options.overwrite,
                   {{"--input", options.input}, {"--tokenizer", options.tokenizer}});
  (to_meta ? write_as_meta : write_as_hf)(folder.path(), model, tokenizer, options);
  throw_if_stopped();
  folder.commit();
  print_conversion({{"output", options.output},
                    {"format", options.to},
                    {"parameters", model.config.parameter_count()},
                    {"vocab_size", model.config.vocab_size},
                    {"tokenizer", tokenizer != nullptr}},
                   options.json_output);
  return 0;
}

}  // namespace llama2zh
