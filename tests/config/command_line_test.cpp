#include "llama2zh/config/command_line.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "config/sample_config.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/config/load.h"

namespace llama2zh {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class CommandLineTest : public testing::Test {
 protected:
  CommandLine parse(const std::vector<std::string>& args) {
    config_ = {};
    return parse_command_line(spec_, table_, args);
  }
  std::string parse_error(const std::vector<std::string>& args) {
    return error_text_of(ErrorKind::kUsage, [&] { parse(args); });
  }
  CommandSpec spec_{.verb = "pretrain",
                    .summary = "Trains.",
                    .examples = {"llama2zh pretrain --config 配置.json"},
                    .positional = {},
                    .required = {},
                    .config_file = true};
  SampleConfig config_;
  OptionTable table_ = bind_options(config_);
};

TEST_F(CommandLineTest, FormsOfAValue) {
  parse({"--model", "a", "--max_steps=3", "--train.lora.rank", "16", "--cut", "-1.5",
         "--system=x=y"});
  EXPECT_EQ(config_.model, "a");
  EXPECT_EQ(config_.max_steps, 3);
  EXPECT_EQ(config_.train.lora.rank, 16);
  EXPECT_EQ(config_.cut, -1.5);
  EXPECT_EQ(config_.system, "x=y");
  parse({"--max-steps", "5", "--model", ""});
  EXPECT_EQ(config_.max_steps, 5);
  EXPECT_EQ(config_.model, "");
  parse({"--model", "--not-an-option"});
  EXPECT_EQ(config_.model, "--not-an-option");
  parse({"--model=--max-steps"});
  EXPECT_EQ(config_.model, "--max-steps");
}

TEST_F(CommandLineTest, ValuesAreTakenAsTheyAre) {
  // cxxopts' regular expressions would overflow the stack on so many bytes.
  const std::string huge(size_t{1} << 17, 'a');
  for (const std::string& value :
       std::vector<std::string>{"a,b", ",", "x=y", "=", "", " ", "-m", "-1", "---", "line\nbreak\n",
                                "你好‘🙂’", huge}) {
    parse({"--max_steps", "1", "--model=" + value, "--fast"});
    EXPECT_EQ(config_.model, value);
    EXPECT_EQ(config_.fast, true);
    parse({"--model", value, "--max_steps", "1"});
    EXPECT_EQ(config_.model, value);
    EXPECT_EQ(config_.max_steps, 1);
    spec_.positional = {"model"};
    parse({"--max_steps", "1", "--", value});
    EXPECT_EQ(config_.model, value);
    EXPECT_EQ(config_.max_steps, 1);
  }
  for (const std::string value : {"--", "--config", "--no-fast", "--max_steps=3", "--help"}) {
    parse({"--model=" + value});
    EXPECT_EQ(config_.model, value);
  }
}

TEST_F(CommandLineTest, ElementsOfListsAreTakenAsTheyAre) {
  parse({"--train_files", "-a", "x=y", "你 好", "[\"a,b\"]", "--train_files=--model", "--fast"});
  EXPECT_THAT(config_.train_files, ElementsAre("-a", "x=y", "你 好", "a,b", "--model"));
  spec_.positional = {"model"};
  parse({"--train_files", "--not-an-option", "b", "--", "--c"});
  EXPECT_EQ(config_.model, "--c");
  EXPECT_THAT(config_.train_files, ElementsAre("--not-an-option", "b"));
}

TEST_F(CommandLineTest, Flags) {
  parse({"--fast", "--no-train.shuffle"});
  EXPECT_EQ(config_.fast, true);
  EXPECT_FALSE(config_.train.shuffle);
  parse({"--no_fast"});
  EXPECT_EQ(config_.fast, false);
  parse({"--train.shuffle", "false", "--fast=null"});
  EXPECT_FALSE(config_.train.shuffle);
  EXPECT_EQ(config_.fast, std::nullopt);
  EXPECT_EQ(parse_error({"--no-fast=true"}), "--no-fast: takes no value");
  EXPECT_EQ(parse_error({"--no-model"}), "--no-model: model is not a flag");
  EXPECT_THAT(parse_error({"--fast=maybe"}), HasSubstr("expected true or false or null"));
}

TEST_F(CommandLineTest, Lists) {
  parse({"--train_files", "a", "b,c", "--max_steps", "1", "--train-files", "d"});
  EXPECT_THAT(config_.train_files, ElementsAre("a", "b", "c", "d"));
  parse({"--stop_ids", "1", "2", "--stop_ids=3", "--"});
  EXPECT_THAT(config_.stop_ids, ElementsAre(1, 2, 3));
  parse({"--stop_ids="});
  EXPECT_THAT(config_.stop_ids, ElementsAre());
  EXPECT_THAT(parse_error({"--stop_ids", "--fast"}),
              HasSubstr("--stop_ids: expected a value; write --stop_ids=VALUE for a value that "
                        "begins with dashes, or write --stop_ids= for the empty list"));
  EXPECT_EQ(parse_error({"--stop_ids"}),
            "--stop_ids: expected a value; write --stop_ids= for the empty list");
}

TEST_F(CommandLineTest, TheLastPartOfAKeyIsEnoughWhereItIsTheOnlyOne) {
  parse({"--rank", "16", "--learning-rate=0.5", "--no-shuffle"});
  EXPECT_EQ(config_.train.lora.rank, 16);
  EXPECT_EQ(config_.train.learning_rate, 0.5);
  EXPECT_FALSE(config_.train.shuffle);
  EXPECT_THAT(parse_error({"--lora.rank", "3"}), HasSubstr("unknown option"));
  OptionTable twice = bind_options(config_);
  EXPECT_NE(find_named_option(twice, "rank"), nullptr);
  OptionEntry other = *find_option(twice, "train.lora.rank");
  other.key = "other.rank";
  twice.push_back(other);
  EXPECT_EQ(find_named_option(twice, "rank"), nullptr);
}

TEST_F(CommandLineTest, UnknownOptions) {
  EXPECT_EQ(parse_error({"--max-stpes", "3"}),
            "--max-stpes: unknown option; did you mean \"max_steps\"?");
  EXPECT_EQ(parse_error({"--qqqqqqq"}), "--qqqqqqq: unknown option; --help lists the options");
  EXPECT_EQ(parse_error({"-m", "x"}), "-m: unknown option; options begin with two dashes");
  EXPECT_EQ(parse_error({"stray"}), "stray: unexpected argument; --help shows the usage");
  EXPECT_EQ(parse_error({"-max_steps", "3"}),
            "-max_steps: unknown option; options begin with two dashes");
  EXPECT_EQ(parse_error({"--train.lora.rnak=\n"}),
            "--train.lora.rnak: unknown option; did you mean \"train.lora.rank\"?");
  EXPECT_EQ(parse_error({"--confg", "x"}), "--confg: unknown option; did you mean \"config\"?");
  for (const std::string flag : {"--q", "--‘中文’", "---", "--=", "--!", "--no-"}) {
    EXPECT_THAT(parse_error({flag}), HasSubstr(flag + ": unknown option"));
    EXPECT_THAT(parse_error({"--fast", flag, "x"}), HasSubstr(flag + ": unknown option"));
  }
  EXPECT_THAT(parse_error({"--" + std::string(size_t{1} << 17, 'q')}),
              HasSubstr("qqq: unknown option; --help lists the options"));
  spec_.config_file = false;
  EXPECT_THAT(parse_error({"--config", "x"}), HasSubstr("--config: unknown option"));
}

TEST_F(CommandLineTest, MissingAndRepeatedValues) {
  EXPECT_EQ(parse_error({"--model"}), "--model: expected a value");
  EXPECT_EQ(parse_error({"--model", "--max-steps", "3"}),
            "--model: expected a value; write --model=VALUE for a value that begins with dashes");
  EXPECT_EQ(parse_error({"--max_steps", "1", "--max-steps", "2"}), "--max_steps: given twice");
  EXPECT_THAT(parse_error({"--max_steps", "-1"}),
              HasSubstr("command line: max_steps is -1, expected at least 0"));
}

TEST_F(CommandLineTest, PositionalArguments) {
  spec_.positional = {"model", "train_files"};
  parse({"m", "a", "--fast", "b", "--", "--c", "-d"});
  EXPECT_EQ(config_.model, "m");
  EXPECT_EQ(config_.fast, true);
  EXPECT_THAT(config_.train_files, ElementsAre("a", "b", "--c", "-d"));
  parse({"-", "-5"});
  EXPECT_EQ(config_.model, "-");
  EXPECT_THAT(config_.train_files, ElementsAre("-5"));
  EXPECT_EQ(parse_error({"--model", "m", "n"}), "--model: given twice");
}

TEST_F(CommandLineTest, RequiredOptions) {
  spec_.required = {"model"};
  EXPECT_EQ(parse_error({"--fast"}), "pretrain: --model is required; it is: Folder of the model.");
  EXPECT_NO_THROW(parse({"--model", "x"}));
}

TEST_F(CommandLineTest, DefaultsThenFileThenCommandLine) {
  const TempFolder folder;
  const std::string path = (folder / "c.json").string();
  write_file_atomic(path, "{\"model\": \"file\",\n\"max_steps\": 5,\n\"train_files\": [\"f\"]}");
  spec_.required = {"model"};
  const CommandLine line = parse({"--max-steps", "7", "--config", path, "--train_files", "g"});
  EXPECT_EQ(line.config_path, path);
  EXPECT_EQ(config_.model, "file");
  EXPECT_EQ(config_.max_steps, 7);
  EXPECT_THAT(config_.train_files, ElementsAre("g"));
  EXPECT_EQ(line.provenance.at("model"), path + ":1");
  EXPECT_EQ(line.provenance.at("max_steps"), "command line");
  EXPECT_EQ(line.provenance.at("dtype"), "default");
  EXPECT_EQ(line.provenance.size(), table_.size());
  EXPECT_EQ(parse_error({"--config", path, "--config=" + path}), "--config: given twice");
  EXPECT_EQ(parse_error({"--config"}), "--config: expected a value");
}

struct NeedsName {
  std::string name;
  static auto options() {
    return std::tuple(option("name", &NeedsName::name, "A name.", not_empty()));
  }
};

TEST_F(CommandLineTest, DefaultsOutsideTheirRangeMustBeReplaced) {
  NeedsName object;
  const OptionTable table = bind_options(object);
  EXPECT_EQ(error_text_of(ErrorKind::kUsage, [&] { parse_command_line(spec_, table, {}); }),
            "default: name is \"\", expected it not to be empty");
  EXPECT_NO_THROW(parse_command_line(spec_, table, {"--name", "x"}));
}

struct OneLetter {
  int64_t n = 1;
  static auto options() { return std::tuple(option("n", &OneLetter::n, "How many.")); }
};

TEST_F(CommandLineTest, OptionsOfOneLetter) {
  OneLetter object;
  const OptionTable table = bind_options(object);
  const auto parse_letter = [&](const std::vector<std::string>& args) {
    parse_command_line(spec_, table, args);
    return object.n;
  };
  EXPECT_EQ(parse_letter({"--n", "5"}), 5);
  EXPECT_EQ(parse_letter({"--n=-6"}), -6);
  EXPECT_EQ(error_text_of(ErrorKind::kUsage, [&] { parse_letter({"--n"}); }),
            "--n: expected a value");
  EXPECT_EQ(error_text_of(ErrorKind::kUsage,
                          [&] {
                            parse_letter({"--n", "--", "x"});
                          }),
            "--n: expected a value; write --n=VALUE for a value that begins with dashes");
}

TEST_F(CommandLineTest, HelpIsPrintedAndNothingElseChecked) {
  spec_.required = {"model"};
  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"--nonsense", "--help"}, std::vector<std::string>{"-h"}}) {
    testing::internal::CaptureStdout();
    const CommandLine line = parse(args);
    EXPECT_TRUE(line.help);
    EXPECT_EQ(testing::internal::GetCapturedStdout(), help_text(spec_, table_));
  }
}

