// Adapters that were saved: on a model, and out of it.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>

#include <algorithm>
#include <utility>

#include "full_weights.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/model/lora.h"
#include "llama2zh/model/row_adapter.h"

namespace llama2zh {
namespace {

// Two adapters on one matrix: s1 B1 A1 + s2 B2 A2 = [s1 B1, s2 B2] [A1; A2].
Lora stack(const Lora& first, const Lora& second) {
  Lora both;
  both.a = at::cat({first.a, second.a}, 0);
  both.b = at::cat({first.b.mul(first.scaling), second.b.mul(second.scaling)}, 1);
  return both;
}

void check_pair(const std::string& name, const LoraPair& pair, const Linear& linear) {
  if (pair.a.size(1) == linear.in_features() && pair.b.size(0) == linear.out_features()) return;
  fail_format("adapter",
              cat(name, " is made for a [", pair.b.size(0), ", ", pair.a.size(1),
                  "] matrix, but the base model's is [", linear.out_features(), ", ",
                  linear.in_features(), "]"),
              "use the base model that the adapter was trained on");
}

void check_full(const PeftAdapter& adapter, const Llama& model) {
  for (const auto& [name, tensor] : adapter.full) {
    if (name != kEmbeddingName && name != kHeadName) {
      fail_format("adapter", cat("it replaces ", name, ", which is not supported"),
                  "expected model.embed_tokens.weight or lm_head.weight");
    }
    const std::vector<int64_t> base = {model.config.vocab_size, model.config.hidden_size};
    if (tensor.sizes() == base) continue;
    fail_format(
        "adapter",
        cat(name, " is ", tensor.sizes(), ", but the base model's is ", at::IntArrayRef(base)),
        "extend the base model's vocabulary first, or use the base that the adapter was "
        "trained on");
  }
  const auto embedding = adapter.full.find(kEmbeddingName), head = adapter.full.find(kHeadName);
  const bool both = embedding != adapter.full.end() && head != adapter.full.end();
  if (both && model.config.tie_word_embeddings && !embedding->second.equal(head->second)) {
    fail_format("adapter",
                "its embed_tokens and lm_head differ, but the base model has one matrix for both",
                "use a base model whose tie_word_embeddings is false");
  }
}

// The adapter's pairs by projection; an entry that the model has no place for is an error.
void check_lora(const PeftAdapter& adapter, Llama& model) {
  size_t matched = 0;
  model.for_each_projection([&](const std::string& name, Linear& linear) {
    const auto found = adapter.lora.find(name);
    if (found == adapter.lora.end()) return;
    check_pair(name, found->second, linear);
    ++matched;
  });
  if (matched == adapter.lora.size()) return;
  std::vector<std::string> names;
  model.for_each_projection([&](const std::string& name, Linear&) { names.push_back(name); });
  for (const auto& [name, pair] : adapter.lora) {
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    fail_format("adapter", cat("it has a pair for ", name, ", which the base model lacks"),
                "use the base model that the adapter was trained on");
  }
}

void check_second_adapter(const std::string& name, const Lora& first, const LoraPair& second,
                          bool train) {
  if (train) {
    fail_usage("adapter", cat(name, " has an adapter already"),
               "merge the first one into the base model before training another");
  }
  if (!first.magnitude.defined() && !second.magnitude.defined()) return;
  fail_usage("adapter", cat(name, " would get a DoRA adapter and another one"),
             "merge the first one into the base model, then use the second on the result");
}

Lora placed_lora(const LoraPair& pair, const Linear& linear, const Llama& model, bool train) {
  const auto place = [&](const at::Tensor& tensor) {
    return train ? fp32_master(tensor, model.device())
                 : tensor.to(model.device(), model.compute_dtype());
  };
  Lora lora{place(pair.a), place(pair.b), pair.scaling};
  if (!pair.magnitude.defined()) return lora;
  lora.magnitude = fp32_master(pair.magnitude, model.device());
  lora.base_squares = row_squares(linear).to(model.device());
  if (train) return lora;
  lora.magnitude = lora.magnitude.detach();
  Lora exact = lora;  // not rounded to the compute type
  exact.a = pair.a.to(model.device());
  exact.b = pair.b.to(model.device());
  lora.weight_norm = dora_weight_norm(linear, exact);
  return lora;
}

// What an adapter replaces as a whole: embed_tokens, lm_head.
std::vector<std::string> saved_modules(const Llama& model, const LoraConfig& config) {
  const auto named = [&](const char* module) {
    const auto& list = config.modules_to_save;
    return std::find(list.begin(), list.end(), module) != list.end();
  };
  const auto trains = [](const at::Tensor& whole, const at::Tensor& rows) {
    return whole.requires_grad() || rows.defined();
  };
  bool embedding = named("embed_tokens") || trains(model.embed_tokens, model.embed_tokens_rows);
  bool head = named("lm_head") || trains(model.lm_head.weight, model.lm_head_rows);
  if (model.config.tie_word_embeddings) embedding = head = embedding || head;
  std::vector<std::string> modules;
  if (embedding) modules.emplace_back("embed_tokens");
  if (head) modules.emplace_back("lm_head");
  return modules;
}

}  // namespace

void mark_adapters(Llama& model, const FrozenNames& frozen, std::vector<std::string>& names) {
  model.for_each_projection([&](const std::string& module, Linear& linear) {
    if (!linear.lora) return;
    const auto mark = [&](const char* leaf, at::Tensor& tensor) {
      if (!tensor.defined()) return;
      names.push_back(cat(module, ".", leaf));
      tensor = tensor.detach().requires_grad_(!frozen.contains(names.back()));
    };
    mark("lora_A.weight", linear.lora->a);
    mark("lora_B.weight", linear.lora->b);
    mark("lora_magnitude_vector", linear.lora->magnitude);
  });
}

void apply_adapter(Llama& model, const PeftAdapter& adapter, bool train, const TrainScope& scope) {
  check_full(adapter, model);
  check_lora(adapter, model);
  const FrozenNames frozen(scope.freeze);
  std::vector<std::string> names;
  if (train) freeze_weights(model);
  model.for_each_projection([&](const std::string& name, Linear& linear) {
    const auto found = adapter.lora.find(name);
    if (found == adapter.lora.end()) return;
    if (linear.lora) check_second_adapter(name, *linear.lora, found->second, train);
    Lora lora = placed_lora(found->second, linear, model, train);
    lora.dropout = train ? adapter.config.dropout : 0;
    linear.lora = linear.lora ? stack(*linear.lora, lora) : lora;
  });
  if (train) mark_adapters(model, frozen, names);
  const bool tied = model.config.tie_word_embeddings;
  for (const auto& [name, tensor] : adapter.full) {
    if (tied && name == kEmbeddingName && adapter.full.count(kHeadName) != 0) continue;  // equal
    names.push_back(name);
    if (train && !frozen.contains(name)) {
      train_full_weight(model, name, tensor, scope.first_trained_row);
    } else {
      // Saved again after training: not through a narrower type.
      const at::ScalarType type = train ? tensor.scalar_type() : model.compute_dtype();
      set_full_weight(model, name, tensor.to(model.device(), type));
    }
  }
  if (train) frozen.check_all_used(names);
}

std::shared_ptr<const RowAdapter> make_row_adapter(Llama& model, const PeftAdapter& adapter) {
  check_full(adapter, model);
  check_lora(adapter, model);
  auto out = std::make_shared<RowAdapter>();
  model.for_each_projection([&](const std::string& name, Linear& linear) {
    const auto found = adapter.lora.find(name);
    if (found == adapter.lora.end()) return;
    if (linear.lora) check_second_adapter(name, *linear.lora, found->second, /*train=*/false);
    out->loras.emplace(&linear, placed_lora(found->second, linear, model, /*train=*/false));
  });
  const bool tied = model.config.tie_word_embeddings;
  for (const auto& [name, tensor] : adapter.full) {
    const at::Tensor placed = tensor.to(model.device(), model.compute_dtype());
    if (tied || name == kEmbeddingName) out->embed_tokens = placed;
    if (tied || name == kHeadName) out->lm_head = placed;
  }
  return out;
}

PeftAdapter extract_adapter(Llama& model, const LoraConfig& config, const std::string& base_model,
                            at::ScalarType full_dtype, bool copy) {
  const auto stored = [](const at::Tensor& tensor, at::ScalarType dtype, bool own) {
    if (!tensor.defined()) return tensor;
    return tensor.detach().to(at::TensorOptions(at::kCPU).dtype(dtype), /*non_blocking=*/false,
                              own);
  };
  PeftAdapter adapter;
  adapter.config = to_peft_config(config);
  adapter.config.base_model = base_model;
  model.for_each_projection([&](const std::string& name, Linear& linear) {
    if (!linear.lora) return;
    const Lora& lora = *linear.lora;
    adapter.lora[name] = {stored(lora.a, at::kFloat, copy), stored(lora.b, at::kFloat, copy),
                          lora.scaling, stored(lora.magnitude, at::kFloat, copy)};
  });
  // PEFT un-ties a tied model when it wraps one of the two, so a shared matrix goes under both.
  adapter.config.modules_to_save = saved_modules(model, config);
  for (const std::string& module : adapter.config.modules_to_save) {
    const bool embedding = module == "embed_tokens";
    const bool rows = (embedding ? model.embed_tokens_rows : model.lm_head_rows).defined();
    const at::Tensor whole =
        embedding ? whole_embedding(model, full_dtype) : whole_head(model, full_dtype);
    adapter.full[embedding ? kEmbeddingName : kHeadName] =
        stored(whole, full_dtype, copy && !rows);  // put together from rows it is its own already
  }
  return adapter;
}

}  // namespace llama2zh
