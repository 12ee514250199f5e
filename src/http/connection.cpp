// Exchanges of one connection, one after the other.
#include "http/connection.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <utility>

#include "http/request_check.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

ClientConnection::ClientConnection(const std::shared_ptr<ServerState>& state, std::string remote)
    : owner_(state),
      state_(state.get()),
      remote_(std::move(remote)),
      deadline_(state->io),
      watch_timer_(state->io) {
  ++state_->connections;
  state_->open.insert(this);
}

ClientConnection::~ClientConnection() {
  if (watch_) watch_->set_gone();
  state_->open.erase(this);
  --state_->connections;
}

void ClientConnection::take(uint64_t exchange, AnswerPiece piece) {
  if (exchange != exchange_ || !watch_) return;
  switch (piece.kind) {
    case AnswerPiece::kWhole:
      return put_whole(std::move(piece.response));
    case AnswerPiece::kHead:
      return put_head(std::move(piece.response));
    case AnswerPiece::kBody:
      answer_.put_body(piece.text, static_cast<int64_t>(piece.text.size()));
      return flush();
    case AnswerPiece::kEnd:
      answer_.put_end();
      return flush();
    case AnswerPiece::kAbandoned:
      if (answer_.status() == 0) return put_whole(bad_request_answer(500, "no answer was made"));
      return client_gone();  // cut off, so that the client can tell
    case AnswerPiece::kTooSlow:
      return client_gone();
  }
}

void ClientConnection::close_if_idle() {
  if (idle_ && has_answered()) close();  // one that has not asked yet gets its one answer
}

void ClientConnection::close() {
  ErrorCode ignored;
  deadline_.cancel();
  watch_timer_.cancel();
  socket().shutdown(tcp::socket::shutdown_both, ignored);
  socket().close(ignored);
}

void ClientConnection::set_deadline(double seconds) {
  timed_out_ = false;
  deadline_.expires_after(seconds_of(seconds));
  deadline_.async_wait([weak = weak_from_this()](ErrorCode error) {
    const auto self = weak.lock();
    if (error || !self || self->deadline_.expiry() > std::chrono::steady_clock::now()) return;
    self->timed_out_ = true;
    ErrorCode ignored;
    self->socket().cancel(ignored);
  });
}

bool ClientConnection::take_body_share(uint64_t bytes) {
  body_share_ = state_->bodies.take(static_cast<int64_t>(bytes));
  return body_share_.has_value();
}

bool ClientConnection::refused_by_head(HttpRequest head) {
  if (!state_->hooks.on_head) return false;
  std::optional<HttpResponse> answer = state_->hooks.on_head(head);
  if (!answer) return false;
  told_ = std::move(head);
  refuse_with(*std::move(answer));
  return true;
}

void ClientConnection::refuse(int status, const std::string& reason) {
  told_ = {};
  told_.method = told_.target = "?";
  told_.remote = remote_;
  told_.id = proper_id("");
  refuse_with(bad_request_answer(status, reason));
}

void ClientConnection::refuse_with(HttpResponse response) {
  keep_alive_ = false;
  request_known_ = true;
  begin_exchange(11, false);
  put_whole(std::move(response));
}

HttpResponse ClientConnection::bad_request_answer(int status, const std::string& reason) const {
  if (state_->hooks.on_bad_request) return state_->hooks.on_bad_request(status, reason);
  return {status, "text/plain; charset=utf-8", reason + "\n", {}};
}

void ClientConnection::begin_exchange(unsigned version, bool head_only) {
  answer_.begin_exchange(version, head_only);
  ++exchange_;
  watch_ = std::make_shared<ClientWatch>();
  ++state_->unanswered;
}

void ClientConnection::handle(http::request<http::string_body> message) {
  deadline_.cancel();
  keep_alive_ = message.keep_alive();
  const unsigned version = message.version();
  const bool head_only = message.method() == http::verb::head;
  HttpRequest request = request_of(std::move(message), remote_);
  request.arrived = began_;
  std::string body = std::exchange(request.body, {});
  told_ = request;
  request.body = std::move(body);
  begin_exchange(version, head_only);
  request_known_ = true;
  const std::shared_ptr<ServerState> state = owner_.lock();
  if (!state) return close();
  auto exchange =
      std::make_shared<Exchange>(state, shared_from_this(), exchange_, std::move(request));
  watch_ = exchange->watch();
  watch_client();
  try {
    state->hooks.handler(exchange);
  } catch (const std::exception& error) {
    log_error(cat(told_.method, " ", told_.path, ": ", error.what()));
  }
}

void ClientConnection::watch_client() {
  watch_timer_.expires_after(kWatchEvery);
  // Strong: while a handler works, nothing else keeps the connection.
  watch_timer_.async_wait([self = shared_from_this(), exchange = exchange_](ErrorCode error) {
    if (error || exchange != self->exchange_ || !self->watch_) return;
    if (self->client_is_there()) return self->watch_client();
    self->client_gone();
  });
}

bool ClientConnection::client_is_there() {
  tcp_info info{};
  socklen_t size = sizeof(info);
  return ::getsockopt(socket().native_handle(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
         info.tcpi_state == TCP_ESTABLISHED;
}

void ClientConnection::client_gone() {
  end_exchange(499);
  close();
}

void ClientConnection::end_exchange(int status) {
  if (!watch_) return;
  const std::shared_ptr<ClientWatch> watch = std::exchange(watch_, nullptr);
  if (status == 499)
    watch->set_gone();
  else
    watch->set_answered();
  watch_timer_.cancel();
  --state_->unanswered;
  body_share_.reset();
  if (!state_->hooks.on_access) return;
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began_;
  state_->hooks.on_access(
      {request_known_ ? &told_ : nullptr, status, answer_.sent(), took.count()});
}

void ClientConnection::add_id(HttpResponse& response) const {
  if (request_known_) response.headers.push_back({"X-Request-Id", told_.id});
}

void ClientConnection::put_whole(HttpResponse response) {
  add_id(response);
  answer_.put_whole(response, stays_open());
  flush();
}

void ClientConnection::put_head(HttpResponse response) {
  add_id(response);
  if (answer_.needs_close()) keep_alive_ = false;
  answer_.put_head(response, stays_open());
  flush();
}

void ClientConnection::flush() {
  if (answer_.is_writing()) return;
  const std::string_view batch = answer_.take_batch();
  if (!batch.empty()) return write(batch);
  if (answer_.ended()) finish_answer();
}

void ClientConnection::batch_written() {
  const int64_t counted = answer_.batch_written();
  if (watch_) watch_->unsent -= counted;
  flush();
}

void ClientConnection::finish_answer() {
  const bool again = stays_open();
  end_exchange(answer_.status());
  if (again) return read_request();
  linger();
}

}  // namespace llama2zh
