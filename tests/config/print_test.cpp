#include <gmock/gmock.h>

#include "config/sample_config.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/load.h"

namespace llama2zh {
namespace {

using testing::HasSubstr;

TEST(Print, DisplayValue) {
  EXPECT_EQ(display_value(nullptr), "none");
  EXPECT_EQ(display_value(""), "\"\"");
  EXPECT_EQ(display_value("中文"), "中文");
  EXPECT_EQ(display_value("a b"), "\"a b\"");
  EXPECT_EQ(display_value({1, 2}), "[1, 2]");
  EXPECT_EQ(display_value({"a,b"}), "[\"a,b\"]");
  EXPECT_EQ(display_value(1e-5), "1e-05");
  EXPECT_EQ(display_value(true), "true");
}

TEST(Print, ValuesWithTheirSource) {
  SampleConfig config;
  config.model = "模型";
  const std::string text =
      describe_values(bind_options(config), {{"model", "c.json:3"}, {"seed", "command line"}});
  const std::vector<std::string> lines = split(text, '\n');
  ASSERT_EQ(lines.size(), 15u);
  EXPECT_EQ(lines[0], "model = 模型" + std::string(32, ' ') + "  # c.json:3");
  EXPECT_EQ(lines[11], "train.lora.target_modules = [q_proj, v_proj]  # default");
  EXPECT_THAT(text, HasSubstr("# command line"));
}

TEST(Print, MarkdownHasARowForEachOption) {
  SampleConfig config;
  const std::string text = options_markdown(bind_options(config));
  EXPECT_EQ(split(text, '\n').size(), 2 + 14 + 1u);
  EXPECT_THAT(text,
              HasSubstr("| `train.lora.rank` | integer | `8` | 1 to 4096 | Rank of A and B. |\n"));
  EXPECT_THAT(text, HasSubstr("| `seed` | integer or null | `42` | at least 0 | Seed. |\n"));
  EXPECT_THAT(text, HasSubstr("Projections \\| that get one."));
}

}  // namespace
}  // namespace llama2zh
