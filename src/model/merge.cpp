// Merging adapters into their base, one tensor in memory at a time: W' = round(W + sum_i scaling_i
// * B_i A_i), the sum in fp32. A DoRA adapter then scales the sum's rows to its magnitudes; since its
// rows' lengths are those of the base it was trained on, it is the only one on its matrix.
#include "llama2zh/model/merge.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <map>
#include <memory>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/random.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/model/adapter_base.h"
#include "llama2zh/model/lora.h"

namespace llama2zh {
namespace {

// A merged model whose logits differ by more than the rounding of its weights is not what was trained.
constexpr double kLeastAgreement = 0.9;
constexpr int64_t kComparedRows = 4;
constexpr int64_t kComparedTokens = 64;

std::string module_of(const std::string& weight_name) {
  constexpr std::string_view kSuffix = ".weight";
  return weight_name.substr(0, weight_name.size() - kSuffix.size());
}

void check_lora_shape(const std::string& module, const LoraPair& pair, const TensorInfo& base,
                      const fs::path& adapter) {
  if (base.shape.size() == 2 && pair.a.size(1) == base.shape[1] && pair.b.size(0) == base.shape[0])
    return;
  fail_format(adapter.string(),
              cat("lora of ", module, " is for a [", pair.b.size(0), ", ", pair.a.size(1),
                  "] matrix, the base has [", base.shape[0], ", ",
                  base.shape.size() > 1 ? base.shape[1] : 1, "]"),
              "this adapter belongs to another base model");
}

void check_dora_is_alone(const std::vector<PeftAdapter>& adapters, const MergeOptions& options) {
  std::map<std::string, size_t> count;
  for (const PeftAdapter& adapter : adapters) {
    for (const auto& [module, pair] : adapter.lora) ++count[module];
  }
  for (size_t i = 0; i < adapters.size(); ++i) {
    for (const auto& [module, pair] : adapters[i].lora) {
      if (!pair.magnitude.defined() || count[module] == 1) continue;
      fail_usage(options.adapters[i].string(),
                 cat("a DoRA adapter and another one on ", module, " can't be merged at once"),
                 "merge them one after the other, each into the base it was trained on");
    }
  }
}

// Everything of every adapter must have a place in the base; otherwise a part of the training would
// be lost silently.
void check_adapters(const std::vector<PeftAdapter>& adapters, const MergeOptions& options,
                    const TensorSource& base, const LlamaConfig& config) {
  for (size_t i = 0; i < adapters.size(); ++i) {
    const fs::path& where = options.adapters[i];
    for (const auto& [module, pair] : adapters[i].lora) {
      const TensorInfo* info = base.find(module + ".weight");
      if (info == nullptr)
        fail_format(where.string(), cat("the base has no module ", module),
                    "this adapter belongs to another base model");
      check_lora_shape(module, pair, *info, where);
    }
    const auto embedding = adapters[i].full.find("model.embed_tokens.weight");
    const auto head = adapters[i].full.find("lm_head.weight");
    const bool both = embedding != adapters[i].full.end() && head != adapters[i].full.end();
    if (config.tie_word_embeddings && both && !embedding->second.equal(head->second)) {
      fail_format(where.string(),
                  "embed_tokens and lm_head differ, but the base has one matrix for both",
                  "untie the base, or train the adapter with tied weights");
    }
    for (const auto& [name, tensor] : adapters[i].full) {
      const bool tied_head = config.tie_word_embeddings && name == "lm_head.weight";
      const TensorInfo* info = base.find(tied_head ? "model.embed_tokens.weight" : name);
      if (info == nullptr || info->shape != tensor.sizes().vec()) {
        fail_format(where.string(),
                    cat(name, " is ", tensor.sizes(), ", the base ",
                        info == nullptr ? std::string("has none")
                                        : cat("has ", at::IntArrayRef(info->shape))),
                    "extend the base's vocabulary first (llama2zh extend-vocab), or take the base "
                    "that the adapter was trained on");
      }
    }
  }
}

// The trained full matrix of `name` from the last adapter that has one; undefined if none has.
at::Tensor replaced_weight(const std::string& name, const std::vector<PeftAdapter>& adapters,
                           bool tied) {
  for (auto adapter = adapters.rbegin(); adapter != adapters.rend(); ++adapter) {
    for (const std::string& key :
         {name, std::string(tied && name == "model.embed_tokens.weight" ? "lm_head.weight" : "")}) {
      const auto found = adapter->full.find(key);
      if (found != adapter->full.end()) return found->second;
    }
  }
  return {};
}

at::Tensor merged_weight(const std::string& name, const TensorSource& base,
                         const std::vector<PeftAdapter>& adapters, at::ScalarType dtype,
                         bool tied) {
  throw_if_stopped();
  const at::Tensor replacement = replaced_weight(name, adapters, tied);
  at::Tensor weight = replacement.defined() ? replacement : base.load(name);
  at::Tensor sum;
  for (const PeftAdapter& adapter : adapters) {
    const auto found = adapter.lora.find(module_of(name));
    if (found == adapter.lora.end()) continue;
    if (!sum.defined()) sum = weight.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
    const LoraPair& pair = found->second;
    sum.addmm_(pair.b.to(at::kFloat), pair.a.to(at::kFloat), /*beta=*/1, /*alpha=*/pair.scaling);
    if (!pair.magnitude.defined()) continue;
    const at::Tensor norm = row_squares(sum).sqrt_();
    sum.mul_((pair.magnitude.to(at::kFloat) / norm).unsqueeze(1));
  }
  return (sum.defined() ? sum : weight).to(dtype);
}

at::ScalarType result_dtype(const MergeOptions& options, const OpenModel& base) {
  if (options.dtype == "auto") return base.source->require("model.embed_tokens.weight").dtype;
  if (options.dtype == "float32") return at::kFloat;
  if (options.dtype == "bfloat16") return at::kBFloat16;
  if (options.dtype == "float16") return at::kHalf;
  fail_usage("--dtype", cat("\"", options.dtype, "\" is not a type of weights"),
             "one of auto, float32, bfloat16, float16");
}

std::vector<PeftAdapter> read_adapters(const MergeOptions& options) {
  std::vector<PeftAdapter> adapters;
  for (const fs::path& folder : options.adapters) adapters.push_back(read_peft_adapter(folder));
  return adapters;
}

void check_bases(const MergeOptions& options, const OpenModel& base) {
  if (options.allow_other_base) return;
  std::string identity;
  const auto base_identity = [&] {
    if (identity.empty()) identity = model_identity(base);
    return identity;
  };
  for (const fs::path& adapter : options.adapters)
    check_adapter_base(adapter, options.base, base_identity, "--allow-other-base");
}

// What the last adapter that names one was trained with.
std::string merged_template(const MergeOptions& options, const Tokenizer& tokenizer) {
  for (auto it = options.adapters.rbegin(); it != options.adapters.rend(); ++it)
    if (std::string name = stored_template(*it); !name.empty()) return name;
  return tokenizer.template_name();
}

at::Tensor log_probabilities(const Llama& model, const at::Tensor& ids) {
  PackedSequences context(ids.size(0), model.device());
  return at::log_softmax(model.logits(model.forward(ids, context)), -1);
}

}  // namespace

void merge_adapters(const MergeOptions& options, const Tokenizer* tokenizer) {
  at::NoGradGuard no_grad;
  OpenModel base = open_model(options.base);
  refuse_quantized(base, "adapters can't be merged into it");
  for (const fs::path& adapter : options.adapters)
    check_adapter_vocabulary(adapter, base.config, options.base);
  check_bases(options, base);  // the base as it is stored
  for (const fs::path& adapter : options.adapters) adopt_rope(adapter, base.config);
  const std::vector<PeftAdapter> adapters = read_adapters(options);
  check_adapters(adapters, options, *base.source, base.config);
  check_dora_is_alone(adapters, options);

  const at::ScalarType dtype = result_dtype(options, base);
  SaveOptions save{.dtype = dtype, .max_shard_bytes = options.max_shard_bytes, .template_name = {}};
  if (tokenizer != nullptr) save.template_name = merged_template(options, *tokenizer);
  save_model(
      options.output, base.config,
      [&](const std::string& name) {
        return merged_weight(name, *base.source, adapters, dtype, base.config.tie_word_embeddings);
      },
      tokenizer, save);
}

MergeComparison compare_merge(const fs::path& merged_folder, const MergeOptions& options) {
  at::NoGradGuard no_grad;
  const OpenModel merged_open = open_model(merged_folder);
  const at::ScalarType stored = merged_open.source->require("model.embed_tokens.weight").dtype;
  const at::ScalarType compute = stored == at::kFloat ? at::kFloat : at::kBFloat16;

  // One model in memory at a time: the log-probabilities of a few hundred positions are small
  // beside the weights.
  Random random(20260101);
  std::vector<at::Tensor> rows;
  const int64_t length = std::min(kComparedTokens, merged_open.config.max_position_embeddings);
  for (int64_t row = 0; row < kComparedRows; ++row) {
    std::vector<int64_t> ids(static_cast<size_t>(length));
    for (int64_t& id : ids)
      id = static_cast<int64_t>(random.below(static_cast<uint64_t>(merged_open.config.vocab_size)));
    rows.push_back(at::tensor(ids));
  }
  const auto evaluate = [&](const fs::path& folder, bool with_adapters) {
    OpenModel open = open_model(folder);
    if (with_adapters) {
      for (const fs::path& adapter : options.adapters) adopt_rope(adapter, open.config);
    }
    const auto model = load_model(open, compute, at::kCPU);
    if (with_adapters) {
      for (const fs::path& adapter : options.adapters)
        apply_adapter(*model, read_peft_adapter(adapter), /*train=*/false);
    }
    std::vector<at::Tensor> out;
    for (const at::Tensor& ids : rows) {
      throw_if_stopped();
      out.push_back(log_probabilities(*model, ids));
    }
    return out;
  };
  const std::vector<at::Tensor> expected = evaluate(options.base, true);
  const std::vector<at::Tensor> got = evaluate(merged_folder, false);

  MergeComparison result;
  double kl = 0, agreed = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    result.max_abs_difference =
        std::max(result.max_abs_difference, (expected[i] - got[i]).abs().max().item<double>());
    kl += (expected[i].exp() * (expected[i] - got[i])).sum().item<double>();
    agreed += (expected[i].argmax(-1) == got[i].argmax(-1)).sum().item<double>();
    result.positions += rows[i].size(0);
  }
  result.mean_kl_divergence = kl / static_cast<double>(result.positions);
  result.top1_agreement = agreed / static_cast<double>(result.positions);
  return result;
}

void require_agreement(const MergeComparison& comparison, const fs::path& merged) {
  if (comparison.top1_agreement >= kLeastAgreement) return;
  fail_data(merged.string(),
            cat("the merged model agrees with base + adapter on only ",
                100 * comparison.top1_agreement, " % of next tokens"),
            "nothing was written; this is a defect, please report it with the two folders' "
            "config files");
}

}  // namespace llama2zh
