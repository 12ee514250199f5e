// llama2zh init-model: a model folder with random weights, to pretrain from nothing.
#include <cstdio>
#include <string>
#include <tuple>
#include <vector>

#include "commands/staged_output.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/model/load.h"

namespace llama2zh {
namespace {

struct InitModelOptions {
  std::string tokenizer;
  std::string output;
  int64_t hidden_size = 256;
  int64_t intermediate_size = 688;
  int64_t num_hidden_layers = 4;
  int64_t num_attention_heads = 4;
  int64_t num_key_value_heads = 0;
  int64_t max_position_embeddings = 2048;
  double rope_theta = 10000;
  double initializer_range = 0.02;
  bool tie_word_embeddings = false;
  std::string dtype = "float32";
  int64_t seed = 100;
  bool overwrite = false;
  bool json_output = false;
  static auto options() {
    using T = InitModelOptions;
    return std::tuple(
        option("tokenizer", &T::tokenizer,
               "Tokenizer: a .model file or a folder; its size is the vocabulary."),
        option("output", &T::output, "Model folder to write."),
        option("hidden_size", &T::hidden_size, "Width of the residual stream.", between(8, 65536)),
        option("intermediate_size", &T::intermediate_size, "Width of the MLP.", between(8, 262144)),
        option("num_hidden_layers", &T::num_hidden_layers, "Layers.", between(1, 1024)),
        option("num_attention_heads", &T::num_attention_heads,
               "Attention heads; must divide hidden_size.", between(1, 1024)),
        option("num_key_value_heads", &T::num_key_value_heads,
               "Heads of keys and values; 0: as many as attention heads.", between(0, 1024)),
        option("max_position_embeddings", &T::max_position_embeddings, "Longest sequence.",
               between(2, 1048576)),
        option("rope_theta", &T::rope_theta, "Base of the rotary embedding.", greater_than(0)),
        option("initializer_range", &T::initializer_range,
               "Standard deviation of the random weights.", greater_than(0)),
        option("tie_word_embeddings", &T::tie_word_embeddings,
               "One matrix for embedding and head."),
        option("dtype", &T::dtype, "Type of the stored weights.", one_of({"float32", "bfloat16"})),
        option("seed", &T::seed, "Seed.", at_least(0)),
        option("overwrite", &T::overwrite, "Replace the output folder if it is not empty."),
        option("json", &T::json_output, "Report as one JSON object."));
  }
};

LlamaConfig config_of(const InitModelOptions& options, const Tokenizer& tokenizer) {
  const int64_t kv_heads =
      options.num_key_value_heads == 0 ? options.num_attention_heads : options.num_key_value_heads;
  const ordered_json value = {{"architectures", {"LlamaForCausalLM"}},
                              {"model_type", "llama"},
                              {"vocab_size", tokenizer.vocab_size()},
                              {"hidden_size", options.hidden_size},
                              {"intermediate_size", options.intermediate_size},
                              {"num_hidden_layers", options.num_hidden_layers},
                              {"num_attention_heads", options.num_attention_heads},
                              {"num_key_value_heads", kv_heads},
                              {"max_position_embeddings", options.max_position_embeddings},
                              {"rms_norm_eps", 1e-5},
                              {"rope_theta", options.rope_theta},
                              {"tie_word_embeddings", options.tie_word_embeddings},
                              {"hidden_act", "silu"},
                              {"initializer_range", options.initializer_range},
                              {"torch_dtype", options.dtype},
                              {"bos_token_id", tokenizer.bos_id()},
                              {"eos_token_id", tokenizer.eos_id()}};
  return LlamaConfig::parse(value, "init-model");
}

}  // namespace

int run_init_model(const std::vector<std::string>& args) {
  InitModelOptions options;
  const CommandSpec spec{
      .verb = "init-model",
      .summary =
          "Makes a LLaMA with random weights N(0, initializer_range), to be pretrained in full.",
      .examples = {"llama2zh init-model --tokenizer en.model --hidden-size 256 --num-hidden-layers "
                   "6 --output base"},

      .required = {"tokenizer", "output"}};
  const OptionTable table = bind_options(options);
  if (parse_command_line(spec, table, args).help) return 0;

  const Tokenizer tokenizer = load_tokenizer(options.tokenizer);
  const LlamaConfig config = config_of(options, tokenizer);
  StagedFolder folder =
      stage_output(options.output, options.overwrite, {{"--tokenizer", options.tokenizer}});
  const at::ScalarType dtype = options.dtype == "bfloat16" ? at::kBFloat16 : at::kFloat;
  const auto model = random_model(config, static_cast<uint64_t>(options.seed), dtype, at::kCPU);
  throw_if_stopped();
  save_model(folder.path(), *model, &tokenizer, SaveOptions{.dtype = dtype});
  throw_if_stopped();
  folder.commit();

  if (options.json_output) {
    std::puts(ordered_json{{"output", options.output},
                           {"parameters", config.parameter_count()},
                           {"vocab_size", config.vocab_size}}
                  .dump()
                  .c_str());
  } else {
    std::puts(cat(options.output, ": ", with_thousands(config.parameter_count()),
                  " parameters, vocabulary ", config.vocab_size)
                  .c_str());
  }
  return 0;
}

}  // namespace llama2zh
