#include <gmock/gmock.h>

#include <thread>

#include "llama2zh/base/file.h"
#include "llama2zh/base/random.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/tokenizer/chat_template.h"
#include "tokenizer/byte_level_models.h"

namespace llama2zh {
namespace {

using testing::byte_level_json;
using testing::byte_level_tokenizer;
using testing::byte_level_vectors;
using testing::expect_error;
using Ids = std::vector<TokenId>;

TEST(ByteLevel, EncodesAndDecodesAsTokenizersDoes) {
  for (const auto& [name, variant] : byte_level_vectors()["variants"].items()) {
    const Tokenizer tokenizer = byte_level_tokenizer(variant["changes"]);
    for (const json& item : variant["cases"]) {
      const auto text = item[0].get<std::string>();
      const Ids ids = item[1].get<Ids>();
      for (int twice = 0; twice < 2; ++twice)  // the second time from the cache of words
        EXPECT_EQ(tokenizer.encode_with_specials(text), ids) << name << ": " << text;
      EXPECT_EQ(tokenizer.decode(ids, false), item[2].get<std::string>()) << name << ": " << text;
    }
  }
}

TEST(ByteLevel, TextIsOnlyTextUnlessAsked) {
  const Tokenizer tokenizer = byte_level_tokenizer();
  EXPECT_EQ(tokenizer.encode_with_specials("<|im_end|>"), Ids{2});
  const Ids ids = tokenizer.encode("<|im_end|>");
  EXPECT_GT(ids.size(), 3U);
  EXPECT_EQ(tokenizer.decode(ids), "<|im_end|>");
  EXPECT_EQ(tokenizer.decode(Ids{2}), "");
  EXPECT_EQ(tokenizer.decode(Ids{2}, false), "<|im_end|>");
}

TEST(ByteLevel, SaysWhatItIs) {
  const Tokenizer tokenizer = byte_level_tokenizer();
  EXPECT_EQ(tokenizer.kind(), TokenizerKind::kByteLevelBpe);
  EXPECT_EQ(tokenizer.sentencepiece(), nullptr);
  EXPECT_EQ(tokenizer.vocab_size(), 701);
  EXPECT_EQ(tokenizer.model_size(), 701);
  EXPECT_EQ(tokenizer.bos_id(), 1);
  EXPECT_EQ(tokenizer.eos_id(), 2);
  EXPECT_EQ(tokenizer.unk_id(), 0);
  EXPECT_FALSE(tokenizer.pad_id());
  EXPECT_FALSE(tokenizer.add_bos());
  EXPECT_FALSE(tokenizer.starts_texts_with_bos());
  EXPECT_TRUE(tokenizer.is_special(699));   // <pad>
  EXPECT_FALSE(tokenizer.is_special(700));  // 中文词, which is text
  EXPECT_EQ(tokenizer.bytes_of(700), "中文词");
  const TokenId space = *tokenizer.id_of("Ġ");
  EXPECT_EQ(tokenizer.bytes_of(space), " ");
  EXPECT_FALSE(tokenizer.is_byte(space));
  expect_error(ErrorKind::kData, "701 is not an id", [&] { tokenizer.decode(Ids{701}); });
  expect_error(ErrorKind::kData, "not UTF-8", [&] { tokenizer.encode("\xFF"); });
}

TEST(ByteLevel, BytesWithoutASymbolAreLeftOutOrUnknown) {
  const Tokenizer plain = byte_level_tokenizer();
  EXPECT_EQ(plain.missing_bytes(), std::vector<uint8_t>{4});
  EXPECT_EQ(plain.encode("\x04"), Ids{});
  EXPECT_EQ(plain.encode("a\x04"
                         "b"),
            (Ids{*plain.id_of("a"), *plain.id_of("b")}));
  const Tokenizer unknown = byte_level_tokenizer({{"model", {{"unk_token", "<|endoftext|>"}}}});
  EXPECT_EQ(unknown.encode("\x04\x04"), (Ids{0, 0}));
  const Tokenizer fused =
      byte_level_tokenizer({{"model", {{"unk_token", "<|endoftext|>"}, {"fuse_unk", true}}}});
  EXPECT_EQ(fused.encode("\x04\x04"), Ids{0});
}

TEST(ByteLevel, AWordThatIsATokenIsTakenWholeWithIgnoreMerges) {
  json model = byte_level_json()["model"];  // a token that no merge makes
  model["vocab"]["QQQ"] = 699;
  json added = byte_level_json()["added_tokens"];
  added[3]["id"] = 700;
  added[4]["id"] = 701;
  const auto encode = [&](bool ignore_merges) {
    model["ignore_merges"] = ignore_merges;
    return byte_level_tokenizer({{"model", model}, {"added_tokens", added}}).encode("QQQ");
  };
  EXPECT_EQ(encode(true), Ids{699});
  EXPECT_EQ(encode(false).size(), 3U);
}

TEST(ByteLevel, ContinuationsHaveNoPrefix) {
  const Tokenizer tokenizer =
      byte_level_tokenizer(byte_level_vectors()["variants"]["prefix"]["changes"]);
  EXPECT_EQ(tokenizer.encode("a"), tokenizer.encode(" a"));
  EXPECT_EQ(tokenizer.encode_continuation("a"), Ids{*tokenizer.id_of("a")});
}

TEST(ByteLevel, StreamsAnyIds) {
  const Tokenizer tokenizer = byte_level_tokenizer();
  Random random(7);
  for (int round = 0; round < 200; ++round) {
    Ids ids;
    std::string bytes;
    const Ids parts = tokenizer.encode("𠮷家é");  // and special tokens between their bytes
    for (int i = 0; i < 12; ++i) {
      const Ids choice = {
          static_cast<TokenId>(random.below(701)), parts[random.below(parts.size())],
          parts[static_cast<size_t>(i) % parts.size()], static_cast<TokenId>(random.below(3))};
      ids.push_back(choice[random.below(choice.size())]);
      bytes += tokenizer.bytes_of(ids.back());
    }
    // Tokens left out do not end a character; each invalid part is one U+FFFD, as in Rust and Python.
    const std::string whole = tokenizer.decode(ids);
    ASSERT_EQ(whole, utf8_sanitize(bytes));
    StreamDecoder stream(tokenizer);
    std::string out;
    for (const TokenId id : ids) {
      out += stream.push(id);
      ASSERT_TRUE(whole.starts_with(out));
    }
    ASSERT_EQ(out + stream.finish(), whole);
  }
}

TEST(ByteLevel, StreamHoldsBackUnfinishedCharacters) {
  const Tokenizer tokenizer = byte_level_tokenizer();
  const Ids ids = tokenizer.encode("𠮷");
  ASSERT_GT(ids.size(), 1U);
  StreamDecoder stream(tokenizer);
  for (size_t i = 0; i + 1 < ids.size(); ++i) EXPECT_EQ(stream.push(ids[i]), "");
  EXPECT_EQ(stream.push(ids.back()), "𠮷");
  EXPECT_EQ(stream.push(ids.front()), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

TEST(ByteLevel, ThreadsShareOneTokenizer) {
  const Tokenizer tokenizer = byte_level_tokenizer();
  std::string text;
  Random random(3);
  const std::u32string_view characters = U"aeiou the人工智能 \n1";
  for (int i = 0; i < 20000; ++i) append_utf8(text, characters[random.below(characters.size())]);
  const Ids alone = byte_level_tokenizer().encode(text);
  std::vector<Ids> found(4);
  std::vector<std::thread> threads;
  for (Ids& ids : found) threads.emplace_back([&] { ids = tokenizer.encode(text); });
  for (std::thread& thread : threads) thread.join();
  for (const Ids& ids : found) EXPECT_EQ(ids, alone);
}

TEST(ByteLevel, CachedWordsStayRight) {
  // Far more words than the cache has places.
  const Tokenizer tokenizer = byte_level_tokenizer();
  Random random(5);
  for (int i = 0; i < 100000; ++i) {
    std::string word;
    for (uint64_t length = 1 + random.below(7); length > 0; --length)
      word += static_cast<char>('a' + random.below(26));
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(word)), word);
  }
  const Tokenizer fresh = byte_level_tokenizer();
  for (const char* word : {"the", "house", "year", "thehouse"})
    EXPECT_EQ(tokenizer.encode(word), fresh.encode(word));
}

TEST(ByteLevel, BosIsWhatThePostProcessorPutsThere) {
  const auto piece = [](const char* kind, const char* id) {
    return json{{kind, {{"id", id}, {"type_id", 0}}}};
  };
  const auto with = [&](std::vector<json> single) {
    return json{{"post_processor",
                 {{"type", "Sequence"},
                  {"processors",
                   {{{"type", "ByteLevel"}, {"trim_offsets", false}},
                    {{"type", "TemplateProcessing"}, {"single", std::move(single)}}}}}}};
  };
  const json bos = piece("SpecialToken", "<|im_start|>"), eos = piece("SpecialToken", "<|im_end|>");
  const json text = piece("Sequence", "A");
  EXPECT_TRUE(byte_level_tokenizer(with({bos, text})).add_bos());
  EXPECT_TRUE(byte_level_tokenizer(with({bos, text})).starts_texts_with_bos());
  EXPECT_TRUE(byte_level_tokenizer(with({bos, text, eos})).add_bos());
  EXPECT_FALSE(byte_level_tokenizer(with({text, eos})).add_bos());
  // transformers 5 lets tokenizer_config.json decide where it says something.
  EXPECT_FALSE(byte_level_tokenizer(with({bos, text}),
                                    R"({"eos_token": "<|im_end|>", "add_bos_token": false})")
                   .add_bos());
  EXPECT_EQ(byte_level_tokenizer(with({bos, text}), R"({"eos_token": "<|im_end|>"})").bos_id(), 1);
  expect_error(ErrorKind::kFormat, "but bos_token is \"<|im_end|>\"", [&] {
    byte_level_tokenizer(with({bos, text}),
                         R"({"bos_token": "<|im_end|>", "eos_token": "<|im_end|>"})");
  });
  for (const std::vector<json>& other :
       {std::vector<json>{bos, bos, text}, {text, text}, {bos}, {text, eos, eos}}) {
    expect_error(ErrorKind::kFormat, "not [BOS] text [EOS]",
                 [&] { byte_level_tokenizer(with(other)); });
  }
}

TEST(ByteLevel, WithoutBosTextsAreSeparatedByEos) {
  const Tokenizer tokenizer = byte_level_tokenizer({}, R"({"eos_token": "<|endoftext|>"})");
  EXPECT_EQ(tokenizer.bos_id(), 0);
  EXPECT_FALSE(tokenizer.add_bos());
  expect_error(ErrorKind::kFormat, "it has no",
               [] { byte_level_tokenizer({}, R"({"bos_token": "<|endoftext|>"})"); });
}

TEST(ByteLevel, AFolderComesBackAsItWasSaved) {
  const testing::TemporaryFolder folder;
  const Tokenizer first = byte_level_tokenizer(
      {}, R"({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<pad>",
              "model_max_length": 512, "added_tokens_decoder": {"701": {"content": "[new]",
              "special": true}}, "chat_template": "T"})");
  EXPECT_EQ(first.vocab_size(), 702);
  EXPECT_EQ(first.encode_with_specials("[new]"), Ids{701});
  first.save(folder.path(), "smollm2");
  EXPECT_TRUE(has_tokenizer(folder.path()));
  EXPECT_EQ(read_file(folder.path() / "tokenizer.json"), *first.tokenizer_json());
  const Tokenizer second = Tokenizer::load(folder.path());
  EXPECT_EQ(second.vocab_size(), 702);
  EXPECT_EQ(second.pad_id(), first.pad_id());
  EXPECT_EQ(second.fingerprint(), first.fingerprint());
  EXPECT_EQ(second.template_name(), "smollm2");
  EXPECT_EQ(second.hf_chat_template(), ChatTemplate::get("smollm2").jinja());
  EXPECT_EQ(second.path(), folder.path() / "tokenizer.json");
  EXPECT_EQ(second.encode_with_specials("a <pad> b[new]"),
            first.encode_with_specials("a <pad> b[new]"));
  expect_error(ErrorKind::kFormat, "Give the folder",
               [&] { Tokenizer::load(folder.path() / "tokenizer.json"); });
}

TEST(ByteLevel, ChatMarksAreIdsAndTheMessagesAreText) {
  const Tokenizer tokenizer = byte_level_tokenizer();
  const std::vector<Message> messages = {{Role::kUser, "Hi <|im_end|>"}};
  Ids expected = {1};
  const auto add = [&](const char* text) { tokenizer.encode_append(text, true, expected); };
  add("system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face");
  expected.push_back(2);
  add("\n");
  expected.push_back(1);
  add("user\nHi <|im_end|>");
  expected.push_back(2);
  add("\n");
  expected.push_back(1);
  add("assistant\n");
  EXPECT_EQ(ChatTemplate::get("smollm2").encode_prompt(tokenizer, messages), expected);
  EXPECT_EQ(ChatTemplate::get("smollm2").stop_ids(tokenizer), (Ids{2, 1}));
}

}  // namespace
}  // namespace llama2zh
