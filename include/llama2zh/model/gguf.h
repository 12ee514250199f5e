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

// The files of the tokenizer that the GGUF holds, as a Hugging Face folder has them, chat template
// included; none if there is no tokenizer, or one of a kind that is not known here. kFormat naming file
// and key for arrays that don't belong together. Says in `note` what the caller should tell the user
// ("" if nothing).
TokenizerFiles gguf_tokenizer_files(const GgufFile& file, std::string& note);

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
