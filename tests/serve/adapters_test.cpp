// Adapters chosen by a request's "model", and replaced while the server runs.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "http/raw_socket.h"
#include "llama2zh/base/error.h"
#include "llama2zh/model/lora.h"
#include "serve/serve_test_util.h"

namespace llama2zh {
namespace {

class ServedAdapters : public testing::ServerFixture {
 protected:
  fs::path save_adapter(const std::string& name, uint64_t seed, int64_t vocabulary) {
    const auto model =
        random_model(testing::small_config(vocabulary, 4096), 11, at::kFloat, at::kCPU);
    LoraConfig lora;
    lora.rank = 4;
    lora.target_modules = {"q_proj", "down_proj"};
    lora.modules_to_save = {};
    inject_lora(*model, lora, seed);
    const at::NoGradGuard no_grad;
    model->for_each_projection([](const std::string&, Linear& linear) {
      if (linear.lora) linear.lora->b.copy_(at::randn(linear.lora->b.sizes()));
    });
    const fs::path out = folder.path() / name;
    fs::remove_all(out);
    fs::create_directories(out);
    write_peft_adapter(out, extract_adapter(*model, lora, "model", at::kFloat), true);
    return out;
  }
  std::string text_of(const std::string& model) const {
    json body = chat_body("hello", 24);
    body["model"] = model;
    return answer("/v1/chat/completions", body)["choices"][0]["message"]["content"];
  }
};

TEST_F(ServedAdapters, AreModelsOfTheirOwn) {
  listen();
  LoadedModel model = make_model();
  const int64_t vocabulary = model.tokenizer->vocab_size();
  const fs::path folder_a = save_adapter("a", 1, vocabulary);
  model.adapters->add("medical", folder_a);
  server->set_model(std::move(model));
  const json models = json::parse(get("/v1/models").body)["data"];
  ASSERT_EQ(models.size(), 2u);
  EXPECT_EQ(models[1]["id"], "medical");
  EXPECT_EQ(models[1]["parent"], "tiny");
  const std::string base = text_of("tiny"), first = text_of("medical");
  EXPECT_NE(base, first);

  save_adapter("a", 2, vocabulary);
  EXPECT_EQ(text_of("medical"), first);
  server->reload_adapters({{"medical", folder_a.string()}});
  const std::string second = text_of("medical");
  EXPECT_NE(second, first);

  // One that does not fit changes nothing.
  save_adapter("a", 3, vocabulary + 8);
  fs::remove(folder_a / "adapter_model.safetensors");
  server->reload_adapters({{"medical", folder_a.string()}});
  EXPECT_EQ(text_of("medical"), second);
  EXPECT_EQ(text_of("tiny"), base);
}

TEST_F(ServedAdapters, HaveOtherNamesThanTheModel) {
  listen();
  LoadedModel model = make_model();
  model.adapters->add("tiny", save_adapter("a", 1, model.tokenizer->vocab_size()));
  EXPECT_THROW(server->check_adapter_name("tiny"), Error);
  EXPECT_NO_THROW(server->check_adapter_name("medical"));
  EXPECT_THROW(server->set_model(std::move(model)), Error);
}

TEST_F(ServedAdapters, ReloadingEndsNoServer) {
  begin();
  // The file system's own exception, which is no Error.
  server->reload_adapters({{"medical", std::string(5000, 'x')}});
  EXPECT_EQ(get("/health").status, 200);
}

TEST_F(ServedAdapters, AtWorkAndWaitingAreToldInMetrics) {
  options.engine.max_running = 1;
  listen();
  LoadedModel model = make_model();
  const fs::path made = save_adapter("a", 1, model.tokenizer->vocab_size());
  for (const char* name : {"medical", "law"}) model.adapters->add(name, made);
  server->set_model(std::move(model));
  std::vector<std::unique_ptr<RawSocket>> clients;
  const auto ask = [&](const char* name) {
    json body = chat_body("hello", 4000);
    body["model"] = name;
    body["ignore_eos"] = true;
    const std::string text = body.dump();
    clients.push_back(std::make_unique<RawSocket>(server->port()));
    clients.back()->send(cat(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: ", text.size(),
        "\r\n\r\n", text));
  };
  const auto told = [&](const std::string& running, const std::string& waiting) {
    const std::string labels =
        cat("running_lora_adapters=\"", running, "\",waiting_lora_adapters=\"", waiting, "\"}");
    return testing::soon([&] { return get("/metrics").body.find(labels) != std::string::npos; });
  };
  EXPECT_TRUE(told("", ""));
  ask("medical");
  EXPECT_TRUE(told("medical", ""));
  ask("law");
  EXPECT_TRUE(told("medical", "law"));
  clients.clear();
  EXPECT_TRUE(told("", ""));
}

TEST_F(ServedAdapters, ComeAndGoOverHttpWhereThatIsAllowed) {
  options.serve.allow_adapter_loading = true;
  begin();
  const fs::path made = save_adapter("b", 1, make_model().tokenizer->vocab_size());
  const std::string base = text_of("tiny");
  answer("/v1/load_lora_adapter", {{"lora_name", "law"}, {"lora_path", made.string()}});
  EXPECT_NE(text_of("law"), base);
  EXPECT_EQ(post("/v1/load_lora_adapter", {{"lora_name", "x"}, {"lora_path", "/nowhere"}}).status,
            400);
  EXPECT_EQ(
      post("/v1/load_lora_adapter", {{"lora_name", "tiny"}, {"lora_path", made.string()}}).status,
      400);
  answer("/v1/unload_lora_adapter", {{"lora_name", "law"}});
  json body = chat_body("hello");
  body["model"] = "law";
  EXPECT_EQ(post("/v1/chat/completions", body).status, 404);
  EXPECT_EQ(post("/v1/unload_lora_adapter", {{"lora_name", "law"}}).status, 404);
}

}  // namespace
}  // namespace llama2zh
