#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "llama2zh/formats/gguf.h"
#include "llama2zh/formats/meta.h"
#include "llama2zh/model/llama_config.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

// A GGUF file of architecture "llama" as a Hugging Face checkpoint: names, the order of q and k
// rows, config.json (rotary scaling, also that of a rope_freqs tensor, tied embeddings, ids of
// special tokens). Quantized tensors are dequantized to float as they are loaded. kFormat naming file
// and key for other architectures, mixtures of experts, parts of a split file and rotary settings
// that config.json can't express.
std::unique_ptr<ForeignCheckpoint> open_gguf_checkpoint(const std::filesystem::path& file);
// Whether a matrix of the file is quantized, so that its values are approximations.
bool has_quantized_tensors(const GgufFile& file);

// What write_gguf_tokenizer() made of the file's vocabulary.
enum class GgufTokenizer {
  kNone,           // there is none, or one of a kind that is not written here
  kSentencepiece,  // tokenizer.model, tokenizer_config.json, special_tokens_map.json
  kJson,           // byte-level BPE: tokenizer.json and tokenizer_config.json, for other programs
};
// Writes the tokenizer that the file holds into an existing folder, chat template included. kFormat
// naming file and key for arrays that don't belong together. Says in `note` what the caller should
// tell the user ("" if nothing).
GgufTokenizer write_gguf_tokenizer(const GgufFile& file, const std::filesystem::path& folder,
                                   std::string& note);

struct GgufExport {
  std::string type = "auto";  // auto (as embed_tokens is stored) | one of gguf_export_types()
  std::string name;           // general.name; empty: none
};
std::vector<std::string> gguf_export_types();  // "f32", "f16", "bf16", "q8_0", "q4_0"

// kUsage naming the key unless llama.cpp can run a model of this config.json: found before the work.
void check_gguf_export(const LlamaConfig& config);
// Writes a .gguf that llama.cpp loads. Vectors are F32. With q4_0 the head, or the embedding it is
// tied to, is Q6_K as llama.cpp's own quantize chooses (Q8_0 where rows are no multiple of 256);
// matrices whose rows are no multiple of 32 stay F16.
void write_gguf_model(const std::filesystem::path& file, const TensorSource& source,
                      const LlamaConfig& config, const Tokenizer& tokenizer,
                      const GgufExport& options);

}  // namespace llama2zh
