// llama2zh convert: Hugging Face (safetensors, .bin), Meta consolidated.*.pth, .gguf and llama2.c .bin in; Hugging Face, Meta and .gguf
// out.
#include <ATen/core/grad_mode.h>

#include <cstdio>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
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
#include "llama2zh/model/gguf.h"
#include "llama2zh/model/gptq_format.h"
#include "llama2zh/model/load.h"
#include "llama2zh/tokenizer/model_proto.h"

namespace llama2zh {
namespace {

struct ConvertOptions {
  std::string input;
  std::string output;
  std::string to = "hf";
  std::string tokenizer;
  std::string dtype = "auto";
  std::string gguf_type = "auto";
  int64_t parts = 1;
  double max_shard_gb = 5;
  bool overwrite = false;
  bool json_output = false;
  static auto options() {
    using T = ConvertOptions;
    return std::tuple(
        option("input", &T::input,
               "Model: a Hugging Face folder, a Meta folder (params.json, consolidated.*.pth), a "
               ".gguf file or a llama2.c .bin file."),
        option("output", &T::output, "Folder to write; format gguf: the file NAME.gguf."),
        option("to", &T::to,
               "hf (config.json, safetensors), meta (params.json, consolidated.*.pth), gguf "
               "(one file for llama.cpp) or gptq (a quantized model for transformers and vLLM).",
               one_of({"hf", "meta", "gguf", "gptq"})),
        option("tokenizer", &T::tokenizer,
               "Tokenizer to put beside the weights; empty: the one found in or above the input, "
               "if any."),
        option("dtype", &T::dtype,
               "Format hf: type of the weights; auto: as they are, float16 for a quantized .gguf, "
               "the norms' for a quantized folder.",
               one_of({"auto", "float32", "bfloat16", "float16"})),
        option("gguf_type", &T::gguf_type,
               "Format gguf: type of the matrices; auto: as they are. q8_0 and q4_0 quantize.",
               one_of({"auto", "f32", "f16", "bf16", "q8_0", "q4_0"})),
        option("parts", &T::parts, "Format meta: number of consolidated files.", between(1, 64)),
        option("max_shard_gb", &T::max_shard_gb, "Largest weights file, in GB of 1e9 bytes.",
               greater_than(0)),
        option("overwrite", &T::overwrite,
               "Replace the output folder if it is not empty, or the output file."),
        option("json", &T::json_output, "Report as one JSON object."));
  }
};

// A .gguf without a tokenizer that is known here is converted without one.
std::optional<Tokenizer> gguf_tokenizer(const fs::path& file) {
  std::string note;
  const TokenizerFiles files = gguf_tokenizer_files(*GgufFile::open(file), note);
  const bool known = !files.contents.empty();
  if (!note.empty())
    log_warning(cat(file.string(), known ? ": " : ": no tokenizer is written: ", note));
  return known ? std::optional(Tokenizer::from_files(files)) : std::nullopt;
}

// Meta keeps tokenizer.model one folder above the weights.
std::optional<Tokenizer> convert_tokenizer(const ConvertOptions& options) {
  if (!options.tokenizer.empty()) return load_tokenizer(options.tokenizer);
  const fs::path input = options.input;
  if (is_gguf_file(input)) return gguf_tokenizer(input);
  if (!fs::is_directory(input)) return std::nullopt;
  if (has_tokenizer(input)) return load_tokenizer(input);
  const fs::path above = fs::absolute(input).lexically_normal().parent_path() / "tokenizer.model";
  if (is_meta_folder(input) && fs::exists(above)) return load_tokenizer(above);
  return std::nullopt;
}

at::ScalarType convert_dtype(const ConvertOptions& options, const OpenModel& model) {
  if (options.dtype == "float32") return at::kFloat;
  if (options.dtype == "bfloat16") return at::kBFloat16;
  if (options.dtype == "float16") return at::kHalf;
  if (is_gguf_file(options.input) && has_quantized_tensors(*GgufFile::open(options.input))) {
    return at::kHalf;
  }
  return model.source->require("model.embed_tokens.weight").dtype;
}

void write_as_meta(const fs::path& folder, const OpenModel& model, const Tokenizer* tokenizer,
                   const ConvertOptions& options) {
  write_meta_checkpoint(folder, StoppableSource(*model.source), model.config.to_json(),
                        static_cast<int>(options.parts));
  if (tokenizer != nullptr)
    write_file_atomic(folder / "tokenizer.model", tokenizer->sentencepiece()->serialize());
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

void write_as_gptq(const fs::path& folder, const OpenModel& model, const Tokenizer* tokenizer,
                   const ConvertOptions& options) {
  write_gptq_model(folder, model, static_cast<uint64_t>(options.max_shard_gb * 1e9),
                   throw_if_stopped);
  if (tokenizer != nullptr) tokenizer->save(folder, tokenizer->template_name());
  write_manifest(folder,
                 Manifest{.kind = "model",
                          .tokenizer_sha256 = tokenizer != nullptr ? tokenizer->fingerprint() : "",
                          .vocab_size = model.config.vocab_size});
}

// The file is written as a whole or not at all (GgufWriter).
void write_as_gguf(const OpenModel& model, const Tokenizer& tokenizer,
                   const ConvertOptions& options) {
  const fs::path output = options.output;
  write_gguf_model(output, StoppableSource(*model.source), model.config, tokenizer,
                   {.type = options.gguf_type, .name = output.stem().string()});
}

void check_gguf_output(const ConvertOptions& options) {
  const fs::path output = options.output;
  if (output.extension() != ".gguf") {
    fail_usage("--output", cat(options.output, ": a file name that ends in .gguf was expected"));
  }
  refuse_input_as_output("--output", options.output,
                         {{"--input", options.input}, {"--tokenizer", options.tokenizer}},
                         Replaces::kFiles);
  if (fs::is_directory(output)) {
    fail_usage("--output", cat(options.output, " is a folder, a file was expected"));
  }
  if (fs::exists(output) && !options.overwrite) {
    fail_usage("--output", cat(options.output, " exists"),
               "name another file, or replace it with --overwrite");
  }
  const fs::path folder = output.parent_path();
  if (!folder.empty() && !fs::is_directory(folder)) {
    fail_usage("--output", cat(folder.string(), " is no folder"), "make it first");
  }
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
                   "llama2zh convert --input a.bin --tokenizer tok.model --output a --to hf",
                   "llama2zh convert --input zh --output zh.gguf --to gguf --gguf-type q8_0",
                   "llama2zh convert --input zh-int4 --output zh-gptq --to gptq"},
      .required = {"input", "output"}};
}

}  // namespace

