// The listening side: accepts, hands each socket to a connection of its own.
#include "llama2zh/http/server.h"

#include <sys/resource.h>

#include <algorithm>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "http/exchange.h"
#include "http/stream_connection.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

// Each connection is a file descriptor, and the soft limit is often 1024.
void allow_connections(int64_t count) {
  rlimit limit{};
  const rlim_t wanted = static_cast<rlim_t>(count) + 256;
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return;
  limit.rlim_cur = std::min(limit.rlim_max, wanted);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

std::string text_of(const tcp::endpoint& endpoint) {
  const std::string address = endpoint.address().to_string();
  return endpoint.address().is_v6() ? cat("[", address, "]:", endpoint.port())
                                    : cat(address, ":", endpoint.port());
}

asio::ssl::context tls_context(const HttpServerConfig& config) {
  asio::ssl::context context(asio::ssl::context::tls_server);
  context.set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                      asio::ssl::context::no_tlsv1_1);
  ErrorCode error;
  context.use_certificate_chain_file(config.tls_certificate, error);
  if (error)
    fail_format(config.tls_certificate, cat("no PEM certificate could be read: ", error.message()));
  context.use_private_key_file(config.tls_key, asio::ssl::context::pem, error);
  if (error)
    fail_format(config.tls_key, cat("no private key for ", config.tls_certificate,
                                    " could be read: ", error.message()));
  return context;
}

}  // namespace

class HttpServer::Implementation {
 public:
  Implementation(const HttpServerConfig& config, HttpHooks hooks)
      : state_(std::make_shared<ServerState>(config, std::move(hooks))),
        acceptor_(state_->io),
        retry_(state_->io) {
    if (config.tls_certificate.empty() != config.tls_key.empty())
      fail_usage(config.tls_key.empty() ? "tls_key" : "tls_certificate",
                 "HTTPS needs both a certificate and its key", "give the other one too");
    if (config.max_bodies_bytes < config.max_body_bytes)
      fail_usage(
          "max_bodies_bytes",
          cat(config.max_bodies_bytes, " is less than max_body_bytes, ", config.max_body_bytes),
          "let one body in at least");
    if (!config.tls_certificate.empty()) tls_.emplace(tls_context(config));
    allow_connections(config.max_connections);
    listen(config);
  }
  ~Implementation() { stop(); }

  uint16_t port() const { return port_; }
  int64_t connections() const { return state_->connections; }
  int64_t unanswered() const { return state_->unanswered; }

  void start() {
    accept();
    thread_ = std::thread([this] { run(); });
  }

  void close_after_answers() {
    asio::post(state_->io, [state = state_.get()] {
      state->closing = true;
      for_each_connection(*state, [](Connection& connection) { connection.close_if_idle(); });
    });
  }

  // Everything is closed, so the thread runs out of work and ends.
  void stop() {
    if (!thread_.joinable()) return;
    asio::post(state_->io, [this] {
      ErrorCode ignored;
      stopping_ = true;
      state_->closing = true;
      acceptor_.close(ignored);
      retry_.cancel();
      for_each_connection(*state_, [](Connection& connection) { connection.close(); });
    });
    thread_.join();
  }

 private:
  // Closing one may end others, and itself.
  template <typename Function>
  static void for_each_connection(ServerState& state, const Function& function) {
    const std::set<Connection*> all = state.open;
    for (Connection* connection : all)
      if (state.open.contains(connection)) function(*connection);
  }

  void listen(const HttpServerConfig& config) {
    const std::string where = cat(config.host, ":", config.port);
    ErrorCode error;
    tcp::resolver resolver(state_->io);
    const auto found =
        resolver.resolve(config.host, std::to_string(config.port), tcp::resolver::passive, error);
    if (error || found.empty())
      fail_io(where, cat("no such address to listen at: ", error.message()));
    const tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) fail_io(where, cat("can't be listened at: ", error.message()));
    port_ = acceptor_.local_endpoint().port();
  }

  void run() {
    for (;;) {
      try {
        state_->io.run();
        return;
      } catch (const std::exception& error) {
        log_error(cat("HTTP server: ", error.what()));
      }
    }
  }

  void accept() {
    acceptor_.async_accept([this](ErrorCode error, tcp::socket socket) {
      if (stopping_ || error == asio::error::operation_aborted) return;
      if (!error) {
        accept();  // first: opening may fail
        return open(std::move(socket));
      }
      // No descriptors left, mostly: others must end first.
      retry_.expires_after(std::chrono::milliseconds(100));
      retry_.async_wait([this](ErrorCode cancelled) {
        if (!cancelled) accept();
      });
    });
  }

  void open(tcp::socket socket) {
    if (state_->connections >= state_->config.max_connections) return;
    ErrorCode error;
    const tcp::endpoint remote = socket.remote_endpoint(error);
    if (error) return;
    socket.set_option(tcp::no_delay(true), error);
    socket.set_option(asio::socket_base::keep_alive(true), error);
    if (tls_) {
      std::make_shared<StreamConnection<TlsStream>>(state_, TlsStream(std::move(socket), *tls_),
                                                    text_of(remote))
          ->start();
    } else {
      std::make_shared<StreamConnection<tcp::socket>>(state_, std::move(socket), text_of(remote))
          ->start();
    }
  }

  std::shared_ptr<ServerState> state_;
  std::optional<asio::ssl::context> tls_;
  tcp::acceptor acceptor_;
  asio::steady_timer retry_;
  uint16_t port_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

HttpServer::HttpServer(const HttpServerConfig& config, HttpHooks hooks)
    : implementation_(std::make_unique<Implementation>(config, std::move(hooks))) {}
HttpServer::~HttpServer() = default;
uint16_t HttpServer::port() const { return implementation_->port(); }
void HttpServer::start() { implementation_->start(); }
void HttpServer::close_after_answers() { implementation_->close_after_answers(); }
int64_t HttpServer::connections() const { return implementation_->connections(); }
int64_t HttpServer::unanswered() const { return implementation_->unanswered(); }
void HttpServer::stop() { implementation_->stop(); }

}  // namespace llama2zh
