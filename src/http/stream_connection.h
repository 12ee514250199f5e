#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "http/connection.h"
#include "http/request_check.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

// Reads requests off one socket, one at a time, and writes their answers. `Stream` is a tcp::socket
// or a TlsStream. A deadline is set before every operation; one that passes while a request is being
// read is answered 408, one that passes while an answer is written ends the connection.
template <typename Stream>
class StreamConnection final : public ClientConnection {
 public:
  StreamConnection(const std::shared_ptr<ServerState>& state, Stream stream, std::string remote)
      : ClientConnection(state, std::move(remote)),
        stream_(std::move(stream)),
        buffer_(static_cast<size_t>(state->config.max_header_bytes) + kReadAhead) {}

  void start() {
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      set_deadline(config().header_timeout);
      stream_.async_handshake(asio::ssl::stream_base::server, [self = self()](ErrorCode error) {
        if (!error) self->read_request();
      });
    } else {
      read_request();
    }
  }

 protected:
  tcp::socket& socket() override {
    if constexpr (std::is_same_v<Stream, TlsStream>)
      return stream_.next_layer();
    else
      return stream_;
  }

  void read_request() override {
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(config().max_header_bytes));
    parser_->body_limit(static_cast<uint64_t>(config().max_body_bytes));
    if (skip_blank_lines()) return read_head();
    if (state().closing && has_answered()) return close();  // a new one may ask once
    set_idle(true);
    set_deadline(config().idle_timeout);
    stream_.async_read_some(buffer_.prepare(4096), [self = self()](ErrorCode error, size_t bytes) {
      self->set_idle(false);
      if (error) return self->close();
      self->buffer_.commit(bytes);
      self->set_deadline(self->config().header_timeout);
      self->read_first_line();
    });
  }

  void write(std::string_view batch) override {
    set_deadline(config().write_timeout);
    stream_.async_write_some(asio::buffer(batch),
                             [self = self(), batch](ErrorCode error, size_t bytes) {
                               if (error) return self->client_gone();
                               if (bytes < batch.size()) return self->write(batch.substr(bytes));
                               self->batch_written();
                             });
  }

  // The answer is whole: what the client may still be sending is read and dropped for a while, for
  // closing over unread bytes would reset the connection and take the answer with it.
  void linger() override {
    set_deadline(kLingerSeconds);
    if constexpr (std::is_same_v<Stream, TlsStream>) {
      stream_.async_shutdown([self = self()](ErrorCode) { self->close(); });
    } else {
      ErrorCode ignored;
      stream_.shutdown(tcp::socket::shutdown_send, ignored);
      drop_rest(0);
    }
  }

 private:
  static constexpr size_t kReadAhead = 65536;
  static constexpr double kLingerSeconds = 2;
  static constexpr uint64_t kLingerBytes = 16 << 20;

  std::shared_ptr<StreamConnection> self() {
    return std::static_pointer_cast<StreamConnection>(shared_from_this());
  }
  const HttpServerConfig& config() { return state().config; }

  // Line breaks before a request's first line are passed over (RFC 9112, 2.2). Whether bytes are
  // left.
  bool skip_blank_lines() {
    while (buffer_.size() > 0) {
      const char first = *static_cast<const char*>(buffer_.data().data());
      if (first != '\r' && first != '\n') return true;
      buffer_.consume(1);
    }
    return false;
  }

  void read_first_line() {
    if (skip_blank_lines()) return read_head();
    stream_.async_read_some(buffer_.prepare(4096), [self = self()](ErrorCode error, size_t bytes) {
      if (error) return self->fail_read(error);
      self->buffer_.commit(bytes);
      self->read_first_line();
    });
  }

  void read_head() {
    note_arrival();
    set_deadline(config().header_timeout);
    http::async_read_header(stream_, buffer_, *parser_, [self = self()](ErrorCode error, size_t) {
      if (error) return self->fail_read(error);
      self->check_request();
    });
  }

  void check_request() {
    const http::request<http::string_body>& message = parser_->get();
    if (const std::optional<BadRequest> bad = check_head(message))
      return refuse(bad->status, bad->reason);
    if (!parser_->is_done()) {
      if (refused_by_head(request_of(message, remote()))) return;
      const auto limit = static_cast<uint64_t>(config().max_body_bytes);
      if (!take_body_share(std::min<uint64_t>(parser_->content_length().value_or(limit), limit)))
        return refuse(503, "the server holds as many bytes of requests as it may; try again");
    }
    if (equal_ignoring_case(message[http::field::expect], "100-continue")) return invite_body();
    read_body();
  }

  void invite_body() {
    static const std::string kGoOn = "HTTP/1.1 100 Continue\r\n\r\n";
    set_deadline(config().write_timeout);
    asio::async_write(stream_, asio::buffer(kGoOn), [self = self()](ErrorCode error, size_t) {
      if (error) return self->close();
      self->read_body();
    });
  }

  void read_body() {
    set_deadline(config().body_timeout);
    http::async_read(stream_, buffer_, *parser_, [self = self()](ErrorCode error, size_t) {
      if (error) return self->fail_read(error);
      self->handle(self->parser_->release());
    });
  }

  void fail_read(ErrorCode error) {
    if (timed_out()) return refuse(408, "the request took too long to arrive");
    if (error == http::error::end_of_stream || error == asio::error::operation_aborted ||
        error == asio::error::connection_reset || error == http::error::partial_message ||
        error == asio::ssl::error::stream_truncated || error == asio::error::eof)
      return close();
    const BadRequest bad = bad_request_of(error);
    refuse(bad.status, bad.reason);
  }

  void drop_rest(uint64_t dropped) {
    buffer_.clear();
    stream_.async_read_some(buffer_.prepare(kReadAhead / 2),
                            [self = self(), dropped](ErrorCode error, size_t bytes) {
                              if (error || dropped + bytes > kLingerBytes) return self->close();
                              self->drop_rest(dropped + bytes);
                            });
  }

  Stream stream_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
};

}  // namespace llama2zh
