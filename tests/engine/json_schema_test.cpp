// What a schema lets through, and that a model of no sense at all, held to a schema, answers in valid
// JSON.
#include "llama2zh/engine/json_schema.h"

#include <gtest/gtest.h>

#include <regex>

#include "engine/engine_test_util.h"
#include "engine/requests_test_util.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/engine/engine.h"

namespace llama2zh {
namespace {

using testing::Answers;
using testing::finish_all;
using testing::greedy_request;

bool fits(const std::string& schema, const std::string& text) {
  GrammarMatcher matcher(json_schema_grammar(schema));
  return matcher.accepts(matcher.advance(matcher.start(), text));
}

std::string schema_refusal(const std::string& schema) {
  try {
    json_schema_grammar(schema);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(JsonSchema, Scalars) {
  for (const char* good : {"0", "-7", "123456789012345678", " 5"})
    EXPECT_TRUE(fits(R"({"type":"integer"})", good)) << good;
  for (const char* bad : {"", "01", "1.0", "--1", "1234567890123456789", "1e3", "\"1\"", "5 "})
    EXPECT_FALSE(fits(R"({"type":"integer"})", bad)) << bad;
  for (const char* good : {"0", "-0.5", "1e9", "12.25E-3", "7E+12"})
    EXPECT_TRUE(fits(R"({"type":"number"})", good)) << good;
  for (const char* bad : {".5", "1.", "1e", "+1", "1e999", "NaN"})
    EXPECT_FALSE(fits(R"({"type":"number"})", bad)) << bad;
  EXPECT_TRUE(fits(R"({"type":["boolean","null"]})", "true"));
  EXPECT_TRUE(fits(R"({"type":["boolean","null"]})", "null"));
  EXPECT_FALSE(fits(R"({"type":["boolean","null"]})", "tru"));
  EXPECT_TRUE(fits(R"({"enum":["红","g\"",3,null,[1,2]]})", "\"红\""));
  EXPECT_TRUE(fits(R"({"enum":["红","g\"",3,null,[1,2]]})", R"("g\"")"));
  EXPECT_TRUE(fits(R"({"enum":["红","g\"",3,null,[1,2]]})", "[1,2]"));
  EXPECT_FALSE(fits(R"({"enum":["红","g\"",3,null,[1,2]]})", "4"));
  EXPECT_TRUE(fits(R"({"const":"x","type":"string"})", "\"x\""));
}

