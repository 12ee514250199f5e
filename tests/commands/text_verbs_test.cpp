// generate, chat and evaluate perplexity as a user runs them, on stories260K. The chat's line
// editing is tried on a pseudo-terminal.
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "commands/run_program.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"

namespace llama2zh {
namespace {

class TextVerbs : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* dir = std::getenv("LLAMA2ZH_SHARED");
    const char* source = std::getenv("LLAMA2ZH_SOURCE_DIR");
    const fs::path shared = dir != nullptr ? fs::path(dir) : fs::path(source) / "../shared";
    if (!fs::exists(shared / "data")) GTEST_SKIP() << "shared data not found: set LLAMA2ZH_SHARED";
    data_ = fs::canonical(shared / "data");
    folder_ = fs::temp_directory_path() / ("llama2zh-text-" + std::to_string(getpid()));
    fs::create_directories(folder_);
    model_ = {"--model", data_ / "weights/stories260K_hf", "--tokenizer",
              data_ / "tokenizers/tok512_from_bin.model"};
  }
  void TearDown() override { fs::remove_all(folder_); }

  ProgramResult run(const std::string& verb, const std::vector<std::string>& args,
                    const std::string& input = "") {
    std::vector<std::string> all = {verb};
    if (verb == "evaluate") all.push_back("perplexity");
    all.insert(all.end(), model_.begin(), model_.end());
    all.insert(all.end(), args.begin(), args.end());
    return run_program(folder_, all, input);
  }

  fs::path data_, folder_;
  std::vector<std::string> model_;
};

