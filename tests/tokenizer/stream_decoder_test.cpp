#include "llama2zh/base/random.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/tokenizer/tokenizer.h"
#include "tokenizer/test_models.h"

namespace llama2zh {
namespace {

using Ids = std::vector<TokenId>;

// Pushes the ids one by one. What is out so far must be a beginning of the whole and valid UTF-8, and at every prefix
// the text out and what finish() would add must be decode() of that prefix.
void expect_stream_equals_decode(const Tokenizer& tokenizer, const Ids& ids, bool skip_special) {
  const std::string whole = tokenizer.decode(ids, skip_special);
  StreamDecoder stream(tokenizer, skip_special);
  std::string out;
  for (size_t i = 0; i < ids.size(); ++i) {
    out += stream.push(ids[i]);
    ASSERT_TRUE(is_utf8(out));
    ASSERT_TRUE(whole.starts_with(out)) << out << " | " << whole;
    StreamDecoder copy = stream;
    ASSERT_EQ(out + copy.finish(), tokenizer.decode(std::span(ids).first(i + 1), skip_special));
  }
  ASSERT_EQ(out + stream.finish(), whole);
}

TEST(StreamDecoder, HoldsBackUnfinishedCharacters) {
  const testing::TinyModel model;
  const Tokenizer tokenizer = Tokenizer::load(model.path());
  const Ids emoji = tokenizer.encode("😀");  // "▁" and four bytes
  ASSERT_EQ(emoji.size(), 5U);
  StreamDecoder stream(tokenizer);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(stream.push(emoji[i]), "");
  EXPECT_EQ(stream.push(emoji[4]), "😀");
  EXPECT_EQ(stream.push(tokenizer.encode_continuation("北")[0]), "");
  EXPECT_EQ(stream.push(*tokenizer.id_of("ab")), "\uFFFDab");  // the byte could not go on
  EXPECT_EQ(stream.push(*tokenizer.id_of("▁a")), " a");
  EXPECT_EQ(stream.finish(), "");
}

TEST(StreamDecoder, EqualsDecodeOnText) {
  LLAMA2ZH_NEED_SHARED_DATA();
  for (const char* name : {"llama2_tokenizer.model", "chinese_llama2_55296.model"}) {
    const Tokenizer tokenizer = Tokenizer::load(testing::shared_tokenizer(name));
    for (const char* text : {"", " ", "  a  b", "北京 is 首都😀👩‍👩‍👧‍👦。",
                             "𠮷野家\n\tx", "龘靐齉", "①②③é é", "</s> <s>"}) {
      Ids ids = tokenizer.encode(text);
      EXPECT_EQ(tokenizer.decode(ids), text);
      expect_stream_equals_decode(tokenizer, ids, true);
      ids.insert(ids.begin(), tokenizer.bos_id());
      ids.push_back(tokenizer.eos_id());
      expect_stream_equals_decode(tokenizer, ids, true);
      expect_stream_equals_decode(tokenizer, ids, false);
    }
  }
}

TEST(StreamDecoder, EqualsDecodeOnAnyIds) {
  const testing::TinyModel model;
  const Tokenizer tokenizer = Tokenizer::load(model.path());
  Random random(1);
  for (int round = 0; round < 3000; ++round) {
    Ids ids(random.below(10) + 1);
    for (TokenId& id : ids) {
      id = static_cast<TokenId>(random.below(3) == 0
                                    ? random.below(265)
                                    : 3 + 0xC0 + random.below(0x40) - 0x40 * random.below(2));
    }
    expect_stream_equals_decode(tokenizer, ids, random.below(2) == 0);
  }
}

}  // namespace
}  // namespace llama2zh