TEST(JsonSchema, StringsCountCharactersNotBytes) {
  const std::string schema = R"({"type":"string","minLength":2,"maxLength":4})";
  for (const char* good : {R"("ab")", R"("人工智能")", R"("\n\"")", R"("😀é")"})
    EXPECT_TRUE(fits(schema, good)) << good;
  for (const char* bad : {R"("a")", R"("人")", R"("abcde")", "\"a\nb\"", R"("\x")", "\"\xE4\xBA\"",
                          "\"\xC0\x80z\"", "\"\xED\xA0\x80z\"", "\"\xF4\x90\x80\x80z\""})
    EXPECT_FALSE(fits(schema, bad)) << bad;
  // Every border of UTF-8's lengths, and all that lies beyond them.
  for (const char32_t c : {0x20u, 0x7Fu, 0x80u, 0x7FFu, 0x800u, 0xD7FFu, 0xE000u, 0xFFFFu, 0x10000u,
                           0x3FFFFu, 0x40000u, 0x10FFFFu}) {
    std::string text = "\"";
    append_utf8(text, c);
    EXPECT_TRUE(fits(R"({"type":"string"})", text + "\"")) << static_cast<uint32_t>(c);
  }
}

TEST(JsonSchema, Patterns) {
  struct Case {
    const char* pattern;
    std::vector<const char*> good, bad;
  };
  const std::vector<Case> cases = {
      {"^[a-z]{2,3}$", {"ab", "abc"}, {"a", "abcd", "Ab"}},
      {"^\\d{4}-\\d{2}(-\\d{2})?$", {"2024-01", "2024-01-31"}, {"2024", "2024-1", "2024-01-"}},
      {"^(红|绿+|b.)$", {"红", "绿绿", "b人"}, {"红绿", "b", ""}},
      {"人", {"人", "工人们"}, {"工", ""}},
      {"^x", {"x", "xyz"}, {"yx"}},
      {"z$", {"z", "xyz"}, {"zx"}},
      {"^[^a-c\\d]*$", {"", "xyz人"}, {"a", "x1"}},
      {"^(?:ab)*c+?$", {"c", "ababcc"}, {"ab", "abab"}},
      {"^\\w+@\\w+\\.com$", {"a_1@b.com"}, {"a@b_com", "@b.com"}},
      {"^a\\$$", {"a$"}, {"a"}},
  };
  for (const Case& test : cases) {
    const std::string schema = ordered_json{{"type", "string"}, {"pattern", test.pattern}}.dump();
    for (const char* good : test.good)
      EXPECT_TRUE(fits(schema, ordered_json(good).dump())) << test.pattern << " " << good;
    for (const char* bad : test.bad)
      EXPECT_FALSE(fits(schema, ordered_json(bad).dump())) << test.pattern << " " << bad;
  }
}

TEST(JsonSchema, Arrays) {
  const std::string schema =
      R"({"type":"array","items":{"type":"boolean"},"minItems":1,"maxItems":3})";
  for (const char* good :
       {"[true]", "[true,false]", "[true, false, true]", "[\n  true,\n  false\n]"})
    EXPECT_TRUE(fits(schema, good)) << good;
  for (const char* bad : {"[]", "[true,]", "[true,true,true,true]", "[null]", "[true true]"})
    EXPECT_FALSE(fits(schema, bad)) << bad;
  EXPECT_TRUE(fits(R"({"type":"array","maxItems":0})", "[]"));
  EXPECT_FALSE(fits(R"({"type":"array","maxItems":0})", "[1]"));
  EXPECT_TRUE(fits(R"({"type":"array"})", R"([1,"x",{"a":[null]}])"));
  EXPECT_TRUE(fits(R"({"type":"array","minItems":2})", "[1,2,3,4,5]"));
  EXPECT_FALSE(fits(R"({"type":"array","minItems":2})", "[1]"));
}

TEST(JsonSchema, Objects) {
  const std::string schema = R"({"type":"object","properties":{"a":{"type":"integer"},
      "b":{"type":"null"},"c":{"type":"boolean"}},"required":["b"],"additionalProperties":false})";
  for (const char* good : {R"({"b":null})", R"({"a":1,"b":null})", R"({"b": null, "c": true})",
                           "{\n  \"a\": 1,\n  \"b\": null,\n  \"c\": true\n}"})
    EXPECT_TRUE(fits(schema, good)) << good;
  for (const char* bad : {"{}", R"({"a":1})", R"({"b":null,})", R"({,"b":null})", R"({"b":1})",
                          R"({"b":null,"a":1})", R"({"b":null,"d":1})", R"({"b":null "c":true})"})
    EXPECT_FALSE(fits(schema, bad)) << bad;
  const std::string open = R"({"properties":{"ab":{"type":"integer"}},"required":["ab"],
                               "additionalProperties":{"type":"null"}})";
  for (const char* good : {R"({"ab":1})", R"({"ab":1,"a":null,"abc":null,"":null})"})
    EXPECT_TRUE(fits(open, good)) << good;
  for (const char* bad : {R"({"ab":1,"x":2})", R"({"ab":1,"ab":null})", R"({"x":null})"})
    EXPECT_FALSE(fits(open, bad)) << bad;
  EXPECT_TRUE(fits(R"({"type":"object"})", R"({"x":{"y":[1.5,"z"]},"q":{}})"));
  EXPECT_FALSE(fits(R"({"type":"object"})", "[1]"));
  EXPECT_FALSE(fits(R"({"type":"object","additionalProperties":false})", R"({"x":1})"));
}

