// What a step holds, for T tokens of a micro-batch, H hidden, K key/value width, I intermediate, V
// vocabulary, b bytes a number, and P trained parameters.
//
// Activations that autograd keeps a token and layer: the two inputs of the norms (2 H), q, k, v
// (H + 2 K), attention's output (H), gate and up (2 I), and what a trained or adapted projection needs
// as its input: the norms' outputs (H each) and the product of the MLP (I), once for all projections
// that share it. On a GPU, dropout on an adapter's input is libtorch's: a mask (1 byte) and a copy for
// each projection instead. With activation checkpointing one layer of these and H a layer remain.
//
// The head: its weight in the arithmetic's type (a float32 master is used as it is where the processor
// multiplies float32 faster), one chunk of logits (on a GPU also in fp32), and the
// weight's gradient in the arithmetic's type, which several chunks add up in fp32.
//
// The peak is at one of two places:
//   in the head, with all activations; gradients of earlier micro-batches are there already
//   at the end of backward: all gradients, and with accumulation the embedding's once more
// ZeRO-2 keeps a rank's share of the gradients from the beginning, and one parameter's on its way.
#include "llama2zh/train/memory_plan.h"

#include <algorithm>
#include <string>
#include <vector>

#include "llama2zh/kernels/product.h"
#include "llama2zh/model/load.h"
#include "train/parameter_plan.h"

