// Stop texts over a stream. Tokens and stop texts have different borders, so text is held back from
// the earliest place where a stop text may have begun: the longest end of the text that is a proper
// beginning of one. Nothing released can therefore belong to a stop text, and each new piece is
// searched from the end of what was released.
#include "engine/stop_texts.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {

AnswerText::AnswerText(const Tokenizer& tokenizer, std::vector<std::string> stops,
                       std::span<const TokenId> before, AnswerTextOptions options)
    : decoder_(tokenizer, options.skip_special),
      keep_stop_(options.keep_stop),
      stops_(std::move(stops)) {
  for (const std::string& stop : stops_) {
    if (stop.empty()) fail_usage("stop", "an empty stop text would end every answer at once");
    if (!is_utf8(stop)) fail_usage("stop", "the stop text is not UTF-8");
  }
  for (const TokenId id : before) decoder_.push(id);
}

std::string AnswerText::push(TokenId id) {
  if (stopped()) return {};
  text_ += decoder_.push(id);
  cut_at_stop();
  return release(stopped() ? text_.size() : text_.size() - possible_stop_suffix());
}

std::string AnswerText::finish() {
  if (!stopped()) {
    text_ += decoder_.finish();
    cut_at_stop();
  }
  return release(text_.size());
}

// The earliest stop text wins; everything from it on, or behind it, is dropped.
void AnswerText::cut_at_stop() {
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t found = text_.find(stop, released_);
    if (found >= first) continue;
    first = found;
    stop_ = stop;
  }
  if (stopped()) text_.resize(keep_stop_ ? first + stop_.size() : first);
}

size_t AnswerText::possible_stop_suffix() const {
  const std::string_view tail = std::string_view(text_).substr(released_);
  size_t longest = 0;
  for (const std::string& stop : stops_) {
    for (size_t n = std::min(stop.size() - 1, tail.size()); n > longest; --n) {
      if (tail.substr(tail.size() - n) == std::string_view(stop).substr(0, n)) longest = n;
    }
  }
  return longest;
}

std::string AnswerText::release(size_t end) {
  std::string piece = text_.substr(released_, end - released_);
  released_ = end;
  return piece;
}

}  // namespace llama2zh
