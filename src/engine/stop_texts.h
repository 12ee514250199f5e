#pragma once

#include <span>
#include <string>
#include <vector>

#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

struct AnswerTextOptions {
  bool keep_stop = false;    // the stop text that ends the answer is its end; else it is dropped
  bool skip_special = true;  // special tokens have no text
};

// The text of an answer as its tokens come in, ended by stop texts. What push() and finish() return
// is final: never part of a stop text that may yet be dropped, never half a character.
class AnswerText {
 public:
  // kUsage for a stop text that is empty or not UTF-8. `before`: ids whose text the answer goes on
  // from, so that the two can be joined (a space at the border is kept); none: a text of its own.
  AnswerText(const Tokenizer& tokenizer, std::vector<std::string> stops,
             std::span<const TokenId> before = {}, AnswerTextOptions options = {});
  std::string push(TokenId id);
  std::string finish();                            // what was held back
  bool stopped() const { return !stop_.empty(); }  // a stop text has come; the text ends with it
  const std::string& stop_text() const { return stop_; }  // which; "" if none has
  std::string released() const { return text_.substr(0, released_); }

 private:
  void cut_at_stop();
  size_t possible_stop_suffix() const;
  std::string release(size_t end);

  StreamDecoder decoder_;
  bool keep_stop_;
  std::vector<std::string> stops_;
  std::string text_;  // decoded so far
  size_t released_ = 0;
  std::string stop_;
};

}  // namespace llama2zh
