#pragma once

#include <span>
#include <string>
#include <vector>

#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

// The text of an answer as its tokens come in, ended by stop texts. What push() and finish() return
// is final: never part of a stop text, never half a character.
class AnswerText {
 public:
  // kUsage for a stop text that is empty or not UTF-8. `before`: ids whose text the answer goes on
  // from, so that the two can be joined (a space at the border is kept); none: a text of its own.
  AnswerText(const Tokenizer& tokenizer, std::vector<std::string> stops,
             std::span<const TokenId> before = {});
  std::string push(TokenId id);
  std::string finish();                      // what was held back
  bool stopped() const { return stopped_; }  // a stop text has come; the text ends before it
  std::string released() const { return text_.substr(0, released_); }

 private:
  void cut_at_stop();
  size_t possible_stop_suffix() const;
  std::string release(size_t end);

  StreamDecoder decoder_;
  std::vector<std::string> stops_;
  std::string text_;  // decoded so far
  size_t released_ = 0;
  bool stopped_ = false;
};

}  // namespace llama2zh
