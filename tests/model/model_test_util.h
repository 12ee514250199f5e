#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/tensor_checks.h"
#include "llama2zh/formats/tensor_source.h"
#include "llama2zh/model/load.h"
#include "llama2zh/model/lora.h"
#include "tokenizer/shared_data.h"

namespace llama2zh::testing {

// tests/reference/llama: what scripts/make_reference.py wrote.
inline std::filesystem::path reference_folder(const std::string& name) {
  const char* source = std::getenv("LLAMA2ZH_SOURCE_DIR");
  return std::filesystem::path(source != nullptr ? source : ".") / "tests/reference/llama" / name;
}

inline std::filesystem::path stories_folder() { return shared_data() / "weights/stories260K_hf"; }

inline std::vector<int64_t> int_list(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

// N(0, 1) in fp32.
inline at::Tensor random(const std::vector<int64_t>& shape, uint64_t seed) {
  return at::empty(shape, at::kFloat).normal_(0, 1, at::detail::createCPUGenerator(seed));
}

// A small model: hidden 32, two layers, grouped queries, vocabulary 97.
inline LlamaConfig small_config(bool tied = false) {
  LlamaConfig config;
  config.vocab_size = 97;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 8;
  config.max_position_embeddings = 64;
  config.tie_word_embeddings = tied;
  config.initializer_range = 0.25;
  return config;
}

inline std::unique_ptr<Llama> small_model(bool tied = false, uint64_t seed = 1) {
  return random_model(small_config(tied), seed, at::kFloat, at::kCPU);
}

// Sequences laid end to end.
struct Batch {
  at::Tensor ids, labels;
  std::vector<int64_t> boundaries;
};

inline at::Tensor batch_logits(const Llama& model, const Batch& batch,
                               const ForwardOptions& options = {}) {
  PackedSequences context(batch.boundaries, at::kCPU);
  return model.logits(model.forward(batch.ids, context, options));
}

// Sum of the cross-entropy over all labels; runs backward and leaves the gradients in the weights.
inline at::Tensor loss_with_gradients(const Llama& model, const Batch& batch, double divisor,
                                      const ForwardOptions& options = {}) {
  PackedSequences context(batch.boundaries, at::kCPU);
  const at::Tensor hidden = model.forward(batch.ids, context, options);
  const at::Tensor loss = model.loss(hidden, batch.labels, {.chunk_rows = 8}).div(divisor);
  loss.backward();
  return loss.detach();
}

// The gradients of everything that trains, by name; taken out of the weights.
inline std::map<std::string, at::Tensor> take_gradients(Llama& model) {
  std::map<std::string, at::Tensor> gradients;
  for (const NamedParameter& parameter : trained_parameters(model)) {
    gradients[parameter.name] = parameter.tensor.grad();
    parameter.tensor.mutable_grad().reset();
  }
  return gradients;
}

}  // namespace llama2zh::testing
