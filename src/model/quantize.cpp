// Quantization layer by layer. A layer sees the calibration sequences twice: first as it was, while
// the inputs of its products are summed up to hessians, then quantized (with AWQ's scales folded in
// before that), to make the next layer's input what it will be in use.
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
#include "llama2zh/model/awq.h"
#include "llama2zh/model/gptq.h"
#include "model_files.h"
#include "scale_search.h"

namespace llama2zh {
namespace {

constexpr const char* kNorms[] = {"input_layernorm", "post_attention_layernorm"};

class Quantizer {
 public:
  Quantizer(const OpenModel& source, const std::filesystem::path& folder,
            const QuantizeOptions& options, std::function<void(const std::string&)> on_matrix)
      : options_(&options),
        config_(source.config),
        model_(std::make_unique<Llama>(source.config, options.compute_dtype, at::kCPU)),
        source_(&source),
        on_matrix_(std::move(on_matrix)) {
    config_.quantization = options.quantization;
    const at::ScalarType stored = source.source->require("model.norm.weight").dtype;
    writer_ = std::make_unique<ShardedWriter>(folder, expected_tensors(config_, stored),
                                              options.max_shard_bytes);
    if (options.calibration.empty()) return;
    load_parts([](const std::string& name) { return name == kEmbeddingName; });
    for (const std::vector<int64_t>& ids : options.calibration)
      hidden_.push_back(model_->embed(at::tensor(ids, at::kLong)));
    model_->embed_tokens.reset();
    load_parts([](const std::string& name) { return name == kFinalNormName; });
  }

  QuantizeReport run() {
    const at::NoGradGuard no_grad;
    matrix(kEmbeddingName, source_->source->load(kEmbeddingName), nullptr, nullptr);
    for (int64_t layer = 0; layer < config_.num_hidden_layers; ++layer) quantize_layer(layer);
    quantize_head();
    writer_->finish();
    return std::move(report_);
  }
  const LlamaConfig& config() const { return config_; }

 private:
  // Linears whose input is the same, with what is known of it.
  struct Shared {
    std::vector<std::pair<const char*, Linear*>> linears;
    InputHessian* input;
  };

  static std::vector<Shared> shared_inputs(DecoderLayer& layer, LayerInputs& inputs) {
    Attention& attention = layer.self_attn;
    Mlp& mlp = layer.mlp;
    return {{{{"self_attn.q_proj", &attention.q_proj},
              {"self_attn.k_proj", &attention.k_proj},
              {"self_attn.v_proj", &attention.v_proj}},
             &inputs.attention},
            {{{"self_attn.o_proj", &attention.o_proj}}, &inputs.attention_out},
            {{{"mlp.gate_proj", &mlp.gate_proj}, {"mlp.up_proj", &mlp.up_proj}}, &inputs.mlp},
            {{{"mlp.down_proj", &mlp.down_proj}}, &inputs.mlp_out}};
  }

  // Only what calibration runs through at the moment is in memory in the type computed in.
  void load_parts(const std::function<bool(const std::string& name)>& wanted) {
    if (!options_->calibration.empty()) load_weights(*source_, *model_, wanted);
  }

  void quantize_layer(int64_t index) {
    DecoderLayer& layer = model_->layers[static_cast<size_t>(index)];
    const std::string prefix = cat("model.layers.", index, ".");
    load_parts([&](const std::string& name) { return name.starts_with(prefix); });
    LayerInputs inputs;
    const std::vector<Shared> groups = shared_inputs(layer, inputs);
    for (const Shared& group : groups) {
      group.linears.front().second->observe = [&group](const at::Tensor& x) {
        group.input->add(x);
      };
    }
    for (const at::Tensor& x : hidden_) through_layer(index, x);
    for (const Shared& group : groups) group.linears.front().second->observe = nullptr;
    LayerWeights weights = layer_weights(groups, prefix);
    if (is_awq()) fold(weights, inputs, layer, prefix);
    for (const Shared& group : groups) {
      for (const auto& [name, linear] : group.linears)
        matrix(prefix + name + ".weight", weights.at(name), linear, group.input);
      *group.input = {};
    }
    for (const char* norm : kNorms) writer_->add(prefix + norm + ".weight", weights.at(norm));
    for (at::Tensor& x : hidden_) x = through_layer(index, x);
    layer = {};
  }

