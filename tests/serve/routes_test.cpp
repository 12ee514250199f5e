#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "llama2zh/engine/generator.h"
#include "serve/serve_test_util.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::MatchesRegex;

class Routes : public testing::ServerFixture {};

// The greedy answer that the engine gives without a server.
std::string plain_answer(const LoadedModel& model, const std::vector<TokenId>& prompt,
                         SamplingConfig sampling, bool chat) {
  Generator generator(*model.model, *model.tokenizer);
  const std::vector<std::string> stops =
      chat ? model.chat_template->stop_texts() : std::vector<std::string>();
  return generator.generate(prompt, sampling, stops, {}, !chat).text;
}

TEST_F(Routes, ChatAnswersAsTheEngineDoes) {
  begin();
  const json got = answer("/v1/chat/completions", chat_body("hello you"));
  const LoadedModel model = make_model();
  const std::vector<TokenId> prompt = model.chat_template->encode_prompt(
      *model.tokenizer, std::vector<Message>{{Role::kUser, "hello you"}});
  SamplingConfig greedy;
  greedy.temperature = 0;
  greedy.max_new_tokens = 12;
  EXPECT_EQ(got["object"], "chat.completion");
  EXPECT_TRUE(got["id"].get<std::string>().starts_with("chatcmpl-"));
  EXPECT_EQ(got["model"], "tiny");
  EXPECT_EQ(got["choices"][0]["message"]["role"], "assistant");
  EXPECT_EQ(got["choices"][0]["message"]["content"], plain_answer(model, prompt, greedy, true));
  EXPECT_EQ(got["choices"][0]["finish_reason"], "length");
  EXPECT_TRUE(got["choices"][0]["logprobs"].is_null());
  EXPECT_EQ(got["usage"]["prompt_tokens"], prompt.size());
  EXPECT_EQ(got["usage"]["completion_tokens"], 12);
  EXPECT_EQ(got["usage"]["total_tokens"], prompt.size() + 12);
}

TEST_F(Routes, ContentMayBeAListOfParts) {
  begin();
  json parts = chat_body("");
  parts["messages"][0]["content"] =
      json::array({{{"type", "text"}, {"text", "hello"}}, {{"type", "text"}, {"text", "Q"}}});
  EXPECT_EQ(answer("/v1/chat/completions", parts)["choices"][0]["message"],
            answer("/v1/chat/completions", chat_body("hello\nQ"))["choices"][0]["message"]);
}

