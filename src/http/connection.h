#pragma once

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "http/answer_text.h"
#include "http/asio.h"
#include "http/exchange.h"
#include "http/request_check.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

// Reads requests off one socket, one at a time, and writes their answers. `Stream` is a tcp::socket
// or a TlsStream. A deadline is set before every operation; one that passes while a request is being
// read is answered 408, one that passes while an answer is written ends the connection. While a
// handler works nothing is read, so what a client sends ahead waits in the kernel; whether it is
// still there is seen from the state of the TCP connection.
template <typename Stream>
class StreamConnection final : public Connection,
                               public std::enable_shared_from_this<StreamConnection<Stream>> {
 public:
  StreamConnection(const std::shared_ptr<ServerState>& state, Stream stream, std::string remote)
      : owner_(state),
        state_(state.get()),
        stream_(std::move(stream)),
        remote_(std::move(remote)),
        deadline_(state->io),
        watch_timer_(state->io),
        buffer_(static_cast<size_t>(state->config.max_header_bytes) + kReadAhead) {
    ++state_->connections;
    state_->open.insert(this);
  }
  ~StreamConnection() override {
    if (watch_) watch_->set_gone();
    state_->open.erase(this);
    --state_->connections;
  }

  void start() {
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      set_deadline(state_->config.header_timeout);
      stream_.async_handshake(asio::ssl::stream_base::server, [self = self()](ErrorCode error) {
        if (!error) self->read_request();
      });
    } else {
      read_request();
    }
  }

  void take(uint64_t exchange, AnswerPiece piece) override {
    if (exchange != exchange_ || !watch_) return;
    switch (piece.kind) {
      case AnswerPiece::kWhole:
        return put_whole(std::move(piece.response));
      case AnswerPiece::kHead:
        return put_head(std::move(piece.response));
      case AnswerPiece::kBody:
        return put_body(piece.text, static_cast<int64_t>(piece.text.size()));
      case AnswerPiece::kEnd:
        return put_end();
      case AnswerPiece::kAbandoned:
        if (status_ == 0) return put_whole(bad_request_answer(500, "no answer was made"));
        return client_gone();  // cut off, so that the client can tell
      case AnswerPiece::kTooSlow:
        return client_gone();
    }
  }

  void close_if_idle() override {
    if (idle_ && exchange_ > 0) close();  // one that has not asked yet gets its one answer
  }

  void close() override {
    ErrorCode ignored;
    deadline_.cancel();
    watch_timer_.cancel();
    socket().shutdown(tcp::socket::shutdown_both, ignored);
    socket().close(ignored);
  }

 private:
  static constexpr size_t kReadAhead = 65536;
  static constexpr auto kWatchEvery = std::chrono::milliseconds(200);
  static constexpr double kLingerSeconds = 2;
  static constexpr uint64_t kLingerBytes = 16 << 20;

  std::shared_ptr<StreamConnection> self() { return this->shared_from_this(); }
  tcp::socket& socket() {
    if constexpr (std::is_same_v<Stream, TlsStream>)
      return stream_.next_layer();
    else
      return stream_;
  }

  // The operation at hand is given up when the time is over: its handler sees an error.
  void set_deadline(double seconds) {
    timed_out_ = false;
    deadline_.expires_after(seconds_of(seconds));
    deadline_.async_wait([weak = this->weak_from_this()](ErrorCode error) {
      const auto self = weak.lock();
      if (error || !self || self->deadline_.expiry() > std::chrono::steady_clock::now()) return;
      self->timed_out_ = true;
      ErrorCode ignored;
      self->socket().cancel(ignored);
    });
  }

  void read_request() {
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(state_->config.max_header_bytes));
    parser_->body_limit(static_cast<uint64_t>(state_->config.max_body_bytes));
    status_ = 0;
    sent_ = 0;
    if (buffer_.size() > 0) return read_head();
    if (state_->closing && exchange_ > 0) return close();  // a new one may ask once
    idle_ = true;
    set_deadline(state_->config.idle_timeout);
    stream_.async_read_some(buffer_.prepare(4096), [self = self()](ErrorCode error, size_t bytes) {
      self->idle_ = false;
      if (error) return self->close();
      self->buffer_.commit(bytes);
      self->read_head();
    });
  }

  void read_head() {
    began_ = std::chrono::steady_clock::now();
    set_deadline(state_->config.header_timeout);
    http::async_read_header(stream_, buffer_, *parser_, [self = self()](ErrorCode error, size_t) {
      if (error) return self->fail_read(error);
      const http::request<http::string_body>& message = self->parser_->get();
      if (const std::optional<BadRequest> bad = check_head(message))
        return self->refuse(bad->status, bad->reason);
      if (!self->parser_->is_done() && self->refused_by_head(message)) return;
      if (equal_ignoring_case(message[http::field::expect], "100-continue"))
        return self->invite_body();
      self->read_body();
    });
  }

  bool refused_by_head(const http::request<http::string_body>& message) {
    if (!state_->hooks.on_head) return false;
    HttpRequest head = request_of(message, remote_);
    std::optional<HttpResponse> answer = state_->hooks.on_head(head);
    if (!answer) return false;
    told_ = std::move(head);
    refuse_with(*std::move(answer));
    return true;
  }

  void invite_body() {
    static const std::string kGoOn = "HTTP/1.1 100 Continue\r\n\r\n";
    set_deadline(state_->config.write_timeout);
    asio::async_write(stream_, asio::buffer(kGoOn), [self = self()](ErrorCode error, size_t) {
      if (error) return self->close();
      self->read_body();
    });
  }

  void read_body() {
    set_deadline(state_->config.body_timeout);
    http::async_read(stream_, buffer_, *parser_, [self = self()](ErrorCode error, size_t) {
      if (error) return self->fail_read(error);
      self->handle();
    });
  }

  void fail_read(ErrorCode error) {
    if (timed_out_) return refuse(408, "the request took too long to arrive");
    if (error == http::error::end_of_stream || error == asio::error::operation_aborted ||
        error == asio::error::connection_reset || error == http::error::partial_message ||
        error == asio::ssl::error::stream_truncated || error == asio::error::eof)
      return close();
    const BadRequest bad = bad_request_of(error);
    refuse(bad.status, bad.reason);
  }

  void refuse(int status, const std::string& reason) {
    told_ = {};
    told_.method = told_.target = "?";
    told_.remote = remote_;
    told_.id = proper_id("");
    refuse_with(bad_request_answer(status, reason));
  }

  // An answer without a handler, after which nothing more can be read off this connection.
  void refuse_with(HttpResponse response) {
    keep_alive_ = false;
    version_ = 11;
    is_head_ = false;
    request_known_ = true;
    begin_exchange();
    put_whole(std::move(response));
  }

  HttpResponse bad_request_answer(int status, const std::string& reason) const {
    if (state_->hooks.on_bad_request) return state_->hooks.on_bad_request(status, reason);
    return {status, "text/plain; charset=utf-8", reason + "\n", {}};
  }

  void begin_exchange() {
    ++exchange_;
    watch_ = std::make_shared<ClientWatch>();
    ++state_->unanswered;
  }

  void handle() {
    deadline_.cancel();
    auto message = parser_->release();
    keep_alive_ = message.keep_alive();
    version_ = message.version();
    is_head_ = message.method() == http::verb::head;
    HttpRequest request = request_of(std::move(message), remote_);
    request.arrived = began_;
    std::string body = std::exchange(request.body, {});
    told_ = request;
    request.body = std::move(body);
    begin_exchange();
    request_known_ = true;
    const std::shared_ptr<ServerState> state = owner_.lock();
    if (!state) return close();
    auto exchange = std::make_shared<Exchange>(state, self(), exchange_, std::move(request));
    watch_ = exchange->watch();
    watch_client();
    try {
      state->hooks.handler(exchange);
    } catch (const std::exception& error) {
      log_error(cat(told_.method, " ", told_.path, ": ", error.what()));
    }
  }

  void watch_client() {
    watch_timer_.expires_after(kWatchEvery);
    // Strong: while a handler works, nothing else keeps the connection.
    watch_timer_.async_wait([self = self(), exchange = exchange_](ErrorCode error) {
      if (error || exchange != self->exchange_ || !self->watch_) return;
      if (self->client_is_there()) return self->watch_client();
      self->client_gone();
    });
  }

  bool client_is_there() {
    tcp_info info{};
    socklen_t size = sizeof(info);
    return ::getsockopt(socket().native_handle(), IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
           info.tcpi_state == TCP_ESTABLISHED;
  }

  void client_gone() {
    end_exchange(499);
    close();
  }

  void end_exchange(int status) {
    if (!watch_) return;
    const std::shared_ptr<ClientWatch> watch = std::exchange(watch_, nullptr);
    if (status == 499)
      watch->set_gone();
    else
      watch->set_answered();
    watch_timer_.cancel();
    --state_->unanswered;
    if (!state_->hooks.on_access) return;
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began_;
    state_->hooks.on_access({request_known_ ? &told_ : nullptr, status, sent_, took.count()});
  }

  void add_id(HttpResponse& response) const {
    if (request_known_) response.headers.push_back({"X-Request-Id", told_.id});
  }
  bool stays_open() const { return keep_alive_ && !state_->closing; }

  void put_whole(HttpResponse response) {
    add_id(response);
    status_ = response.status;
    chunked_ = false;
    out_ += whole_head(response, version_, stays_open());
    if (!is_head_) {
      out_ += response.body;
      sent_ += response.body.size();
    }
    ended_ = true;
    flush();
  }

  void put_head(HttpResponse response) {
    add_id(response);
    status_ = response.status;
    chunked_ = version_ >= 11;
    if (!chunked_) keep_alive_ = false;  // the end of the connection ends the body
    out_ += stream_head(response, version_, stays_open());
    if (!response.body.empty()) return put_body(response.body, 0);
    flush();
  }

  // counted: its bytes in ClientWatch::unsent.
  void put_body(const std::string& text, int64_t counted) {
    if (is_head_) return;
    sent_ += text.size();
    waiting_text_ += counted;
    if (chunked_)
      out_ += beast::buffers_to_string(http::make_chunk(asio::buffer(text)));
    else
      out_ += text;
    flush();
  }

  void put_end() {
    if (chunked_ && !is_head_) out_ += beast::buffers_to_string(http::make_chunk_last());
    ended_ = true;
    flush();
  }

  void flush() {
    if (writing_) return;
    if (out_.empty()) {
      if (ended_) finish_answer();
      return;
    }
    writing_ = true;
    batch_.clear();
    batch_.swap(out_);
    batch_text_ = std::exchange(waiting_text_, 0);
    written_ = 0;
    write_some();
  }

  void write_some() {
    set_deadline(state_->config.write_timeout);
    stream_.async_write_some(asio::buffer(batch_) + written_,
                             [self = self()](ErrorCode error, size_t bytes) {
                               if (error) return self->client_gone();
                               self->written_ += bytes;
                               if (self->written_ < self->batch_.size()) return self->write_some();
                               self->writing_ = false;
                               if (self->watch_) self->watch_->unsent -= self->batch_text_;
                               self->flush();
                             });
  }

  void finish_answer() {
    ended_ = false;
    const bool again = stays_open();
    end_exchange(status_);
    if (again) return read_request();
    linger();
  }

  // The answer is whole: what the client may still be sending is read and dropped for a while, for
  // closing over unread bytes would reset the connection and take the answer with it.
  void linger() {
    set_deadline(kLingerSeconds);
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      stream_.async_shutdown([self = self()](ErrorCode) { self->close(); });
    } else {
      ErrorCode ignored;
      stream_.shutdown(tcp::socket::shutdown_send, ignored);
      drop_rest(0);
    }
  }

  void drop_rest(uint64_t dropped) {
    buffer_.clear();
    stream_.async_read_some(buffer_.prepare(kReadAhead / 2),
                            [self = self(), dropped](ErrorCode error, size_t bytes) {
                              if (error || dropped + bytes > kLingerBytes) return self->close();
                              self->drop_rest(dropped + bytes);
                            });
  }

  std::weak_ptr<ServerState> owner_;  // for exchanges, which share it
  ServerState* state_;                // outlives every connection
  Stream stream_;
  std::string remote_;
  asio::steady_timer deadline_, watch_timer_;
  bool timed_out_ = false;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  bool idle_ = false;

  // The exchange at hand.
  uint64_t exchange_ = 0;
  std::shared_ptr<ClientWatch> watch_;  // null: there is none
  std::chrono::steady_clock::time_point began_;
  HttpRequest told_;  // without its body, for on_access
  bool request_known_ = false, keep_alive_ = false, is_head_ = false, chunked_ = false;
  unsigned version_ = 11;
  int status_ = 0;
  uint64_t sent_ = 0;

  std::string out_, batch_;                    // waits; is being written
  int64_t waiting_text_ = 0, batch_text_ = 0;  // of them counted in ClientWatch::unsent
  size_t written_ = 0;
  bool writing_ = false, ended_ = false;
};

}  // namespace llama2zh