namespace {

void convert_to_folder(const ConvertOptions& options, const OpenModel& model,
                       const Tokenizer* tokenizer) {
  StagedFolder folder =
      stage_output(options.output, options.overwrite,
                   {{"--input", options.input}, {"--tokenizer", options.tokenizer}});
  const auto write = options.to == "meta"   ? write_as_meta
                     : options.to == "gptq" ? write_as_gptq
                                            : write_as_hf;
  write(folder.path(), model, tokenizer, options);
  throw_if_stopped();
  folder.commit();
}

void convert_to_file(const ConvertOptions& options, const OpenModel& model,
                     const Tokenizer* tokenizer) {
  if (tokenizer == nullptr) {
    fail_usage(options.input, "no tokenizer was found, and a .gguf is not complete without one",
               "name one with --tokenizer");
  }
  install_stop_signals();
  write_as_gguf(model, *tokenizer, options);
}

}  // namespace

int run_convert(const std::vector<std::string>& args) {
  ConvertOptions options;
  const OptionTable table = bind_options(options);
  if (parse_command_line(convert_spec(), table, args).help) return 0;

  at::NoGradGuard no_grad;
  if (options.to == "gguf") check_gguf_output(options);
  OpenModel model = open_model(options.input);
  if (options.to == "gptq") {
    check_gptq_output(model);
  } else {
    model = with_plain_weights(std::move(model));
  }
  const bool to_gguf = options.to == "gguf";
  if (options.to == "meta")
    check_meta_parts(model.config.to_json(), static_cast<int>(options.parts));
  const std::optional<Tokenizer> found = convert_tokenizer(options);
  const Tokenizer* tokenizer = found ? &*found : nullptr;
  if (tokenizer != nullptr) check_vocabulary(*tokenizer, model.config, options.input);
  if (options.to == "meta" && tokenizer != nullptr && tokenizer->sentencepiece() == nullptr) {
    log_warning("Meta's layout has no place for a byte-level BPE tokenizer: none is written");
    tokenizer = nullptr;
  }
  (to_gguf ? convert_to_file : convert_to_folder)(options, model, tokenizer);
  print_conversion({{"output", options.output},
                    {"format", options.to},
                    {"parameters", model.config.parameter_count()},
                    {"vocab_size", model.config.vocab_size},
                    {"tokenizer", tokenizer != nullptr}},
                   options.json_output);
  return 0;
}

}  // namespace llama2zh
