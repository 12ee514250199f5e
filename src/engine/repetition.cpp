// Repetitions, as regular expressions and grammars write them.
#include "engine/repetition.h"

#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr int64_t kMostRepetitions = 1000;

}  // namespace

std::optional<Repetition> read_repetition(const std::vector<char32_t>& text, size_t& at,
                                          const std::function<void(const std::string&)>& fail) {
  if (at == text.size()) return std::nullopt;
  const auto peek = [&](char32_t c) { return at < text.size() && text[at] == c; };
  const auto count = [&] {
    int64_t value = 0;
    const size_t begin = at;
    while (at < text.size() && text[at] >= U'0' && text[at] <= U'9') {
      value = value * 10 + static_cast<int64_t>(text[at++] - U'0');
      if (value > kMostRepetitions) fail(cat("more than ", kMostRepetitions, " repetitions"));
    }
    if (at == begin) fail("{m,n} is wrong");
    return value;
  };
  const char32_t c = text[at];
  Repetition times;
  if (c == U'?' || c == U'*' || c == U'+') {
    ++at;
    times = {c == U'+' ? 1 : 0, c == U'?' ? 1 : -1};
  } else if (c == U'{') {
    ++at;
    times.least = times.most = count();
    if (peek(',')) {
      ++at;
      times.most = peek('}') ? -1 : count();
    }
    if (!peek('}') || (times.most >= 0 && times.most < times.least)) fail("{m,n} is wrong");
    ++at;
  } else {
    return std::nullopt;
  }
  return times;
}

Grammar::Part repeat(Grammar& grammar, const Repetition& times,
                     const std::function<Grammar::Part()>& once) {
  const Grammar::Part all{grammar.add_state(), grammar.add_state()};
  Grammar::State at = all.start;
  for (int64_t i = 0;; ++i) {
    if (i >= times.least) grammar.add_nothing(at, all.end);
    if (i == times.most) return all;
    const Grammar::Part part = once();
    grammar.add_nothing(at, part.start);
    if (times.most < 0 && i >= times.least) {
      grammar.add_nothing(part.end, at);
      return all;
    }
    at = part.end;
  }
}

}  // namespace llama2zh
