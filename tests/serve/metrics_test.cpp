// What /metrics tells of requests that were answered, cancelled and refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "http/raw_socket.h"
#include "serve/serve_test_util.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;
using testing::soon;

class ServedMetrics : public testing::ServerFixture {};

TEST_F(ServedMetrics, AreThereUnderBothNames) {
  begin();
  answer("/v1/chat/completions", chat_body("hello"));
  events("/v1/chat/completions", chat_body("hello you"));
  get("/nowhere");
  const std::string text = get("/metrics").body;
  for (const char* prefix : {"llama2zh:", "vllm:"}) {
    for (const char* name :
         {"num_requests_running", "num_requests_waiting", "kv_cache_usage_perc",
          "time_to_first_token_seconds_count", "inter_token_latency_seconds_bucket",
          "e2e_request_latency_seconds_sum", "num_preemptions_total", "prefix_cache_hits_total",
          "gpu_cache_usage_perc", "request_time_per_output_token_seconds_count",
          "iteration_tokens_total_bucket", "log_lines_lost_total"})
      EXPECT_THAT(text, HasSubstr(cat("\n", prefix, name, "{")));
    EXPECT_EQ(metric(cat(prefix, "generation_tokens_total")), 24);
    EXPECT_EQ(metric(cat(prefix, "e2e_request_latency_seconds_count")), 2);
    EXPECT_EQ(metric(cat(prefix, "inter_token_latency_seconds_count")), 22);
  }
  EXPECT_THAT(text, HasSubstr("model_name=\"tiny\""));
  EXPECT_THAT(text, HasSubstr("llama2zh:http_requests_total{route=\"other\",status=\"404\"} 1"));
}

TEST_F(ServedMetrics, CountTokensOfRequestsAndSteps) {
  begin();
  json body = chat_body("hello");
  body["ignore_eos"] = true;
  const json usage = answer("/v1/chat/completions", body)["usage"];
  const double prompt = usage["prompt_tokens"];
  EXPECT_EQ(metric("vllm:request_max_num_generation_tokens_sum"), 12);
  EXPECT_EQ(metric("vllm:request_time_per_output_token_seconds_count"), 1);
  // The last token is never computed.
  EXPECT_EQ(metric("vllm:iteration_tokens_total_sum"), prompt + 11);
  EXPECT_EQ(metric("vllm:iteration_tokens_total_count"), 12);
  EXPECT_EQ(metric("vllm:iteration_tokens_total_sum"), prompt + 11) << "asked again, not added";
  const std::string text = get("/metrics").body;
  EXPECT_THAT(text, HasSubstr("vllm:cache_config_info{block_size=\"16\",engine=\"0\""));
  EXPECT_THAT(text, HasSubstr("vllm:lora_requests_info{engine=\"0\",model_name=\"tiny\","
                              "running_lora_adapters=\"\",waiting_lora_adapters=\"\"}"));
}

TEST_F(ServedMetrics, PrefixQueriesAreOfPromptsThatWereLookedFor) {
  options.engine.max_running = 1;
  begin();
  json body = chat_body("hello", 4000);
  body["ignore_eos"] = true;
  const double prompt = answer("/tokenize", body)["count"];
  const std::string text = body.dump();
  const std::string request =
      cat("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: ", text.size(),
          "\r\n\r\n", text);
  const auto running = [&] { return metric("llama2zh:num_requests_running"); };
  const auto waiting = [&] { return metric("llama2zh:num_requests_waiting"); };
  {
    RawSocket first(server->port()), second(server->port());
    first.send(request);
    ASSERT_TRUE(soon([&] { return running() == 1; }));
    second.send(request);  // waits, and is cancelled before its prompt is looked at
    ASSERT_TRUE(soon([&] { return waiting() == 1; }));
    second.close();
    ASSERT_TRUE(soon([&] { return waiting() == 0; }));
  }
  ASSERT_TRUE(soon([&] { return running() == 0; }));
  EXPECT_EQ(metric("llama2zh:prefix_cache_queries_total"), prompt);
}

}  // namespace
}  // namespace llama2zh