namespace llama2zh {
namespace {

constexpr double kAllocatorGaps = 0.08;
constexpr double kGpuOverhead = 1.2e9;

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Numbers of parameters by what they need.
struct TrainedParts {
  int64_t total = 0;
  int64_t replaced = 0;   // in the place of frozen weights
  int64_t embedding = 0;  // rows that train, of the two big matrices
  int64_t head = 0;
  int64_t largest = 0;  // of one parameter
};

TrainedParts trained_parts(const std::vector<PlannedParameter>& parameters,
                           const LlamaConfig& model, const RunConfig& run) {
  TrainedParts parts;
  for (const PlannedParameter& parameter : parameters) {
    const bool embedding = parameter.name == "model.embed_tokens.weight";
    const bool head =
        parameter.name == "lm_head.weight" || (model.tie_word_embeddings && embedding);
    const bool beside = parameter.name.find(".lora_") != std::string::npos ||
                        ((embedding || head) && run.train.first_trained_row > 0);
    parts.total += parameter.elements;
    parts.largest = std::max(parts.largest, parameter.elements);
    if (!beside) parts.replaced += parameter.elements;
    if (embedding) parts.embedding = parameter.elements;
    if (head) parts.head = parameter.elements;
  }
  return parts;
}

// Bytes of the model's weights in the arithmetic's type; quantized ones as they are stored.
int64_t weight_bytes(const LlamaConfig& model, const MemorySetting& setting) {
  if (!model.quantization) return model.parameter_count() * setting.bytes_per_number;
  int64_t bytes = 0;
  for (const TensorInfo& info : expected_tensors(model, at::kFloat)) {
    const bool plain = info.name.ends_with(".weight");
    bytes += plain ? info.numel() * setting.bytes_per_number : static_cast<int64_t>(info.bytes());
  }
  return bytes;
}

// Which of these projections train or have an adapter.
int64_t adapted_count(const RunConfig& run, const std::vector<std::string>& projections) {
  if (run.method == "full") return static_cast<int64_t>(projections.size());
  return std::count_if(projections.begin(), projections.end(), [&](const std::string& name) {
    return contains(run.lora.target_modules, name);
  });
}

bool copies_inputs(const RunConfig& run, const MemorySetting& setting) {
  return setting.gpu && run.method != "full" && run.lora.dropout > 0;
}

// Bytes a token that projections keep of the input of `width` numbers that they share.
int64_t input_bytes(const RunConfig& run, const MemorySetting& setting, int64_t width,
                    const std::vector<std::string>& projections) {
  const int64_t adapted = adapted_count(run, projections);
  if (copies_inputs(run, setting)) return adapted * width * (setting.bytes_per_number + 1);
  return adapted > 0 ? width * setting.bytes_per_number : 0;
}

int64_t layer_bytes(const LlamaConfig& model, const RunConfig& run, const MemorySetting& setting) {
  const int64_t h = model.hidden_size, i = model.intermediate_size;
  const int64_t k = model.num_key_value_heads * model.head_dim;
  const int64_t attention =
      copies_inputs(run, setting) ? input_bytes(run, setting, h, {"o_proj"}) : 0;
  return (4 * h + 2 * k + 2 * i) * setting.bytes_per_number + attention +
         input_bytes(run, setting, h, {"q_proj", "k_proj", "v_proj"}) +
         input_bytes(run, setting, h, {"gate_proj", "up_proj"}) +
         input_bytes(run, setting, i, {"down_proj"});
}

int64_t activation_bytes(const LlamaConfig& model, const RunConfig& run,
                         const MemorySetting& setting) {
  const int64_t b = setting.bytes_per_number;
  const int64_t tokens = run.data.block_size * run.train.micro_batch_size;
  const int64_t layer = layer_bytes(model, run, setting), layers = model.num_hidden_layers;
  const int64_t ends = 4 * model.hidden_size * b;  // embedding's output, final norm, head's input
  const int64_t kept =
      run.train.gradient_checkpointing ? layers * model.hidden_size * b + layer : layers * layer;
  return tokens * (kept + ends);
}

// As kernels/linear_cross_entropy goes about it.
int64_t head_bytes(const LlamaConfig& model, const RunConfig& run, const TrainedParts& parts,
                   const MemorySetting& setting) {
  const int64_t b = setting.bytes_per_number;
  const int64_t tokens = run.data.block_size * run.train.micro_batch_size;
  const int64_t chunk = std::min(run.train.head_chunk_rows, tokens);
  const bool master = !setting.gpu && parts.head > 0 && run.train.first_trained_row == 0 &&
                      float_products_are_faster();
  const int64_t number = master ? 4 : b;
  const int64_t logits = chunk * model.vocab_size * (setting.gpu ? b + 4 : number);
  const int64_t cast = number == 4 ? 0 : parts.head * b;
  const int64_t gradient = parts.head * (chunk == tokens || number == 4 ? number : 4 + b);
  return logits + cast + gradient;
}

// What a GPU dequantizes at a time, through fp32: pieces of the projections (kDecodedOnDevice), a
// quantized head as a whole.
int64_t dequantized_bytes(const LlamaConfig& model, const MemorySetting& setting) {
  if (!model.quantization || !setting.gpu) return 0;
  int64_t numbers = std::min(kDecodedOnDevice, model.intermediate_size * model.hidden_size);
  if (model.quantization->lm_head)
    numbers = std::max(numbers, model.vocab_size * model.hidden_size);
  return numbers * (4 + 4 + setting.bytes_per_number);  // codes as numbers, scaled, in the type
}

}  // namespace

int64_t trainable_parameters(const LlamaConfig& model, const RunConfig& run) {
  return trained_parts(planned_parameters(model, run), model, run).total;
}

MemoryEstimate estimate_memory(const LlamaConfig& model, const RunConfig& run,
                               const MemorySetting& setting) {
  const int64_t b = setting.bytes_per_number;
  const std::vector<PlannedParameter> parameters = planned_parameters(model, run);
  const TrainedParts parts = trained_parts(parameters, model, run);
  const DistributedConfig& sharding = run.distributed;
  const int64_t shards = sharding.zero_stage > 0 ? setting.ranks : 1;
  const uint64_t moments = optimizer_bytes(parameters, run.train);
  const bool accumulates = run.train.gradient_accumulation_steps > 1;
  const bool in_shards = sharding.zero_stage == 2 && setting.ranks > 1;
  const int64_t gradients = 4 * parts.total / (in_shards ? setting.ranks : 1);
  const int64_t in_head =
      activation_bytes(model, run, setting) + head_bytes(model, run, parts, setting);
  const int64_t passing = in_shards ? parts.largest : accumulates ? parts.embedding : 0;
  const int64_t gradients_in_head = accumulates || in_shards ? gradients : 0;
  const bool head_is_peak = in_head + gradients_in_head > 4 * passing + gradients;
  MemoryEstimate estimate;
  estimate.frozen = static_cast<uint64_t>(weight_bytes(model, setting) - parts.replaced * b);
  estimate.trained =
      static_cast<uint64_t>(4 * parts.total + (head_is_peak ? gradients_in_head : gradients));
  if (sharding.offload_optimizer) {  // masters and gradients of the shard go there too
    estimate.offloaded =
        (moments + static_cast<uint64_t>(8 * parts.total)) / static_cast<uint64_t>(shards);
  } else {
    estimate.trained += moments / static_cast<uint64_t>(shards);
  }
  estimate.working = static_cast<uint64_t>((head_is_peak ? in_head : 4 * passing) +
                                           dequantized_bytes(model, setting));
  estimate.checkpoint = moments + static_cast<uint64_t>(4 * parts.total);
  estimate.mapped = setting.mapped;
  return estimate;
}

bool fits_gpu(const MemoryEstimate& estimate, uint64_t gpu_bytes) {
  const double tensors = static_cast<double>(estimate.total()) * (1 + kAllocatorGaps);
  return tensors + kGpuOverhead <= static_cast<double>(gpu_bytes);
}

}  // namespace llama2zh
