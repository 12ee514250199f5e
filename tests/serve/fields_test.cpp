// vLLM's fields beside OpenAI's, what is refused by name, and what asks for nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serve/serve_test_util.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;

constexpr TokenId kEos = 2, kQ = 261;  // of the small tokenizer

class Fields : public testing::ServerFixture {
 protected:
  static json body(const json& more, int64_t max_tokens = 12) {
    json out = chat_body("hello", max_tokens);
    out.update(more);
    return out;
  }
  json choice(const json& more) const {
    return answer("/v1/chat/completions", body(more))["choices"][0];
  }
  // The field that a request is refused for.
  json refused(const json& more) const {
    const HttpAnswer got = post("/v1/chat/completions", body(more));
    EXPECT_EQ(got.status, 400) << more.dump() << got.body;
    return json::parse(got.body)["error"]["param"];
  }
  static json always(TokenId id) { return {{"logit_bias", {{std::to_string(id), 100}}}}; }
};

TEST_F(Fields, AnswersAreMadeOfAllowedTokensAlone) {
  begin();
  json asked = {{"allowed_token_ids", {260, kQ}}, {"temperature", 1}, {"seed", 3}};
  EXPECT_EQ(choice(asked)["message"]["content"].get<std::string>().find_first_not_of("abQ"),
            std::string::npos);
  asked = {{"allowed_token_ids", {260, kQ}}, {"use_beam_search", true}, {"n", 2}};
  const std::string beam = choice(asked)["message"]["content"];
  EXPECT_EQ(beam.find_first_not_of("abQ"), std::string::npos);
  EXPECT_GE(beam.size(), 12u);
  EXPECT_EQ(refused({{"allowed_token_ids", json::array()}}), "allowed_token_ids");
  EXPECT_EQ(refused({{"allowed_token_ids", {99999999}}}), "allowed_token_ids");
}

TEST_F(Fields, WhatEndsAnAnswerIsToldAndMayStay) {
  begin();
  json asked = always(kQ);
  asked["stop"] = {"ab", "QQ"};
  EXPECT_EQ(choice(asked)["message"]["content"], "");
  EXPECT_EQ(choice(asked)["stop_reason"], "QQ");
  asked["include_stop_str_in_output"] = true;
  EXPECT_EQ(choice(asked)["message"]["content"], "QQ");
  const std::vector<json> stream = events("/v1/chat/completions", body(asked));
  const json& last = stream[stream.size() - 2]["choices"][0];
  EXPECT_EQ(last["finish_reason"], "stop");
  EXPECT_EQ(last["stop_reason"], "QQ");

  asked = always(kQ);
  asked["stop_token_ids"] = json::array({kQ});
  EXPECT_EQ(choice(asked)["message"]["content"], "");
  EXPECT_EQ(choice(asked)["stop_reason"], kQ);
  asked["include_stop_str_in_output"] = true;
  EXPECT_EQ(choice(asked)["message"]["content"], "Q");

  EXPECT_EQ(choice(always(kEos))["finish_reason"], "stop");
  EXPECT_TRUE(choice(always(kEos))["stop_reason"].is_null());
  EXPECT_TRUE(choice(always(kQ))["stop_reason"].is_null());
}

TEST_F(Fields, SpecialTokensMayBeShown) {
  begin();
  json asked = always(1);
  asked["max_tokens"] = 2;
  EXPECT_EQ(choice(asked)["message"]["content"], "");
  asked["skip_special_tokens"] = false;
  EXPECT_EQ(choice(asked)["message"]["content"], "<s><s>");
}

TEST_F(Fields, PromptsAreCutWhereThatIsAsked) {
  begin(256);
  json asked = {{"prompt", "hello you Q"}, {"max_tokens", 2}, {"return_token_ids", true}};
  const json whole = answer("/v1/completions", asked)["choices"][0]["prompt_token_ids"];
  ASSERT_GT(whole.size(), 4u);
  asked["truncate_prompt_tokens"] = 3;
  const json cut = answer("/v1/completions", asked)["choices"][0]["prompt_token_ids"];
  EXPECT_EQ(cut, (json{1, whole[whole.size() - 2], whole.back()}));  // BOS stays
  const json long_chat = chat_body(std::string(1000, 'x'), 4);
  EXPECT_EQ(post("/v1/chat/completions", long_chat).status, 400);
  json room = long_chat;
  room["truncate_prompt_tokens"] = -1;
  EXPECT_EQ(answer("/v1/chat/completions", room)["usage"]["prompt_tokens"], 255);
  EXPECT_EQ(answer("/v1/embeddings", {{"input", std::string(1000, 'x')},
                                      {"truncate_prompt_tokens", 100}})["usage"]["prompt_tokens"],
            100);
  EXPECT_EQ(refused({{"truncate_prompt_tokens", 0}}), "truncate_prompt_tokens");
  EXPECT_EQ(refused({{"truncate_prompt_tokens", 257}}), "truncate_prompt_tokens");
}

