#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "http/asio.h"
#include "http/exchange.h"
#include "http/outgoing_answer.h"

namespace llama2zh {

// The part of a connection that does not depend on how its bytes travel: deadlines, the exchange at
// hand, its client. While a handler works nothing is read, so what a client sends ahead waits in the
// kernel; whether it is still there is seen from the state of the TCP connection.
class ClientConnection : public Connection, public std::enable_shared_from_this<ClientConnection> {
 public:
  ClientConnection(const std::shared_ptr<ServerState>& state, std::string remote);
  ~ClientConnection() override;

  void take(uint64_t exchange, AnswerPiece piece) override;
  void close_if_idle() override;
  void close() override;

 protected:
  virtual tcp::socket& socket() = 0;
  virtual void write(std::string_view batch) = 0;  // calls batch_written() or client_gone()
  virtual void read_request() = 0;
  virtual void linger() = 0;  // after the last answer

  ServerState& state() { return *state_; }
  const std::string& remote() const { return remote_; }

  // The operation at hand is given up when the time is over: its handler sees an error.
  void set_deadline(double seconds);
  bool timed_out() const { return timed_out_; }
  void set_idle(bool idle) { idle_ = idle; }
  bool has_answered() const { return exchange_ > 0; }

  void note_arrival() { began_ = std::chrono::steady_clock::now(); }
  // False: the budget of all bodies has no `bytes` left.
  bool take_body_share(uint64_t bytes);
  // True: refused by its head, and answered.
  bool refused_by_head(HttpRequest head);
  // Answers without a handler, after which nothing more can be read off this connection.
  void refuse(int status, const std::string& reason);
  void handle(http::request<http::string_body> message);

  void batch_written();
  void client_gone();

 private:
  static constexpr auto kWatchEvery = std::chrono::milliseconds(200);

  void refuse_with(HttpResponse response);
  HttpResponse bad_request_answer(int status, const std::string& reason) const;
  void begin_exchange(unsigned version, bool head_only);
  void end_exchange(int status);
  void watch_client();
  bool client_is_there();
  void add_id(HttpResponse& response) const;
  bool stays_open() const { return keep_alive_ && !state_->closing; }
  void put_whole(HttpResponse response);
  void put_head(HttpResponse response);
  void flush();
  void finish_answer();

  std::weak_ptr<ServerState> owner_;  // for exchanges, which share it
  ServerState* state_;                // outlives every connection
  std::string remote_;
  asio::steady_timer deadline_, watch_timer_;
  bool timed_out_ = false, idle_ = false;

  // The exchange at hand.
  uint64_t exchange_ = 0;
  std::shared_ptr<ClientWatch> watch_;  // null: there is none
  std::chrono::steady_clock::time_point began_;
  HttpRequest told_;  // without its body, for on_access
  bool request_known_ = false, keep_alive_ = false;
  std::optional<BodyBudget::Share> body_share_;
  OutgoingAnswer answer_;
};

}  // namespace llama2zh