TEST(JsonSchema, BranchesAndReferences) {
  const std::string tree = R"({"$defs":{"node":{"type":"object","properties":{
      "value":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},
      "required":["value","next"]}},"$ref":"#/$defs/node"})";
  EXPECT_TRUE(fits(tree, R"({"value":1,"next":{"value":2,"next":{"value":3,"next":null}}})"));
  EXPECT_FALSE(fits(tree, R"({"value":1,"next":{"value":2}})"));
  EXPECT_FALSE(fits(tree, R"({"value":1,"next":{"value":2,"next":null})"));
  const std::string kinds = R"({"oneOf":[
      {"type":"object","properties":{"kind":{"const":"a"},"x":{"type":"null"}},"required":["kind"]},
      {"type":"object","properties":{"kind":{"const":"b"}},"required":["kind"]},
      {"type":"string","enum":["s"]},{"type":"string","enum":["t"]}]})";
  EXPECT_TRUE(fits(kinds, R"({"kind":"a","x":null})"));
  EXPECT_FALSE(fits(kinds, R"({"kind":"b","x":null})"));
  EXPECT_TRUE(fits(kinds, R"("t")"));
  EXPECT_TRUE(fits("true", R"([{"a":1}])"));
}

TEST(JsonSchema, WhatIsNotSupportedIsSaid) {
  const std::vector<std::pair<const char*, const char*>> cases = {
      {R"({"type":"integer","minimum":3})", "\"minimum\" is not supported"},
      {R"({"type":"object","properties":{"a":{"type":"string","format":"date"}}})",
       "#/properties/a: \"format\""},
      {R"({"allOf":[{"type":"object"}]})", "\"allOf\""},
      {R"({"not":{}})", "\"not\""},
      {R"({"type":"strin"})", "expected some of"},
      {R"({"type":"array","prefixItems":[]})", "\"prefixItems\""},
      {R"({"type":"array","minItems":3,"maxItems":2})", "its least is more"},
      {R"x({"type":"string","pattern":"(?=a)"})x", "(?"},
      {R"({"type":"string","pattern":"(a"})", "is missing"},
      {R"({"type":"string","pattern":"a","maxLength":3})", "does not go with"},
      {R"({"oneOf":[{"type":"integer"},{"type":"number"}]})", "could fit both"},
      {R"({"$ref":"#/$defs/x"})", "there is no"},
      {R"({"$ref":"http://elsewhere"})", "is not supported"},
      {R"({"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"anyOf":[{"$ref":"#/$defs/a"}]}},
           "$ref":"#/$defs/a"})",
       "in a circle"},
      {R"({"type":"object","required":["a"]})", "not among"},
      {R"({"type":"string","maxLength":99999999})", "up to 10000"},
      {"false", "nothing is valid"},
      {"{", "json_schema"},
  };
  for (const auto& [schema, part] : cases)
    EXPECT_NE(schema_refusal(schema).find(part), std::string::npos)
        << schema << ": " << schema_refusal(schema);
}

// By characters, as std::regex counts them only then.
std::wstring wide(const json& text) {
  const std::vector<char32_t> points = utf8_to_codepoints(text.get<std::string>());
  return {points.begin(), points.end()};
}

