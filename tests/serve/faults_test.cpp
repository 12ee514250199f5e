// What clients do wrong, and servers under strain (reliability S1 to S9).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "http/raw_socket.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/memory.h"
#include "llama2zh/base/utf8.h"
#include "serve/access_log.h"
#include "serve/serve_test_util.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::soon;

class Faults : public testing::ServerFixture {
 protected:
  // The error of a request that must fail so.
  json error(const std::string& target, const std::string& body, int status) const {
    const HttpAnswer got = http_call(call("POST", target, body));
    EXPECT_EQ(got.status, status) << body.substr(0, 200) << " -> " << got.body;
    const json out = json::parse(got.body, nullptr, false);
    EXPECT_TRUE(out.is_object() && out.contains("error")) << got.body;
    return out.value("error", json::object());
  }
  bool alive() const { return post("/v1/chat/completions", chat_body("hello", 2)).status == 200; }
  static std::string raw_post(const std::string& path, const std::string& body) {
    return cat("POST ", path, " HTTP/1.1\r\nHost: localhost\r\nContent-Length: ", body.size(),
               "\r\n\r\n", body);
  }
  static json long_body(bool stream) {
    json body = chat_body("hello", 4000);
    body["ignore_eos"] = true;
    body["stream"] = stream;
    return body;
  }
  double running() const { return metric("llama2zh:num_requests_running"); }
  double waiting() const { return metric("llama2zh:num_requests_waiting"); }
};

// S1
TEST_F(Faults, KeysAreWantedEverywhereButAtTheDoor) {
  write_file_atomic(folder.path() / "keys", "# clients\nalpha\n beta \n");
  options.serve.api_key_file = folder.path() / "keys";
  begin();
  const std::vector<std::pair<std::string, std::string>> closed = {
      {"GET", "/v1/models"},
      {"GET", "/v1/models/tiny"},
      {"POST", "/v1/chat/completions"},
      {"POST", "/v1/completions"},
      {"POST", "/v1/embeddings"},
      {"POST", "/tokenize"},
      {"POST", "/detokenize"},
      {"POST", "/generate"},
      {"POST", "/chatmed_generate"},
      {"POST", "/llama_generate"},
      {"POST", "/llm_generate"},
      {"POST", "/v1/load_lora_adapter"},
      {"POST", "/v1/unload_lora_adapter"},
      {"GET", "/metrics"},
      {"GET", "/version"},
      {"GET", "/anything"},
      {"DELETE", "/v1/models"}};
  for (const auto& [method, path] : closed) {
    for (const char* given :
         {"", "Bearer wrong", "Bearer alph", "alpha", "Basic alpha", "Bearer "}) {
      HttpCall request = call(method, path, method == "POST" ? "{}" : "");
      if (*given != 0) request.headers = {{"Authorization", given}};
      const HttpAnswer got = http_call(request);
      EXPECT_EQ(got.status, 401) << method << " " << path << " " << given;
      EXPECT_THAT(got.body, HasSubstr("authentication_error"));
    }
  }
  for (const char* key : {"Bearer alpha", "bearer beta"}) {
    HttpCall request = call("GET", "/v1/models");
    request.headers = {{"Authorization", key}};
    EXPECT_EQ(http_call(request).status, 200);
  }
  for (const char* path : {"/health", "/is_ready", "/ping", "/", "/assets/app.js"})
    EXPECT_EQ(get(path).status, 200);
  write_file_atomic(folder.path() / "keys", "# none\n");
  EXPECT_THROW(ModelServer{options}, Error);
}

