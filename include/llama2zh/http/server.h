#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>

#include "llama2zh/config/option.h"
#include "llama2zh/http/message.h"

namespace llama2zh {

struct HttpServerConfig {
  std::string host = "127.0.0.1";
  int64_t port = 8000;
  std::string tls_certificate;
  std::string tls_key;
  int64_t max_connections = 4096;
  int64_t max_header_bytes = 32768;
  int64_t max_body_bytes = 8388608;
  int64_t max_bodies_bytes = 536870912;
  double idle_timeout = 75;
  double header_timeout = 15;
  double body_timeout = 60;
  double write_timeout = 30;
  int64_t max_unsent_bytes = 1048576;
  static auto options() {
    using T = HttpServerConfig;
    return std::tuple(
        option("host", &T::host, "Address to listen at; 0.0.0.0 or :: for all.", not_empty()),
        option("port", &T::port, "Port to listen at; 0: any that is free.", between(0, 65535)),
        option("tls_certificate", &T::tls_certificate,
               "PEM file with the certificate and its chain: serves HTTPS. Needs tls_key."),
        option("tls_key", &T::tls_key, "PEM file with the certificate's private key."),
        option("max_connections", &T::max_connections,
               "Connections at once; those beyond are closed.", between(1, 1000000)),
        option("max_header_bytes", &T::max_header_bytes,
               "Bytes of a request's head; more is answered 431.", between(1024, 16777216)),
        option("max_body_bytes", &T::max_body_bytes,
               "Bytes of a request's body; more is answered 413.", between(1024, 1073741824)),
        option(
            "max_bodies_bytes", &T::max_bodies_bytes,
            "Bytes of all bodies that are being received or answered; more is answered 503. A body "
            "of unknown length counts as max_body_bytes.",
            between(1024, 1099511627776)),
        option("idle_timeout", &T::idle_timeout,
               "Seconds that a connection may wait for its next request.", between(0.001, 1e6)),
        option("header_timeout", &T::header_timeout,
               "Seconds that a request's head may take to arrive; then 408.", between(0.001, 1e6)),
        option("body_timeout", &T::body_timeout,
               "Seconds that a request's body may take to arrive; then 408.", between(0.001, 1e6)),
        option("write_timeout", &T::write_timeout,
               "Seconds that a client may take none of its answer; then it counts as gone.",
               between(0.001, 1e6)),
        option("max_unsent_bytes", &T::max_unsent_bytes,
               "Bytes of a streamed answer that wait for a slow client; with more it counts as "
               "gone.",
               between(1024, 1073741824)));
  }
};

// One request and its answer: either respond(), or begin(), write()s and end(). Thread-safe. Where
// the last owner goes without having answered, the client gets 500, or a stream is cut off.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual const HttpRequest& request() const = 0;

  virtual void respond(HttpResponse response) = 0;
  virtual void begin(HttpResponse head) = 0;  // its body is the first piece, may be empty
  // False where the client is gone: nothing more need be said.
  virtual bool write(std::string piece) = 0;
  virtual void end() = 0;

  virtual bool gone() const = 0;
  // Called once if the client goes before it has its answer; at once if it is gone already. From any
  // thread. Let go of once the answer has ended.
  virtual void on_gone(std::function<void()> callback) = 0;
};
using HttpHandler = std::function<void(const std::shared_ptr<HttpExchange>& exchange)>;

// What is told of each answer, once it has been sent or given up.
struct HttpAccess {
  const HttpRequest* request;  // null: it could not be read
  int status = 0;              // 499: the client was gone
  uint64_t sent_bytes = 0;     // of the body
  double seconds = 0;
};

struct HttpHooks {
  HttpHandler handler;  // on the server's own thread: must not block
  // Asked before a body is read, with a request that has none yet: an answer refuses it, and ends the
  // connection. May be null.
  std::function<std::optional<HttpResponse>(const HttpRequest& head)> on_head;
  // The answer to a request that could not be read: 400, 408, 413, 431, 501, ... May be null.
  std::function<HttpResponse(int status, std::string_view reason)> on_bad_request;
  std::function<void(const HttpAccess&)> on_access;  // may be null
};

// HTTP/1.1 (and 1.0) with keep-alive, pipelining, chunked bodies, Expect: 100-continue, HEAD; on
// Boost.Beast. All connections are served by one thread that never waits for any of them. The
// requests of one connection are answered one after the other.
class HttpServer {
 public:
  // Listens at once, answers from start() on. kUsage for limits that contradict, kIo for an address that can't be had, kFormat for TLS
  // files that are none.
  HttpServer(const HttpServerConfig& config, HttpHooks hooks);
  ~HttpServer();  // stops
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;
  void start();
  // From now on every answer is the last on its connection, and idle connections are closed.
  void close_after_answers();
  int64_t connections() const;
  int64_t unanswered() const;  // requests that are being answered
  void stop();                 // cuts off what is left

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace llama2zh
