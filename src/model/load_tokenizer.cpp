#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/model/gguf.h"
#include "llama2zh/model/load.h"

namespace llama2zh {

Tokenizer load_tokenizer(const std::filesystem::path& path) {
  if (!is_gguf_file(path)) return Tokenizer::load(path);
  std::string note;
  const TokenizerFiles files = gguf_tokenizer_files(*GgufFile::open(path), note);
  if (files.contents.empty()) {
    fail_format(path.string(), note, "name a tokenizer of the model's own with --tokenizer");
  }
  if (!note.empty()) log_warning(cat(path.string(), ": ", note));
  return Tokenizer::from_files(files);
}

bool holds_tokenizer(const std::filesystem::path& path) {
  return std::filesystem::is_directory(path) ? has_tokenizer(path) : is_gguf_file(path);
}

}  // namespace llama2zh
