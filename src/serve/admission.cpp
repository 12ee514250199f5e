#include "serve/admission.h"

#include "llama2zh/base/text.h"
#include "serve/api_error.h"

namespace llama2zh {

Admission::Ticket Admission::admit(int64_t answers, int64_t tokens) {
  const std::lock_guard lock(mutex_);
  // What is alone is let in, however large: it can never find more room.
  const bool full = (answers_ > 0 && answers_ + answers > most_answers_) ||
                    (tokens_ > 0 && tokens_ + tokens > most_tokens_);
  if (full) {
    ++refusals_;
    throw ApiFailure({429,
                      cat("the server is busy: ", answers_, " answers and ", tokens_,
                          " prompt tokens are under way; try again"),
                      "", "queue_full", 1});
  }
  answers_ += answers;
  tokens_ += tokens;
  // The pointer itself is only a token of the counts that its deleter takes back.
  return {this, [answers, tokens](Admission* self) { self->leave(answers, tokens); }};
}

int64_t Admission::refusals() const {
  const std::lock_guard lock(mutex_);
  return refusals_;
}

void Admission::leave(int64_t answers, int64_t tokens) {
  const std::lock_guard lock(mutex_);
  answers_ -= answers;
  tokens_ -= tokens;
}

}  // namespace llama2zh
