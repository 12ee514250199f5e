#include "llama2zh/config/option.h"

#include <gmock/gmock.h>

#include <limits>

#include "base/expect_error.h"
#include "config/sample_config.h"
#include "llama2zh/config/load.h"

namespace llama2zh {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Options : public testing::Test {
 protected:
  const OptionEntry& entry(const std::string& key) {
    const OptionEntry* found = find_option(table_, key);
    if (found == nullptr) throw std::runtime_error("no option " + key);
    return *found;
  }
  std::string set_error(const std::string& key, const json& value) {
    const json before = entry(key).get();
    std::string text = error_text_of(ErrorKind::kUsage, [&] { entry(key).set(value, "x.json:3"); });
    EXPECT_EQ(entry(key).get(), before) << "a refused value must change nothing";
    return text;
  }
  SampleConfig config_;
  OptionTable table_ = bind_options(config_);
};

TEST_F(Options, SectionsAreFlattenedInTheirOrder) {
  std::vector<std::string> keys;
  for (const OptionEntry& option : table_) keys.push_back(option.key);
  EXPECT_THAT(
      keys, ElementsAre("model", "dtype", "max_steps", "train_files", "stop_ids", "system", "seed",
                        "cut", "fast", "train.lora.rank", "train.lora.dropout",
                        "train.lora.target_modules", "train.learning_rate", "train.shuffle"));
  EXPECT_EQ(bind_options(config_, "a.")[0].key, "a.model");
}

TEST_F(Options, EntriesDescribeTheirMember) {
  EXPECT_EQ(entry("model").type, "text");
  EXPECT_EQ(entry("max_steps").type, "integer");
  EXPECT_EQ(entry("cut").type, "number");
  EXPECT_EQ(entry("fast").type, "boolean");
  EXPECT_EQ(entry("train_files").type, "list of texts");
  EXPECT_EQ(entry("stop_ids").type, "list of integers");
  EXPECT_TRUE(entry("stop_ids").is_list);
  EXPECT_TRUE(entry("fast").is_boolean && entry("fast").is_optional);
  EXPECT_FALSE(entry("model").is_list || entry("model").is_boolean || entry("model").is_optional);
  EXPECT_EQ(entry("train.lora.rank").range->text, "1 to 4096");
}

TEST_F(Options, FindTakesHyphensAndUnderscores) {
  EXPECT_EQ(find_option(table_, "max-steps"), &entry("max_steps"));
  EXPECT_EQ(find_option(table_, "train.lora.target-modules"), &entry("train.lora.target_modules"));
  EXPECT_EQ(find_option(table_, "train"), nullptr);
  EXPECT_EQ(find_option(table_, ""), nullptr);
}

TEST_F(Options, SetWritesIntoTheObject) {
  entry("model").set("dir", "");
  entry("max_steps").set(7, "");
  entry("train.learning_rate").set(1, "");
  entry("train.shuffle").set(false, "");
  entry("train_files").set({"a", "b"}, "");
  entry("stop_ids").set(json::array(), "");
  EXPECT_EQ(config_.model, "dir");
  EXPECT_EQ(config_.max_steps, 7);
  EXPECT_EQ(config_.train.learning_rate, 1.0);
  EXPECT_FALSE(config_.train.shuffle);
  EXPECT_THAT(config_.train_files, ElementsAre("a", "b"));
  EXPECT_THAT(config_.stop_ids, ElementsAre());
}

TEST_F(Options, EntriesOutliveTheTableTheyCameFrom) {
  OptionEntry copy = entry("train.lora.rank");
  table_.clear();
  copy.set(16, "");
  EXPECT_EQ(config_.train.lora.rank, 16);
  EXPECT_THAT(error_text_of(ErrorKind::kUsage, [&] { copy.set(0, "w"); }),
              HasSubstr("w: train.lora.rank is 0, expected 1 to 4096"));
}

TEST_F(Options, NullIsForOptionalsOnly) {
  for (const char* key : {"system", "seed", "cut", "fast"}) entry(key).set(nullptr, "");
  EXPECT_FALSE(config_.system || config_.seed || config_.cut || config_.fast);
  EXPECT_EQ(entry("seed").get(), json(nullptr));
  entry("system").set("null", "");
  EXPECT_EQ(config_.system, "null");
  EXPECT_EQ(set_error("max_steps", nullptr), "x.json:3: max_steps is null, expected an integer");
}

TEST_F(Options, WrongTypesAreNamed) {
  EXPECT_EQ(set_error("max_steps", "8"), "x.json:3: max_steps is \"8\", expected an integer");
  EXPECT_EQ(set_error("seed", true), "x.json:3: seed is true, expected an integer or null");
  EXPECT_EQ(set_error("model", 3), "x.json:3: model is 3, expected a text");
  EXPECT_EQ(set_error("train.shuffle", 1), "x.json:3: train.shuffle is 1, expected true or false");
  EXPECT_EQ(set_error("train.learning_rate", json::object()),
            "x.json:3: train.learning_rate is {}, expected a number");
  EXPECT_EQ(set_error("train_files", "a"),
            "x.json:3: train_files is \"a\", expected a list of texts");
  EXPECT_EQ(set_error("stop_ids", {1, "a"}),
            "x.json:3: stop_ids is [1,\"a\"], expected a list of integers");
  EXPECT_LT(set_error("max_steps", std::string(10000, 'x')).size(), 200u);
}

TEST_F(Options, IntegersAreExact) {
  entry("max_steps").set(1e4, "");
  EXPECT_EQ(config_.max_steps, 10000);
  entry("max_steps").set(std::numeric_limits<int64_t>::max(), "");
  EXPECT_EQ(config_.max_steps, std::numeric_limits<int64_t>::max());
  set_error("max_steps", 8.5);
  set_error("max_steps", 1e300);
  set_error("max_steps", std::numeric_limits<uint64_t>::max());
  set_error("train.learning_rate", std::numeric_limits<double>::quiet_NaN());
  set_error("train.learning_rate", std::numeric_limits<double>::infinity());
}

TEST_F(Options, RangesHoldAtTheirEnds) {
  const auto holds = [](const Range& range, const json& value) { return range.holds(value); };
  EXPECT_TRUE(holds(at_least(1), 1));
  EXPECT_FALSE(holds(at_least(1), 0.999));
  EXPECT_FALSE(holds(greater_than(0), 0));
  EXPECT_TRUE(holds(greater_than(0), 1e-300));
  EXPECT_TRUE(holds(between(-2, 2), -2) && holds(between(-2, 2), 2));
  EXPECT_FALSE(holds(between(-2, 2), 2.001) || holds(between(-2, 2), -2.001));
  EXPECT_TRUE(holds(in_half_open(0, 1), 0));
  EXPECT_FALSE(holds(in_half_open(0, 1), 1));
  EXPECT_TRUE(holds(not_empty(), "x") && holds(not_empty(), json::array({1})));
  EXPECT_FALSE(holds(not_empty(), "") || holds(not_empty(), json::array()));
  EXPECT_TRUE(holds(one_of({"a", "b"}), "b"));
  EXPECT_FALSE(holds(one_of({"a", "b"}), "c"));
  EXPECT_TRUE(holds(some_of({"a", "b"}), json::array({"b", "a"})));
  EXPECT_TRUE(holds(some_of({"a", "b"}), json::array()));
  EXPECT_FALSE(holds(some_of({"a", "b"}), json::array({"a", "a"})));
  EXPECT_FALSE(holds(some_of({"a", "b"}), json::array({"c"})));
  const Range short_text = matching("short", [](const std::string& x) { return x.size() < 3; });
  EXPECT_TRUE(holds(short_text, "ab") && !holds(short_text, "abc") && !holds(short_text, 1));
}

TEST_F(Options, RangesReadWell) {
  EXPECT_EQ(at_least(1048576).text, "at least 1048576");
  EXPECT_EQ(greater_than(1e-8).text, "greater than 1e-08");
  EXPECT_EQ(in_half_open(0, 0.5).text, "at least 0 and less than 0.5");
  EXPECT_EQ(one_of({"a", "b"}).text, "one of a, b");
  EXPECT_THAT(one_of({"a", "b"}).choices, ElementsAre("a", "b"));
}

TEST_F(Options, OutOfRangeIsNamed) {
  EXPECT_EQ(set_error("max_steps", -1), "x.json:3: max_steps is -1, expected at least 0");
  EXPECT_EQ(set_error("dtype", "bflot16"),
            "x.json:3: dtype is \"bflot16\", expected one of auto, float32, bfloat16; did you mean "
            "\"bfloat16\"?");
  EXPECT_EQ(set_error("system", ""), "x.json:3: system is \"\", expected it not to be empty");
  EXPECT_EQ(set_error("stop_ids", {2, -1}), "x.json:3: stop_ids is [2,-1], expected at least 0");
  EXPECT_THAT(set_error("train.lora.target_modules", {"q_proj", "v_prj"}),
              HasSubstr("did you mean \"v_proj\"?"));
}

TEST_F(Options, CheckValuesFindsADefaultThatMustBeReplaced) {
  Provenance provenance{{"max_steps", "x.json:9"}};
  EXPECT_NO_THROW(check_values(table_, provenance));
  config_.max_steps = -5;
  EXPECT_EQ(error_text_of(ErrorKind::kUsage, [&] { check_values(table_, provenance); }),
            "x.json:9: max_steps is -5, expected at least 0");
  config_.max_steps = 0;
  config_.dtype = "";
  EXPECT_THAT(error_text_of(ErrorKind::kUsage, [&] { check_values(table_, provenance); }),
              HasSubstr("default: dtype is \"\", expected one of"));
}

struct Part {
  std::string path;
  std::optional<double> weight;
  static auto options() {
    return std::tuple(option("path", &Part::path, "Where.", not_empty()),
                      option("weight", &Part::weight, "How much.", greater_than(0)));
  }
};
struct Parts {
  std::vector<Part> mixture;
  static auto options() { return std::tuple(option("mixture", &Parts::mixture, "What is mixed.")); }
};

TEST(SectionLists, AreOneOptionWithKeysInside) {
  Parts parts;
  const OptionTable table = bind_options(parts, "data.");
  ASSERT_EQ(table.size(), 1u);
  EXPECT_EQ(table[0].type, "list of sections");
  const json value = {{{"path", "a"}, {"weight", 2}}, {{"path", "b"}}};
  table[0].set(value, "x.json:3");
  ASSERT_EQ(parts.mixture.size(), 2u);
  EXPECT_EQ(parts.mixture[0].weight, 2.0);
  EXPECT_FALSE(parts.mixture[1].weight);
  EXPECT_EQ(table[0].get(), json({{{"path", "a"}, {"weight", 2.0}}, {{"path", "b"}}}));
  const auto refused = [&](const json& wrong) {
    std::string text = error_text_of(ErrorKind::kUsage, [&] { table[0].set(wrong, "x.json:3"); });
    EXPECT_EQ(parts.mixture.size(), 2u) << "a refused value must change nothing";
    return text;
  };
  EXPECT_EQ(refused("a"),
            "x.json:3: data.mixture is \"a\", expected a list of sections [{ ... }, ...]");
  EXPECT_THAT(refused(json::array({"a"})),
              HasSubstr("data.mixture[0] is \"a\", expected a section"));
  EXPECT_THAT(refused({{{"path", "a"}}, {{"path", "b"}, {"weight", 0}}}),
              HasSubstr("data.mixture[1].weight is 0.0, expected greater than 0"));
  EXPECT_THAT(refused(json::array({{{"pth", "a"}}})),
              HasSubstr("did you mean \"data.mixture[0].path\"?"));
  EXPECT_THAT(refused(json::array({{{"weight", 1}}})), HasSubstr("data.mixture[0].path"));
  Provenance provenance;
  set_from_text(table, "data.mixture", {R"({"path": "c"})", R"([{"path": "d", "weight": 3}])"},
                "command line", provenance);
  ASSERT_EQ(parts.mixture.size(), 2u);
  EXPECT_EQ(parts.mixture[0].path, "c");
  EXPECT_EQ(parts.mixture[1].weight, 3.0);
}

}  // namespace
}  // namespace llama2zh
