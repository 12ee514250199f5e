#include "tokenizer/word_splitter.h"

namespace llama2zh {

WordSplitter::WordSplitter(const std::vector<SplitStep>& steps, const std::string& where) {
  for (const SplitStep& step : steps)
    steps_.push_back({SplitPattern(step.pattern, where), step.matches_only});
}

WordSplitter::States WordSplitter::make_states() const {
  States states;
  for (const Step& step : steps_) states.push_back(step.pattern.make_state());
  return states;
}

}  // namespace llama2zh
