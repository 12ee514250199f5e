// llama2zh serve as a process: signals, logs, keys of the environment.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <regex>

#include "base/temp_folder.h"
#include "commands/run_program.h"
#include "commands/started_program.h"
#include "commands/tiny_base.h"
#include "http/raw_socket.h"
#include "llama2zh/base/text.h"
#include "llama2zh/http/client.h"

namespace llama2zh {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// What "listening at http://127.0.0.1:PORT; ..." says; 0 where it is not said yet.
uint16_t port_of(const std::string& log) {
  std::smatch found;
  if (!std::regex_search(log, found, std::regex("listening at http://127.0.0.1:([0-9]+);")))
    return 0;
  return static_cast<uint16_t>(std::stoi(found[1]));
}

class ServeProcess : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    ::setenv("OMP_NUM_THREADS", "1", 1);
    make_tiny_base(folder_->path(), {"--max-position-embeddings", "4096"});
    for (const char* seed : {"1", "2"})
      run({"pretrain",
           "--model.path",
           "base",
           "--data.train_files",
           "text.txt",
           "--data.block_size",
           "64",
           "--lora.rank",
           "4",
           "--train.seed",
           seed,
           "--train.learning_rate",
           "0.1",
           "--train.max_steps",
           "2",
           "--train.warmup_ratio",
           "0",
           "--train.micro_batch_size",
           "1",
           "--output_dir",
           cat("adapter", seed)});
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static void run(const std::vector<std::string>& args) {
    const ProgramResult result = run_program(folder_->path(), args);
    ASSERT_EQ(result.exit_code, 0) << args[0] << ": " << result.err;
  }
  void start(const std::vector<std::string>& more = {}) {
    std::vector<std::string> args = {"serve", "--model",    "base",  "--port",
                                     "0",     "--template", "chatml"};
    args.insert(args.end(), more.begin(), more.end());
    server_ = std::make_unique<StartedProgram>(folder_->path(), args);
    ASSERT_TRUE(said("ready after")) << server_->err();
    port_ = port_of(server_->err());
  }
  bool said(const std::string& words) const {
    return wait_until([&] { return server_->err().find(words) != std::string::npos; }, 60);
  }
  HttpAnswer ask(const std::string& target, const json& body = nullptr) const {
    HttpCall call;
    call.port = port_;
    call.target = target;
    if (!body.is_null()) {
      call.method = "POST";
      call.body = body.dump();
    }
    return http_call(call);
  }
  static std::string stream_request(int64_t tokens) {
    const std::string body = json{
        {"prompt", "a"},
        {"max_tokens", tokens},
        {"ignore_eos", true},
        {"stream", true}}.dump();
    return cat("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: ", body.size(),
               "\r\n\r\n", body);
  }

  inline static TempFolder* folder_ = nullptr;
  std::unique_ptr<StartedProgram> server_;
  uint16_t port_ = 0;
};

TEST_F(ServeProcess, SighupReadsAdaptersAgain) {
  namespace fs = std::filesystem;
  const auto copy = [&](const char* from) {
    fs::remove_all(*folder_ / "used");
    fs::copy(*folder_ / from, *folder_ / "used", fs::copy_options::recursive);
  };
  const auto logprobs = [&] {
    const HttpAnswer got = ask("/v1/completions", {{"model", "law"},
                                                   {"prompt", "The licence"},
                                                   {"max_tokens", 4},
                                                   {"temperature", 0},
                                                   {"logprobs", 1}});
    EXPECT_EQ(got.status, 200) << got.body;
    return json::parse(got.body)["choices"][0]["logprobs"]["token_logprobs"];
  };
  copy("adapter1");
  start({"--adapter", "law=used"});
  const json first = logprobs();
  copy("adapter2");
  EXPECT_EQ(logprobs(), first);
  server_->signal(SIGHUP);
  ASSERT_TRUE(said("adapter law read again")) << server_->err();
  const json second = logprobs();
  EXPECT_NE(second, first);
  fs::remove_all(*folder_ / "used");
  server_->signal(SIGHUP);
  ASSERT_TRUE(said("adapter law stays as it was")) << server_->err();
  EXPECT_EQ(logprobs(), second);
  server_->signal(SIGTERM);
  EXPECT_EQ(server_->wait(), 0);
}

