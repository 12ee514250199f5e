// A quantized model's weights as numbers again, each dequantized when it is asked for.
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <map>
#include <utility>

#include "llama2zh/model/load.h"

namespace llama2zh {
namespace {

at::ScalarType type_named(const std::string& name) {
  if (name == "float16") return at::kHalf;
  return name == "bfloat16" ? at::kBFloat16 : at::kFloat;
}

class PlainWeights final : public TensorSource {
 public:
  PlainWeights(std::unique_ptr<TensorSource> stored, const LlamaConfig& config)
      : stored_(std::move(stored)), quantization_(*config.quantization) {
    LlamaConfig plain = config;
    plain.quantization.reset();
    for (const TensorInfo& info : expected_tensors(plain, type_named(config.dtype))) {
      const bool quantized = is_quantized(quantization_, info.name, config.tie_word_embeddings);
      if (quantized) quantized_[info.name] = info;
      infos_.push_back(quantized ? info : stored_->require(info.name));
    }
    std::sort(infos_.begin(), infos_.end(),
              [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  std::string describe() const override { return stored_->describe(); }
  at::Tensor load(std::string_view name) const override {
    const auto found = quantized_.find(name);
    if (found == quantized_.end()) return stored_->load(name);
    const TensorInfo& info = found->second;
    return dequantize(load_quantized(*stored_, quantization_, info)).to(info.dtype);
  }

 private:
  std::unique_ptr<TensorSource> stored_;
  QuantizationConfig quantization_;
  std::vector<TensorInfo> infos_;
  std::map<std::string, TensorInfo, std::less<>> quantized_;
};

}  // namespace

OpenModel with_plain_weights(OpenModel open) {
  if (!open.config.quantization) return open;
  open.source = std::make_unique<PlainWeights>(std::move(open.source), open.config);
  open.config.quantization.reset();
  return open;
}

}  // namespace llama2zh