// S2
TEST_F(Faults, OddNumbersAreNamed) {
  begin();
  for (const char* field : {"n", "best_of", "max_tokens", "top_k", "seed", "min_tokens",
                            "max_completion_tokens", "top_logprobs", "priority"}) {
    for (const char* value : {"-2", "1e9", "1e300", "9223372036854775808", "1.5", "\"1\"", "[]",
                              "true", "-9223372036854775809"}) {
      const std::string name = field;
      const bool seed_takes_it = (name == "seed" && std::string(value) == "1e9") ||
                                 (name == "seed" && std::string(value) == "-2");
      if (seed_takes_it) continue;
      const std::string body = cat(R"({"messages": [{"role": "user", "content": "hello"}], ")",
                                   field, "\": ", value, "}");
      EXPECT_EQ(error("/v1/chat/completions", body, 400)["param"], field) << value;
    }
  }
  for (const char* field :
       {"temperature", "top_p", "min_p", "presence_penalty", "repetition_penalty", "typical_p"})
    for (const char* value : {"-3", "1e9", "\"1\"", "null1"}) {
      const std::string body = cat(R"({"messages": [{"role": "user", "content": "hello"}], ")",
                                   field, "\": ", value, "}");
      error("/v1/chat/completions", body, 400);
    }
  error("/v1/chat/completions", R"({"messages": [], "temperature": NaN})", 400);
  EXPECT_TRUE(alive());
}

TEST_F(Faults, WhatIsNotHereIsRefused) {
  begin();
  const auto refused = [&](const json& more) {
    json body = chat_body("hello");
    body.update(more);
    return error("/v1/chat/completions", body.dump(), 400)["param"];
  };
  EXPECT_EQ(refused({{"tools", {{{"type", "function"}}}}}), "tools");
  EXPECT_EQ(refused({{"response_format", {{"type", "xml"}}}}), "response_format.type");
  EXPECT_EQ(refused({{"stream_options", {{"include_usage", true}}}}), "stream_options");
  EXPECT_EQ(refused({{"logit_bias", {{"261", 101}}}}), "logit_bias");
  refused({{"logit_bias", {{"99999999", 1}}}});
  EXPECT_EQ(refused({{"stop", ""}}), "stop");
  EXPECT_EQ(refused({{"n", 2}, {"best_of", 1}}), "best_of");
  EXPECT_EQ(refused({{"stop", std::vector<std::string>(17, "a")}}), "stop");
  EXPECT_EQ(refused({{"messages", {{{"role", "tool"}, {"content", "a"}}}}}), "messages[0].role");
  EXPECT_EQ(refused({{"messages", {{{"role", "user"}, {"content", {{{"type", "image_url"}}}}}}}}),
            "messages[0].content");
  EXPECT_EQ(refused({{"messages", {{{"role", "assistant"}, {"content", "a"}}}}}), "messages");
  json unknown = chat_body("hello");
  unknown["model"] = "gpt-4";
  const json missing = error("/v1/chat/completions", unknown.dump(), 404);
  EXPECT_EQ(missing["code"], "model_not_found");
  unknown["model"] = "tiny";
  unknown["user"] = "someone";
  unknown["some_future_field"] = {1, 2};
  EXPECT_EQ(post("/v1/chat/completions", unknown).status, 200);
}

// S3
TEST_F(Faults, EmptyAndLongPrompts) {
  begin(256);
  EXPECT_EQ(error("/v1/completions", R"({"prompt": []})", 400)["param"], "prompt");
  error("/v1/completions", R"({"prompt": [[]]})", 400);
  error("/v1/completions", R"({"prompt": [1, 99999999]})", 400);
  error("/v1/completions", R"({"prompt": [1, -1]})", 400);
  error("/v1/completions", R"({"prompt": {"a": 1}})", 400);
  error("/v1/completions", R"({})", 400);
  EXPECT_EQ(post("/v1/completions", {{"prompt", ""}, {"max_tokens", 2}}).status, 200);  // BOS
  EXPECT_EQ(post("/v1/completions", {{"prompt", "   "}, {"max_tokens", 2}}).status, 200);
  const json too_long =
      error("/v1/chat/completions", chat_body(std::string(5000, 'x')).dump(), 400);
  EXPECT_EQ(too_long["code"], "context_length_exceeded");
  EXPECT_THAT(too_long["message"].get<std::string>(), HasSubstr("maximum context length is 256"));
  EXPECT_TRUE(alive());
}