// Says by other means than the grammar whether a value is valid: "" or what is wrong.
std::string violation(const json& schema, const json& value, const json& root) {
  if (schema.is_boolean()) return "";
  if (schema.contains("$ref")) {
    const std::string path = schema["$ref"];
    return violation(root.at(json::json_pointer(path.substr(1))), value, root);
  }
  if (schema.contains("anyOf")) {
    for (const json& branch : schema["anyOf"])
      if (violation(branch, value, root).empty()) return "";
    return "no branch of anyOf";
  }
  if (schema.contains("enum")) {
    for (const json& one : schema["enum"])
      if (one == value) return "";
    return "not in enum: " + value.dump();
  }
  if (schema.contains("const")) return schema["const"] == value ? "" : "not const";
  if (schema.contains("type")) {
    const std::string type = schema["type"];
    const bool right =
        type == "integer" ? value.is_number_integer() : type == std::string(value.type_name());
    if (!right) return "not of type " + type + ": " + value.dump();
  }
  if (value.is_string()) {
    const auto length = static_cast<int64_t>(utf8_length(value.get<std::string>()));
    if (length < schema.value("minLength", 0) || length > schema.value("maxLength", 1 << 20))
      return "length: " + value.dump();
    if (schema.contains("pattern") &&
        !std::regex_search(wide(value), std::wregex(wide(schema["pattern"]))))
      return "pattern: " + value.dump();
  }
  if (value.is_array()) {
    const auto count = static_cast<int64_t>(value.size());
    if (count < schema.value("minItems", 0) || count > schema.value("maxItems", 1 << 20))
      return "items: " + value.dump();
    for (const json& item : value) {
      if (!schema.contains("items")) break;
      const std::string wrong = violation(schema["items"], item, root);
      if (!wrong.empty()) return wrong;
    }
  }
  if (!value.is_object()) return "";
  for (const json& name : schema.value("required", json::array()))
    if (!value.contains(name.get<std::string>())) return "missing " + name.dump();
  const json properties = schema.value("properties", json::object());
  for (const auto& [name, member] : value.items()) {
    const json& rule = properties.contains(name) ? properties[name]
                                                 : schema.value("additionalProperties", json(true));
    if (rule == json(false)) return "additional " + name;
    const std::string wrong = violation(rule, member, root);
    if (!wrong.empty()) return wrong;
  }
  return "";
}

class ConstrainedAnswers : public ::testing::Test {
 protected:
  // All tokens are equally likely: the head is zero.
  void SetUp() override {
    model_ = random_model(testing::small_config(tokenizer_.vocab_size(), 1024), 11, at::kFloat,
                          at::kCPU);
    model_->lm_head.weight.zero_();
  }
  std::vector<Answers> answer(const std::string& schema, int64_t count,
                              EngineConfig config = {.max_running = 32}) {
    Engine engine(*model_, tokenizer_, config);
    std::vector<Answers> answers(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
      Request request = greedy_request({1, 40}, 900);
      request.sampling.temperature = 1;
      request.sampling.seed = i;
      if (i % 4 == 1) request.sampling.top_k = 20;
      if (i % 4 == 2) request.sampling.repetition_penalty = 1.2;
      if (i % 4 == 3) request.sampling.ignore_eos = true;
      request.constraint = json_schema_constraint(schema);
      engine.submit(request, answers[static_cast<size_t>(i)].listener());
    }
    finish_all(engine);
    EXPECT_EQ(engine.stats().failed, 0);
    return answers;
  }

  testing::TempFolder folder_;
  Tokenizer tokenizer_ = testing::tiny_tokenizer(
      folder_.path(),
      {"ab",   "\"",   "\":", "{\"", "▁{", "▁\"", "name", "\"name\"", "12", "人", "工智", "],",
       "null", "true", "}}",  "0",   "9",  "\\",  "\\n",  "▁▁",       "-",  "e",  "\"}",  "[["});
  std::unique_ptr<Llama> model_;
};

const std::vector<const char*> kSchemas = {
    R"({"type":"object","properties":{"name":{"type":"string","minLength":1,"maxLength":12},
        "age":{"type":"integer"},"size":{"type":"number"},"tags":{"type":"array","items":
        {"enum":["红","green","b\"lue"]},"minItems":1,"maxItems":3},"ok":{"type":"boolean"}},
        "required":["name","tags"],"additionalProperties":false})",
    R"({"type":"array","items":{"type":"string","pattern":"^[a-c人]{2,4}-\\d+$"},"minItems":2,
        "maxItems":4})",
    R"({"$defs":{"node":{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":
        [{"type":"null"},{"type":"null"},{"$ref":"#/$defs/node"}]}},"required":["v","next"],
        "additionalProperties":false}},"$ref":"#/$defs/node"})",
    R"({"anyOf":[{"type":"null"},{"type":"boolean"},{"type":"number"},{"const":{"a":[1,"x"]}}]})",
    R"({"type":"object","properties":{"a":{"type":"null"}},"required":["a"],
        "additionalProperties":{"type":"integer"}})",
};

