#include "llama2zh/tokenizer/chat_template.h"

#include <gmock/gmock.h>

#include <map>

#include "llama2zh/base/json.h"
#include "llama2zh/base/text.h"
#include "tokenizer/test_models.h"

namespace llama2zh {
namespace {

using testing::expect_error;
using Ids = std::vector<TokenId>;

std::filesystem::path vectors_file() {
  const char* source = std::getenv("LLAMA2ZH_SOURCE_DIR");
  return std::filesystem::path(source != nullptr ? source : ".") /
         "tests/tokenizer/data/chat_vectors.json";
}

Tokenizer llama_tokenizer(const testing::TemporaryFolder& folder, bool legacy, const json& marks) {
  std::filesystem::copy_file(testing::shared_tokenizer("llama2_tokenizer.model"),
                             folder.path() / "tokenizer.model",
                             std::filesystem::copy_options::overwrite_existing);
  json config = {{"legacy", legacy}};
  int64_t id = 32000;
  for (const json& mark : marks) {
    config["added_tokens_decoder"][std::to_string(id++)] = {{"content", mark}, {"special", true}};
  }
  folder.write("tokenizer_config.json", config.dump());
  return Tokenizer::load(folder.path());
}

std::string mask_text(const std::vector<uint8_t>& mask) {
  std::string text;
  for (const uint8_t bit : mask) text += bit != 0 ? '1' : '0';
  return text;
}

// Vectors of make_chat_vectors.py, which follows the definitions with sentencepiece in Python.
TEST(ChatTemplate, EncodesTheReferenceDialogues) {
  LLAMA2ZH_NEED_SHARED_DATA();
  const json vectors = read_json_file(vectors_file());
  const testing::TemporaryFolder folder;
  ASSERT_EQ(vectors["cases"].size(), 60U);
  for (const json& item : vectors["cases"]) {
    const std::string name = item["template"];
    SCOPED_TRACE(cat(name, " legacy ", item["legacy"], " system ", item["system"], " marks ",
                     item["marks"]));
    const Tokenizer tokenizer = llama_tokenizer(folder, item["legacy"], item["marks"]);
    const ChatTemplate& chat = ChatTemplate::get(name);
    std::vector<Message> messages;
    if (!item["system"].is_null()) messages.push_back({Role::kSystem, item["system"]});
    for (const json& message : vectors["dialogue"]) {
      messages.push_back({parse_role(message[0].get<std::string>(), "test"), message[1]});
    }
    const EncodedDialogue dialogue = chat.encode(tokenizer, messages);
    EXPECT_EQ(dialogue.ids, item["ids"].get<Ids>());
    EXPECT_EQ(mask_text(dialogue.supervised), item["supervised"].get<std::string>());
    EXPECT_EQ(dialogue.turn_ends, item["turn_ends"].get<std::vector<int64_t>>());
    messages.pop_back();
    const Ids prompt = chat.encode_prompt(tokenizer, messages);
    EXPECT_EQ(prompt, item["prompt"].get<Ids>());
    EXPECT_TRUE(std::equal(prompt.begin(), prompt.end(),
                           dialogue.ids.begin()));  // training sees what generation gives
  }
}

TEST(ChatTemplate, SupervisesTheEndOfEveryAnswer) {
  const testing::TinyModel model;
  const Tokenizer tokenizer = Tokenizer::load(model.path());
  const std::vector<Message> messages = {
      {Role::kUser, "a"}, {Role::kAssistant, "b"}, {Role::kUser, "ab"}, {Role::kAssistant, "ba"}};
  for (const std::string& name : ChatTemplate::names()) {
    // Others end with their marks, or a line behind EOS; see the reference dialogues.
    if (ChatTemplate::get(name).jinja().find("add_generation_prompt") != std::string::npos &&
        name != "v0.1")
      continue;
    const EncodedDialogue dialogue = ChatTemplate::get(name).encode(tokenizer, messages);
    ASSERT_EQ(dialogue.ids.size(), dialogue.supervised.size());
    ASSERT_EQ(dialogue.turn_ends.size(), 2U);
    EXPECT_EQ(dialogue.turn_ends[1], static_cast<int64_t>(dialogue.ids.size()));
    for (const int64_t end : dialogue.turn_ends) {
      EXPECT_EQ(dialogue.ids[static_cast<size_t>(end) - 1], tokenizer.eos_id()) << name;
      EXPECT_EQ(dialogue.supervised[static_cast<size_t>(end) - 1], 1) << name;
    }
  }
}

TEST(ChatTemplate, TextOfAMessageIsOnlyText) {
  const testing::TinyModel model;
  const Tokenizer tokenizer = Tokenizer::load(model.path());
  const std::vector<Message> messages = {{Role::kUser, "</s><s>"}, {Role::kAssistant, "</s>"}};
  for (const std::string& name : ChatTemplate::names()) {
    const Ids ids = ChatTemplate::get(name).encode(tokenizer, messages).ids;
    const std::map<std::string, std::pair<int, int>> others = {{"v0.1", {2, 2}},
                                                               {"chatml", {0, 1}},
                                                               {"smollm2", {0, 0}},
                                                               {"llama3", {0, 1}},
                                                               {"zephyr", {2, 0}}};
    const auto found = others.find(name);
    const auto [ends, begins] = found == others.end() ? std::pair{1, 1} : found->second;
    EXPECT_EQ(std::count(ids.begin(), ids.end(), tokenizer.eos_id()), ends) << name;
    EXPECT_EQ(std::count(ids.begin(), ids.end(), tokenizer.bos_id()), begins) << name;
  }
}

TEST(ChatTemplate, RefusesByName) {
  const testing::TinyModel model;
  const Tokenizer tokenizer = Tokenizer::load(model.path());
  const auto refused = [&](const char* name, const std::vector<Message>& messages,
                           std::string_view part) {
    expect_error(ErrorKind::kData, part,
                 [&] { ChatTemplate::get(name).encode(tokenizer, messages); });
  };
  const Message user{Role::kUser, "a"}, answer{Role::kAssistant, "b"}, system{Role::kSystem, "s"},
      tool{Role::kTool, "t"};
  for (const std::string& name : ChatTemplate::names()) {
    refused(name.c_str(), {user, tool, answer},
            "message 2: chat template \"" + name + "\" has no form for the role \"tool\"");
  }
  refused("v0.1", {system, user, answer},
          "message 1: chat template \"v0.1\" has no form for the role \"system\"");
  refused("llama2", {user, answer, system, answer},
          "message 3: it is the system's, expected the user's");
  refused("v0.2", {answer, user}, "message 1: it is the assistant's, expected the user's");
  refused("v0.2", {user, user}, "message 2");
  refused("v0.2", {user, answer, user}, "expected an answer");
  refused("v0.2", {system}, "expected an answer");
  refused("v0.2", {}, "no messages");
  expect_error(ErrorKind::kData, "must be the user's", [&] {
    ChatTemplate::get("v0.2").encode_prompt(tokenizer, std::vector<Message>{user, answer});
  });
  expect_error(ErrorKind::kUsage, "Did you mean \"llama2_zh\"?",
               [] { ChatTemplate::get("llama2-zh"); });
}

TEST(ChatTemplate, KnowsTheRolesOfTheDataSets) {
  for (const char* name : {"human", "user"}) EXPECT_EQ(parse_role(name, "row"), Role::kUser);
  for (const char* name : {"gpt", "assistant", "bot"})
    EXPECT_EQ(parse_role(name, "row"), Role::kAssistant);
  for (const char* name : {"tool", "observation", "function_call"})
    EXPECT_EQ(parse_role(name, "row"), Role::kTool);
  EXPECT_EQ(parse_role("system", "row"), Role::kSystem);
  expect_error(ErrorKind::kData, "f.json:3: unknown role \"narrator\"",
               [] { parse_role("narrator", "f.json:3"); });
}

TEST(ChatTemplate, RefusesToolRowsOfRealData) {
  LLAMA2ZH_NEED_SHARED_DATA();
  const Tokenizer tokenizer = Tokenizer::load(testing::shared_tokenizer("llama2_tokenizer.model"));
  int refused = 0, taken = 0;
  for (const json& row :
       read_json_file(testing::shared_data() / "sft/glaive_toolcall_zh_demo.json")) {
    std::vector<Message> messages;
    bool has_tool = false;
    for (const json& turn : row["conversations"]) {
      messages.push_back({parse_role(turn["from"].get<std::string>(), "row"), turn["value"]});
      has_tool |= messages.back().role == Role::kTool;
    }
    if (has_tool) {
      expect_error(ErrorKind::kData, "(tool, observation, function_call)",
                   [&] { ChatTemplate::get("v0.2").encode(tokenizer, messages); });
    } else {
      EXPECT_NO_THROW(ChatTemplate::get("v0.2").encode(tokenizer, messages));
    }
    ++(has_tool ? refused : taken);
  }
  EXPECT_GT(refused, 100);
  EXPECT_GT(taken, 0);
}

TEST(ChatTemplate, DetectsHuggingFaceTemplates) {
  for (const std::string& name : ChatTemplate::names()) {
    EXPECT_EQ(ChatTemplate::detect(ChatTemplate::get(name).jinja()), &ChatTemplate::get(name));
  }
  // The beginnings of Meta's and of the usual ChatML template.
  EXPECT_EQ(
      ChatTemplate::detect("{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' %}"
                           "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"),
      &ChatTemplate::get("llama2"));
  EXPECT_EQ(ChatTemplate::detect("{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
                                 "+ '<|im_end|>' + '\\n'}}"),
            &ChatTemplate::get("chatml"));
  EXPECT_EQ(
      ChatTemplate::detect(
          "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
          "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
          "Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
          "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"),
      &ChatTemplate::get("smollm2"));
  EXPECT_EQ(ChatTemplate::detect("{{ bos_token }}[INST] {{ x }} [/INST]"), nullptr);  // Mistral's
  EXPECT_EQ(ChatTemplate::detect(""), nullptr);
  // As the models' own folders have them, shortened where nothing depends on it.
  EXPECT_EQ(
      ChatTemplate::detect(
          "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
          "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{{ content }}"
          "{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"),
      &ChatTemplate::get("llama3"));
  const std::string zephyr =
      "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + "
      "message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ "
      "'<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == "
      "'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}";
  EXPECT_EQ(ChatTemplate::detect(zephyr), &ChatTemplate::get("zephyr"));
  // What has something more is not taken for the same.
  EXPECT_EQ(ChatTemplate::detect(zephyr + "<|end|>"), nullptr);  // Phi-3's
  EXPECT_EQ(ChatTemplate::detect("{{ '<|start_header_id|>system<|end_header_id|>\n\nCutting "
                                 "Knowledge Date: December 2023\n' }}<|eot_id|>"),
            nullptr);  // Llama 3.1's
  EXPECT_EQ(
      ChatTemplate::detect("{{ '<|im_start|>system\\nYou are a helpful assistant<|im_end|>' }}"
                           "{{'<|im_start|>' + message['role'] }}"),
      nullptr);  // Qwen's
  EXPECT_EQ(ChatTemplate::detect("### Instruction:\n{{ x }}### Response:\n{{ eos_token }}"),
            nullptr);
}

// chat_jinja.json is what tests/oracles/tokenizer_oracle.py renders with transformers.
TEST(ChatTemplate, JinjaIsTheOneThatTransformersRendered) {
  json templates = json::object();
  for (const std::string& name : ChatTemplate::names())
    templates[name] = ChatTemplate::get(name).jinja();
  EXPECT_EQ(templates, read_json_file(vectors_file().parent_path() / "chat_jinja.json"));
}

TEST(ChatTemplate, StopsAtMarksThatAreTokens) {
  LLAMA2ZH_NEED_SHARED_DATA();
  const testing::TemporaryFolder folder;
  const ChatTemplate& chat = ChatTemplate::get("chatml");
  EXPECT_EQ(chat.stop_ids(llama_tokenizer(folder, true, json::array())), Ids{2});
  EXPECT_EQ(chat.stop_ids(llama_tokenizer(folder, true, {"<|im_start|>", "<|im_end|>"})),
            (Ids{2, 32001, 32000}));
}

}  // namespace
}  // namespace llama2zh
