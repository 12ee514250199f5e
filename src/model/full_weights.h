#pragma once

#include <string>
#include <vector>

#include "llama2zh/model/llama.h"
#include "llama2zh/model/trained_weights.h"

namespace llama2zh {

inline constexpr const char* kEmbeddingName = "model.embed_tokens.weight";
inline constexpr const char* kFinalNormName = "model.norm.weight";
inline constexpr const char* kHeadName = "lm_head.weight";

// A matrix that training may write to: own memory, fp32, a leaf that requires a gradient.
at::Tensor fp32_master(const at::Tensor& tensor, at::Device device);

// Everything frozen; trained rows become part of their matrices again.
void freeze_weights(Llama& model);

// Sets the embedding or the head (kEmbeddingName, kHeadName); a tied model has one matrix for both.
void set_full_weight(Llama& model, const std::string& name, const at::Tensor& tensor);
const at::Tensor& full_weight(const Llama& model, const std::string& name);

// Makes the embedding or the head, or its rows from first_row on, an fp32 master with the values of
// `source` [V, H]. A tied model's one matrix is made once.
void train_full_weight(Llama& model, const std::string& name, const at::Tensor& source,
                       int64_t first_row);

// Marks the A, B and magnitudes that are on the model as trained, but those with frozen names;
// appends all their names.
void mark_adapters(Llama& model, const FrozenNames& frozen, std::vector<std::string>& names);

}  // namespace llama2zh
