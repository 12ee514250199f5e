#include "llama2zh/http/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "http/raw_socket.h"
#include "http/soon.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/memory.h"
#include "llama2zh/base/text.h"
#include "llama2zh/http/client.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::soon;
using ::testing::StartsWith;
using Owner = std::shared_ptr<HttpExchange>;

// Says what it was asked, but to a few paths.
class Server : public ::testing::Test {
 protected:
  void SetUp() override { config.port = 0; }
  void begin() {
    HttpHooks hooks;
    hooks.handler = [this](const Owner& exchange) { handle(exchange); };
    hooks.on_access = [this](const HttpAccess& access) {
      const std::lock_guard lock(mutex);
      accesses.push_back(cat(access.request == nullptr ? "?" : access.request->path, " ",
                             access.status, " ", access.sent_bytes));
    };
    server = std::make_unique<HttpServer>(config, hooks);
    server->start();
  }
  void handle(const Owner& exchange) {
    const HttpRequest& request = exchange->request();
    if (request.path == "/drop") return;
    if (request.path == "/throw") throw std::runtime_error("as asked");
    if (request.path == "/hold" || request.path == "/flood") {
      exchange->on_gone([this] { ++gone; });
      const std::lock_guard lock(mutex);
      held.push_back(exchange);
      if (request.path == "/flood") exchange->begin({});
      return;
    }
    if (request.path == "/stream") {
      exchange->begin({200, "text/plain", "", {}});
      for (const char* piece : {"one ", "", "two ", "three"}) exchange->write(piece);
      return exchange->end();
    }
    exchange->respond(
        {200, "text/plain", cat(request.method, " ", request.path, " ", request.body), {}});
  }
  Owner first_held() {
    const std::lock_guard lock(mutex);
    return held.empty() ? nullptr : held.front();
  }
  HttpCall call(std::string target) const {
    return {.port = server->port(), .target = std::move(target)};
  }

  HttpServerConfig config;
  std::mutex mutex;
  std::vector<Owner> held;
  std::vector<std::string> accesses;
  std::atomic<int> gone = 0;
  std::unique_ptr<HttpServer> server;  // last: its thread uses the others
};

TEST_F(Server, AnswersAndTellsOfIt) {
  begin();
  HttpCall post = call("/a%20b?x=1");
  post.method = "POST";
  post.body = "你好";
  const HttpAnswer answer = http_call(post);
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, "POST /a b 你好");
  EXPECT_EQ(answer.header("content-type"), "text/plain");
  EXPECT_EQ(answer.header("Server"), "llama2zh");
  EXPECT_EQ(answer.header("X-Request-Id").size(), 16u);
  post.headers = {{"X-Request-Id", "abc-1_Z"}};
  EXPECT_EQ(http_call(post).header("X-Request-Id"), "abc-1_Z");
  post.headers = {{"X-Request-Id", "a b"}};
  EXPECT_EQ(http_call(post).header("X-Request-Id").size(), 16u);
  EXPECT_THAT(answer.header("Date"), HasSubstr("GMT"));
  ASSERT_TRUE(soon([&] {
    const std::lock_guard lock(mutex);
    return accesses.size() == 3;
  }));
  EXPECT_EQ(accesses[0], "/a b 200 16");
}

TEST_F(Server, KeepsConnectionsAndAnswersWhatWasSentAhead) {
  begin();
  RawSocket client(server->port());
  client.send(
      "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: "
      "3\r\n\r\nabc"
      "GET /stream HTTP/1.1\r\nHost: a\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n");
  const std::string all = client.read_until("GET /4 ");
  EXPECT_LT(all.find("GET /1"), all.find("POST /2 abc"));
  EXPECT_LT(all.find("POST /2 abc"), all.find("three"));
  EXPECT_THAT(all, HasSubstr("4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n"));
  EXPECT_FALSE(client.closed());
}

// RFC 9112, 2.2.
TEST_F(Server, PassesOverBlankLinesBeforeRequests) {
  begin();
  RawSocket client(server->port());
  client.send("\r\n\r\n");
  client.send("\r\nPOST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx\r\n\r\n");
  EXPECT_THAT(client.read_until("POST /1 x"), HasSubstr("200 OK"));
  client.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_THAT(client.read_until("GET /2 "), HasSubstr("200 OK"));
}

// What is being received and what is being answered counts; an answered one no longer does.
TEST_F(Server, BodiesShareTheirMemory) {
  config.max_body_bytes = 2048;
  config.max_bodies_bytes = 4096;
  begin();
  const auto post = [](const char* path, int length) {
    return cat("POST ", path, " HTTP/1.1\r\nHost: a\r\nContent-Length: ", length, "\r\n\r\n");
  };
  RawSocket held_one(server->port());
  held_one.send(post("/hold", 2000) + std::string(2000, 'a'));
  ASSERT_TRUE(soon([&] { return first_held() != nullptr; }));
  RawSocket coming(server->port());
  coming.send(post("/x", 2000) + "a");
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  RawSocket third(server->port());
  third.send(post("/y", 200));
  EXPECT_THAT(third.read_all(), StartsWith("HTTP/1.1 503"));
  EXPECT_EQ(http_call(call("/alive")).status, 200);
  first_held()->respond({200, "text/plain", "done", {}});
  held_one.read_until("done");
  RawSocket fourth(server->port());
  fourth.send(post("/z", 2) + "ok");
  EXPECT_THAT(fourth.read_until("POST /z ok"), HasSubstr("200 OK"));
  coming.send(std::string(1999, 'a'));
  EXPECT_THAT(coming.read_until("aaa"), HasSubstr("200 OK"));
}