  LayerWeights layer_weights(const std::vector<Shared>& groups, const std::string& prefix) const {
    LayerWeights weights;
    const auto load = [&](const char* name) {
      weights[name] = source_->source->load(prefix + name + ".weight");
    };
    for (const Shared& group : groups)
      for (const auto& [name, linear] : group.linears) load(name);
    for (const char* norm : kNorms) load(norm);
    return weights;
  }

  bool is_awq() const { return options_->quantization.method == "awq"; }

  void fold(LayerWeights& weights, LayerInputs& inputs, DecoderLayer& layer,
            const std::string& prefix) {
    throw_if_stopped();
    const QuantizationConfig& quantization = options_->quantization;
    for (const auto& [name, alpha] :
         awq_fold(weights, inputs, config_.layer_shape(), static_cast<int>(quantization.bits),
                  quantization.group_size))
      report_.awq_alphas[prefix + name] = alpha;
    layer.input_layernorm = weights.at("input_layernorm").to(options_->compute_dtype);
    layer.post_attention_layernorm =
        weights.at("post_attention_layernorm").to(options_->compute_dtype);
  }

  at::Tensor through_layer(int64_t index, const at::Tensor& x) const {
    throw_if_stopped();
    PackedSequences context(x.size(0), at::kCPU);
    return model_->forward_layer(index, x, context);
  }

  // A tied head is the embedding, which no norm comes before: it stays as that was written.
  void quantize_head() {
    at::Tensor norm = source_->source->load(kFinalNormName);
    if (config_.tie_word_embeddings) {
      writer_->add(kFinalNormName, norm);
      return;
    }
    at::Tensor weight = source_->source->load(kHeadName);
    InputHessian input;
    if (options_->quantization.lm_head) {
      for (const at::Tensor& x : hidden_)
        input.add(rms_norm(x, model_->norm, config_.rms_norm_eps));
      if (is_awq()) {
        weight = weight.to(at::kFloat);
        const AwqScales found = awq_scales({weight}, input, input.mean_magnitudes(),
                                           static_cast<int>(options_->quantization.bits),
                                           options_->quantization.group_size);
        const at::Tensor scales = fold_into_norm(norm, found.scales);
        weight = weight * scales;
        input.divide_inputs(scales);
        report_.awq_alphas["lm_head"] = found.alpha;
      }
    }
    writer_->add(kFinalNormName, norm);
    matrix(kHeadName, weight, &model_->lm_head, &input);
  }

  // Writes one matrix, quantized if it is to be, and puts it in the place of the old one.
  void matrix(const std::string& name, const at::Tensor& weight, Linear* linear,
              const InputHessian* input) {
    throw_if_stopped();
    const QuantizationConfig& quantization = options_->quantization;
    if (!is_quantized(quantization, name, config_.tie_word_embeddings)) {
      writer_->add(name, weight);
      return;
    }
    const auto result = std::make_shared<const QuantizedMatrix>(quantized(name, weight, input));
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
                            const InputHessian* input) const {
    const QuantizationConfig& quantization = options_->quantization;
    const auto bits = static_cast<int>(quantization.bits);
    const int64_t group_size = quantization.group_size;
    try {
      if (quantization.method == "rtn" || input == nullptr)
        return quantize_rows(weight, bits, group_size);
      if (quantization.method == "gptq")
        return gptq_quantize(weight, input->sum(), bits, group_size, options_->damping);
      const at::Tensor diagonal = input->sum().diagonal();
      return quantize_weighted(
          weight, (diagonal + diagonal.mean() * options_->damping + 1e-30).contiguous(), bits,
          group_size);
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
  QuantizeReport report_;
  std::vector<at::Tensor> hidden_;  // [T, H] of each calibration sequence, behind the last layer
};

}  // namespace

QuantizeReport quantize_model(const OpenModel& source, const std::filesystem::path& folder,
                              const QuantizeOptions& options,
                              const std::function<void(const std::string& name)>& on_matrix) {
  refuse_quantized(source, "it can't be quantized again");
  TORCH_CHECK(options.quantization.method == "rtn" || !options.calibration.empty(),
              "quantize_model: ", options.quantization.method, " needs calibration sequences");
  const at::NoGradGuard no_grad;
  Quantizer quantizer(source, folder, options, on_matrix);
  QuantizeReport report = quantizer.run();
  write_config_files(folder, quantizer.config());
  return report;
}

}  // namespace llama2zh