// S4; bodies and heads that lie are the HTTP server's tests.
TEST_F(Faults, DeepAndBrokenJson) {
  begin();
  const uint64_t before = process_memory().resident;
  for (const std::string& body :
       {std::string(3000, '['), R"({"messages": )" + std::string(100000, '['), std::string("{"),
        std::string("[1]"), std::string("\xff\xfe{}"), std::string(R"({"a": "\xff"})"),
        std::string(R"({"n": 1, "n": 2})"), std::string("")}) {
    error("/v1/chat/completions", body, 400);
  }
  EXPECT_LT(process_memory().resident, before + (64u << 20));
  EXPECT_TRUE(alive());
}

// S6
TEST_F(Faults, ClientsThatGoAreCancelled) {
  options.engine.max_running = 1;
  begin();
  for (const bool stream : {true, false}) {
    auto first = std::make_unique<RawSocket>(server->port());
    first->send(raw_post("/v1/chat/completions", long_body(stream).dump()));
    ASSERT_TRUE(soon([&] { return running() == 1; }));
    auto second = std::make_unique<RawSocket>(server->port());  // waits
    second->send(raw_post("/v1/chat/completions", long_body(stream).dump()));
    ASSERT_TRUE(soon([&] { return waiting() == 1; }));
    second.reset();
    EXPECT_TRUE(soon([&] { return waiting() == 0; }, 1));
    first.reset();
    EXPECT_TRUE(soon([&] { return running() == 0; }, 1));
    EXPECT_EQ(metric("llama2zh:kv_cache_usage_perc"), 0);
    const double tokens = metric("llama2zh:generation_tokens_total");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    EXPECT_EQ(metric("llama2zh:generation_tokens_total"), tokens);
  }
  EXPECT_TRUE(alive());
}

// S7
TEST_F(Faults, AFullQueueSaysSoAtOnce) {
  options.engine.max_running = 2;
  options.serve.max_queue_requests = 4;
  begin();
  std::vector<std::unique_ptr<RawSocket>> clients;
  const auto send = [&](json body) {
    clients.push_back(std::make_unique<RawSocket>(server->port()));
    clients.back()->send(raw_post("/v1/chat/completions", body.dump()));
  };
  for (int i = 0; i < 4; ++i) send(long_body(true));
  json pair = long_body(true);
  pair["n"] = 2;
  send(pair);  // counts two: six
  ASSERT_TRUE(soon([&] { return running() + waiting() >= 5; }));
  for (int i = 0; i < 10; ++i) {
    const HttpAnswer refused = post("/v1/chat/completions", chat_body("hello"));
    EXPECT_EQ(refused.status, 429);
    EXPECT_EQ(refused.header("Retry-After"), "1");
    EXPECT_THAT(refused.body, HasSubstr("rate_limit_error"));
  }
  EXPECT_EQ(metric("llama2zh:requests_refused_total"), 10);
  clients.clear();
  ASSERT_TRUE(soon([&] { return running() + waiting() == 0; }));
  EXPECT_TRUE(soon([&] { return alive(); }));
}

TEST_F(Faults, TokensOfPromptsAreLimitedToo) {
  options.engine.max_running = 1;
  options.serve.max_queue_tokens = 100;
  begin();
  RawSocket first(server->port());
  json body = long_body(true);
  body["messages"][0]["content"] = std::string(200, 'x');  // alone it is let in
  first.send(raw_post("/v1/chat/completions", body.dump()));
  ASSERT_TRUE(soon([&] { return running() == 1; }));
  EXPECT_EQ(post("/v1/chat/completions", chat_body("hello")).status, 429);
}

TEST_F(Faults, RequestsHaveADeadline) {
  options.serve.request_timeout = 1.5;  // the prompt must be through before
  begin(1 << 20);
  json endless = long_body(false);
  endless["max_tokens"] = 1000000;
  const json late = error("/v1/chat/completions", endless.dump(), 504);
  EXPECT_EQ(late["code"], "deadline_exceeded");
  const std::vector<json> stream = events("/v1/chat/completions", endless);
  ASSERT_GE(stream.size(), 3u);
  EXPECT_EQ(stream.back(), "[DONE]");
  EXPECT_EQ(stream[stream.size() - 2]["error"]["code"], "deadline_exceeded");
}

