#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine_test_util.h"
#include "http/soon.h"
#include "llama2zh/base/text.h"
#include "llama2zh/engine/session.h"
#include "llama2zh/http/client.h"
#include "llama2zh/model/load.h"
#include "llama2zh/serve/server.h"

namespace llama2zh::testing {

// A server in this process, for a model of random weights: "tiny", template chatml.
class ServerFixture : public ::testing::Test {
 protected:
  ServerFixture() {
    options.http.port = 0;
    options.serve.access_log = "none";
    options.engine.max_running = 8;
    options.engine.kv_cache_gib = 0.25;
    options.model_name = "tiny";
    options.model_root = "models/tiny";
  }
  LoadedModel make_model(int64_t context = 4096) {
    LoadedModel out;
    out.tokenizer =
        std::make_unique<Tokenizer>(tiny_tokenizer(folder.path(), {"ab", "Q", "hello", "▁you"}));
    out.model =
        random_model(small_config(out.tokenizer->vocab_size(), context), 11, at::kFloat, at::kCPU);
    out.chat_template = &ChatTemplate::get("chatml");
    out.adapters = std::make_unique<AdapterRegistry>(*out.model, *out.tokenizer, folder.path());
    return out;
  }
  void listen() {
    server = std::make_unique<ModelServer>(options);
    server->start();
  }
  void begin(int64_t context = 4096) {
    listen();
    server->set_model(make_model(context));
  }

  HttpCall call(const std::string& method, const std::string& target, std::string body = {}) const {
    HttpCall out;
    out.port = server->port();
    out.method = method;
    out.target = target;
    out.body = std::move(body);
    return out;
  }
  HttpAnswer get(const std::string& target) const { return http_call(call("GET", target)); }
  HttpAnswer post(const std::string& target, const json& body) const {
    return http_call(call("POST", target, body.dump()));
  }
  // Of a request that must succeed.
  json answer(const std::string& target, const json& body) const {
    const HttpAnswer got = post(target, body);
    EXPECT_EQ(got.status, 200) << got.body;
    return json::parse(got.body);
  }
  // The objects of a stream; [DONE] as the text "[DONE]".
  std::vector<json> events(const std::string& target, json body) const {
    body["stream"] = true;
    const HttpAnswer got = post(target, body);
    EXPECT_EQ(got.status, 200) << got.body;
    EXPECT_EQ(got.header("Content-Type"), "text/event-stream; charset=utf-8");
    std::vector<json> out;
    for (const std::string& line : split(got.body, '\n')) {
      if (line.empty()) continue;
      EXPECT_TRUE(line.starts_with("data: ")) << line;
      const std::string data = line.substr(6);
      out.push_back(data == "[DONE]" ? json(data) : json::parse(data));
    }
    return out;
  }
  static json chat_body(const std::string& text, int64_t max_tokens = 12) {
    return {{"model", "tiny"},
            {"messages", json::array({{{"role", "user"}, {"content", text}}})},
            {"max_tokens", max_tokens},
            {"temperature", 0}};
  }
  // A gauge or counter of /metrics, the first of this name.
  double metric(const std::string& name) const {
    const std::string text = get("/metrics").body;
    const size_t begin = text.find("\n" + name + "{");
    if (begin == std::string::npos) return -1;
    const size_t value = text.find("} ", begin);
    return std::stod(text.substr(value + 2));
  }

  TempFolder folder;
  ServerOptions options;
  std::unique_ptr<ModelServer> server;
};

}  // namespace llama2zh::testing
