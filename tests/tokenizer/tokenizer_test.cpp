#include "llama2zh/tokenizer/tokenizer.h"

#include <sentencepiece_processor.h>

#include <atomic>
#include <thread>

#include "llama2zh/base/json.h"
#include "llama2zh/base/lines.h"
#include "llama2zh/base/random.h"
#include "llama2zh/tokenizer/vocabulary.h"
#include "tokenizer/shared_data.h"
#include "tokenizer/test_models.h"

namespace llama2zh {
namespace {

using testing::shared_tokenizer;
using Ids = std::vector<TokenId>;

void expect_cases(const char* model, const char* cases) {
  const Tokenizer tokenizer = Tokenizer::load(shared_tokenizer(model));
  LineReader reader(shared_tokenizer(cases));
  int count = 0;
  for (std::string line; reader.next(line); ++count) {
    const json row = parse_json(line, reader.where());
    const auto text = row["text"].get<std::string>();
    const Ids ids = row["ids"].get<Ids>();
    ASSERT_EQ(tokenizer.encode(text), ids) << reader.where();
    ASSERT_EQ(tokenizer.decode(ids), row["decoded"].get<std::string>()) << reader.where();
  }
  EXPECT_GT(count, 50);
}

TEST(Tokenizer, EncodesAndDecodesTheLlamaCases) {
  LLAMA2ZH_NEED_SHARED_DATA();
  expect_cases("llama2_tokenizer.model", "cases_llama2_32000.jsonl");
}

TEST(Tokenizer, EncodesAndDecodesTheChineseLlamaCases) {
  LLAMA2ZH_NEED_SHARED_DATA();
  expect_cases("chinese_llama2_55296.model", "cases_chinese_llama2_55296.jsonl");
}

TEST(Tokenizer, KnownVectorsOfLlama) {
  LLAMA2ZH_NEED_SHARED_DATA();
  const Tokenizer tokenizer = Tokenizer::load(shared_tokenizer("llama2_tokenizer.model"));
  EXPECT_EQ(tokenizer.vocab_size(), 32000);
  EXPECT_EQ(tokenizer.fingerprint(),
            "9e556afd44213b6bd1be2b850ebbbd98f5481437a8021afaf58ee7fb1818d347");
  EXPECT_EQ(tokenizer.bos_id(), 1);
  EXPECT_EQ(tokenizer.eos_id(), 2);
  EXPECT_EQ(tokenizer.unk_id(), 0);
  EXPECT_FALSE(tokenizer.pad_id());
  EXPECT_EQ(tokenizer.encode(""), Ids{});
  EXPECT_EQ(tokenizer.encode(" "), Ids{259});
  EXPECT_EQ(tokenizer.encode("\n"), (Ids{29871, 13}));
  EXPECT_EQ(tokenizer.encode("\n "), (Ids{29871, 13, 29871}));
  EXPECT_EQ(tokenizer.encode("  a  b"), (Ids{259, 263, 29871, 289}));
  // llama.cpp issue 167, without its BOS.
  EXPECT_EQ(tokenizer.encode("This is 🦙.cpp"),
            (Ids{910, 338, 29871, 243, 162, 169, 156, 29889, 8223}));
  EXPECT_EQ(tokenizer.encode_continuation("\n"), Ids{13});
  EXPECT_EQ(tokenizer.encode_continuation("a"), Ids{29874});
  EXPECT_EQ(tokenizer.encode_continuation(" a"), Ids{263});
  EXPECT_EQ(tokenizer.encode_continuation(""), Ids{});
  EXPECT_EQ(tokenizer.encode_pieces("\n"), (std::vector<std::string>{"▁", "<0x0A>"}));
  EXPECT_EQ(tokenizer.decode(Ids{1, 910, 338, 2}), "This is");
  EXPECT_EQ(tokenizer.decode(Ids{1, 910, 338, 2}, false), "<s> This is</s>");
  EXPECT_EQ(tokenizer.decode(Ids{0}), " \u2047 ");
  EXPECT_EQ(tokenizer.decode(Ids{}), "");
}

TEST(Tokenizer, KnownVectorsOfTheMerge) {
  LLAMA2ZH_NEED_SHARED_DATA();
  const testing::MergedModel merged;
  const Tokenizer tokenizer = Tokenizer::load(merged.path());
  EXPECT_EQ(tokenizer.vocab_size(), 49953);
  EXPECT_EQ(tokenizer.encode("人工智能是计算机科学的一个分支。"),
            (Ids{29871, 43819, 30392, 33482, 32599, 33207, 39796, 30267}));
  EXPECT_EQ(tokenizer.encode("哈哈哈"), (Ids{29871, 37296}));
  EXPECT_EQ(tokenizer.encode("嘿嘿嘿"), (Ids{29871, 45040, 46816}));
  const auto inside = [&](std::string_view text) {
    std::vector<std::string> pieces;
    for (const TokenId id : tokenizer.encode_continuation(text))
      pieces.push_back(tokenizer.piece(id));
    return pieces;
  };
  EXPECT_EQ(inside("2023"), (std::vector<std::string>{"20", "23"}));
  EXPECT_EQ(inside("12.50"), (std::vector<std::string>{"12.", "50"}));
  EXPECT_EQ(inside(" create"), (std::vector<std::string>{"▁cr", "eat", "e"}));
  EXPECT_EQ(inside("control"), (std::vector<std::string>{"con", "tro", "l"}));
  EXPECT_EQ(tokenizer.piece(32000), "但");
  EXPECT_EQ(tokenizer.piece(49952), "儡");
}

TEST(Tokenizer, PiecesAndTheirBytes) {
  LLAMA2ZH_NEED_SHARED_DATA();
  const Tokenizer tokenizer = Tokenizer::load(shared_tokenizer("llama2_tokenizer.model"));
  EXPECT_EQ(tokenizer.bytes_of(13), "\n");
  EXPECT_EQ(tokenizer.bytes_of(258), "\xFF");
  EXPECT_EQ(tokenizer.bytes_of(259), "  ");
  EXPECT_EQ(tokenizer.bytes_of(910), " This");
  EXPECT_EQ(tokenizer.bytes_of(1), "");
  EXPECT_TRUE(tokenizer.is_special(0) && tokenizer.is_special(1) && tokenizer.is_special(2));
  EXPECT_FALSE(tokenizer.is_special(3));
  EXPECT_TRUE(tokenizer.is_byte(3) && tokenizer.is_byte(258));
  EXPECT_FALSE(tokenizer.is_byte(259));
  EXPECT_EQ(tokenizer.id_of("▁This"), 910);
  EXPECT_FALSE(tokenizer.id_of("no such piece"));
  for (const TokenId id : {-1, 32000, 1 << 30}) {
    testing::expect_error(ErrorKind::kData, "32000 tokens", [&] { tokenizer.piece(id); });
    testing::expect_error(ErrorKind::kData, "32000 tokens", [&] { tokenizer.decode(Ids{id}); });
  }
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  const testing::TinyModel model;
  const Tokenizer tokenizer = Tokenizer::load(model.path());
  testing::expect_error(ErrorKind::kData, "byte 2 ", [&] { tokenizer.encode("ab\xFF"); });
  testing::expect_error(ErrorKind::kData, "UTF-8",
                        [&] { tokenizer.encode_with_specials("\xE4\xB8"); });
}

// A thousand random sequences of ids, byte pieces and control pieces among them, decoded by sentencepiece itself.
TEST(Tokenizer, DecodesAnyIdsAsSentencepieceDoes) {
  LLAMA2ZH_NEED_SHARED_DATA();
  const auto path = shared_tokenizer("chinese_llama2_55296.model");
  const Tokenizer tokenizer = Tokenizer::load(path);
  sentencepiece::SentencePieceProcessor reference;
  ASSERT_TRUE(reference.Load(path.string()).ok());
  Random random(7);
  for (int round = 0; round < 1000; ++round) {
    Ids ids;
    for (uint64_t n = random.below(12) + 1; n > 0; --n) {
      const uint64_t kind = random.below(4);
      const uint64_t range = kind == 0 ? 3 : kind == 1 ? 55296 : 256;
      ids.push_back(static_cast<TokenId>(random.below(range) + (kind >= 2 ? 3 : 0)));
    }
    std::string expected;
    ASSERT_TRUE(reference.Decode(std::vector<int>(ids.begin(), ids.end()), &expected).ok());
    ASSERT_EQ(tokenizer.decode(ids), expected) << ::testing::PrintToString(ids);
  }
}

TEST(Tokenizer, EncodesFromManyThreads) {
  const testing::TinyModel model;
  const Tokenizer tokenizer = Tokenizer::load(model.path());
  const Ids whole = tokenizer.encode("ab ab ba");
  const Ids inside = Tokenizer::load(model.path()).encode_continuation("ab ab ba");
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 200; ++n) {
        wrong += tokenizer.encode("ab ab ba") != whole ||
                 tokenizer.encode_continuation("ab ab ba") != inside;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace llama2zh
