// The layout is described in packed_checkpoint.cpp, which reads it.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full_like.h>

#include <utility>

#include "full_weights.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/packed_integers.h"
#include "llama2zh/formats/safetensors.h"
#include "llama2zh/model/gptq_format.h"
#include "model_files.h"
#include "packed_config.h"

namespace llama2zh {
namespace {

class GptqWriter {
 public:
  explicit GptqWriter(const OpenModel& open)
      : open_(&open), quantization_(*open.config.quantization), plain_(open.config) {
    plain_.quantization.reset();
  }

  bool is_packed(const TensorInfo& weight) const {
    return weight.name != kEmbeddingName &&
           is_quantized(quantization_, weight.name, plain_.tie_word_embeddings);
  }
  std::vector<TensorInfo> weights() const { return expected_tensors(plain_, stored_type()); }

  // What there is for a weight, without its values.
  std::vector<TensorInfo> parts_of(const TensorInfo& weight) const {
    if (!is_packed(weight)) {
      const TensorInfo* const stored = open_->source->find(weight.name);
      return {stored != nullptr ? *stored : weight};
    }
    const int64_t out = weight.shape.at(0), in = weight.shape.at(1), n = 32 / quantization_.bits;
    const int64_t group = quantization_.group_size == -1 ? in : quantization_.group_size;
    const int64_t groups = (in + group - 1) / group;
    const std::string module = module_of(weight);
    return {{module + ".g_idx", at::kInt, {in}},
            {module + ".qweight", at::kInt, {in / n, out}},
            {module + ".qzeros", at::kInt, {groups, out / n}},
            {module + ".scales", at::kHalf, {groups, out}}};
  }

  // In the order of parts_of().
  std::vector<at::Tensor> values_of(const TensorInfo& weight) const {
    if (!is_packed(weight)) {
      if (open_->source->find(weight.name) != nullptr) return {open_->source->load(weight.name)};
      return {dequantize(load(weight)).to(weight.dtype)};
    }
    const QuantizedMatrix matrix = load(weight);
    const QuantizedRows rows = unpack(matrix);
    const auto bits = static_cast<int>(quantization_.bits);
    const int64_t group = quantization_.group_size == -1 ? matrix.in : quantization_.group_size;
    at::Tensor codes = rows.codes;
    at::Tensor groups = at::arange(matrix.in).div(group, "floor").to(at::kInt);
    if (matrix.columns.defined()) {
      codes = at::empty_like(codes).index_copy_(1, matrix.columns, rows.codes);
      groups = at::empty_like(groups).index_copy_(0, matrix.columns, groups);
    }
    const at::Tensor zeros =
        rows.zeros.defined()
            ? rows.zeros.t().contiguous()
            : at::full_like(rows.scales.t(), 1 << (bits - 1), at::kByte).contiguous();
    return {groups, pack_integers_transposed(codes, bits),
            pack_integers(zeros, bits) - one_in_each(bits),
            rows.scales.t().to(at::kHalf).contiguous()};
  }

  void check() const {
    const int64_t n = 32 / quantization_.bits;
    for (const TensorInfo& weight : weights()) {
      if (!is_packed(weight)) continue;
      if (weight.shape.at(0) % n != 0 || weight.shape.at(1) % n != 0) {
        refuse(weight, cat("its shape ", at::IntArrayRef(weight.shape), " is no multiple of ", n));
      }
      if (quantization_.group_size != -1) continue;
      const at::Tensor scales = open_->source->load(module_of(weight) + ".scales");
      if (!at::equal(scales.to(at::kHalf).to(at::kFloat), scales)) {
        refuse(weight, "its scales, one a row, are float32, and the layout has float16");
      }
    }
  }

  LlamaConfig config() const {
    LlamaConfig result = plain_;
    result.quantization =
        parse_packed_config({{"quant_method", "gptq"},
                             {"bits", quantization_.bits},
                             {"group_size", quantization_.group_size},
                             {"desc_act", quantization_.columns},
                             {"sym", !quantization_.zeros},
                             {"lm_head", quantization_.lm_head && !plain_.tie_word_embeddings},
                             {"checkpoint_format", "gptq"},
                             {"activations", quantization_.activations}},
                            "config.json", PackedLayout::Kind::kGptq);
    return result;
  }

 private:
  static std::string module_of(const TensorInfo& weight) {
    return weight.name.substr(0, weight.name.rfind('.'));
  }
  at::ScalarType stored_type() const { return open_->source->require(kFinalNormName).dtype; }
  QuantizedMatrix load(const TensorInfo& weight) const {
    return load_quantized(*open_->source, quantization_, weight);
  }
  [[noreturn]] void refuse(const TensorInfo& weight, const std::string& problem) const {
    fail_usage(open_->path.string(),
               cat(weight.name, " can't be stored in GPTQ's layout: ", problem),
               "quantize the model with --group-size 32, 64 or 128, or write --to hf");
  }

  const OpenModel* open_;
  QuantizationConfig quantization_;
  LlamaConfig plain_;
};

}  // namespace

void check_gptq_output(const OpenModel& open) {
  if (!open.config.quantization) {
    fail_usage(open.path.string(), "its weights are not quantized, and GPTQ's layout is for those",
               "quantize it first: llama2zh quantize");
  }
  GptqWriter(open).check();
}

void write_gptq_model(const std::filesystem::path& folder, const OpenModel& open,
                      uint64_t max_shard_bytes, const std::function<void()>& before_tensor) {
  check_gptq_output(open);
  const GptqWriter gptq(open);
  std::vector<TensorInfo> parts;
  for (const TensorInfo& weight : gptq.weights())
    for (TensorInfo& part : gptq.parts_of(weight)) parts.push_back(std::move(part));
  ShardedWriter writer(folder, parts, max_shard_bytes);
  auto part = parts.begin();
  for (const TensorInfo& weight : gptq.weights()) {
    if (before_tensor) before_tensor();
    for (const at::Tensor& value : gptq.values_of(weight)) writer.add((part++)->name, value);
  }
  writer.finish();
  write_config_files(folder, gptq.config());
}

}  // namespace llama2zh
