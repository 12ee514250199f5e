// LoRA (Hu et al. 2021) on the projections, and modules trained in full beside it, as PEFT does it:
// A starts random, B zero, so that training starts from the base model's function.
#include "llama2zh/model/lora.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

std::string leaf_of(const std::string& path) { return path.substr(path.rfind('.') + 1); }

// A matrix that training may write to: own memory, fp32, a leaf that requires a gradient.
at::Tensor fp32_master(const at::Tensor& tensor, at::Device device) {
  return tensor.detach()
      .to(at::TensorOptions(device).dtype(at::kFloat), /*non_blocking=*/false, /*copy=*/true)
      .contiguous()
      .requires_grad_(true);
}

void freeze(Llama& model) {
  model.for_each_weight([](const std::string&, at::Tensor& weight) {
    if (weight.requires_grad()) weight = weight.detach();
  });
  if (model.config.tie_word_embeddings) model.lm_head.weight = model.embed_tokens;
}

// Sets the embedding or the head; a tied model has one matrix for both.
void set_full(Llama& model, const std::string& name, const at::Tensor& tensor) {
  const bool tied = model.config.tie_word_embeddings;
  if (tied || name == kEmbedding) model.embed_tokens = tensor;
  if (tied || name == kHead) model.lm_head.weight = tensor;
}

const at::Tensor& get_full(const Llama& model, const std::string& name) {
  return name == kEmbedding ? model.embed_tokens : model.lm_head.weight;
}

std::string full_name(const std::string& module) {
  if (module == "embed_tokens") return kEmbedding;
  if (module == "lm_head") return kHead;
  fail_usage("modules_to_save", cat("\"", module, "\" can't be trained in full"),
             "expected embed_tokens, lm_head, or none");
}

at::Tensor initial_a(const LoraConfig& config, int64_t in_features, const at::Generator& random) {
  at::Tensor a = at::empty({config.rank, in_features}, at::kFloat);
  if (config.init == "gaussian")
    return a.normal_(0, 1.0 / static_cast<double>(config.rank), random);
  const double bound = 1.0 / std::sqrt(static_cast<double>(in_features));
  return a.uniform_(-bound, bound, random);
}

double lora_scaling(const LoraConfig& config) {
  const auto rank = static_cast<double>(config.rank);
  return config.alpha / (config.use_rslora ? std::sqrt(rank) : rank);
}

void check_targets(const std::vector<std::string>& targets) {
  const std::vector<std::string> known = LoraConfig().target_modules;
  for (const std::string& target : targets) {
    if (std::find(known.begin(), known.end(), target) != known.end()) continue;
    const std::string near = nearest(target, known);
    fail_usage("target_modules", cat("the model has no projection \"", target, "\""),
               near.empty() ? cat("expected some of ", join(known, ", "))
                            : cat("did you mean \"", near, "\"?"));
  }
}

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
    if (name != kEmbedding && name != kHead) {
      fail_format("adapter", cat("it replaces ", name, ", which is not supported"),
                  "expected model.embed_tokens.weight or lm_head.weight");
    }
    const at::Tensor& base = get_full(model, name);
    if (tensor.sizes() == base.sizes()) continue;
    fail_format("adapter",
                cat(name, " is ", tensor.sizes(), ", but the base model's is ", base.sizes()),
                "extend the base model's vocabulary first, or use the base that the adapter was "
                "trained on");
  }
  const auto embedding = adapter.full.find(kEmbedding), head = adapter.full.find(kHead);
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

}  // namespace

