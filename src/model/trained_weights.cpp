// Which tensors of a model train. Where only the last rows of the embedding or the head do, the
// matrix itself stays frozen (and may stay memory-mapped), and a master of those rows stands beside
// it: nothing of the optimizer exists for the others.
#include "llama2zh/model/trained_weights.h"

#include <ATen/ops/cat.h>

#include <regex>
#include <utility>

#include "full_weights.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/memory.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

void check_first_row(const Llama& model, int64_t first_row) {
  if (first_row < model.config.vocab_size) return;
  fail_usage("first_trained_row",
             cat(first_row, " is no row of the model, which has ", model.config.vocab_size),
             "0 trains all rows, 32000 those that extend LLaMA's vocabulary");
}

at::Tensor whole_matrix(const at::Tensor& matrix, const at::Tensor& rows, at::ScalarType dtype) {
  if (!rows.defined()) return matrix.detach().to(dtype);
  const at::Tensor head = matrix.detach().narrow(0, 0, matrix.size(0) - rows.size(0));
  return at::cat({head.to(dtype), rows.detach().to(dtype)});
}

}  // namespace

struct FrozenNames::Pattern {
  std::string text;
  std::regex regex;
};

FrozenNames::FrozenNames(const std::vector<std::string>& patterns) {
  for (const std::string& text : patterns) {
    try {
      patterns_.push_back({text, std::regex(text, std::regex::ECMAScript)});
    } catch (const std::regex_error& error) {
      fail_usage("freeze", cat("\"", text, "\" is not a regular expression (", error.what(), ")"),
                 "write for example \"model.layers.[0-9].*\"");
    }
  }
}

FrozenNames::~FrozenNames() = default;
FrozenNames::FrozenNames(FrozenNames&&) noexcept = default;
FrozenNames& FrozenNames::operator=(FrozenNames&&) noexcept = default;

bool FrozenNames::contains(const std::string& name) const {
  for (const Pattern& pattern : patterns_) {
    if (std::regex_match(name, pattern.regex)) return true;
  }
  return false;
}

void FrozenNames::check_all_used(const std::vector<std::string>& names) const {
  for (const Pattern& pattern : patterns_) {
    bool used = false;
    for (const std::string& name : names) used = used || std::regex_match(name, pattern.regex);
    if (used) continue;
    fail_usage("freeze",
               cat("\"", pattern.text, "\" matches none of the ", names.size(),
                   " parameters that would train"),
               names.empty() ? "" : cat("names are whole, as \"", names.back(), "\""));
  }
}

at::Tensor fp32_master(const at::Tensor& tensor, at::Device device) {
  return tensor.detach()
      .to(at::TensorOptions(device).dtype(at::kFloat), /*non_blocking=*/false, /*copy=*/true)
      .contiguous()
      .requires_grad_(true);
}

void freeze_weights(Llama& model) {
  if (model.embed_tokens_rows.defined()) {
    model.embed_tokens = whole_embedding(model, model.embed_tokens.scalar_type());
  }
  if (model.lm_head_rows.defined()) {
    model.lm_head.weight = whole_head(model, model.lm_head.weight.scalar_type());
  }
  model.embed_tokens_rows.reset();
  model.lm_head_rows.reset();
  model.for_each_weight([](const std::string&, at::Tensor& weight) {
    if (weight.requires_grad()) weight = weight.detach();
  });
  if (model.config.tie_word_embeddings) model.lm_head.weight = model.embed_tokens;
}

void set_full_weight(Llama& model, const std::string& name, const at::Tensor& tensor) {
  const bool tied = model.config.tie_word_embeddings;
  if (tied || name == kEmbeddingName) {
    model.embed_tokens = tensor;
    model.embed_tokens_quantized.reset();
  }
  if (tied || name == kHeadName) {
    model.lm_head.weight = tensor;
    model.lm_head.quantized.reset();
    model.lm_head.operators.reset();
  }
}

const at::Tensor& full_weight(const Llama& model, const std::string& name) {
  return name == kEmbeddingName ? model.embed_tokens : model.lm_head.weight;
}

void train_full_weight(Llama& model, const std::string& name, const at::Tensor& source,
                       int64_t first_row) {
  const bool tied = model.config.tie_word_embeddings;
  if (!source.defined()) {
    fail_usage(name, "it is quantized in this model, so that it can't be trained",
               "leave it out of lora.modules_to_save, or quantize the model without it");
  }
  if (tied && (model.embed_tokens.requires_grad() || model.embed_tokens_rows.defined())) return;
  if (first_row == 0) {
    const at::Tensor master = fp32_master(source, model.device());
    release_file_pages(source.const_data_ptr(), source.nbytes());  // the master stands in for them
    set_full_weight(model, name, master);
    return;
  }
  check_first_row(model, first_row);
  const at::Tensor rows =
      fp32_master(source.narrow(0, first_row, source.size(0) - first_row), model.device());
  set_full_weight(model, name, source.detach().to(model.device()));
  if (tied || name == kEmbeddingName) model.embed_tokens_rows = rows;
  if (tied || name == kHeadName) model.lm_head_rows = rows;
}

std::vector<NamedParameter> trained_parameters(Llama& model) {
  std::vector<NamedParameter> result;
  const auto add = [&](const std::string& name, const at::Tensor& tensor, int64_t first_row = 0) {
    if (tensor.defined() && tensor.requires_grad()) result.push_back({name, tensor, first_row});
  };
  const auto rows_of = [&](const std::string& name) {
    if (name == kEmbeddingName) return model.embed_tokens_rows;
    return name == kHeadName ? model.lm_head_rows : at::Tensor();
  };
  model.for_each_weight([&](const std::string& name, const at::Tensor& weight) {
    const at::Tensor rows = rows_of(name);
    add(name, weight);
    if (rows.defined()) add(name, rows, weight.size(0) - rows.size(0));
  });
  model.for_each_projection([&](const std::string& name, Linear& linear) {
    if (!linear.lora) return;
    add(name + ".lora_A.weight", linear.lora->a);
    add(name + ".lora_B.weight", linear.lora->b);
    add(name + ".lora_magnitude_vector", linear.lora->magnitude);
  });
  return result;
}

void train_all_parameters(Llama& model, const TrainScope& scope) {
  if (model.config.quantization) {
    fail_usage("method", "full training needs weights that are not quantized",
               "train an adapter, or the model that this one was made from");
  }
  const FrozenNames frozen(scope.freeze);
  std::vector<std::string> names;
  freeze_weights(model);
  model.for_each_projection([](const std::string&, Linear& linear) { linear.lora.reset(); });
  model.for_each_weight([&](const std::string& name, at::Tensor& weight) {
    names.push_back(name);
    if (frozen.contains(name)) return;
    if (name == kEmbeddingName || name == kHeadName) {
      train_full_weight(model, name, at::Tensor(weight), scope.first_trained_row);
    } else {
      weight = fp32_master(weight, model.device());
    }
  });
  frozen.check_all_used(names);
}

at::Tensor whole_embedding(const Llama& model, at::ScalarType dtype) {
  return whole_matrix(model.embed_tokens, model.embed_tokens_rows, dtype);
}

at::Tensor whole_head(const Llama& model, at::ScalarType dtype) {
  return whole_matrix(model.lm_head.weight, model.lm_head_rows, dtype);
}

}  // namespace llama2zh
