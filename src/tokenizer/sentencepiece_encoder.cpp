#include "tokenizer/sentencepiece_encoder.h"

#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

void load_processor(sentencepiece::SentencePieceProcessor& processor, const std::string& model,
                    const std::string& where) {
  std::string problem;
  try {
    const auto status = processor.LoadFromSerializedProto(model);
    if (!status.ok()) problem = status.error_message();
  } catch (const std::exception& error) {  // Darts::Exception, std::bad_alloc
    problem = error.what();
  }
  if (!problem.empty()) {
    fail_format(where, cat("sentencepiece does not take it: ", problem), "Fetch the file again");
  }
}

}  // namespace

SentencepieceEncoder::SentencepieceEncoder(const ModelProto& proto, std::string where)
    : proto_(&proto), where_(std::move(where)) {
  const ModelSpecs& specs = proto.specs();
  if (specs.model_type > 2 || specs.whitespace_as_suffix) {
    fail_format(where_,
                specs.whitespace_as_suffix
                    ? "it writes spaces behind words (treat_whitespace_as_suffix)"
                    : "it is a word or character model",
                "LLaMA's tokenizers are BPE (or unigram) models with spaces in front of words");
  }
  load_processor(processor_, proto.serialize(), where_);
}

const sentencepiece::SentencePieceProcessor& SentencepieceEncoder::continuation() const {
  std::call_once(continuation_once_, [this] {
    auto processor = std::make_unique<sentencepiece::SentencePieceProcessor>();
    load_processor(*processor, proto_->serialize_without_dummy_prefix(), where_);
    continuation_processor_ = std::move(processor);
  });
  return *continuation_processor_;
}

void SentencepieceEncoder::encode(std::string_view text, bool dummy_prefix,
                                  std::vector<TokenId>& ids) const {
  const auto& processor = dummy_prefix ? processor_ : continuation();
  std::vector<TokenId> found;
  const auto status = processor.Encode(text, &found);
  if (!status.ok())
    fail_data("text", cat("sentencepiece could not encode it: ", status.error_message()));
  ids.insert(ids.end(), found.begin(), found.end());
}

}  // namespace llama2zh
