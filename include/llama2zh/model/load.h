#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "llama2zh/config/option.h"
#include "llama2zh/formats/manifest.h"
#include "llama2zh/formats/tensor_source.h"
#include "llama2zh/model/llama.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

// "auto" -> cuda if this build and machine have one, else cpu; "cpu"; "cuda", "cuda:1". kUsage
// error if it is not there.
at::Device parse_device(const std::string& name);
// Of options that parse_device() takes: whether the name can be one, not whether it is there.
Range device_names();
// "auto" -> the type the weights are stored in, except on a CPU: fp16 becomes bf16, and both float32
// where the processor has no fast bf16. "float32", "bfloat16", "float16" (CUDA only: kUsage on a
// CPU).
at::ScalarType parse_dtype(const std::string& name, const LlamaConfig& config, at::Device device);
std::string dtype_name(at::ScalarType type);

// A folder (or llama2.c .bin, or Meta folder) as an open checkpoint: config checked against the
// tensors' names and shapes (all of them, before any is loaded; every disagreement is listed),
// nothing loaded yet.
struct OpenModel {
  LlamaConfig config;
  std::unique_ptr<TensorSource> source;
  std::filesystem::path path;
};
OpenModel open_model(const std::filesystem::path& path);
uint64_t weight_bytes(const OpenModel& open);  // of all its tensors, as they are stored
// The same model without quantized weights: those become numbers in the type of config.dtype, each
// when it is loaded.
OpenModel with_plain_weights(OpenModel open);
// kUsage if the model's weights are quantized: `what` ("an adapter can't be merged into it") needs
// them as they were.
void refuse_quantized(const OpenModel& open, const std::string& what);

// What a model is loaded for. On a GPU it settles the form of quantized matrices: answers are formed
// by libtorch's operators where they take them (OperatorWeight), gradients need the codes.
enum class ModelUse { kAnswers, kTraining };

// A model that computes in compute_dtype. On a CPU matrices are memory-mapped as they are stored
// when the types agree or float32 arithmetic reads narrower weights; all others are converted one
// by one.
std::unique_ptr<Llama> load_model(const OpenModel& open, at::ScalarType compute_dtype,
                                  at::Device device, ModelUse use = ModelUse::kAnswers);
// For work that goes layer by layer: loads the weights whose names are wanted, as load_model() does,
// into a model of the same config.
void load_weights(const OpenModel& open, Llama& model,
                  const std::function<bool(const std::string& name)>& wanted,
                  ModelUse use = ModelUse::kAnswers);
// Random weights N(0, initializer_range), norms 1, in fp32 or the given type.
std::unique_ptr<Llama> random_model(const LlamaConfig& config, uint64_t seed,
                                    at::ScalarType compute_dtype, at::Device device);

// The tokenizer of a .model file, a folder, or a .gguf. kFormat as Tokenizer::load(), and for a .gguf
// whose vocabulary is of a kind that is not known here.
Tokenizer load_tokenizer(const std::filesystem::path& path);
// Whether the folder has a tokenizer (has_tokenizer()), or the file is a .gguf.
bool holds_tokenizer(const std::filesystem::path& path);

// kFormat unless the tokenizer's size equals the model's embedding rows; says both numbers and the
// files side by side, and what 32000 / 49953 / 49954 / 55296 usually are. Fewer pieces than rows
// (padded embeddings) are a warning only if `allow_padding`.
void check_vocabulary(const Tokenizer& tokenizer, const LlamaConfig& config,
                      const std::filesystem::path& model_path, bool allow_padding = false);
// The same for an adapter's embedding rows; called before the base is loaded.
void check_adapter_vocabulary(const std::filesystem::path& adapter, const LlamaConfig& base,
                              const std::filesystem::path& base_path);

// Writes config.json, generation_config.json, sharded weights in `dtype` and the manifest into an
// existing (staged) folder; the tokenizer's files too when given. `weight` returns the tensor of a
// name when it is its turn: only one is in memory at a time.
struct SaveOptions {
  at::ScalarType dtype = at::kFloat;
  uint64_t max_shard_bytes = 5'000'000'000;
  std::string template_name;  // chat template to store with the tokenizer
  // False where the folder is not complete yet and its writer writes one: a manifest reads every file,
  // and in a checkpoint those of other ranks are still being written.
  bool manifest = true;
};
void save_model(const std::filesystem::path& folder, const LlamaConfig& config,
                const std::function<at::Tensor(const std::string& name)>& weight,
                const Tokenizer* tokenizer, const SaveOptions& options);
void save_model(const std::filesystem::path& folder, Llama& model, const Tokenizer* tokenizer,
                const SaveOptions& options);
// Names and shapes of every weight that a model of this config stores, in checkpoint order.
std::vector<TensorInfo> expected_tensors(const LlamaConfig& config, at::ScalarType dtype);

// Identity of a model folder for an adapter's manifest: sha256 over its config's shape and its
// tensors' names, shapes and first bytes; cheap at any size.
std::string model_identity(const OpenModel& open);

}  // namespace llama2zh
