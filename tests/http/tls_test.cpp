#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/ssl.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "base/temp_folder.h"
#include "http/soon.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "llama2zh/http/server.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;

class Tls : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string command =
        cat("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj "
            "/CN=localhost -keyout '",
            (folder.path() / "key.pem").string(), "' -out '",
            (folder.path() / "certificate.pem").string(), "' 2>/dev/null");
    if (std::system(command.c_str()) != 0)
      GTEST_SKIP() << "no openssl program to make a certificate";
    config.port = 0;
    config.tls_certificate = folder.path() / "certificate.pem";
    config.tls_key = folder.path() / "key.pem";
  }
  TempFolder folder;
  HttpServerConfig config;
};

// A connection that says hello, asks as often as it is told to, and goes.
class TlsClient {
 public:
  TlsClient(uint16_t port, int version)
      : context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free), bio_(nullptr, BIO_free_all) {
    SSL_CTX_set_min_proto_version(context_.get(), version);
    SSL_CTX_set_max_proto_version(context_.get(), version);
    bio_.reset(BIO_new_ssl_connect(context_.get()));
    BIO_set_conn_hostname(bio_.get(), cat("127.0.0.1:", port).c_str());
    connected_ = BIO_do_connect(bio_.get()) > 0 && BIO_do_handshake(bio_.get()) > 0;
  }
  bool connected() const { return connected_; }
  void send(const std::string& text) {
    BIO_write(bio_.get(), text.data(), static_cast<int>(text.size()));
  }
  // Up to `end`, or where that is empty to the close.
  std::string read_until(const std::string& end) {
    std::string out;
    char bytes[4096];
    for (int size = 0; (size = BIO_read(bio_.get(), bytes, sizeof(bytes))) > 0;) {
      out.append(bytes, static_cast<size_t>(size));
      if (!end.empty() && out.find(end) != std::string::npos) break;
    }
    return out;
  }

 private:
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  std::unique_ptr<BIO, decltype(&BIO_free_all)> bio_;
  bool connected_ = false;
};

// What the server answers to `request` over TLS of this version.
std::string ask(uint16_t port, const std::string& request, int version) {
  TlsClient client(port, version);
  if (!client.connected()) return "no handshake";
  client.send(request);
  return client.read_until("");
}

TEST_F(Tls, Answers) {
  HttpHooks hooks;
  hooks.handler = [](const std::shared_ptr<HttpExchange>& exchange) {
    exchange->begin({200, "text/plain", "", {}});
    exchange->write(exchange->request().path + " ");
    exchange->write(std::string(100000, 'x'));
    exchange->end();
  };
  HttpServer server(config, hooks);
  server.start();
  const std::string request = "GET /secret HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const std::string answer = ask(server.port(), request, version);
    EXPECT_THAT(answer, HasSubstr("/secret "));
    EXPECT_GT(answer.size(), 100000u);
  }
  EXPECT_EQ(ask(server.port(), request, TLS1_1_VERSION), "no handshake");
}

TEST_F(Tls, ConnectionsStayAndWhoGoesIsNoticed) {
  std::mutex mutex;
  std::shared_ptr<HttpExchange> held;
  std::atomic<int> gone = 0;
  HttpHooks hooks;
  hooks.handler = [&](const std::shared_ptr<HttpExchange>& exchange) {
    if (exchange->request().path != "/hold")
      return exchange->respond({200, "text/plain", exchange->request().path + "!", {}});
    exchange->on_gone([&] { ++gone; });
    const std::lock_guard lock(mutex);
    held = exchange;
  };
  HttpServer server(config, hooks);
  server.start();
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    gone = 0;
    {
      TlsClient client(server.port(), version);
      ASSERT_TRUE(client.connected());
      for (const char* path : {"/a", "/b"}) {
        client.send(cat("GET ", path, " HTTP/1.1\r\nHost: a\r\n\r\n"));
        EXPECT_THAT(client.read_until("!"), HasSubstr(cat(path, "!")));
      }
      EXPECT_EQ(server.connections(), 1);
      client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
      ASSERT_TRUE(testing::soon([&] { return server.unanswered() == 1; }));
      EXPECT_EQ(gone, 0);
    }
    EXPECT_TRUE(testing::soon([&] { return gone == 1; }, 1));
    const std::lock_guard lock(mutex);
    held->respond({});
    held.reset();
  }
}

TEST_F(Tls, FilesThatAreNoneAreErrors) {
  HttpServerConfig bad = config;
  bad.tls_key = "";
  EXPECT_THROW(HttpServer(bad, {}), Error);
  bad.tls_key = config.tls_certificate;
  EXPECT_THROW(HttpServer(bad, {}), Error);
  bad = config;
  bad.tls_certificate = "/no/such/file";
  EXPECT_THROW(HttpServer(bad, {}), Error);
}

}  // namespace
}  // namespace llama2zh
