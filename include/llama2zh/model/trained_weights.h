#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "llama2zh/model/llama.h"

namespace llama2zh {

// What is kept from training beside what the method itself freezes.
struct TrainScope {
  // Of embed_tokens and lm_head only the rows from this one on train; 0: all. Masters, gradients
  // and moments exist for these rows alone.
  int64_t first_trained_row = 0;
  // Regexes (ECMAScript) on whole parameter names, e.g. "model.layers.[0-3]..*", ".*lora_A.weight".
  std::vector<std::string> freeze;
};

// The names that a scope's patterns match. kUsage for a pattern that is no regex.
class FrozenNames {
 public:
  explicit FrozenNames(const std::vector<std::string>& patterns);
  ~FrozenNames();
  FrozenNames(FrozenNames&&) noexcept;
  FrozenNames& operator=(FrozenNames&&) noexcept;
  bool contains(const std::string& name) const;
  // kUsage naming a pattern that matches none of `names`: a slip of the pen, most likely.
  void check_all_used(const std::vector<std::string>& names) const;

 private:
  struct Pattern;
  std::vector<Pattern> patterns_;
};

// Everything that requires a gradient, under PEFT-like names, in a fixed order:
// "model.layers.0.self_attn.q_proj.lora_A.weight", "model.embed_tokens.weight", ...
struct NamedParameter {
  std::string name;
  at::Tensor tensor;
  int64_t first_row = 0;  // tensor holds the rows of the named matrix from here on
};
std::vector<NamedParameter> trained_parameters(Llama& model);

// Makes every weight that the scope leaves an fp32 master that is trained: full-parameter training.
void train_all_parameters(Llama& model, const TrainScope& scope = {});

// embed_tokens or lm_head as a whole, whichever part of it trains: [V, H] in `dtype`, detached.
at::Tensor whole_embedding(const Llama& model, at::ScalarType dtype);
at::Tensor whole_head(const Llama& model, at::ScalarType dtype);

}  // namespace llama2zh