void inject_lora(Llama& model, const LoraConfig& config, uint64_t seed) {
  check_targets(config.target_modules);
  std::vector<std::string> full;
  for (const std::string& module : config.modules_to_save) full.push_back(full_name(module));
  if (config.target_modules.empty() && full.empty()) {
    fail_usage("target_modules", "with target_modules and modules_to_save empty nothing trains");
  }
  freeze(model);
  const at::Generator random = at::detail::createCPUGenerator(seed);
  model.for_each_projection([&](const std::string& name, Linear& linear) {
    linear.lora.reset();
    const auto& targets = config.target_modules;
    if (std::find(targets.begin(), targets.end(), leaf_of(name)) == targets.end()) return;
    Lora lora;
    lora.a = initial_a(config, linear.in_features(), random);
    lora.a = lora.a.to(model.device()).requires_grad_(true);
    lora.b = at::zeros({linear.out_features(), config.rank},
                       at::TensorOptions(model.device()).dtype(at::kFloat))
                 .requires_grad_(true);
    lora.scaling = lora_scaling(config);
    lora.dropout = config.dropout;
    linear.lora = std::move(lora);
  });
  for (const std::string& name : full) {
    const at::Tensor& present = get_full(model, name);
    if (!present.requires_grad()) set_full(model, name, fp32_master(present, model.device()));
  }
}

void apply_adapter(Llama& model, const PeftAdapter& adapter, bool train) {
  check_full(adapter, model);
  check_lora(adapter, model);
  if (train) freeze(model);
  const auto place = [&](const at::Tensor& tensor) {
    return train ? fp32_master(tensor, model.device())
                 : tensor.to(model.device(), model.compute_dtype());
  };
  model.for_each_projection([&](const std::string& name, Linear& linear) {
    const auto found = adapter.lora.find(name);
    if (found == adapter.lora.end()) return;
    if (train && linear.lora) {
      fail_usage("adapter", cat(name, " has an adapter already"),
                 "merge the first one into the base model before training another");
    }
    const LoraPair& pair = found->second;
    Lora lora{place(pair.a), place(pair.b), pair.scaling, train ? adapter.config.dropout : 0};
    linear.lora = linear.lora ? stack(*linear.lora, lora) : lora;
  });
  const bool tied = model.config.tie_word_embeddings;
  for (const auto& [name, tensor] : adapter.full) {
    if (tied && name == kEmbedding && adapter.full.count(kHead) != 0) continue;  // equal: see check
    set_full(model, name, place(tensor));
  }
}

PeftAdapter extract_adapter(Llama& model, const LoraConfig& config, const std::string& base_model,
                            at::ScalarType full_dtype, bool copy) {
  const auto stored = [copy](const at::Tensor& tensor, at::ScalarType dtype) {
    return tensor.detach().to(at::TensorOptions(at::kCPU).dtype(dtype), /*non_blocking=*/false,
                              copy);
  };
  PeftAdapter adapter;
  adapter.config.base_model = base_model;
  adapter.config.rank = config.rank;
  adapter.config.alpha = config.alpha;
  adapter.config.dropout = config.dropout;
  adapter.config.use_rslora = config.use_rslora;
  adapter.config.target_modules = config.target_modules;
  model.for_each_projection([&](const std::string& name, Linear& linear) {
    if (!linear.lora) return;
    adapter.lora[name] = {stored(linear.lora->a, at::kFloat), stored(linear.lora->b, at::kFloat),
                          linear.lora->scaling};
  });
  // PEFT un-ties a tied model when it wraps one of the two, so a shared matrix goes under both.
  for (const char* module : {"embed_tokens", "lm_head"}) {
    const at::Tensor& tensor = get_full(model, full_name(module));
    if (!tensor.requires_grad()) continue;
    adapter.full[full_name(module)] = stored(tensor, full_dtype);
    adapter.config.modules_to_save.push_back(module);
  }
  return adapter;
}

std::vector<NamedParameter> trained_parameters(Llama& model) {
  std::vector<NamedParameter> result;
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    if (tensor.requires_grad()) result.push_back({name, tensor});
  };
  model.for_each_weight(add);
  model.for_each_projection([&](const std::string& name, Linear& linear) {
    if (!linear.lora) return;
    add(name + ".lora_A.weight", linear.lora->a);
    add(name + ".lora_B.weight", linear.lora->b);
  });
  return result;
}

void train_all_parameters(Llama& model) {
  model.for_each_projection([](const std::string&, Linear& linear) { linear.lora.reset(); });
  model.for_each_weight([&](const std::string&, at::Tensor& weight) {
    weight = fp32_master(weight, model.device());
  });
  if (model.config.tie_word_embeddings) model.lm_head.weight = model.embed_tokens;
}

}  // namespace llama2zh
