// Quantization layer by layer. A layer sees the calibration sequences twice: first as it was, while
// the inputs of its products are summed up to hessians, then quantized, to make the next layer's
// input what it will be in use.
#include "llama2zh/model/quantize.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include <map>
#include <memory>
#include <utility>

#include "full_weights.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/safetensors.h"
#include "llama2zh/kernels/rms_norm.h"
#include "llama2zh/model/gptq.h"
#include "model_files.h"

namespace llama2zh {
namespace {

class Quantizer {
 public:
  Quantizer(const OpenModel& source, const std::filesystem::path& folder,
            const QuantizeOptions& options, std::function<void(const std::string&)> on_matrix)
      : options_(&options),
        config_(source.config),
        model_(load_model(source, options.compute_dtype, at::kCPU)),
        source_(&source),
        on_matrix_(std::move(on_matrix)) {
    config_.quantization = options.quantization;
    const at::ScalarType stored = source.source->require("model.norm.weight").dtype;
    writer_ = std::make_unique<ShardedWriter>(folder, expected_tensors(config_, stored),
                                              options.max_shard_bytes);
    for (const std::vector<int64_t>& ids : options.calibration)
      hidden_.push_back(model_->embed(at::tensor(ids, at::kLong)));
  }

  void run() {
    const at::NoGradGuard no_grad;
    matrix(kEmbeddingName, nullptr, nullptr);
    for (int64_t layer = 0; layer < config_.num_hidden_layers; ++layer) quantize_layer(layer);
    writer_->add("model.norm.weight", source_->source->load("model.norm.weight"));
    if (!config_.tie_word_embeddings) quantize_head();
    writer_->finish();
  }
  const LlamaConfig& config() const { return config_; }

 private:
  // Linears whose input is the same, with what is known of it.
  struct Shared {
    std::vector<std::pair<const char*, Linear*>> linears;
    InputHessian hessian;
  };

  std::vector<Shared> shared_inputs(DecoderLayer& layer) {
    Attention& attention = layer.self_attn;
    Mlp& mlp = layer.mlp;
    std::vector<Shared> result(4);
    result[0].linears = {{"self_attn.q_proj", &attention.q_proj},
                         {"self_attn.k_proj", &attention.k_proj},
                         {"self_attn.v_proj", &attention.v_proj}};
    result[1].linears = {{"self_attn.o_proj", &attention.o_proj}};
    result[2].linears = {{"mlp.gate_proj", &mlp.gate_proj}, {"mlp.up_proj", &mlp.up_proj}};
    result[3].linears = {{"mlp.down_proj", &mlp.down_proj}};
    return result;
  }

  void quantize_layer(int64_t index) {
    DecoderLayer& layer = model_->layers[static_cast<size_t>(index)];
    std::vector<Shared> inputs = shared_inputs(layer);
    for (Shared& input : inputs) {
      input.linears.front().second->observe = [&input](const at::Tensor& x) {
        input.hessian.add(x);
      };
    }
    for (const at::Tensor& x : hidden_) through_layer(index, x);
    const std::string prefix = cat("model.layers.", index, ".");
    for (Shared& input : inputs) {
      input.linears.front().second->observe = nullptr;
      for (const auto& [name, linear] : input.linears)
        matrix(prefix + name + ".weight", linear, &input.hessian);
      input = {};
    }
    for (const char* norm : {"input_layernorm.weight", "post_attention_layernorm.weight"})
      writer_->add(prefix + norm, source_->source->load(prefix + norm));
    for (at::Tensor& x : hidden_) x = through_layer(index, x);
    layer = {};
  }

  at::Tensor through_layer(int64_t index, const at::Tensor& x) const {
    throw_if_stopped();
    PackedSequences context(x.size(0), at::kCPU);
    return model_->forward_layer(index, x, context);
  }

  void quantize_head() {
    InputHessian hessian;
    if (options_->quantization.lm_head) {
      for (const at::Tensor& x : hidden_)
        hessian.add(rms_norm(x, model_->norm, config_.rms_norm_eps));
    }
    matrix(kHeadName, &model_->lm_head, &hessian);
  }

  // Writes one matrix, quantized if it is to be, and puts it in the place of the old one.
  void matrix(const std::string& name, Linear* linear, const InputHessian* hessian) {
    throw_if_stopped();
    const at::Tensor weight = source_->source->load(name);
    const QuantizationConfig& quantization = options_->quantization;
    if (!is_quantized(quantization, name, config_.tie_word_embeddings)) {
      writer_->add(name, weight);
      return;
    }
    const auto result = std::make_shared<const QuantizedMatrix>(quantized(name, weight, hessian));
    const std::string module = name.substr(0, name.size() - std::string(".weight").size());
    writer_->add(module + ".codes", result->codes);
    writer_->add(module + ".scales", result->scales);
    if (linear != nullptr) {
      linear->quantized = result;
      linear->weight.reset();
      linear->activations =
          quantization.activations == "float" ? Activations::kFloat : Activations::kInt8;
    }
    if (on_matrix_) on_matrix_(name);
  }

  QuantizedMatrix quantized(const std::string& name, const at::Tensor& weight,
                            const InputHessian* hessian) const {
    const QuantizationConfig& quantization = options_->quantization;
    const auto bits = static_cast<int>(quantization.bits);
    try {
      const bool gptq = quantization.method == "gptq" && hessian != nullptr;
      if (!gptq) return quantize_rows(weight, bits, quantization.group_size);
      return gptq_quantize(weight, hessian->sum(), bits, quantization.group_size,
                           options_->damping);
    } catch (const Error& error) {
      fail_data(name, error.what());
    }
  }

  const QuantizeOptions* options_;
  LlamaConfig config_;
  std::unique_ptr<Llama> model_;
  const OpenModel* source_;
  std::function<void(const std::string&)> on_matrix_;
  std::unique_ptr<ShardedWriter> writer_;
  std::vector<at::Tensor> hidden_;  // [T, H] of each calibration sequence, behind the last layer
};

}  // namespace

void quantize_model(const OpenModel& source, const std::filesystem::path& folder,
                    const QuantizeOptions& options,
                    const std::function<void(const std::string& name)>& on_matrix) {
  refuse_quantized(source, "it can't be quantized again");
  TORCH_CHECK(options.quantization.method != "gptq" || !options.calibration.empty(),
              "quantize_model: gptq needs calibration sequences");
  const at::NoGradGuard no_grad;
  Quantizer quantizer(source, folder, options, on_matrix);
  quantizer.run();
  write_config_files(folder, quantizer.config());
}

}  // namespace llama2zh