TEST_F(CommandLineTest, HelpHasEveryKeyTypeDefaultRangeAndExample) {
  spec_.positional = {"train_files"};
  spec_.required = {"model"};
  const std::string help = help_text(spec_, table_);
  std::string flat;  // line breaks undone
  for (const std::string& line : split(help, '\n')) flat += cat(trim(line), " ");
  for (const OptionEntry& entry : table_) {
    const size_t at = flat.find("--" + entry.key + " ");
    ASSERT_NE(at, std::string::npos) << entry.key;
    const size_t end = flat.find(']', flat.find(" [" + entry.type, at));
    const std::string row = flat.substr(at, end - at + 1);
    EXPECT_THAT(row, HasSubstr(entry.doc));
    if (entry.range) {
      EXPECT_THAT(row, HasSubstr(entry.range->text));
    }
    if (entry.key != "model" && !entry.is_list) {
      EXPECT_THAT(row, HasSubstr("default " + display_value(entry.get()) + "]"));
    }
  }
  EXPECT_THAT(flat, HasSubstr("usage: llama2zh pretrain [TRAIN_FILES...] --model TEXT [--config "
                              "FILE] [options]"));
  EXPECT_THAT(flat, HasSubstr("Folder of the model. [text; required]"));
  EXPECT_THAT(flat, HasSubstr("default [q_proj, v_proj]]"));
  EXPECT_THAT(flat, HasSubstr("llama2zh pretrain --config 配置.json"));
}

TEST_F(CommandLineTest, HelpFitsTheTerminal) {
  spec_.examples.clear();  // printed whole: people copy them
  const auto columns = std::clamp<size_t>(static_cast<size_t>(terminal_width()), 60, 110);
  for (const std::string& line : split(help_text(spec_, table_), '\n')) {
    EXPECT_LE(display_width(line), columns) << line;
  }
}

TEST_F(CommandLineTest, FlagsAreHyphenatedWhereThereIsNoConfigFile) {
  spec_.config_file = false;
  const std::string help = help_text(spec_, table_);
  EXPECT_THAT(help, HasSubstr("--max-steps N"));
  EXPECT_THAT(help, Not(HasSubstr("--config FILE")));
}

}  // namespace
}  // namespace llama2zh
