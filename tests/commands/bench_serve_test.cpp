// llama2zh bench serve against a server whose answers take a known time.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <mutex>
#include <thread>

#include "base/temp_folder.h"
#include "commands/run_program.h"
#include "commands/serve_load.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/random.h"
#include "llama2zh/base/text.h"
#include "llama2zh/http/server.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;

// Five pieces, 20 ms apart; every `slow`th answer begins 400 ms late, and the one with max_tokens 13 fails.
class BenchServe : public ::testing::Test {
 protected:
  BenchServe() {
    HttpServerConfig config;
    config.port = 0;
    HttpHooks hooks;
    hooks.handler = [this](const std::shared_ptr<HttpExchange>& exchange) {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      bodies.push_back(json::parse(exchange->request().body));
      answering_.emplace_back([this, exchange, body = bodies.back(), n = bodies.size()] {
        answer(*exchange, body, slow > 0 && n % static_cast<size_t>(slow) == 0);
      });
    };
    server_ = std::make_unique<HttpServer>(config, hooks);
    server_->start();
  }
  ~BenchServe() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    for (std::thread& thread : answering_) thread.join();
  }
  void answer(HttpExchange& exchange, const json& body, bool late) const {
    const auto wait = [](int milliseconds) {
      std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    };
    if (body["max_tokens"] == 13)
      return exchange.respond({500, "application/json", "{\"error\":\"as asked\"}", {}});
    if (late) wait(400);
    exchange.begin({200, "text/event-stream", "", {}});
    for (int i = 0; i < 5; ++i) {
      if (i > 0) wait(20);
      exchange.write("data: {\"choices\":[{\"text\":\"x\"}]}\n\n");
    }
    exchange.write(
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5}}\n\n"
        "data: [DONE]\n\n");
    exchange.end();
  }
  ServeLoad load(size_t requests) const {
    ServeLoad out;
    out.server.host = "127.0.0.1";
    out.server.port = server_->port();
    out.prompts.resize(requests, {"hello", 5});
    return out;
  }
  ordered_json report(std::vector<std::string> more, int exit_code) {
    std::vector<std::string> args = {"bench", "serve", "--json", "--port",
                                     std::to_string(server_->port())};
    args.insert(args.end(), more.begin(), more.end());
    const ProgramResult result = run_program(folder.path(), args);
    EXPECT_EQ(result.exit_code, exit_code) << result.err;
    return ordered_json::parse(result.out, nullptr, false);
  }

  TempFolder folder;
  std::atomic<int> slow = 0;
  std::vector<json> bodies;  // of the requests

 private:
  std::mutex mutex_;
  bool stopping_ = false;
  std::vector<std::thread> answering_;
  std::unique_ptr<HttpServer> server_;
};

// An open loop asks at its times whether or not there are answers, and counts from these times.
TEST_F(BenchServe, AsksAtTheTimesThatWereDrawn) {
  slow = 1;  // one by one it would take four seconds
  ServeLoad asked = load(10);
  asked.rate = 50;
  asked.seed = 3;
  const std::vector<LoadOutcome> outcomes = run_load(asked);
  Random random(3);
  double due = 0;
  for (const LoadOutcome& outcome : outcomes) {
    EXPECT_EQ(outcome.error, "");
    EXPECT_EQ(outcome.start, due);
    EXPECT_GE(outcome.first - due, 0.4);
    EXPECT_LT(outcome.first - due, 2);
    due += -std::log1p(-random.uniform()) / asked.rate;
  }
}

TEST_F(BenchServe, ReportsPercentilesAndGoodput) {
  slow = 4;
  const ordered_json got = report({"--requests", "20", "--concurrency", "2", "--output-tokens", "5",
                                   "--first-token-goal", "0.3", "--between-tokens-goal", "5"},
                                  0);
  EXPECT_EQ(got["requests"], 20);
  EXPECT_EQ(got["failed"], 0);
  EXPECT_EQ(got["input_tokens"], 140);
  EXPECT_EQ(got["output_tokens"], 100);
  EXPECT_LT(got["first_token_s_p50"], 0.3);
  EXPECT_GE(got["first_token_s_p95"], 0.4);  // five of twenty are late
  EXPECT_GE(got["between_tokens_s_p50"], 0.018);
  EXPECT_GE(got["request_s_p50"], 0.08);
  EXPECT_GE(got["request_s_p99"], 0.48);
  const double seconds = got["seconds"];
  EXPECT_NEAR(got["requests_s"].get<double>(), 20 / seconds, 0.05 * 20 / seconds);
  EXPECT_NEAR(got["goodput_requests_s"].get<double>(), 15 / seconds, 0.05 * 15 / seconds);
  ASSERT_EQ(bodies.size(), 20u);
  EXPECT_EQ(bodies[0]["max_tokens"], 5);
  EXPECT_EQ(bodies[0]["prompt"].size(), 128u);
}

TEST_F(BenchServe, FailuresAreCounted) {
  const ordered_json got = report({"--requests", "3", "--output-tokens", "13"}, 1);
  EXPECT_EQ(got["failed"], 3);
  EXPECT_THAT(got["first_error"].get<std::string>(), HasSubstr("status 500"));
}

TEST_F(BenchServe, DialoguesGiveLengths) {
  write_file_atomic(folder.path() / "text.txt", "hello you and all the others who say hello\n");
  const auto train = run_program(folder.path(), {"train-tokenizer", "--input", "text.txt",
                                                 "--vocab-size", "300", "--output", "t.model"});
  ASSERT_EQ(train.exit_code, 0) << train.err;
  write_file_atomic(folder.path() / "rows.jsonl",
                    R"({"conversations": [{"from": "human", "value": "hello"}, )"
                    R"({"from": "gpt", "value": "hello you and all the others"}]})"
                    "\n");
  report({"--requests", "2", "--input", "rows.jsonl", "--tokenizer", "t.model"}, 0);
  ASSERT_EQ(bodies.size(), 2u);
  EXPECT_EQ(bodies[1]["prompt"], "hello");
  EXPECT_GT(bodies[1]["max_tokens"], 2);
  EXPECT_LT(bodies[1]["max_tokens"], 30);
}

}  // namespace
}  // namespace llama2zh
