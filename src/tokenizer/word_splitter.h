#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/split_pattern.h"

namespace llama2zh {

// One step of a pre-tokenizer: cuts each piece that the step before leaves.
struct SplitStep {
  std::string pattern;
  bool matches_only = false;  // what lies between matches is dropped ("Removed", inverted)
};

// The pre-tokenizer of a byte-level BPE: how a text is cut into the words that merges work in. Each
// piece is matched on its own, as if no text stood around it. Const methods are thread-safe.
class WordSplitter {
 public:
  using States = std::vector<SplitPattern::State>;  // one thread's

  // kFormat naming `where`, as SplitPattern.
  WordSplitter(const std::vector<SplitStep>& steps, const std::string& where);
  States make_states() const;

  // Calls take(word) for each word of `text`, which is valid UTF-8, in order.
  template <typename Take>
  void split(std::string_view text, const States& states, const Take& take) const {
    split_from(0, text, states, take);
  }

 private:
  struct Step {
    SplitPattern pattern;
    bool matches_only;
  };

  template <typename Take>
  void split_from(size_t step, std::string_view text, const States& states,
                  const Take& take) const {
    if (text.empty()) return;
    if (step == steps_.size()) {
      take(text);
      return;
    }
    const auto part = [&](size_t begin, size_t end) {
      split_from(step + 1, text.substr(begin, end - begin), states, take);
    };
    size_t done = 0;
    for (size_t from = 0; from < text.size();) {
      const auto match = steps_[step].pattern.find(text, from, states[step]);
      if (!match) break;
      if (!steps_[step].matches_only) part(done, match->begin);
      part(match->begin, match->end);
      done = from = match->end;
      if (match->begin < match->end) continue;
      ++from;  // an empty match is only a cut
      while (from < text.size() && (text[from] & 0xC0) == 0x80) ++from;
    }
    if (!steps_[step].matches_only) part(done, text.size());
  }

  std::vector<Step> steps_;
};

}  // namespace llama2zh