TEST_F(ConstrainedAnswers, AreValidUnderTheirSchema) {
  for (const char* schema : kSchemas) {
    const json rule = parse_json(schema, "schema");
    int64_t whole = 0;
    for (const Answers& one : answer(schema, 64)) {
      const Completion& completion = one.result.completions.at(0);
      if (completion.finish_reason == "length") continue;  // a beginning
      ++whole;
      ASSERT_TRUE(json::accept(completion.text)) << completion.text;
      const json value = json::parse(completion.text);
      EXPECT_EQ(violation(rule, value, rule), "") << completion.text;
      EXPECT_EQ(one.text.at(0), completion.text);
    }
    EXPECT_GE(whole, 48) << schema;
  }
}

TEST_F(ConstrainedAnswers, AnyObjectIsJson) {
  int64_t whole = 0;
  for (const Answers& one : answer(R"({"type":"object"})", 64)) {
    const Completion& completion = one.result.completions.at(0);
    if (completion.finish_reason == "length") continue;
    ++whole;
    ASSERT_TRUE(json::accept(completion.text)) << completion.text;
    EXPECT_TRUE(json::parse(completion.text).is_object());
  }
  EXPECT_GE(whole, 20);
}

TEST_F(ConstrainedAnswers, GuessingAheadKeepsThem) {
  model_ =
      random_model(testing::small_config(tokenizer_.vocab_size(), 1024), 11, at::kFloat, at::kCPU);
  const auto ids = [](const std::vector<Answers>& answers) {
    std::vector<std::vector<TokenId>> out;
    for (const Answers& one : answers) out.push_back(one.ids());
    return out;
  };
  const auto expected = ids(answer(kSchemas[0], 8));
  EXPECT_EQ(ids(answer(kSchemas[0], 8, {.speculate = "lookup"})), expected);
  EngineConfig config{.speculate = "draft"};
  Engine engine(*model_, tokenizer_, config, {.draft = model_.get()});
  Answers greedy, alone;
  Request request = greedy_request({1, 40}, 200);
  request.constraint = json_schema_constraint(kSchemas[0]);
  engine.submit(request, greedy.listener());
  finish_all(engine);
  EXPECT_GT(engine.stats().accepted_tokens, 9 * engine.stats().drafted_tokens / 10);
  Engine plain(*model_, tokenizer_);
  plain.submit(request, alone.listener());
  finish_all(plain);
  EXPECT_EQ(greedy.ids(), alone.ids());
}

TEST_F(ConstrainedAnswers, BesideFreeOnesAndSeveralAtOnce) {
  Engine engine(*model_, tokenizer_);
  Answers free, several, refused;
  Request request = greedy_request({1, 40}, 30);
  request.sampling.temperature = 1;
  engine.submit(request, free.listener());
  request.n = 5;
  request.sampling.max_new_tokens = 500;
  request.constraint = json_schema_constraint(kSchemas[3]);
  engine.submit(request, several.listener());
  request.constraint = json_schema_constraint(R"({"minimum":1})");
  EXPECT_THROW(engine.submit(request, {}), Error);
  request.constraint = json_schema_constraint(kSchemas[3]);
  request.n = 1;
  request.sampling.temperature = 0;
  request.sampling.num_beams = 2;
  EXPECT_THROW(engine.submit(request, {}), Error);
  finish_all(engine);
  EXPECT_FALSE(json::accept(free.text[0]));
  ASSERT_EQ(several.result.completions.size(), 5u);
  for (const Completion& one : several.result.completions)
    EXPECT_TRUE(json::accept(one.text)) << one.text;
}

}  // namespace
}  // namespace llama2zh
