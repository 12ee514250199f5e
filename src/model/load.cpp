// Opening and loading checkpoints. Everything that can be wrong with names, shapes and types is
// found from the headers alone, before the first weight is read.
#include "llama2zh/model/load.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>

#include <map>
#include <set>
#include <utility>

#include "full_weights.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/meta.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/model/gguf.h"
#include "packed_checkpoint.h"

namespace llama2zh {
namespace {

constexpr size_t kShownProblems = 3;

bool is_float_type(at::ScalarType type) {
  return type == at::kFloat || type == at::kBFloat16 || type == at::kHalf || type == at::kDouble;
}

bool is_part_of_quantized(const TensorInfo& info) { return !info.name.ends_with(".weight"); }

// Old checkpoints store a buffer that is computed; a tied one may hold its head a second time.
bool is_ignored(const std::string& name, const LlamaConfig& config) {
  return name.ends_with(".rotary_emb.inv_freq") ||
         (config.tie_word_embeddings && name == "lm_head.weight");
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::vector<std::string> parts;
  for (const int64_t size : shape) parts.push_back(std::to_string(size));
  return cat("[", join(parts, ", "), "]");
}

std::string shape_problem(const TensorInfo& expected, const TensorInfo& found,
                          const LlamaConfig& config) {
  std::string text = cat(found.name, " has shape ", shape_text(found.shape),
                         " but config.json asks for ", shape_text(expected.shape));
  const bool rows = found.shape.size() == 2 && found.shape[1] == config.hidden_size;
  if (rows && expected.shape[0] == config.vocab_size) {
    text += cat(" (vocab_size ", config.vocab_size, ")");
  }
  return text;
}

// Every disagreement between what the config asks for and what the files hold.
std::vector<std::string> find_problems(const LlamaConfig& config, const TensorSource& source) {
  std::vector<std::string> problems;
  std::set<std::string> known;
  for (const TensorInfo& expected : expected_tensors(config, at::kFloat)) {
    known.insert(expected.name);
    const TensorInfo* const found = source.find(expected.name);
    if (found == nullptr) {
      problems.push_back(expected.name + " is missing");
    } else if (found->shape != expected.shape) {
      problems.push_back(shape_problem(expected, *found, config));
    } else if (is_part_of_quantized(expected) && found->dtype != expected.dtype) {
      problems.push_back(cat(found->name, " holds ", dtype_name(found->dtype), ", expected ",
                             dtype_name(expected.dtype)));
    } else if (!is_part_of_quantized(expected) && !is_float_type(found->dtype)) {
      problems.push_back(
          cat(found->name, " holds ", dtype_name(found->dtype), ", expected a float type"));
    }
  }
  for (const TensorInfo& info : source.tensors()) {
    if (known.count(info.name) == 0 && !is_ignored(info.name, config)) {
      problems.push_back(info.name + " is not part of this architecture");
    }
  }
  return problems;
}

void check_tensors(const OpenModel& open) {
  std::vector<std::string> problems = find_problems(open.config, *open.source);
  if (problems.empty()) return;
  const size_t count = problems.size();
  if (count > kShownProblems) {
    problems.resize(kShownProblems);
    problems.push_back(cat("and ", count - kShownProblems, " more"));
  }
  fail_format(open.path.string(),
              cat("config.json and the weights (", open.source->describe(), ") disagree in ", count,
                  count == 1 ? " tensor: " : " tensors: ", join(problems, "; ")),
              "check that both files belong to the same model");
}

OpenModel open_foreign(std::unique_ptr<ForeignCheckpoint> checkpoint, const fs::path& path) {
  OpenModel open;
  open.config = LlamaConfig::parse(checkpoint->config(), path.string());
  open.source = std::move(checkpoint);
  open.path = path;
  return open;
}

void refuse_what_is_no_model(const fs::path& path) {
  if (!fs::exists(path)) fail_io(path.string(), "there is no such model folder or file");
  if (is_peft_folder(path)) {
    fail_format(path.string(), "this is a LoRA adapter, not a model",
                "give the base model's folder, and this one with --adapter");
  }
  if (fs::is_directory(path) && !fs::exists(path / "config.json")) {
    fail_format(path.string(), "the folder has no config.json",
                "expected a Hugging Face model folder, Meta's folder with params.json, a .gguf "
                "file or a llama2.c .bin file");
  }
  if (!fs::is_directory(path) && path.extension() != ".bin") {
    fail_format(path.string(), "a single file must be a .gguf or a llama2.c .bin",
                "give the folder that holds config.json");
  }
}

}  // namespace

uint64_t weight_bytes(const OpenModel& open) {
  uint64_t bytes = 0;
  for (const TensorInfo& info : open.source->tensors()) bytes += info.bytes();
  return bytes;
}

OpenModel open_model(const fs::path& path) {
  OpenModel open;
  if (fs::exists(path) && is_meta_folder(path)) {
    open = open_foreign(open_meta_checkpoint(path), path);
  } else if (path.extension() == ".gguf" || is_gguf_file(path)) {
    open = open_foreign(open_gguf_checkpoint(path), path);
  } else {
    refuse_what_is_no_model(path);
    if (fs::is_directory(path)) {
      open.config = LlamaConfig::read(path);
      open.source = open_tensors(path);
      open.path = path;
      adopt_packed_weights(open);
    } else {
      open = open_foreign(open_llama2c_checkpoint(path), path);
    }
  }
  check_tensors(open);
  // What config.json says about the type may be wrong; the file knows.
  open.config.dtype = dtype_name(open.source->require("model.norm.weight").dtype);
  if (const TensorInfo* info = open.source->find("model.embed_tokens.weight")) {
    open.config.dtype = dtype_name(info->dtype);
  }
  if (open.config.dtype == "Double") open.config.dtype = "float32";
  return open;
}

void refuse_quantized(const OpenModel& open, const std::string& what) {
  if (!open.config.quantization) return;
  fail_usage(open.path.string(), cat("its weights are quantized: ", what),
             "take the model that it was made from, and quantize the result");
}

namespace {

// linear_product casts narrower matrices on the fly: float32 arithmetic on a CPU needs no wider
// copy of them.
bool stays_as_stored(const at::Tensor& weight, at::ScalarType compute_dtype, at::Device device) {
  return device.is_cpu() && compute_dtype == at::kFloat && weight.dim() == 2 &&
         (weight.scalar_type() == at::kBFloat16 || weight.scalar_type() == at::kHalf);
}

// The matrices that a folder holds quantized, put into their places.
class QuantizedWeights {
 public:
  QuantizedWeights(const OpenModel& open, Llama& model, ModelUse use)
      : open_(&open), model_(&model), use_(use) {
    if (!open.config.quantization) return;
    LlamaConfig plain = open.config;
    plain.quantization.reset();
    for (const TensorInfo& info : expected_tensors(plain, at::kFloat)) shapes_[info.name] = info;
    model.for_each_projection(
        [this](const std::string& name, Linear& linear) { linears_[name + ".weight"] = &linear; });
    linears_[kHeadName] = &model.lm_head;
  }
  // False if the weight of that name is not quantized.
  bool put(const std::string& name) const {
    const auto& config = open_->config.quantization;
    if (!config || !is_quantized(*config, name, open_->config.tie_word_embeddings)) return false;
    const auto matrix = std::make_shared<const QuantizedMatrix>(
        load_quantized(*open_->source, *config, shapes_.at(name)));
    const bool embedding = name == kEmbeddingName;
    if (embedding) model_->embed_tokens_quantized = on_device(matrix);
    if (!embedding || open_->config.tie_word_embeddings)
      place(embedding ? model_->lm_head : *linears_.at(name), matrix);
    return true;
  }

