// Help is written before the libraries' constructors have run (src/app/early_help.cpp).
#include <cstdlib>

#include "commands/verb_test.h"
#include "llama2zh/base/text.h"
#include "llama2zh/commands/command.h"

namespace llama2zh {
namespace {

class Help : public VerbTest {
 protected:
  static void SetUpTestSuite() { make_folder("help"); }
  // What the code that writes it gives in a process whose constructors have run.
  static std::string expected(const std::vector<std::string>& args) {
    ::testing::internal::CaptureStdout();
    run_command_line(args);
    return ::testing::internal::GetCapturedStdout();
  }
};

TEST_F(Help, OfEveryVerbIsComplete) {
  for (const Command& command : commands()) {
    std::vector<std::string> args = split(command.name, ' ');
    args.emplace_back("--help");
    const std::string text = run(args);
    EXPECT_NE(text.find("usage: llama2zh " + std::string(command.name)), std::string::npos);
    EXPECT_EQ(text, expected(args)) << command.name;
  }
  for (const char* word : {"--help", "-h", "help", "--version"})
    EXPECT_EQ(run({word}), expected({word})) << word;
}

TEST_F(Help, WithoutArgumentsIsAUsageError) {
  const ProgramResult result = run_program(folder_, {});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, expected({"--help"}));
}

TEST_F(Help, OfNoVerbIsAnError) {
  expect_failure({"quantise", "--help"}, 2, {"no such verb", "did you mean `quantize`"});
}

TEST_F(Help, BehindTheDashesBelongsToWhatIsStarted) {
  expect_failure({"launch", "--", "--help"}, 2, {"--help"});
}

// The verb runs as ever, when all is ready, and says what is wrong.
TEST_F(Help, VersionElsewhereIsAValue) {
  const ProgramResult result =
      run_program(folder_, {"generate", "--model", "no-such-model", "--prompt", "--version"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.err.find("no-such-model"), std::string::npos) << result.err;
}

TEST_F(Help, DoesNotWaitForLibtorch) {
  const auto starts_libtorch = [](const std::vector<std::string>& args) {
    ::setenv("LD_DEBUG", "files", 1);
    const ProgramResult result = run_program(folder_, args);
    ::unsetenv("LD_DEBUG");
    for (const std::string& line : split(result.err, '\n')) {
      const bool is_init = line.find("calling init: ") != std::string::npos;
      if (is_init && line.find("libtorch_cpu") != std::string::npos) return true;
    }
    return false;
  };
  EXPECT_FALSE(starts_libtorch({"--help"}));
  EXPECT_FALSE(starts_libtorch({"sft", "--help"}));
  EXPECT_TRUE(starts_libtorch({"config", "defaults"}));
}

}  // namespace
}  // namespace llama2zh
