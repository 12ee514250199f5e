#include "llama2zh/engine/session.h"

#include <gtest/gtest.h>

#include <csignal>

#include "engine/engine_test_util.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/engine/generator.h"
#include "llama2zh/model/lora.h"

namespace llama2zh {
namespace {

class Session : public ::testing::Test {
 protected:
  // A model folder with its tokenizer, as save_model writes it.
  fs::path save(const std::string& name, const std::string& template_name) {
    const fs::path folder = folder_.path() / name;
    fs::create_directories(folder);
    LlamaConfig config = testing::small_config(tokenizer_.vocab_size());
    const auto model = random_model(config, 4, at::kFloat, at::kCPU);
    save_model(folder, *model, &tokenizer_, SaveOptions{.template_name = template_name});
    return folder;
  }
  std::string error_of(const LoadRequest& request) {
    try {
      load_for_inference(request);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  testing::TempFolder folder_;
  Tokenizer tokenizer_ = testing::tiny_tokenizer(folder_.path(), {"ab", "人"});
};

TEST_F(Session, LoadsModelTokenizerAndStoredTemplate) {
  LoadRequest request;
  request.model = save("model", "v0.1");
  const LoadedModel loaded = load_for_inference(request);
  ASSERT_NE(loaded.chat_template, nullptr);
  EXPECT_EQ(loaded.chat_template->name(), "v0.1");
  EXPECT_EQ(loaded.tokenizer->fingerprint(), tokenizer_.fingerprint());
  EXPECT_EQ(loaded.model->compute_dtype(), at::kFloat);
  request.template_name = "llama2";
  request.dtype = "bfloat16";
  const LoadedModel other = load_for_inference(request);
  EXPECT_EQ(other.chat_template->name(), "llama2");
  EXPECT_EQ(other.model->compute_dtype(), at::kBFloat16);
}

TEST_F(Session, LoadingEndsWhereAStopIsAskedFor) {
  LoadRequest request;
  request.model = save("model", "");
  request_stop(SIGTERM);
  EXPECT_THROW(load_for_inference(request), Stopped);
  clear_stop();
  EXPECT_NO_THROW(load_for_inference(request));
}

TEST_F(Session, NoTemplateIsNotGuessed) {
  LoadRequest request;
  request.model = save("model", "");
  EXPECT_EQ(load_for_inference(request).chat_template, nullptr);
  request.template_name = "lama2";
  EXPECT_NE(error_of(request).find("llama2"), std::string::npos);
}

TEST_F(Session, MissingTokenizerIsNamedWithTheFlag) {
  LoadRequest request;
  request.model = save("model", "");
  fs::remove(request.model / "tokenizer.model");
  EXPECT_NE(error_of(request).find("--tokenizer"), std::string::npos) << error_of(request);
  request.tokenizer = folder_.path() / "tokenizer.model";
  EXPECT_NO_THROW(load_for_inference(request));
  request.model = folder_.path() / "nothing";
  EXPECT_NE(error_of(request), "no error");
}

TEST_F(Session, VocabularySizesThatDoNotMeetAreBothNamed) {
  LoadRequest request;
  request.model = save("model", "");
  fs::create_directories(folder_.path() / "other");
  testing::tiny_tokenizer(folder_.path() / "other", {"ab", "人", "工", "智"});
  request.tokenizer = folder_.path() / "other";
  const std::string message = error_of(request);
  EXPECT_NE(message.find("262"), std::string::npos) << message;
  EXPECT_NE(message.find("264"), std::string::npos) << message;
}

TEST_F(Session, AdapterChangesTheAnswerAndBringsItsTokenizer) {
  LoadRequest request;
  request.model = save("model", "");
  LoraConfig lora;
  const LoadedModel plain = load_for_inference(request);
  inject_lora(*plain.model, lora, 9);
  plain.model->for_each_projection(
      [](const std::string&, Linear& linear) { linear.lora->b.detach().fill_(0.05); });
  const fs::path adapter = folder_.path() / "adapter";
  fs::create_directories(adapter);
  write_peft_adapter(adapter, extract_adapter(*plain.model, lora, "model", at::kFloat), true);
  tokenizer_.save(adapter, "plain");

  const auto answer = [](const LoadedModel& loaded) {
    SamplingConfig config;
    config.temperature = 0;
    config.max_new_tokens = 12;
    config.ignore_eos = true;
    return Generator(*loaded.model, *loaded.tokenizer)
        .generate(std::vector<TokenId>{1, 50, 60}, config)
        .ids;
  };
  const auto base_answer = answer(load_for_inference(request));
  request.adapters = {adapter};
  const LoadedModel adapted = load_for_inference(request);
  EXPECT_NE(answer(adapted), base_answer);
  EXPECT_EQ(answer(adapted), answer(plain));
  ASSERT_NE(adapted.chat_template, nullptr);
  EXPECT_EQ(adapted.chat_template->name(), "plain");
  // Of two adapters the last that names a template counts.
  const fs::path second = folder_.path() / "second";
  fs::create_directories(second);
  write_peft_adapter(second, extract_adapter(*plain.model, lora, "model", at::kFloat), true);
  tokenizer_.save(second, "");
  request.adapters = {adapter, second};
  ASSERT_NE(load_for_inference(request).chat_template, nullptr);
  EXPECT_EQ(load_for_inference(request).chat_template->name(), "plain");
  tokenizer_.save(second, "v0.1");
  EXPECT_EQ(load_for_inference(request).chat_template->name(), "v0.1");
  request.adapters = {request.model};
  EXPECT_NE(error_of(request).find("adapter_config.json"), std::string::npos);
}

}  // namespace
}  // namespace llama2zh