 private:
  Activations activations() const {
    return open_->config.quantization->activations == "float" ? Activations::kFloat
                                                              : Activations::kInt8;
  }
  std::shared_ptr<const QuantizedMatrix> on_device(
      const std::shared_ptr<const QuantizedMatrix>& matrix) const {
    if (matrix->device() == model_->device()) return matrix;
    return std::make_shared<const QuantizedMatrix>(matrix->to(model_->device()));
  }
  // On a GPU by its operators where they take the matrix, which then need not be there itself.
  void place(Linear& linear, const std::shared_ptr<const QuantizedMatrix>& matrix) const {
    linear.activations = activations();
    linear.quantized = matrix;
    if (model_->device().is_cpu()) return;
    const bool answers = use_ == ModelUse::kAnswers && model_->compute_dtype() == at::kBFloat16;
    if (std::optional<OperatorWeight> weight =
            answers ? OperatorWeight::make(*matrix, model_->device()) : std::nullopt) {
      linear.operators = std::make_shared<const OperatorWeight>(*std::move(weight));
    } else {
      linear.quantized = on_device(matrix);
    }
  }

  const OpenModel* open_;
  Llama* model_;
  ModelUse use_;
  std::map<std::string, TensorInfo> shapes_;
  std::map<std::string, Linear*> linears_;
};

}  // namespace

void load_weights(const OpenModel& open, Llama& model,
                  const std::function<bool(const std::string& name)>& wanted, ModelUse use) {
  const QuantizedWeights quantized(open, model, use);
  model.for_each_weight([&](const std::string& name, at::Tensor& weight) {
    if (!wanted(name) || quantized.put(name)) return;
    weight = open.source->load(name);
    if (!stays_as_stored(weight, model.compute_dtype(), model.device()))
      weight = weight.to(model.device(), model.compute_dtype());  // no copy when nothing changes
  });
  if (!open.config.tie_word_embeddings || !wanted(kEmbeddingName)) return;
  model.lm_head.weight = model.embed_tokens;
}

std::unique_ptr<Llama> load_model(const OpenModel& open, at::ScalarType compute_dtype,
                                  at::Device device, ModelUse use) {
  auto model = std::make_unique<Llama>(open.config, compute_dtype, device);
  load_weights(
      open, *model, [](const std::string&) { return true; }, use);
  return model;
}

std::unique_ptr<Llama> random_model(const LlamaConfig& config, uint64_t seed,
                                    at::ScalarType compute_dtype, at::Device device) {
  auto model = std::make_unique<Llama>(config, compute_dtype, device);
  const at::Generator random = at::detail::createCPUGenerator(seed);
  auto infos = expected_tensors(config, compute_dtype);
  auto info = infos.begin();
  model->for_each_weight([&](const std::string&, at::Tensor& weight) {
    const bool is_norm = info->shape.size() == 1;
    const at::Tensor fp32 =
        is_norm ? at::ones(info->shape, at::kFloat)
                : at::empty(info->shape, at::kFloat).normal_(0, config.initializer_range, random);
    weight = fp32.to(device, compute_dtype);
    ++info;
  });
  if (config.tie_word_embeddings) model->lm_head.weight = model->embed_tokens;
  return model;
}

}  // namespace llama2zh
