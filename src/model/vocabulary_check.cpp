// The most common mishap of this kind of project: tokenizer, model and adapter with different
// vocabularies. Checked from file headers, and reported with both numbers and both files.
#include <algorithm>
#include <optional>

#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/manifest.h"
#include "llama2zh/formats/tensor_source.h"
#include "llama2zh/model/load.h"

namespace llama2zh {
namespace {

// What a vocabulary of this size usually is, as " (...)"; "" for others.
std::string known_vocabulary(int64_t size) {
  switch (size) {
    case 32000:
      return " (LLaMA and LLaMA-2 as published)";
    case 49953:
      return " (LLaMA merged with chinese_sp: the original system, Chinese-LLaMA-Alpaca)";
    case 49954:
      return " (49953 and a [PAD] token: Chinese-Alpaca)";
    case 55296:
      return " (Chinese-LLaMA-Alpaca-2)";
    default:
      return "";
  }
}

struct AdapterRows {
  std::string name;  // of the tensor
  int64_t rows;
};

// Rows of the adapter's embedding or head, if it trained one of them.
std::optional<AdapterRows> adapter_rows(const TensorSource& source) {
  for (const TensorInfo& info : source.tensors()) {
    const bool lora = info.name.find("lora_") != std::string::npos;
    const bool full = info.name.find("embed_tokens") != std::string::npos ||
                      info.name.find("lm_head") != std::string::npos;
    if (full && !lora && info.shape.size() == 2) return AdapterRows{info.name, info.shape[0]};
  }
  return std::nullopt;
}

}  // namespace

void check_vocabulary(const Tokenizer& tokenizer, const LlamaConfig& config,
                      const std::filesystem::path& model_path, bool allow_padding) {
  const int64_t pieces = tokenizer.vocab_size();
  if (pieces == config.vocab_size) return;
  if (allow_padding && pieces < config.vocab_size) {
    log_warning(cat(model_path.string(), " has ", config.vocab_size,
                    " embedding rows, the tokenizer ", pieces,
                    " pieces: the last rows are taken as padding"));
    return;
  }
  const std::string remedy =
      pieces > config.vocab_size
          ? "extend the model's vocabulary to this tokenizer first, or use the tokenizer that "
            "belongs to the model"
          : "use the tokenizer that belongs to the model";
  fail_format(model_path.string(),
              cat("the model has ", config.vocab_size, " embedding rows",
                  known_vocabulary(config.vocab_size), ", but the tokenizer ",
                  tokenizer.path().string(), " has ", pieces, " pieces", known_vocabulary(pieces)),
              remedy);
}

void check_adapter_vocabulary(const std::filesystem::path& adapter, const LlamaConfig& base,
                              const std::filesystem::path& base_path) {
  std::optional<AdapterRows> found = adapter_rows(*open_tensors(adapter));
  if (!found && has_manifest(adapter)) {
    const int64_t rows = read_manifest(adapter).vocab_size;
    if (rows > 0) found = AdapterRows{"its base model", rows};
  }
  if (!found || found->rows == base.vocab_size) return;
  fail_format(adapter.string(),
              cat("the adapter was trained for a vocabulary of ", found->rows,
                  known_vocabulary(found->rows), " (", found->name, "), but the base model ",
                  base_path.string(), " has ", base.vocab_size, " embedding rows",
                  known_vocabulary(base.vocab_size)),
              found->rows > base.vocab_size
                  ? "extend the base model's vocabulary first, or use the base that the adapter "
                    "was trained on"
                  : "use the base model that the adapter was trained on");
}

}  // namespace llama2zh
