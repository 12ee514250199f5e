// Opening and loading checkpoints. Everything that can be wrong with names, shapes and types is
// found from the headers alone, before the first weight is read.
#include "llama2zh/model/load.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>

#include <set>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/meta.h"
#include "llama2zh/formats/peft.h"

namespace llama2zh {
namespace {

constexpr size_t kShownProblems = 3;

bool is_float_type(at::ScalarType type) {
  return type == at::kFloat || type == at::kBFloat16 || type == at::kHalf || type == at::kDouble;
}

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
    } else if (!is_float_type(found->dtype)) {
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
                "expected a Hugging Face model folder, Meta's folder with params.json, or a "
                "llama2.c .bin file");
  }
  if (!fs::is_directory(path) && path.extension() != ".bin") {
    fail_format(path.string(), "a single file must be a llama2.c .bin",
                "give the folder that holds config.json");
  }
}

}  // namespace

OpenModel open_model(const fs::path& path) {
  OpenModel open;
  if (fs::exists(path) && is_meta_folder(path)) {
    open = open_foreign(open_meta_checkpoint(path), path);
  } else {
    refuse_what_is_no_model(path);
    if (fs::is_directory(path)) {
      open.config = LlamaConfig::read(path);
      open.source = open_tensors(path);
      open.path = path;
    } else {
      open = open_foreign(open_llama2c_checkpoint(path), path);
    }
  }
  check_tensors(open);
  // What config.json says about the type may be wrong; the file knows.
  open.config.dtype = dtype_name(open.source->require("model.embed_tokens.weight").dtype);
  if (open.config.dtype == "Double") open.config.dtype = "float32";
  return open;
}

namespace {

// linear_product casts narrower matrices on the fly: float32 arithmetic on a CPU needs no wider
// copy of them.
bool stays_as_stored(const at::Tensor& weight, at::ScalarType compute_dtype, at::Device device) {
  return device.is_cpu() && compute_dtype == at::kFloat && weight.dim() == 2 &&
         (weight.scalar_type() == at::kBFloat16 || weight.scalar_type() == at::kHalf);
}

}  // namespace

std::unique_ptr<Llama> load_model(const OpenModel& open, at::ScalarType compute_dtype,
                                  at::Device device) {
  auto model = std::make_unique<Llama>(open.config, compute_dtype, device);
  model->for_each_weight([&](const std::string& name, at::Tensor& weight) {
    weight = open.source->load(name);
    if (!stays_as_stored(weight, compute_dtype, device))
      weight = weight.to(device, compute_dtype);  // no copy when nothing changes
  });
  if (open.config.tie_word_embeddings) model->lm_head.weight = model->embed_tokens;
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