TEST_F(Routes, ChatStreamsWhatItAnswers) {
  begin();
  json body = chat_body("hello", 40);
  body["temperature"] = 1;
  body["seed"] = 5;
  body["n"] = 2;
  body["logprobs"] = true;
  body["top_logprobs"] = 2;
  const json whole = answer("/v1/chat/completions", body);
  body["stream_options"] = {{"include_usage", true}};
  std::vector<json> stream = events("/v1/chat/completions", body);
  ASSERT_GT(stream.size(), 6u);
  EXPECT_EQ(stream.back(), "[DONE]");
  stream.pop_back();
  EXPECT_EQ(stream.back()["choices"], json::array());
  EXPECT_EQ(stream.back()["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
  stream.pop_back();
  std::vector<std::string> texts(2);
  std::vector<json> reasons(2), logprobs(2, json::array());
  std::vector<bool> begun(2);
  for (const json& event : stream) {
    EXPECT_EQ(event["object"], "chat.completion.chunk");
    EXPECT_EQ(event["id"], stream.front()["id"]);
    EXPECT_TRUE(event["usage"].is_null());
    const json& choice = event["choices"][0];
    const auto i = choice["index"].get<size_t>();
    if (!begun[i]) {
      EXPECT_EQ(choice["delta"], (json{{"role", "assistant"}, {"content", ""}}));
      begun[i] = true;
    }
    texts[i] += choice["delta"].value("content", "");
    EXPECT_TRUE(reasons[i].is_null()) << "nothing comes behind the end";
    if (!choice["finish_reason"].is_null()) reasons[i] = choice["finish_reason"];
    if (!choice["logprobs"].is_null())
      for (const json& token : choice["logprobs"]["content"]) logprobs[i].push_back(token);
  }
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(texts[i], whole["choices"][i]["message"]["content"]);
    EXPECT_EQ(reasons[i], whole["choices"][i]["finish_reason"]);
    EXPECT_EQ(logprobs[i].size(), whole["choices"][i]["logprobs"]["content"].size());
    EXPECT_EQ(logprobs[i][0]["token"], whole["choices"][i]["logprobs"]["content"][0]["token"]);
    EXPECT_EQ(logprobs[i][0]["top_logprobs"].size(), 2u);
  }
  EXPECT_NE(texts[0], texts[1]);
}

TEST_F(Routes, CompletionsTakeTextsAndIds) {
  begin();
  const LoadedModel model = make_model();
  SamplingConfig greedy;
  greedy.temperature = 0;
  greedy.max_new_tokens = 16;
  std::vector<TokenId> ids = model.tokenizer->encode("hello");
  ids.insert(ids.begin(), model.tokenizer->bos_id());
  const std::string expected = plain_answer(model, ids, greedy, false);
  const json body = {{"temperature", 0}, {"prompt", "hello"}};  // 16 tokens if not said
  const json got = answer("/v1/completions", body);
  EXPECT_EQ(got["object"], "text_completion");
  EXPECT_EQ(got["choices"][0]["text"], expected);
  const json lists = answer("/v1/completions",
                            {{"temperature", 0}, {"prompt", {ids, ids}}, {"n", 2}, {"echo", true}});
  ASSERT_EQ(lists["choices"].size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(lists["choices"][i]["index"], i);
    EXPECT_EQ(lists["choices"][i]["text"], "hello" + expected);
  }
  EXPECT_EQ(lists["usage"]["prompt_tokens"], 2 * ids.size());
  const std::vector<json> stream =
      events("/v1/completions", {{"temperature", 0}, {"prompt", {"hello", "Q"}}, {"echo", true}});
  std::vector<std::string> texts(2);
  for (const json& event : stream)
    if (event.is_object())
      texts[event["choices"][0]["index"].get<size_t>()] += event["choices"][0]["text"];
  EXPECT_EQ(texts[0], "hello" + expected);
  EXPECT_TRUE(texts[1].starts_with("Q"));
}

// What evaluation harnesses ask for.
TEST_F(Routes, CompletionsScorePrompts) {
  begin();
  json body = {{"prompt", "hello you Q"},
               {"echo", true},
               {"logprobs", 1},
               {"max_tokens", 0},
               {"temperature", 0}};
  const json score = answer("/v1/completions", body)["choices"][0];
  const json& logprobs = score["logprobs"];
  const size_t count = logprobs["tokens"].size();
  ASSERT_GT(count, 3u);
  EXPECT_EQ(score["text"], "hello you Q");
  EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
  EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
  for (size_t i = 1; i < count; ++i) {
    EXPECT_LT(logprobs["token_logprobs"][i], 0);
    EXPECT_GE(logprobs["top_logprobs"][i].size(), 1u);
    EXPECT_GE(logprobs["text_offset"][i], logprobs["text_offset"][i - 1]);
  }
  body["max_tokens"] = 1;
  const json both = answer("/v1/completions", body)["choices"][0]["logprobs"];
  EXPECT_EQ(both["tokens"].size(), count + 1);
  EXPECT_NEAR(both["token_logprobs"][count - 1].get<double>(),
              logprobs["token_logprobs"][count - 1].get<double>(), 1e-5);
}

TEST_F(Routes, FieldsReachTheEngine) {
  begin();
  const auto text = [&](const json& more) {
    json body = chat_body("hello", 24);
    body.update(more);
    return answer("/v1/chat/completions", body)["choices"][0];
  };
  const std::string greedy = text(json::object())["message"]["content"];
  EXPECT_EQ(text({{"temperature", 1}, {"top_k", 1}})["message"]["content"], greedy);
  EXPECT_EQ(text({{"temperature", 1}, {"top_p", 0.0}})["message"]["content"], greedy);
  EXPECT_EQ(text({{"temperature", 1}, {"min_p", 1.0}})["message"]["content"], greedy);
  EXPECT_NE(text({{"repetition_penalty", 5.0}})["message"]["content"], greedy);
  EXPECT_NE(text({{"frequency_penalty", 2.0}})["message"]["content"], greedy);
  EXPECT_NE(text({{"logit_bias", {{"261", 100}}}})["message"]["content"], greedy);
  EXPECT_EQ(text({{"max_completion_tokens", 3}})["finish_reason"], "length");
  EXPECT_EQ(text({{"use_beam_search", true}, {"n", 2}})["finish_reason"], "length");
  const json stopped = text({{"logit_bias", {{"261", 100}}}, {"stop", "Q"}});
  EXPECT_EQ(stopped["message"]["content"], "");
  EXPECT_EQ(stopped["finish_reason"], "stop");
  const std::string schema =
      R"({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]})";
  const json as_json = text({{"response_format",
                              {{"type", "json_schema"},
                               {"json_schema", {{"name", "x"}, {"schema", json::parse(schema)}}}}},
                             {"max_tokens", 64}});
  EXPECT_TRUE(json::parse(as_json["message"]["content"].get<std::string>())["a"].is_boolean());
}

TEST_F(Routes, AnswersAreHeldToWhatIsAsked) {
  begin();
  const json hello = {{{"role", "user"}, {"content", "hello"}}};
  const auto text = [&](const json& more) {
    json body = {{"messages", hello}, {"temperature", 1}, {"seed", 3}, {"max_tokens", 64}};
    body.update(more);
    return answer("/v1/chat/completions", body)["choices"][0]["message"]["content"]
        .get<std::string>();
  };
  const std::vector<std::string> sides = {"正面", "负面"};
  const auto is_side = [&](const std::string& answer) {
    return std::find(sides.begin(), sides.end(), answer) != sides.end();
  };
  EXPECT_TRUE(is_side(text({{"guided_choice", sides}})));
  EXPECT_TRUE(is_side(text({{"structured_outputs", {{"choice", sides}}}})));
  EXPECT_TRUE(is_side(text({{"guided_grammar", "root ::= (\"正\" | \"负\") \"面\""}})));
  EXPECT_THAT(text({{"guided_regex", "[0-9]{3}-[a-c]"}}), MatchesRegex("[0-9][0-9][0-9]-[a-c]"));
  EXPECT_THAT(text({{"structured_outputs", {{"regex", "[0-9]{2}"}}}}), MatchesRegex("[0-9][0-9]"));

  const auto blamed = [&](const json& more) {
    json body = {{"messages", hello}};
    body.update(more);
    const HttpAnswer got = post("/v1/chat/completions", body);
    EXPECT_EQ(got.status, 400) << got.body;
    return json::parse(got.body)["error"]["param"];
  };
  EXPECT_EQ(blamed({{"guided_regex", "(a"}}), "guided_regex");
  EXPECT_EQ(blamed({{"guided_choice", json::array()}}), "guided_choice");
  EXPECT_EQ(blamed({{"guided_json", {{"format", 1}}}}), "guided_json");
  EXPECT_EQ(blamed({{"structured_outputs", {{"regex", "a"}, {"choice", {"b"}}}}}),
            "structured_outputs.choice");
  json body;
  body = {{"messages", hello}, {"guided_regex", "a"}, {"guided_choice", sides}};
  EXPECT_EQ(post("/v1/chat/completions", body).status, 400);
  body = {{"messages", hello}, {"structured_outputs", {{"structural_tag", "x"}}}};
  EXPECT_EQ(post("/v1/chat/completions", body).status, 400);
}

TEST_F(Routes, EmbeddingsInBothForms) {
  begin();
  const json body = {{"input", {"hello", "you"}}, {"model", "tiny"}};
  const json floats = answer("/v1/embeddings", body);
  ASSERT_EQ(floats["data"].size(), 2u);
  double norm = 0;
  for (const json& value : floats["data"][1]["embedding"]) norm += std::pow(value.get<double>(), 2);
  EXPECT_NEAR(norm, 1, 1e-5);
  json other = body;
  other["encoding_format"] = "base64";
  const json coded = answer("/v1/embeddings", other);
  EXPECT_EQ(coded["data"][0]["embedding"].get<std::string>().size(),
            (floats["data"][0]["embedding"].size() * 4 + 2) / 3 * 4);
  EXPECT_EQ(floats["usage"], coded["usage"]);
  EXPECT_FALSE(floats["usage"].contains("completion_tokens"));
}

TEST_F(Routes, ModelsAndTokens) {
  begin();
  const json models = json::parse(get("/v1/models").body);
  EXPECT_EQ(models["data"][0]["id"], "tiny");
  EXPECT_EQ(models["data"][0]["max_model_len"], 4096);
  EXPECT_EQ(json::parse(get("/v1/models/tiny").body)["root"], "models/tiny");
  EXPECT_EQ(get("/v1/models/other").status, 404);
  const json tokens = answer("/tokenize", {{"prompt", "hello 你"}});
  EXPECT_EQ(tokens["count"], tokens["tokens"].size());
  EXPECT_EQ(tokens["tokens"][0], 1);
  EXPECT_EQ(answer("/detokenize", {{"tokens", tokens["tokens"]}})["prompt"], "hello 你");
  EXPECT_GT(answer("/tokenize", chat_body("hello"))["count"], 4);
  EXPECT_EQ(json::parse(get("/version").body).count("version"), 1u);
}

TEST_F(Routes, TheOriginalsWithItsDefaults) {
  begin();
  json penalty = chat_body("hello", 30);
  penalty["repetition_penalty"] = 1.3;
  const json expected = answer("/v1/chat/completions", penalty)["choices"][0]["message"]["content"];
  const json query = answer("/llama_generate", {{"query", "hello"}, {"max_new_tokens", 30}});
  EXPECT_EQ(query, (json{{"query", "hello"}, {"response", expected}}));
  // Every parameter that is sent is used.
  EXPECT_EQ(answer("/llm_generate", {{"query", "hello"},
                                     {"max_new_tokens", 30},
                                     {"temperature", 0},
                                     {"repetition_penalty", 1.3}})["response"],
            expected);
  json both = chat_body("hello", 512);
  both["presence_penalty"] = both["frequency_penalty"] = 0.2;
  const json whole = answer("/v1/chat/completions", both);
  for (const char* route : {"/generate", "/chatmed_generate"}) {
    const json got = answer(route, {{"input", "hello"}, {"parameters", json::object()}});
    EXPECT_EQ(got["generated_text"], whole["choices"][0]["message"]["content"]);
    EXPECT_EQ(got["num_output_tokens_cf"], whole["usage"]["completion_tokens"]);
    EXPECT_TRUE(got["error"].is_null());
  }
  EXPECT_EQ(answer("/generate",
                   {{"input", "a"}, {"parameters", {{"max_tokens", 3}}}})["num_output_tokens_cf"],
            3);
  EXPECT_EQ(post("/generate", {{"input", "a"}, {"parameters", {{"top_p", 7}}}}).status, 400);
  EXPECT_EQ(get("/is_ready").body, "true\n");
}

TEST_F(Routes, ThePageIsServedUnderItsPolicy) {
  begin();
  const HttpAnswer page = get("/");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.header("Content-Type"), "text/html; charset=utf-8");
  EXPECT_THAT(std::string(page.header("Content-Security-Policy")), HasSubstr("default-src 'none'"));
  EXPECT_THAT(page.body, HasSubstr("</html>"));
  HttpCall again = call("GET", "/");
  again.headers = {{"If-None-Match", std::string(page.header("ETag"))}};
  EXPECT_EQ(http_call(again).status, 304);
  again.headers = {{"Accept-Encoding", "br, gzip"}};
  const HttpAnswer packed = http_call(again);
  EXPECT_EQ(packed.header("Content-Encoding"), "gzip");
  EXPECT_LT(packed.body.size(), page.body.size());
  again.headers = {{"Accept-Encoding", "br, gzip;q=0"}};
  EXPECT_EQ(http_call(again).header("Content-Encoding"), "");
  EXPECT_EQ(get("/assets/app.js").status, 200);
  EXPECT_EQ(get("/assets/../app.js").status, 404);
}

TEST_F(Routes, PathsAndMethods) {
  begin();
  EXPECT_EQ(get("/nowhere").status, 404);
  const HttpAnswer wrong = get("/v1/chat/completions");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.header("Allow"), "POST");
  EXPECT_EQ(http_call(call("HEAD", "/v1/models")).status, 200);
  EXPECT_EQ(http_call(call("OPTIONS", "/v1/models")).status, 204);
  EXPECT_EQ(post("/v1/load_lora_adapter", {{"lora_name", "a"}, {"lora_path", "/"}}).status, 403);
}

TEST_F(Routes, SaysThatItIsLoading) {
  listen();
  EXPECT_EQ(get("/health").status, 503);
  const HttpAnswer early = post("/v1/chat/completions", chat_body("hello"));
  EXPECT_EQ(early.status, 503);
  EXPECT_EQ(early.header("Retry-After"), "1");
  EXPECT_EQ(get("/metrics").status, 200);
  server->set_model(make_model());
  EXPECT_EQ(get("/health").status, 200);
}

}  // namespace
}  // namespace llama2zh