TEST_F(ServeProcess, AnAdapterIsNotCalledLikeTheModel) {
  const ProgramResult result = run_program(
      folder_->path(), {"serve", "--model", "base", "--port", "0", "--adapter", "base=adapter1"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("--served-model-name"));
}

TEST_F(ServeProcess, SigtermLetsStreamsEnd) {
  start();
  RawSocket client(port_);
  client.send(stream_request(1500));
  client.read_until("data: ");
  server_->signal(SIGTERM);
  ASSERT_TRUE(said("no new requests are taken"));
  EXPECT_THAT(client.read_all(60), HasSubstr("data: [DONE]"));
  EXPECT_EQ(server_->wait(), 0);
  EXPECT_THAT(server_->err(), HasSubstr("stopped"));
}

TEST_F(ServeProcess, ASecondSignalEndsAtOnce) {
  start();
  RawSocket client(port_);
  client.send(stream_request(4000));
  client.read_until("data: ");
  server_->signal(SIGTERM);
  ASSERT_TRUE(said("no new requests are taken"));
  server_->signal(SIGTERM);
  EXPECT_EQ(server_->wait(), 128 + SIGTERM);
  EXPECT_THAT(client.read_all(), Not(HasSubstr("[DONE]")));
}

// At whatever moment of its start.
TEST_F(ServeProcess, MayBeStoppedWhileItLoads) {
  for (const int number : {SIGTERM, SIGINT}) {
    server_ = std::make_unique<StartedProgram>(
        folder_->path(), std::vector<std::string>{"serve", "--model", "base", "--port", "0"});
    ASSERT_TRUE(said("listening at"));
    server_->signal(number);
    EXPECT_EQ(server_->wait(), 0) << server_->err();
  }
}

TEST_F(ServeProcess, PromptsAreLoggedOnlyWhereThatIsAsked) {
  const auto ask_all = [&] {
    const json said = json::array({{{"role", "user"}, {"content", "a secret"}}});
    for (const char* kind : {"text", "json_object", "xml"})
      ask("/v1/chat/completions",
          {{"messages", said}, {"max_tokens", 2}, {"response_format", {{"type", kind}}}});
    ask("/v1/completions", {{"prompt", "a secret"}, {"stop", "secret"}, {"n", "secret"}});
    ask("/tokenize", {{"prompt", "a secret"}});
    ask("/generate", {{"input", "a secret"}});
    ask("/v1/embeddings", {{"input", {"a secret", 3}}});
    HttpCall broken;
    broken.port = port_;
    broken.method = "POST";
    broken.target = "/v1/completions";
    broken.body = "{\"prompt\": \"a secret\"";
    http_call(broken);
    server_->signal(SIGTERM);
    EXPECT_EQ(server_->wait(), 0);
  };
  start({"--access-log", "json"});
  ask_all();
  EXPECT_THAT(server_->err(), HasSubstr("\"target\":\"/v1/completions\""));
  EXPECT_THAT(server_->err(), Not(HasSubstr("secret")));
  start({"--log-prompts"});
  ask_all();
  EXPECT_THAT(server_->err(), HasSubstr("a secret"));
}

TEST_F(ServeProcess, KeysMayComeFromTheEnvironment) {
  ::setenv("LLAMA2ZH_API_KEYS", "alpha, beta", 1);
  start();
  ::unsetenv("LLAMA2ZH_API_KEYS");
  EXPECT_EQ(ask("/v1/models").status, 401);
  EXPECT_EQ(ask("/version").status, 401);
  EXPECT_EQ(ask("/health").status, 200);
  EXPECT_EQ(ask("/").status, 200);
  HttpCall call;
  call.port = port_;
  call.target = "/v1/models";
  call.headers = {{"Authorization", "Bearer beta"}};
  EXPECT_EQ(http_call(call).status, 200);
}

// Standard error is a pipe, and from some time on nobody empties it.
TEST_F(ServeProcess, AFullPipeOfLogsHoldsNobodyUp) {
  const std::filesystem::path pipe = *folder_ / "err.txt";
  std::filesystem::remove(pipe);
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int reader = ::open(pipe.c_str(), O_RDWR);
  ASSERT_GE(reader, 0);
  StartedProgram server(folder_->path(),
                        {"serve", "--model", "base", "--port", "0", "--access-log", "json"});
  std::string log;
  char bytes[4096];
  while (log.find("ready after") == std::string::npos) {
    const ssize_t size = ::read(reader, bytes, sizeof(bytes));
    ASSERT_GT(size, 0);
    log.append(bytes, static_cast<size_t>(size));
  }
  port_ = port_of(log);
  HttpCall call;
  call.port = port_;
  call.target = "/health?" + std::string(8000, 'x');
  for (int i = 0; i < 60; ++i) EXPECT_EQ(http_call(call).status, 200);  // seven times the pipe
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0);
  ::close(reader);
  std::filesystem::remove(pipe);
}

}  // namespace
}  // namespace llama2zh
