#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/bio.h>
#include <openssl/ssl.h>

#include <cstdlib>
#include <memory>

#include "base/temp_folder.h"
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

// What the server answers to `request` over TLS of this version.
std::string ask(uint16_t port, const std::string& request, int version) {
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()),
                                                                  SSL_CTX_free);
  SSL_CTX_set_min_proto_version(context.get(), version);
  SSL_CTX_set_max_proto_version(context.get(), version);
  const std::unique_ptr<BIO, decltype(&BIO_free_all)> bio(BIO_new_ssl_connect(context.get()),
                                                          BIO_free_all);
  BIO_set_conn_hostname(bio.get(), cat("127.0.0.1:", port).c_str());
  if (BIO_do_connect(bio.get()) <= 0 || BIO_do_handshake(bio.get()) <= 0) return "no handshake";
  BIO_write(bio.get(), request.data(), static_cast<int>(request.size()));
  std::string out;
  char bytes[4096];
  for (int size = 0; (size = BIO_read(bio.get(), bytes, sizeof(bytes))) > 0;)
    out.append(bytes, static_cast<size_t>(size));
  return out;
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
