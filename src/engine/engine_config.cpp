#include "llama2zh/engine/engine_config.h"

#include <algorithm>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/engine/paged_batch.h"

namespace llama2zh {

at::ScalarType kv_type(const EngineConfig& config, const Llama& model) {
  if (config.kv_dtype == "int8") return at::kChar;
  if (config.kv_dtype == "float32") return at::kFloat;
  if (config.kv_dtype == "bfloat16") return at::kBFloat16;
  return model.compute_dtype();
}

int64_t kv_blocks(const EngineConfig& config, const Llama& model, const Llama* draft) {
  if (config.max_step_tokens < config.max_running + kBlockTokens) {
    fail_usage("max_step_tokens",
               cat(config.max_step_tokens, " leave no room for prompts beside ", config.max_running,
                   " running sequences"),
               cat("give at least ", config.max_running + kBlockTokens));
  }
  int64_t block = PageStore(model.config, 1, kv_type(config, model), model.device()).block_bytes();
  if (draft != nullptr) {
    block += PageStore(draft->config, 1, kv_type(config, *draft), draft->device()).block_bytes();
  }
  constexpr double kGib = 1 << 30;
  if (config.kv_cache_gib > 0) {
    const auto blocks =
        static_cast<int64_t>(config.kv_cache_gib * kGib / static_cast<double>(block));
    if (blocks < 1)
      fail_usage("kv_cache_gib", cat("a block of 16 tokens alone takes ", block, " bytes"));
    return std::min<int64_t>(blocks, INT32_MAX);
  }
  const int64_t context = (model.config.context_length() + kBlockTokens - 1) / kBlockTokens;
  const int64_t most = static_cast<int64_t>(4 * kGib) / block;
  return std::max(context, std::min(context * config.max_running, most));
}

}  // namespace llama2zh
