#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "llama2zh/engine/request.h"

namespace llama2zh {

struct RequestState;
struct Sequence;

// Beam search as transformers does it (generation/utils.py, _beam_search): the state of one request
// whose sequences are the beams. It decides; moving blocks is the scheduler's.
class BeamSearch {
 public:
  explicit BeamSearch(const SamplingConfig& config);

  // How a beam goes on: from which one, by which token.
  struct Continuation {
    size_t parent = 0;
    TokenId token = 0;
    float score = 0;  // sum of log-probabilities
    SampledToken said;
  };
  // All beams have their Sequence::scores: what they continue with, best first. Empty: the search
  // is over.
  std::vector<Continuation> step(const RequestState& request);
  // The best of what has ended, at most `count`.
  std::vector<Completion> best(int64_t count) const;

 private:
  struct Ended {
    float score;
    Completion completion;
  };
  std::vector<Continuation> candidates(const RequestState& request) const;
  bool end(const Sequence& parent, const Continuation& candidate, bool counts);
  bool is_over(const RequestState& request, int64_t length) const;

  SamplingConfig config_;
  size_t beams_;
  std::vector<float> scores_;  // of the running beams, best first; one alone at first
  std::vector<Ended> ended_;   // best first
};

// Makes the request's sequences what `next` says, blocks aside.
void continue_beams(RequestState& request, const std::vector<BeamSearch::Continuation>& next);

}  // namespace llama2zh