// S8
TEST_F(Faults, DrainingLetsStreamsEnd) {
  begin();
  std::vector<std::unique_ptr<RawSocket>> clients;
  json body = chat_body("hello", 400);
  body["ignore_eos"] = true;
  body["stream"] = true;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<RawSocket>(server->port()));
    clients.back()->send(raw_post("/v1/chat/completions", body.dump()));
  }
  ASSERT_TRUE(soon([&] { return running() == 3; }));
  std::future<bool> drained =
      std::async(std::launch::async, [&] { return server->drain(60, [] { return false; }); });
  ASSERT_TRUE(soon([&] { return get("/health").status == 503; }));
  EXPECT_EQ(post("/v1/chat/completions", chat_body("hello")).status, 503);
  for (const auto& client : clients) {
    const std::string all = client->read_all(60);
    EXPECT_THAT(all, HasSubstr("\"finish_reason\":\"length\""));
    EXPECT_THAT(all, HasSubstr("data: [DONE]"));
    EXPECT_TRUE(client->closed());
  }
  EXPECT_TRUE(drained.get());
}

TEST_F(Faults, DrainingHasAnEnd) {
  begin();
  RawSocket client(server->port());
  client.send(raw_post("/v1/chat/completions", long_body(true).dump()));
  ASSERT_TRUE(soon([&] { return running() == 1; }));
  EXPECT_FALSE(server->drain(0.05, [] { return false; }));
  server->stop();
  EXPECT_THAT(client.read_all(), Not(HasSubstr("[DONE]")));
}

// S9
TEST_F(Faults, StreamsAreWholeCharacters) {
  begin();
  json body = chat_body("hello", 200);
  body["temperature"] = 1.5;  // of bytes, mostly
  body["ignore_eos"] = true;
  for (int seed = 0; seed < 2; ++seed) {
    body["seed"] = seed;
    const std::string whole =
        answer("/v1/chat/completions", body)["choices"][0]["message"]["content"];
    std::string joined;
    for (const json& event : events("/v1/chat/completions", body)) {
      if (!event.is_object()) continue;
      const std::string piece = event["choices"][0]["delta"].value("content", "");
      EXPECT_TRUE(is_utf8(piece));
      joined += piece;
    }
    EXPECT_EQ(joined, whole);
  }
}

// The tokenizer has only bytes for these: a character comes with the last of its bytes.
TEST_F(Faults, ValidTextIsStreamedWithoutReplacementCharacters) {
  begin();
  const std::string text = "你好，世界！😀";
  json body = chat_body("hello", 60);
  body["guided_json"] = {{"enum", json::array({text})}};
  std::string joined;
  for (const json& event : events("/v1/chat/completions", body)) {
    if (!event.is_object()) continue;
    const std::string piece = event["choices"][0]["delta"].value("content", "");
    EXPECT_TRUE(is_utf8(piece));
    EXPECT_EQ(piece.find("\xEF\xBF\xBD"), std::string::npos);
    joined += piece;
  }
  EXPECT_THAT(joined, HasSubstr("界"));
  EXPECT_EQ(json::parse(joined), text);
}

// Regular expressions and schemas that are made to keep a server busy, or to end it.
TEST_F(Faults, SchemasOfStrangersEnd) {
  begin();
  const auto refused = [&](const json& schema) {
    const json body = {{"prompt", "a"}, {"max_tokens", 2}, {"guided_json", schema}};
    error("/v1/completions", body.dump(), 400);
  };
  refused(
      {{"type", "string"}, {"pattern", std::string(20000, '(') + "a" + std::string(20000, ')')}});
  for (const char* kind : {"items", "anyOf"}) {
    json definitions = json::object();
    for (int i = 0; i < 2000; ++i) {
      const json next = {{"$ref", cat("#/$defs/d", i + 1)}};
      definitions[cat("d", i)] = std::string(kind) == "items"
                                     ? json{{"type", "array"}, {"items", next}}
                                     : json{{"anyOf", {next, next}}};
    }
    definitions["d2000"] = {{"type", "null"}};
    refused({{"$ref", "#/$defs/d0"}, {"$defs", definitions}});
  }
  // Exponential where every way is followed.
  json wide = json::object();
  for (int i = 0; i < 40; ++i) {
    const json next = {{"$ref", cat("#/$defs/d", i + 1)}};
    wide[cat("d", i)] = {{"anyOf", {next, next}}};
  }
  wide["d40"] = {{"type", "null"}};
  const json body = {{"prompt", "a"},
                     {"max_tokens", 8},
                     {"guided_json", {{"$ref", "#/$defs/d0"}, {"$defs", wide}}}};
  const auto begun = std::chrono::steady_clock::now();
  post("/v1/completions", body);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(20));
  EXPECT_TRUE(alive());
}

