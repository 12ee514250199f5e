#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "http/asio.h"
#include "http/body_budget.h"
#include "llama2zh/http/server.h"

namespace llama2zh {

class Connection;

// What a server's connections and exchanges share. Members without a note belong to the server's
// thread. Exchanges may live longer than the server: they keep this alive, connections do not.
struct ServerState {
  ServerState(const HttpServerConfig& settings, HttpHooks functions)
      : config(settings), hooks(std::move(functions)), bodies(settings.max_bodies_bytes) {}

  const HttpServerConfig config;
  const HttpHooks hooks;
  std::atomic<int64_t> connections = 0, unanswered = 0;  // any thread
  bool closing = false;                                  // every answer is the last
  BodyBudget bodies;
  std::set<Connection*> open;
  asio::io_context io{1};  // last, so that it goes first: it may hold connections
};

// What an exchange says, in order.
struct AnswerPiece {
  enum Kind { kWhole, kHead, kBody, kEnd, kAbandoned, kTooSlow } kind;
  HttpResponse response;
  std::string text;
};

// One TCP connection; all on the server's thread.
class Connection {
 public:
  virtual ~Connection() = default;
  // Of the exchange with this number; nothing happens if that is over.
  virtual void take(uint64_t exchange, AnswerPiece piece) = 0;
  virtual void close_if_idle() = 0;
  virtual void close() = 0;
};

// Whether the client of an exchange is still there, as both sides see it. Thread-safe.
class ClientWatch {
 public:
  bool gone() const { return gone_; }
  void set_gone();
  void set_answered();  // lets go of the callback
  void on_gone(std::function<void()> callback);

  std::atomic<int64_t> unsent = 0;  // bytes of the answer

 private:
  std::atomic<bool> gone_ = false;
  std::mutex mutex_;  // guards what follows
  bool answered_ = false;
  std::function<void()> callback_;
};

class Exchange final : public HttpExchange {
 public:
  Exchange(std::shared_ptr<ServerState> state, const std::shared_ptr<Connection>& connection,
           uint64_t number, HttpRequest request);
  ~Exchange() override;

  const HttpRequest& request() const override { return request_; }
  void respond(HttpResponse response) override;
  void begin(HttpResponse head) override;
  bool write(std::string piece) override;
  void end() override;
  bool gone() const override { return watch_->gone(); }
  void on_gone(std::function<void()> callback) override { watch_->on_gone(std::move(callback)); }

  const std::shared_ptr<ClientWatch>& watch() const { return watch_; }

 private:
  enum class Progress { kNothing, kBegun, kEnded };
  void send(AnswerPiece piece);
  bool advance(Progress from, Progress to);

  std::shared_ptr<ServerState> state_;
  std::weak_ptr<Connection> connection_;
  uint64_t number_;
  HttpRequest request_;
  std::shared_ptr<ClientWatch> watch_ = std::make_shared<ClientWatch>();
  std::atomic<Progress> progress_ = Progress::kNothing;
};

}  // namespace llama2zh
