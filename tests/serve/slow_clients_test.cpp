// Clients that send slowly, read nothing or say nothing, in numbers, beside one that behaves (reliability S5).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>

#include "http/raw_socket.h"
#include "serve/serve_test_util.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;
using testing::soon;

class SlowClients : public testing::ServerFixture {
 protected:
  using Clients = std::vector<std::unique_ptr<RawSocket>>;
  Clients connect(int count) const {
    Clients out;
    for (int i = 0; i < count; ++i) out.push_back(std::make_unique<RawSocket>(server->port()));
    return out;
  }
  double connections() const { return metric("llama2zh:open_connections"); }
  // An answer and /health, at once.
  void expect_service() const {
    const auto begun = std::chrono::steady_clock::now();
    EXPECT_EQ(get("/health").status, 200);
    EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(1));
    EXPECT_EQ(post("/v1/chat/completions", chat_body("hello", 4)).status, 200);
    EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(20));
  }
};

TEST_F(SlowClients, AByteASecondIsTooSlow) {
  options.http.header_timeout = options.http.body_timeout = 2.5;
  begin();
  const std::string head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n";
  Clients heads = connect(50), bodies = connect(50);
  for (const auto& client : bodies) client->send(head + "Content-Length: 100\r\n\r\n");
  for (size_t second = 0; second < 3; ++second) {
    for (const auto& client : heads) client->send(head.substr(second, 1));
    for (const auto& client : bodies) client->send("{");
    expect_service();
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
  for (const Clients* clients : {&heads, &bodies})
    for (const auto& client : *clients) {
      EXPECT_THAT(client->read_all(5), HasSubstr("HTTP/1.1 408"));
      EXPECT_TRUE(client->closed());
    }
}

TEST_F(SlowClients, UnreadStreamsHoldNobodyUp) {
  options.engine.max_running = 64;
  begin();
  json body = chat_body("hello", 2000);
  body["stream"] = body["ignore_eos"] = true;
  const std::string text = body.dump();
  Clients unread = connect(50);
  for (const auto& client : unread)
    client->send(cat("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: ",
                     text.size(), "\r\n\r\n", text));
  ASSERT_TRUE(soon([&] { return metric("llama2zh:num_requests_running") == 50; }, 30));
  expect_service();
  unread.clear();
  EXPECT_TRUE(soon([&] { return metric("llama2zh:num_requests_running") == 0; }, 5));
}

TEST_F(SlowClients, ThousandsMayBeIdle) {
  constexpr int kIdle = 2000;
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = std::min<rlim_t>(files.rlim_max, 8192);
  ::setrlimit(RLIMIT_NOFILE, &files);
  if (files.rlim_cur < 2 * kIdle + 200) GTEST_SKIP() << "too few files may be open here";
  begin();
  const Clients idle = connect(kIdle);
  ASSERT_TRUE(soon([&] { return connections() >= kIdle; }));
  expect_service();
  // Those that were idle are served too.
  for (size_t i = 0; i < idle.size(); i += 100) {
    idle[i]->send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    EXPECT_THAT(idle[i]->read_until("}\n"), HasSubstr("200 OK"));
  }
}

}  // namespace
}  // namespace llama2zh
