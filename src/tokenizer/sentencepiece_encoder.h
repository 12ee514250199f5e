#pragma once

#include <sentencepiece_processor.h>

#include <memory>
#include <mutex>
#include <string>

#include "llama2zh/tokenizer/model_proto.h"
#include "tokenizer/text_encoder.h"

namespace llama2zh {

// The library itself: other BPE implementations differ on merged vocabularies. `proto` must outlive
// it. kFormat naming `where` for models whose kind is not LLaMA's.
class SentencepieceEncoder : public TextEncoder {
 public:
  SentencepieceEncoder(const ModelProto& proto, std::string where);
  void encode(std::string_view text, bool dummy_prefix, std::vector<TokenId>& ids) const override;

 private:
  const sentencepiece::SentencePieceProcessor& continuation() const;

  const ModelProto* proto_;
  std::string where_;
  sentencepiece::SentencePieceProcessor processor_;
  mutable std::once_flag continuation_once_;
  mutable std::unique_ptr<sentencepiece::SentencePieceProcessor> continuation_processor_;
};

}  // namespace llama2zh