TEST_F(Server, SpeaksTheOlderVersionAndHead) {
  begin();
  RawSocket old(server->port());
  old.send("GET /stream HTTP/1.0\r\n\r\n");
  const std::string stream = old.read_all();
  EXPECT_THAT(stream, HasSubstr("\r\n\r\none two three"));
  EXPECT_THAT(stream, Not(HasSubstr("chunked")));
  EXPECT_TRUE(old.closed());

  RawSocket head(server->port());
  head.send("HEAD /abc HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  const std::string answer = head.read_all();
  EXPECT_THAT(answer, HasSubstr("Content-Length: 10\r\n"));
  EXPECT_TRUE(answer.ends_with("\r\n\r\n"));
}

TEST_F(Server, InvitesBodiesThatWait) {
  begin();
  RawSocket client(server->port());
  client.send("POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_THAT(client.read_until("\r\n\r\n"), StartsWith("HTTP/1.1 100 Continue"));
  client.send("ok");
  EXPECT_THAT(client.read_until("POST /x ok"), HasSubstr("200 OK"));
}

struct Odd {
  const char* name;
  std::string text;
  int status;  // 0: closed without an answer
};
class OddRequest : public Server, public ::testing::WithParamInterface<Odd> {};
TEST_P(OddRequest, IsRefused) {
  config.header_timeout = 1;
  config.body_timeout = 1;
  begin();
  const uint64_t before = process_memory().resident;
  RawSocket client(server->port());
  client.send(GetParam().text);
  const std::string answer = client.read_all();
  if (GetParam().status == 0)
    EXPECT_EQ(answer, "");
  else
    EXPECT_THAT(answer, StartsWith(cat("HTTP/1.1 ", GetParam().status)));
  EXPECT_TRUE(client.closed());
  EXPECT_LT(process_memory().resident, before + (64u << 20));
  EXPECT_EQ(http_call(call("/alive")).body, "GET /alive ");
}
std::string many_headers(int count) {
  std::string text = "GET / HTTP/1.1\r\nHost: a\r\n";
  for (int i = 0; i < count; ++i) text += cat("X-", i, ": y\r\n");
  return text + "\r\n";
}
std::string head_of(const std::string& headers) {
  return "POST /x HTTP/1.1\r\nHost: a\r\n" + headers + "\r\n";
}
INSTANTIATE_TEST_SUITE_P(
    Server, OddRequest,
    ::testing::Values(
        Odd{"NoHttp", "hello\r\n\r\n", 400}, Odd{"NoHost", "GET / HTTP/1.1\r\n\r\n", 400},
        Odd{"TwoHosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
        Odd{"OddTarget", "GET nopath HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        Odd{"BrokenEscape", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        Odd{"TenThousandHeaders", many_headers(10000), 431},
        Odd{"LargeHeader", head_of("X: " + std::string(1 << 20, 'a') + "\r\n"), 431},
        Odd{"LargeBody", head_of("Content-Length: 104857600\r\n") + std::string(100 << 10, 'a'),
            413},
        Odd{"LargeChunks",
            head_of("Transfer-Encoding: chunked\r\n") + "F00000\r\n" + std::string(0xF00000, 'a'),
            413},
        Odd{"NegativeChunk", head_of("Transfer-Encoding: chunked\r\n") + "-2\r\nab\r\n0\r\n\r\n",
            400},
        Odd{"HugeChunk", head_of("Transfer-Encoding: chunked\r\n") + "fffffffffffffffff\r\n", 400},
        Odd{"NegativeLength", head_of("Content-Length: -1\r\n"), 400},
        Odd{"TwoLengths", head_of("Content-Length: 1\r\nContent-Length: 2\r\n") + "ab", 400},
        Odd{"LengthAndChunks",
            head_of("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400},
        Odd{"OddCoding", head_of("Transfer-Encoding: xchunked\r\n") + "GET / HTTP/1.1\r\n\r\n",
            501},
        Odd{"TwoCodings", head_of("Transfer-Encoding: gzip, chunked\r\n") + "0\r\n\r\n", 501},
        Odd{"GzipBomb", head_of("Content-Encoding: gzip\r\nContent-Length: 3\r\n") + "abc", 415},
        Odd{"OldVersion", "GET / HTTP/3.7\r\nHost: a\r\n\r\n", 505},
        Odd{"SlowHead", "GET / HTTP/1.1\r\nHo", 408},
        Odd{"LengthTooLong", head_of("Content-Length: 10\r\n") + "abc", 408}),
    [](const auto& param) { return param.param.name; });

TEST_F(Server, SlowClientsHoldNobodyUp) {
  begin();
  std::vector<std::unique_ptr<RawSocket>> slow;
  for (int i = 0; i < 300; ++i) {
    slow.push_back(std::make_unique<RawSocket>(server->port()));
    slow.back()->send("P");
  }
  ASSERT_TRUE(soon([&] { return server->connections() == 300; }));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(http_call(call("/x")).status, 200);
  slow.clear();
  EXPECT_TRUE(soon([&] { return server->connections() == 0; }));
}

TEST_F(Server, ConnectionsBeyondTheLimitAreClosed) {
  config.max_connections = 2;
  begin();
  RawSocket a(server->port()), b(server->port());
  ASSERT_TRUE(soon([&] { return server->connections() == 2; }));
  RawSocket c(server->port());
  EXPECT_EQ(c.read_all(), "");
  EXPECT_TRUE(c.closed());
}

TEST_F(Server, IdleConnectionsEnd) {
  config.idle_timeout = 0.2;
  begin();
  RawSocket client(server->port());
  client.read_all();
  EXPECT_TRUE(client.closed());
}

TEST_F(Server, TellsTheHandlerThatTheClientIsGone) {
  begin();
  {
    RawSocket client(server->port());
    client.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    ASSERT_TRUE(soon([&] { return first_held() != nullptr; }));
    EXPECT_EQ(gone, 0);
  }
  EXPECT_TRUE(soon([&] { return gone == 1; }, 1));
  EXPECT_TRUE(first_held()->gone());
  int late = 0;
  first_held()->on_gone([&] { ++late; });
  EXPECT_EQ(late, 1);
  first_held()->respond({});
  EXPECT_TRUE(soon([&] { return server->unanswered() == 0; }));
  EXPECT_THAT(accesses, ::testing::ElementsAre("/hold 499 0"));
}

TEST_F(Server, ClientsThatReadNothingAreGivenUp) {
  config.max_unsent_bytes = 65536;
  begin();
  RawSocket client(server->port());
  client.send("GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
  ASSERT_TRUE(soon([&] { return first_held() != nullptr; }));
  const Owner exchange = first_held();
  const std::string piece(4096, 'x');
  int64_t accepted = 0;
  while (exchange->write(piece) && accepted < (1 << 30)) {
    accepted += std::ssize(piece);
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  EXPECT_TRUE(exchange->gone());
  EXPECT_EQ(gone, 1);
  EXPECT_LT(accepted, 64 << 20);  // what the kernel takes, and 64 KiB
}

TEST_F(Server, ItsClientDoesNotWaitForEver) {
  begin();
  HttpCall impatient = call("/hold");
  impatient.timeout = 0.2;
  EXPECT_THROW(http_call(impatient), Error);
}

TEST_F(Server, UnansweredRequestsAreErrors) {
  begin();
  EXPECT_EQ(http_call(call("/drop")).status, 500);
  EXPECT_EQ(http_call(call("/throw")).status, 500);
  EXPECT_EQ(http_call(call("/alive")).status, 200);
}

TEST_F(Server, HeadersCarryNoLineBreaks) {
  HttpHooks hooks;
  hooks.handler = [](const Owner& exchange) {
    exchange->respond({200, "a\r\nX-Evil: 1", "", {{"X-A", "b\r\nX-Evil: 2"}}});
  };
  HttpServer evil(config, hooks);
  evil.start();
  const HttpAnswer answer = http_call({.port = evil.port()});
  EXPECT_EQ(answer.header("X-Evil"), "");
  EXPECT_EQ(answer.header("X-A"), "bX-Evil: 2");
}

TEST_F(Server, ClosesAfterAnswers) {
  begin();
  RawSocket idle(server->port()), busy(server->port()), fresh(server->port());
  idle.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
  idle.read_until("GET /x ");
  busy.send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
  ASSERT_TRUE(soon([&] { return first_held() != nullptr && server->connections() == 3; }));
  server->close_after_answers();
  idle.read_all();
  EXPECT_TRUE(idle.closed());
  fresh.send("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");  // connected, and to be told why not
  EXPECT_THAT(fresh.read_all(), HasSubstr("Connection: close"));
  first_held()->respond({200, "text/plain", "done", {}});
  const std::string answer = busy.read_all();
  EXPECT_THAT(answer, HasSubstr("Connection: close"));
  EXPECT_TRUE(answer.ends_with("done"));
  EXPECT_TRUE(busy.closed());
}

TEST_F(Server, ExchangesMayOutliveIt) {
  begin();
  RawSocket client(server->port());
  client.send("GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
  ASSERT_TRUE(soon([&] { return first_held() != nullptr; }));
  server.reset();
  EXPECT_EQ(gone, 1);
  EXPECT_FALSE(first_held()->write("x"));
  first_held()->end();
}

TEST_F(Server, AddressesInUseAreErrors) {
  begin();
  HttpServerConfig same = config;
  same.port = server->port();
  EXPECT_THROW(HttpServer(same, {}), Error);
  same.host = "no.such.host.invalid";
  EXPECT_THROW(HttpServer(same, {}), Error);
}

}  // namespace
}  // namespace llama2zh
