// From an HTTP exchange to engine requests and back. Events come from the engine's thread; what is
// sent is handed to the HTTP server's thread, so neither waits for a client. A whole answer can be long
// (embeddings, log-probabilities): it is written out by a worker, while the engine goes on.
#include "serve/answering.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "serve/api_error.h"

namespace llama2zh {
namespace {

std::string event_text(const json& data) {
  return "data: " + data.dump(-1, ' ', false, json::error_handler_t::replace) + "\n\n";
}

class Answering : public std::enable_shared_from_this<Answering> {
 public:
  Answering(ServedModel& model, std::shared_ptr<HttpExchange> exchange, AnswerJob job)
      : model_(&model),
        exchange_(std::move(exchange)),
        job_(std::move(job)),
        results_(job_.requests.size()),
        left_(job_.requests.size()) {}

  void start() {
    int64_t answers = 0, tokens = 0;
    for (const Request& request : job_.requests) {
      answers += std::max({request.n, request.best_of, request.sampling.num_beams});
      tokens += static_cast<int64_t>(request.prompt.size());
    }
    ticket_ = model_->admission.admit(answers, tokens);
    if (model_->config.log_prompts) {
      for (const Request& request : job_.requests)
        log_info(cat(exchange_->request().id,
                     " prompt: ", model_->loaded.tokenizer->decode(request.prompt, false)));
    }
    submit();
    const std::weak_ptr<Answering> weak = weak_from_this();
    exchange_->on_gone([weak] {
      if (const auto self = weak.lock()) self->cancel();
    });
    const auto end = exchange_->request().arrived +
                     std::chrono::duration_cast<Deadlines::Clock::duration>(
                         std::chrono::duration<double>(model_->config.request_timeout));
    const Deadlines::Handle deadline = model_->deadlines.call_at(end, [weak] {
      if (const auto self = weak.lock()) self->expire();
    });
    const std::lock_guard lock(mutex_);
    if (left_ > 0) deadline_ = deadline;
  }

 private:
  // The lock keeps events waiting until all are submitted, or none.
  void submit() {
    const std::lock_guard lock(mutex_);
    try {
      for (size_t i = 0; i < job_.requests.size(); ++i) {
        ids_.push_back(model_->engine.submit(
            job_.requests[i],
            [self = shared_from_this(), i](const RequestEvent& event) { self->take(i, event); }));
      }
    } catch (...) {
      over_ = true;
      for (const RequestId id : ids_) model_->engine.cancel(id);
      throw;
    }
  }

  void cancel() {
    const std::lock_guard lock(mutex_);
    cancel_all();
  }
  void cancel_all() {
    for (const RequestId id : ids_) model_->engine.cancel(id);
  }

  void expire() {
    const std::lock_guard lock(mutex_);
    if (over_) return;
    if (!error_)
      error_ = std::make_exception_ptr(ApiFailure(
          {504, cat("the request took longer than ", model_->config.request_timeout, " seconds"),
           "", "deadline_exceeded", 0}));
    cancel_all();
  }

  void take(size_t request, const RequestEvent& event) {
    const std::lock_guard lock(mutex_);
    if (event.result == nullptr) return take_piece(request, event);
    const RequestResult& result = results_[request] = *event.result;
    if (model_->config.log_prompts) {
      for (const Completion& completion : result.completions)
        log_info(cat(exchange_->request().id, " answer: ", completion.text));
    }
    model_->metrics->observe_end(result, job_.requests[request].sampling.max_new_tokens,
                                 job_.requests[request].n);
    if (result.error && !error_) {
      error_ = result.error;
      cancel_all();
    }
    if (--left_ == 0) finish();
  }

  void take_piece(size_t request, const RequestEvent& event) {
    if (event.token != nullptr) note_time(request, event.index);
    if (!job_.stream || over_ || error_) return;
    open();
    const std::pair answer(request, event.index);
    if (opened_.insert(answer).second) send(job_.format->opening(request, event.index));
    send(job_.format->piece(request, event));
  }

  void note_time(size_t request, int64_t answer) {
    const auto now = Deadlines::Clock::now();
    const auto [it, first] = last_token_.try_emplace({request, answer}, now);
    const std::chrono::duration<double> since =
        now - (first ? exchange_->request().arrived : it->second);
    if (first)
      model_->metrics->observe_first_token(since.count());
    else
      model_->metrics->observe_between_tokens(since.count());
    it->second = now;
  }

  void open() {
    if (streaming_) return;
    streaming_ = true;
    exchange_->begin({200,
                      "text/event-stream; charset=utf-8",
                      "",
                      {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}}});
  }
  void send(const json& data) {
    if (!data.is_null()) exchange_->write(event_text(data));
  }

  // From here on nothing above changes any more, and nothing of the model is held but what outlives
  // its engine.
  void finish() {
    deadline_.reset();
    if (over_) return;
    over_ = true;
    ticket_.reset();
    if (job_.stream) return finish_stream();
    model_->post([self = shared_from_this()] { self->respond(); });
  }

  void respond() {
    if (exchange_->gone()) return;
    try {
      if (error_) std::rethrow_exception(error_);
      const json body = job_.format->whole(results_);
      exchange_->respond({200,
                          "application/json",
                          body.dump(-1, ' ', false, json::error_handler_t::replace) + "\n",
                          {}});
    } catch (...) {
      exchange_->respond(error_response(api_error_of(std::current_exception())));
    }
  }

  void finish_stream() {
    try {
      if (error_) std::rethrow_exception(error_);
      open();
      send(job_.format->summary(results_));
    } catch (...) {
      const ApiError error = api_error_of(std::current_exception());
      if (!streaming_) return exchange_->respond(error_response(error));
      send(error_body(error));
    }
    exchange_->write("data: [DONE]\n\n");
    exchange_->end();
  }

  ServedModel* model_;
  std::shared_ptr<HttpExchange> exchange_;
  AnswerJob job_;

  std::mutex mutex_;  // guards what follows
  Admission::Ticket ticket_;
  Deadlines::Handle deadline_;
  std::vector<RequestId> ids_;
  std::vector<RequestResult> results_;
  size_t left_;
  std::exception_ptr error_;  // the first
  std::set<std::pair<size_t, int64_t>> opened_;
  std::map<std::pair<size_t, int64_t>, Deadlines::Clock::time_point> last_token_;
  bool streaming_ = false, over_ = false;
};

}  // namespace

void answer(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange, AnswerJob job) {
  std::make_shared<Answering>(model, exchange, std::move(job))->start();
}

}  // namespace llama2zh
