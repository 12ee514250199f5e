// Real files through the whole layer, against scripts/make_data_reference.py, which knows only
// sentencepiece.
#include <gtest/gtest.h>

#include "llama2zh/base/hash.h"
#include "llama2zh/data/datasets.h"
#include "tokenizer/shared_data.h"

namespace llama2zh {
namespace {

using testing::expect_error;
using testing::shared_data;

template <typename T>
std::string sha256_of(std::span<const T> items) {
  return sha256_hex({reinterpret_cast<const char*>(items.data()), items.size_bytes()});
}

json reference() {
  const char* source = std::getenv("LLAMA2ZH_SOURCE_DIR");
  return read_json_file(std::filesystem::path(source != nullptr ? source : ".") /
                        "tests/reference/data.json");
}

TEST(RealData, RowsAreThoseOfTheReference) {
  LLAMA2ZH_NEED_SHARED_DATA();
  const json expected = reference();
  int cases = 0;
  for (const char* model : {"llama2_tokenizer.model", "chinese_llama2_55296.model"}) {
    const Tokenizer tokenizer = Tokenizer::load(testing::shared_tokenizer(model));
    for (const json& want : expected["cases"]) {
      if (want["tokenizer"] != model) continue;
      SCOPED_TRACE(want.dump());
      DataConfig config;
      config.train_files = {(shared_data() / want["file"].get<std::string>()).string()};
      const bool sft = want["kind"] == "sft";
      if (sft) {
        config.system = want["system"];
        config.block_size = want["block_size"];
        config.overlong = want["overlong"];
      } else if (!want["field"].get<std::string>().empty()) {
        config.field = want["field"];
      }
      const NamedRows got =
          load_datasets(config, sft ? RowKind::kSft : RowKind::kPretrain, tokenizer).train;
      EXPECT_EQ(got.rows.size(), want["rows"].get<int64_t>());
      EXPECT_EQ(got.counts.rows + got.counts.dropped, want.value("read", got.counts.rows));
      EXPECT_EQ(got.rows.total_tokens(), want["tokens"].get<int64_t>());
      EXPECT_EQ(got.rows.total_supervised(), want["supervised"].get<int64_t>());
      EXPECT_EQ(sha256_of(got.rows.all_ids()), want["ids_sha256"].get<std::string>());
      EXPECT_EQ(sha256_of(got.rows.all_supervised()), want["mask_sha256"].get<std::string>());
      ++cases;
    }
  }
  EXPECT_EQ(cases, 30);
}

// The original's v0.2 on two turns, by hand (its own system text in front of the first question).
TEST(RealData, TheOriginalsRowByHand) {
  LLAMA2ZH_NEED_SHARED_DATA();
  const Tokenizer tokenizer = Tokenizer::load(testing::shared_tokenizer("llama2_tokenizer.model"));
  const testing::TemporaryFolder folder;
  DataConfig config;
  config.system = "S";
  config.train_files = {
      folder
          .write("t.json", R"([{"id": "1", "conversations": [{"from": "human", "value": "Q1"},
        {"from": "assistant", "value": "A1"}, {"from": "human", "value": "Q2"},
        {"from": "assistant", "value": "A2"}]}])")
          .string()};
  const TokenRows rows = load_datasets(config, RowKind::kSft, tokenizer).train.rows;
  // <s> ▁[ INST ] << SY S >> \n S \n < </ SY S >> \n Q 1 \n [ / INST ] \n   ▁A 1 </s>
  const std::vector<TokenId> ids = {
      1, 518, 25580, 29962, 9314, 14816, 29903, 6778, 13, 29903, 13, 29966, 829, 14816, 29903, 6778,
      13, 29984, 29896, 13, 29961, 29914, 25580, 29962, 13, 319, 29896, 2,
      // <s> ▁[ INST ] \n Q 2 \n [ / INST ] \n   ▁A 2 </s>
      1, 518, 25580, 29962, 13, 29984, 29906, 13, 29961, 29914, 25580, 29962, 13, 319, 29906, 2};
  std::vector<uint8_t> mask(25, 0);
  mask.insert(mask.end(), 3, 1);
  mask.insert(mask.end(), 13, 0);
  mask.insert(mask.end(), 3, 1);
  EXPECT_TRUE(std::ranges::equal(rows.ids(0), ids));
  EXPECT_TRUE(std::ranges::equal(rows.supervised(0), mask));
}

TEST(RealData, RolesThatTheTemplateLacksAreRefusedByName) {
  LLAMA2ZH_NEED_SHARED_DATA();
  const Tokenizer tokenizer = Tokenizer::load(testing::shared_tokenizer("llama2_tokenizer.model"));
  DataConfig config;
  config.train_files = {(shared_data() / "sft/glaive_toolcall_zh_demo.json").string()};
  const auto load = [&] { return load_datasets(config, RowKind::kSft, tokenizer).train; };
  expect_error(ErrorKind::kData, "glaive_toolcall_zh_demo.json:2: ", load);
  expect_error(ErrorKind::kData, "has no form for the role \"tool\"", load);
  config.skip_bad_rows = true;
  const NamedRows rows = load();
  EXPECT_EQ(rows.counts.rows, 141);  // of 300, 159 have function calls
  EXPECT_EQ(rows.counts.bad, 159);
}

TEST(RealData, AFileThatHoldsOneObjectIsRefused) {
  LLAMA2ZH_NEED_SHARED_DATA();
  const Tokenizer tokenizer = Tokenizer::load(testing::shared_tokenizer("llama2_tokenizer.model"));
  DataConfig config;
  config.train_files = {(shared_data() / "pretrain/poetry_tangshi300.json").string()};
  expect_error(ErrorKind::kFormat, "poetry_tangshi300.json:1:", [&] {
    load_datasets(config, RowKind::kPretrain, tokenizer);
  });
}

}  // namespace
}  // namespace llama2zh