TEST_F(TextVerbs, GenerateGivesTheGoldenText) {
  const ProgramResult result =
      run("generate", {"--raw", "--prompt", "", "--max-new-tokens", "200", "--temperature", "0"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, read_file(data_ / "weights/stories260K_golden.txt") + "\n");
}

TEST_F(TextVerbs, GenerateJsonHasTheFourKeys) {
  const std::vector<std::string> options = {"--raw", "--max-new-tokens", "8", "--temperature=0",
                                            "--json"};
  std::vector<std::string> args = options;
  args.insert(args.end(), {"--prompt", "Once upon"});
  const ProgramResult result = run("generate", args);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json object = parse_json(result.out, "generate");
  EXPECT_EQ(object.size(), 4u);
  EXPECT_EQ(object["text"], " a time, there was a little g");
  EXPECT_EQ(object["ids"].size(), 8u);
  EXPECT_EQ(object["prompt_tokens"], 3);
  EXPECT_EQ(object["finish_reason"], "length");
  // The same prompt from standard input and from a file.
  args = options;
  args.insert(args.end(), {"--prompt", "-"});
  EXPECT_EQ(run("generate", args, "Once upon\n").out, result.out);
  write_file_atomic(folder_ / "prompt.txt", "Once upon\n");
  args = options;
  args.insert(args.end(), {"--prompt-file", "prompt.txt"});
  EXPECT_EQ(run("generate", args).out, result.out);
}

TEST_F(TextVerbs, GenerateTakesTheWordNullAsAPrompt) {
  const ProgramResult result =
      run("generate", {"--raw", "--prompt", "null", "--max-new-tokens", "1", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_GT(parse_json(result.out, "generate")["prompt_tokens"], 1);
}

TEST_F(TextVerbs, AnUnknownTemplateIsNotGuessed) {
  for (const ProgramResult& result :
       {run("generate", {"--prompt", "hi"}), run("chat", {}, "hi\n")}) {
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_NE(result.err.find("--template"), std::string::npos) << result.err;
    EXPECT_EQ(result.out, "");
  }
}

TEST_F(TextVerbs, ChatKeepsTheDialogueAndSavesIt) {
  const ProgramResult result =
      run("chat", {"--template", "plain", "--max-new-tokens", "6", "--temperature", "0"},
          "forgotten\n/clear\nOnce\n\n/set max_new_tokens 3\n/set temperature nonsense\n//then\n"
          "/save saved.jsonl\n/quit\nnever read\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.err.find("temperature"), std::string::npos) << result.err;
  const json row = read_json_file(folder_ / "saved.jsonl")["conversations"];
  ASSERT_EQ(row.size(), 4u);
  EXPECT_EQ(row[0], (json{{"from", "human"}, {"value", "Once"}}));
  EXPECT_EQ(row[1]["from"], "gpt");
  EXPECT_EQ(row[2]["value"], "/then");
  EXPECT_NE(result.out.find(row[1]["value"].get<std::string>() + "\n"), std::string::npos);
  EXPECT_EQ(result.out.find("never"), std::string::npos);
}

TEST_F(TextVerbs, ChatExplainsItsCommands) {
  const ProgramResult result = run("chat", {"--template", "plain", "--max-new-tokens", "1"},
                                   "/system be brief\n/set temprature 1\n/set foo\n/quit\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  for (const char* part :
       {"the template plain has no place for one; write it into your first message",
        "there is no option \"temprature\"; did you mean \"temperature\"?",
        "there is no option \"foo\"; /set alone lists them"}) {
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
  }
}

TEST_F(TextVerbs, RawTextReadsOnFromThePrompt) {
  const std::vector<std::string> args = {"--raw", "--temperature", "0", "--max-new-tokens", "40"};
  const auto text_of = [&](const std::string& prompt) {
    std::vector<std::string> all = args;
    all.insert(all.end(), {"--prompt", prompt});
    return run("generate", all).out;
  };
  const std::string golden = read_file(data_ / "weights/stories260K_golden.txt");
  const std::string out = text_of("Once upon");
  EXPECT_EQ(("Once upon" + out).substr(0, 60), golden.substr(0, 60));
}

TEST_F(TextVerbs, ChatDropsOldTurnsWhenTheContextIsFull) {
  std::string input;
  for (int i = 0; i < 8; ++i) input += "Once upon a time there was a little girl named Lily.\n";
  const ProgramResult result =
      run("chat",
          {"--template", "plain", "--max-new-tokens", "100", "--temperature", "0", "--ignore-eos"},
          input);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.err.find("no longer fit"), std::string::npos) << result.err;
}

TEST_F(TextVerbs, PerplexityOfTheGoldenText) {
  const fs::path golden = data_ / "weights/stories260K_golden.txt";
  write_file_atomic(folder_ / "rows.jsonl",
                    ordered_json{{"text", read_file(golden)}}.dump() + "\n" +
                        ordered_json{{"text", read_file(golden)}}.dump() + "\n");
  const ProgramResult result = run("evaluate", {"--json", "--file", golden.string(), "rows.jsonl"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json report = parse_json(result.out, "evaluate");
  ASSERT_EQ(report["files"].size(), 2u);
  // 0.473418: transformers, in the data's own notes.
  for (const json& file : report["files"]) EXPECT_NEAR(file["nll_per_token"], 0.473418, 1e-5);
  EXPECT_EQ(report["tokens"], 600);
  EXPECT_EQ(report["characters"], 3 * 464);
  EXPECT_NEAR(report["bits_per_byte"].get<double>(), 0.294395, 1e-5);
}

// The program on a pseudo-terminal.
class Terminal {
 public:
  Terminal(const fs::path& folder, const std::vector<std::string>& args) {
    child_ = forkpty(&fd_, nullptr, nullptr, nullptr);
    if (child_ != 0) return;
    std::vector<char*> words;
    for (const std::string& arg : args) words.push_back(const_cast<char*>(arg.c_str()));
    words.push_back(nullptr);
    setenv("TERM", "xterm", 1);
    unsetenv("LC_ALL");  // the locale of a bare container: the program has to find UTF-8 itself
    unsetenv("LC_CTYPE");
    unsetenv("LANG");
    if (chdir(folder.c_str()) == 0) execv(words[0], words.data());
    _exit(127);
  }
  ~Terminal() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    close(fd_);
  }
  // Types as a person does: not before the program has turned to the line.
  void type(const std::string& text) {
    usleep(300'000);
    press(text);
  }
  // At once: a small model's answer is over in less time than a person needs.
  void press(const std::string& text) {
    ASSERT_EQ(write(fd_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  // Reads until `text` comes, at most a minute; false if it does not.
  bool wait_for(const std::string& text) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (std::chrono::steady_clock::now() < end) {
      const size_t found = seen_.find(text);
      if (found != std::string::npos) {
        seen_.erase(0, found + text.size());
        return true;
      }
      pollfd poll_fd{.fd = fd_, .events = POLLIN, .revents = 0};
      char buffer[4096];
      if (poll(&poll_fd, 1, 100) <= 0) continue;
      const ssize_t n = read(fd_, buffer, sizeof buffer);
      if (n <= 0) return false;
      seen_.append(buffer, static_cast<size_t>(n));
    }
    return false;
  }
  int exit_code() {
    int status = 0;
    waitpid(child_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  int fd_ = -1;
  pid_t child_ = 0;
  std::string seen_;
};

TEST_F(TextVerbs, ChatOnATerminalEditsChineseAndStopsAnAnswer) {
  std::vector<std::string> args = {std::getenv("LLAMA2ZH_BINARY"), "chat"};
  args.insert(args.end(), model_.begin(), model_.end());
  args.insert(args.end(), {"--template", "plain", "--temperature", "0", "--max-new-tokens", "500",
                           "--ignore-eos"});
  Terminal terminal(folder_, args);
  ASSERT_TRUE(terminal.wait_for("> "));
  terminal.type("given up\x03");  // Ctrl-C drops the line
  ASSERT_TRUE(terminal.wait_for("^C"));
  ASSERT_TRUE(terminal.wait_for("> "));
  terminal.type("Once upon\r");
  ASSERT_TRUE(terminal.wait_for("a time"));
  terminal.press("\x03");  // ... and ends an answer
  ASSERT_TRUE(terminal.wait_for("[stopped]"));
  ASSERT_TRUE(terminal.wait_for("> "));
  terminal.type("/save 你好吗\x7F\x7F们\x1B[D世\r");  // two deleted, one inserted before the last
  ASSERT_TRUE(terminal.wait_for("1 turns saved"));
  EXPECT_TRUE(fs::exists(folder_ / "你世们"));
  ASSERT_TRUE(terminal.wait_for("> "));
  terminal.type("\x04");
  EXPECT_EQ(terminal.exit_code(), 0);
}

}  // namespace
}  // namespace llama2zh