TEST_F(Faults, StrangersBodiesAreNotRead) {
  write_file_atomic(folder.path() / "keys", "alpha\n");
  options.serve.api_key_file = folder.path() / "keys";
  begin();
  RawSocket client(server->port());
  client.send(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n\r\n{");
  const std::string answer = client.read_until("invalid_api_key");
  EXPECT_THAT(answer, HasSubstr("401"));
}

TEST_F(Faults, LargeRequestsThatAreAloneAreLetIn) {
  options.engine.max_running = 2;
  options.serve.max_queue_requests = 2;
  begin();
  const std::vector<std::string> texts(9, "hello");
  EXPECT_EQ(post("/v1/embeddings", {{"input", texts}}).status, 200);
}

TEST_F(Faults, OthersNamesAndOriginsAreRefused) {
  options.serve.cors_origins = {"https://friend.example"};
  begin();
  const auto with = [&](std::vector<HttpHeader> headers, const std::string& path = "/v1/models") {
    HttpCall request = call("GET", path);
    request.headers = std::move(headers);
    return http_call(request);
  };
  EXPECT_EQ(with({{"Host", "evil.com"}}).status, 403);
  EXPECT_EQ(with({{"Host", "evil.com"}}, "/health").status, 403);
  EXPECT_EQ(with({{"Host", "localhost.evil.com:80"}}).status, 403);
  EXPECT_EQ(with({{"Host", "127.evil.com"}}).status, 403);
  for (const char* host : {"localhost", "localhost:1234", "127.0.0.1", "[::1]:80"})
    EXPECT_EQ(with({{"Host", host}}).status, 200) << host;
  EXPECT_EQ(with({{"Origin", "http://evil.com"}}).status, 403);
  EXPECT_EQ(with({{"Origin", "null"}}).status, 403);
  EXPECT_EQ(with({{"Origin", "http://localhost:9"}, {"Host", "localhost:9"}}).status, 200);
  const HttpAnswer friendly = with({{"Origin", "https://friend.example"}});
  EXPECT_EQ(friendly.status, 200);
  EXPECT_EQ(friendly.header("Access-Control-Allow-Origin"), "https://friend.example");
  EXPECT_EQ(with({}).header("Access-Control-Allow-Origin"), "");
  HttpCall preflight = call("OPTIONS", "/v1/chat/completions");
  preflight.headers = {{"Origin", "https://friend.example"}};
  EXPECT_THAT(std::string(http_call(preflight).header("Access-Control-Allow-Headers")),
              HasSubstr("Authorization"));
}

TEST(AccessLog, EscapesWhatClientsSent) {
  HttpRequest request;
  request.method = "GET";
  request.target = "/a\r\n12:00 fake \x1b[31m\xff\"";
  request.id = "abc";
  const HttpAccess access{&request, 404, 10, 0.5};
  for (const std::string& line : {access_text(access), access_json(access)}) {
    EXPECT_EQ(line.find('\n'), std::string::npos);
    EXPECT_EQ(line.find('\r'), std::string::npos);
    EXPECT_EQ(line.find('\x1b'), std::string::npos);
    EXPECT_TRUE(is_utf8(line));
  }
  EXPECT_EQ(json::parse(access_json(access))["status"], 404);
  EXPECT_THAT(access_text({nullptr, 400, 0, 0}), HasSubstr("unreadable"));
}

}  // namespace
}  // namespace llama2zh
