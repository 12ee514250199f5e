#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "engine/scheduler.h"
#include "llama2zh/engine/paged_batch.h"
#include "llama2zh/model/llama.h"

namespace llama2zh {

// Up to `count` tokens that followed the last place where the text's end (its last three tokens, or
// two, or one) occurred before; none if it did not.
std::vector<TokenId> lookup_draft(std::span<const TokenId> tokens, int64_t count);

// A smaller model of the same vocabulary that guesses ahead. Its keys and values lie in blocks of
// the same numbers as the model's, so that whatever becomes of a block becomes of both.
class DraftModel {
 public:
  DraftModel(const Llama& model, int64_t blocks, at::ScalarType kv_type)
      : model_(&model), store_(model.config, blocks, kv_type, model.device()) {}
  PageStore& store() { return store_; }

  // Computes the planned tokens of the sequences that draft by this model, and sets
  // Sequence::drafts, and draft_logits where draws are by chance, to what it would say next. What is
  // wrong with one sequence's guess is its Sequence::error; it then has guesses that nobody should
  // look at.
  void propose(const std::vector<Planned>& plan);

 private:
  struct Drafting;
  at::Tensor forward(std::vector<Drafting>& batch);

  const Llama* model_;
  PageStore store_;
};

}  // namespace llama2zh
