// An exchange is the side of an answer that any thread may hold: what it says is posted to the
// server's thread, which holds the socket.
#include "http/exchange.h"

#include <utility>

#include "llama2zh/base/error.h"

namespace llama2zh {

void ClientWatch::set_gone() {
  std::function<void()> callback;
  {
    const std::lock_guard lock(mutex_);
    if (answered_ || gone_) return;
    gone_ = true;
    callback = std::exchange(callback_, nullptr);
  }
  if (callback) callback();
}

void ClientWatch::set_answered() {
  std::function<void()> callback;  // destroyed outside the lock
  const std::lock_guard lock(mutex_);
  answered_ = true;
  callback.swap(callback_);
}

void ClientWatch::on_gone(std::function<void()> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (answered_) return;
    if (!gone_) {
      callback_ = std::move(callback);
      return;
    }
  }
  callback();
}

Exchange::Exchange(std::shared_ptr<ServerState> state,
                   const std::shared_ptr<Connection>& connection, uint64_t number,
                   HttpRequest request)
    : state_(std::move(state)),
      connection_(connection),
      number_(number),
      request_(std::move(request)) {}

Exchange::~Exchange() {
  if (progress_ != Progress::kEnded) send({AnswerPiece::kAbandoned, {}, {}});
}

// Connections are weak here: a handler that never runs must not keep one.
void Exchange::send(AnswerPiece piece) {
  asio::post(state_->io,
             [connection = connection_, number = number_, piece = std::move(piece)]() mutable {
               if (const std::shared_ptr<Connection> alive = connection.lock())
                 alive->take(number, std::move(piece));
             });
}

bool Exchange::advance(Progress from, Progress to) {
  return progress_.compare_exchange_strong(from, to);
}

void Exchange::respond(HttpResponse response) {
  if (!advance(Progress::kNothing, Progress::kEnded))
    fail_usage("HttpExchange", "a request was answered twice");
  send({AnswerPiece::kWhole, std::move(response), {}});
}

void Exchange::begin(HttpResponse head) {
  if (!advance(Progress::kNothing, Progress::kBegun))
    fail_usage("HttpExchange", "a request was answered twice");
  send({AnswerPiece::kHead, std::move(head), {}});
}

bool Exchange::write(std::string piece) {
  if (progress_ != Progress::kBegun) fail_usage("HttpExchange", "a piece without a beginning");
  if (watch_->gone()) return false;
  const auto size = static_cast<int64_t>(piece.size());
  if (size == 0) return true;  // an empty chunk would end the body
  if (watch_->unsent.fetch_add(size) + size > state_->config.max_unsent_bytes)
    send({AnswerPiece::kTooSlow, {}, {}});
  else
    send({AnswerPiece::kBody, {}, std::move(piece)});
  return true;
}

void Exchange::end() {
  if (advance(Progress::kBegun, Progress::kEnded)) send({AnswerPiece::kEnd, {}, {}});
}

}  // namespace llama2zh
