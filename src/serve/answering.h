#pragma once

#include <memory>
#include <string>
#include <vector>

#include "llama2zh/engine/request.h"
#include "llama2zh/http/server.h"
#include "serve/served_model.h"

namespace llama2zh {

// How answers are written for one kind of client. One object a request; called by one thread at a
// time.
class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;
  // The body once everything is there, a result for each engine request.
  virtual json whole(const std::vector<RequestResult>& results) = 0;

  // Streams: objects that become events; null: nothing to say.
  virtual json opening(size_t /*request*/, int64_t /*answer*/) { return nullptr; }
  virtual json piece(size_t /*request*/, const RequestEvent& /*event*/) { return nullptr; }
  virtual json summary(const std::vector<RequestResult>& /*results*/) { return nullptr; }
};

struct AnswerJob {
  std::vector<Request> requests;  // at least one
  std::unique_ptr<AnswerFormat> format;
  bool stream = false;
};

// Queues the job's requests with the engine and answers the exchange once they are done, or piece by
// piece. Where the client goes or the time is over, they are cancelled. ApiFailure 429 where there is
// no room, and Error for requests that the engine does not take; nothing is answered then.
void answer(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange, AnswerJob job);

}  // namespace llama2zh