TEST_F(Fields, TokenIdsAreToldWhole) {
  begin();
  const json asked = body({{"return_token_ids", true}, {"temperature", 1}, {"seed", 4}}, 20);
  const json whole = answer("/v1/chat/completions", asked);
  EXPECT_EQ(whole["prompt_token_ids"], answer("/tokenize", chat_body("hello"))["tokens"]);
  const json& ids = whole["choices"][0]["token_ids"];
  EXPECT_EQ(ids.size(), whole["usage"]["completion_tokens"]);
  const std::vector<json> stream = events("/v1/chat/completions", asked);
  EXPECT_EQ(stream.front()["prompt_token_ids"], whole["prompt_token_ids"]);
  json joined = json::array();
  for (const json& event : stream) {
    if (!event.is_object() || !event["choices"][0].contains("token_ids")) continue;
    for (const json& id : event["choices"][0]["token_ids"]) joined.push_back(id);
  }
  EXPECT_EQ(joined, ids);
  json ended = always(kEos);  // the token that ended it is one of them, as in vLLM
  ended["return_token_ids"] = true;
  EXPECT_EQ(choice(ended)["token_ids"], json::array({kEos}));
}

TEST_F(Fields, ClientsMayNameTheirRequests) {
  begin();
  EXPECT_EQ(answer("/v1/chat/completions", body({{"request_id", "case-7"}}))["id"],
            "chatcmpl-case-7");
  EXPECT_EQ(answer("/v1/completions",
                   {{"prompt", "a"}, {"max_tokens", 1}, {"request_id", "case-7"}})["id"],
            "cmpl-case-7");
  EXPECT_EQ(refused({{"request_id", "a b"}}), "request_id");
}

TEST_F(Fields, UsageMayComeWithEveryEvent) {
  begin();
  const json wanted = {{"include_usage", true}, {"continuous_usage_stats", true}};
  for (const char* route : {"/v1/chat/completions", "/v1/completions"}) {
    json asked = body({{"stream_options", wanted}, {"ignore_eos", true}});
    asked["prompt"] = "hello";
    int64_t made = 0;
    json last;
    for (const json& event : events(route, asked)) {
      if (!event.is_object()) continue;
      const int64_t now = event["usage"]["completion_tokens"];
      EXPECT_GE(now, made);
      made = now;
      last = event["usage"];
      EXPECT_GT(event["usage"]["prompt_tokens"], 0);
    }
    EXPECT_EQ(made, 12);
    EXPECT_TRUE(last.contains("prompt_tokens_details"));
  }
}

TEST_F(Fields, UsageCountsWhatBestOfDrops) {
  begin();
  const json asked = {{"prompt", "hello"},
                      {"best_of", 3},
                      {"max_tokens", 5},
                      {"temperature", 1.0},
                      {"ignore_eos", true}};
  EXPECT_EQ(answer("/v1/completions", asked)["usage"]["completion_tokens"], 15);
  EXPECT_EQ(
      answer("/generate", {{"input", "hello"}, {"parameters", asked}})["num_output_tokens_cf"], 15);
  EXPECT_EQ(metric("llama2zh:request_generation_tokens_sum"), 30);
}

TEST_F(Fields, WhatIsEmptyAsksForNothing) {
  begin();
  for (const char* empty :
       {R"({"documents": []})", R"({"chat_template_kwargs": {}})", R"({"suffix": ""})",
        R"({"tools": []})", R"({"cache_salt": ""})", R"({"echo": false})",
        R"({"add_special_tokens": false})", R"({"priority": 0})"})
    EXPECT_EQ(post("/v1/chat/completions", body(json::parse(empty))).status, 200) << empty;
  for (const char* field : {"echo", "add_special_tokens"})
    EXPECT_EQ(refused({{field, true}}), field);
  EXPECT_EQ(refused({{"documents", {{{"text", "a"}}}}}), "documents");
  EXPECT_EQ(refused({{"chat_template_kwargs", {{"a", 1}}}}), "chat_template_kwargs");
  EXPECT_EQ(refused({{"cache_salt", "a"}}), "cache_salt");
  EXPECT_EQ(refused({{"suffix", "a"}}), "suffix");
}

TEST_F(Fields, PriorityIsTheOperatorsToAllow) {
  begin();
  const HttpAnswer got = post("/v1/chat/completions", body({{"priority", 5}}));
  EXPECT_EQ(got.status, 400);
  EXPECT_THAT(got.body, HasSubstr("--allow-priority"));
  options.serve.allow_priority = true;
  begin();
  EXPECT_EQ(post("/v1/chat/completions", body({{"priority", 5}})).status, 200);
}

TEST_F(Fields, AnyObjectIsAStructureToo) {
  begin();
  const json got = choice({{"structured_outputs", {{"json_object", true}}}, {"max_tokens", 40}});
  const std::string text = got["message"]["content"];
  EXPECT_EQ(text.substr(text.find_first_not_of(' '), 1), "{");
  EXPECT_EQ(refused({{"structured_outputs", {{"json_object", false}}}}),
            "structured_outputs.json_object");
}

}  // namespace
}  // namespace llama2zh
