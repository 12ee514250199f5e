#include "llama2zh/tokenizer/text_count.h"

#include <gtest/gtest.h>

#include <set>

#include "llama2zh/tokenizer/character_tables.h"
#include "llama2zh/tokenizer/tokenizer_comparison.h"
#include "llama2zh/tokenizer/vocabulary.h"
#include "tokenizer/shared_data.h"

namespace llama2zh {
namespace {

using testing::shared_tokenizer;

Language language(std::string_view text) { return language_of(count_letters(text)); }

TEST(TextCount, TellsLanguagesByTheirLetters) {
  EXPECT_EQ(language("今天天气很好。"), Language::kChinese);
  EXPECT_EQ(language("It is 25 degrees."), Language::kEnglish);
  EXPECT_EQ(language("使用 PyTorch 训练"), Language::kChinese);
  EXPECT_EQ(language("He said 你好 to all of us"), Language::kEnglish);
  EXPECT_EQ(language("東京は日本の首都です"), Language::kOther);
  EXPECT_EQ(language("Привет, мир"), Language::kOther);
  EXPECT_EQ(language("123，！"), Language::kOther);
  EXPECT_EQ(language(""), Language::kOther);
}

TEST(TextCount, CountsLettersByScript) {
  const LetterCounts counts = count_letters("汉字,Ａb ｶé。я1");
  EXPECT_EQ(counts.han, 2);
  EXPECT_EQ(counts.latin, 3);
  EXPECT_EQ(counts.other, 2);
  EXPECT_EQ(counts.kana_hangul, 1);
  EXPECT_EQ(counts.neutral, 4);
}

// The sizes that the standards name.
TEST(CharacterTables, HaveTheStandardsSizes) {
  const auto& tables = character_tables();
  ASSERT_EQ(tables.size(), 4U);
  EXPECT_EQ(tables[0].characters.size(), 3755U);
  EXPECT_EQ(tables[0].characters.front(), "啊");
  EXPECT_EQ(tables[0].characters.back(), "座");
  EXPECT_EQ(tables[1].characters.size(), 3008U);
  EXPECT_EQ(tables[2].characters.size(), 5401U);
  EXPECT_EQ(tables[2].characters.front(), "一");
  EXPECT_EQ(tables[3].characters.size(), 7652U);
}

class RealTokenizers : public ::testing::Test {
 protected:
  void SetUp() override { LLAMA2ZH_NEED_SHARED_DATA(); }
};

TEST_F(RealTokenizers, CountBytesOfFallback) {
  const Tokenizer llama = Tokenizer::load(shared_tokenizer("llama2_tokenizer.model"));
  TokenCounter counter(llama);
  const TokenCount count = counter.count("儡a");  // three byte pieces behind "▁", then "a"
  EXPECT_EQ(count.tokens, 5);
  EXPECT_EQ(count.byte_tokens, 3);
  EXPECT_EQ(count.characters, 2);
  EXPECT_EQ(count.bytes, 4);
  EXPECT_EQ(counter.uses()[static_cast<size_t>(*llama.id_of("a"))], 1);
}

TEST_F(RealTokenizers, CompareWithTheFirst) {
  const Tokenizer old = Tokenizer::load(shared_tokenizer("llama2_tokenizer.model"));
  const Tokenizer grown = Tokenizer::load(shared_tokenizer("chinese_llama2_55296.model"));
  TokenizerComparison comparison({&old, &grown});
  comparison.begin_domain();
  comparison.add_line("The cat sat on the mat.");
  comparison.add_line("人工智能是计算机科学的一个分支。");
  const auto measures = comparison.finish();
  ASSERT_EQ(measures.size(), 2U);
  EXPECT_EQ(measures[0].total(Language::kEnglish).tokens,
            static_cast<int64_t>(old.encode("The cat sat on the mat.").size()));
  EXPECT_LT(measures[1].total(Language::kChinese).tokens,
            measures[0].total(Language::kChinese).tokens);
  EXPECT_EQ(measures[1].changed.lines[0], 1);
  EXPECT_EQ(measures[1].changed.changed[0], 1);
  EXPECT_EQ(measures[0].changed.lines[0], 0);
  EXPECT_GT(measures[1].coverage[0], 3700);
  EXPECT_LT(measures[0].coverage[0], 1000);
  // Each list is the pieces of which it is said, and all of them.
  std::vector<std::string> unreachable, displaced, dead;
  std::set<TokenId> used_ids;
  for (const char* line : {"The cat sat on the mat.", "人工智能是计算机科学的一个分支。"})
    for (const TokenId id : grown.encode(line)) used_ids.insert(id);
  for (TokenId id = 0; id < grown.vocab_size(); ++id) {
    if (grown.is_special(id) || grown.is_byte(id)) continue;
    const std::string& piece = grown.piece(id);
    if (used_ids.count(id) == 0) dead.push_back(piece);
    if (grown.encode_continuation(piece) == std::vector<TokenId>{id}) continue;
    unreachable.push_back(piece);
    if (const auto before = old.id_of(piece);
        before && old.encode_continuation(piece) == std::vector<TokenId>{*before})
      displaced.push_back(piece);
  }
  EXPECT_GT(displaced.size(), 0U);
  EXPECT_EQ(measures[1].unreachable, unreachable);
  EXPECT_EQ(measures[1].changed.displaced, displaced);
  EXPECT_EQ(measures[1].dead, dead);
  EXPECT_TRUE(measures[0].changed.displaced.empty());
  const auto used = [](const TokenizerMeasure& measure) {
    return measure.text_pieces - std::ssize(measure.dead);
  };
  EXPECT_GT(used(measures[0]), 5);
  EXPECT_LE(used(measures[0]), measures[0].total().tokens);
}

}  // namespace
}  // namespace llama2zh
