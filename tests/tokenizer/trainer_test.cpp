#include <algorithm>
#include <thread>

#include "llama2zh/base/json.h"
#include "tokenizer/test_models.h"

namespace llama2zh {
namespace {

using testing::expect_error;

std::string sample_text() {
  std::string text;
  for (int i = 0; i < 200; ++i) {
    text += "今天天气很好，我们去公园散步。\n人工智能正在改变世界 " + std::to_string(i) + "\n";
    text += "the quick brown fox jumps over the lazy dog\n";
  }
  return text;
}

TokenizerTraining options_for(const std::filesystem::path& input) {
  TokenizerTraining options;
  options.inputs = {input};
  options.vocab_size = 400;
  options.threads = 2;
  return options;
}

TEST(TokenizerTraining, TrainsWithLlamasSettings) {
  const testing::TemporaryFolder folder;
  const auto input = folder.write("text.txt", sample_text());
  for (const char* type : {"bpe", "unigram"}) {
    TokenizerTraining options = options_for(input);
    options.model_type = type;
    options.vocab_size = options.model_type == "bpe" ? 400 : 320;
    const auto output = folder.path() / (std::string(type) + ".model");
    train_tokenizer(options, output);
    const ModelProto model = ModelProto::read(output);
    EXPECT_EQ(static_cast<int64_t>(model.pieces().size()), options.vocab_size);
    EXPECT_EQ(model.is_bpe(), options.model_type == "bpe");
    EXPECT_TRUE(model.has_byte_fallback() && model.specs().add_dummy_prefix);
    EXPECT_FALSE(model.specs().remove_extra_whitespaces);
    EXPECT_EQ(model.pieces()[0].text, "<unk>");
    EXPECT_EQ(model.pieces()[3].text, "<0x00>");
    const Tokenizer tokenizer = Tokenizer::load(output);
    EXPECT_EQ(tokenizer.bos_id(), 1);
    EXPECT_EQ(tokenizer.eos_id(), 2);
    EXPECT_FALSE(tokenizer.pad_id());
    for (const char* text : {"今天天气很好", "  two  spaces ", "𠮷😀 unseen", "2023"}) {
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
    }
    EXPECT_LE(tokenizer.encode("今天天气很好").size(), options.model_type == "bpe" ? 4U : 7U);
    EXPECT_GE(tokenizer.encode("2023").size(), 4U);  // digits stay apart
  }
}

TEST(TokenizerTraining, ReadsJsonLinesAndIsReproducible) {
  const testing::TemporaryFolder folder;
  std::string rows;
  std::string line;
  for (const char c : sample_text()) {
    if (c != '\n') {
      line += c;
      continue;
    }
    rows += json{{"body", line}}.dump() + "\n";
    line.clear();
  }
  TokenizerTraining options = options_for(folder.write("rows.jsonl", rows));
  options.field = "body";
  train_tokenizer(options, folder.path() / "json.model");
  train_tokenizer(options, folder.path() / "again.model");
  train_tokenizer(options_for(folder.write("text.txt", sample_text())),
                  folder.path() / "text.model");
  const std::string bytes = read_file(folder.path() / "json.model");
  EXPECT_EQ(bytes, read_file(folder.path() / "again.model"));
  EXPECT_EQ(bytes, read_file(folder.path() / "text.model"));
  options.field = "text";
  expect_error(ErrorKind::kData, "rows.jsonl:1",
               [&] { train_tokenizer(options, folder.path() / "x.model"); });
}

TEST(TokenizerTraining, CutsLongLinesBetweenCharacters) {
  const testing::TemporaryFolder folder;
  std::string line;
  for (int i = 0; i < 3000; ++i) line += "今天天气很好我们去公园散步";
  TokenizerTraining options = options_for(folder.write("long.txt", line));
  options.vocab_size = 275;
  options.max_sentence_bytes = 1000;
  options.character_coverage = 1;
  train_tokenizer(options, folder.path() / "long.model");
  const ModelProto model = ModelProto::read(folder.path() / "long.model");
  EXPECT_EQ(model.pieces().size(), 275U);
  for (const SentencePiece& piece : model.pieces())
    EXPECT_EQ(piece.text.find("\uFFFD"), std::string::npos);
}

// The number that the message names is the smallest that works.
TEST(TokenizerTraining, SaysHowManyPiecesTheTextNeeds) {
  const testing::TemporaryFolder folder;
  const auto output = folder.path() / "out.model";
  TokenizerTraining options = options_for(folder.write("text.txt", sample_text()));
  for (const char* type : {"bpe", "unigram"}) {
    for (const double coverage : {1.0, 0.985}) {
      options.model_type = type;
      options.character_coverage = coverage;
      options.vocab_size = 262;
      std::string message;
      try {
        train_tokenizer(options, output);
      } catch (const Error& error) {
        message = error.what();
      }
      const std::string before = "needs at least ";
      ASSERT_NE(message.find(before), std::string::npos) << message;
      const int64_t needed = std::stoll(message.substr(message.find(before) + before.size()));
      options.vocab_size = needed - 1;
      expect_error(ErrorKind::kData, "needs at least", [&] { train_tokenizer(options, output); });
      options.vocab_size = needed;
      train_tokenizer(options, output);
      EXPECT_EQ(ModelProto::read(output).pieces().size(), static_cast<size_t>(needed));
    }
  }
}

TEST(TokenizerTraining, NamesWhatIsWrong) {
  const testing::TemporaryFolder folder;
  const auto output = folder.path() / "out.model";
  const auto refused = [&](const TokenizerTraining& options, ErrorKind kind,
                           std::string_view part) {
    expect_error(kind, part, [&] { train_tokenizer(options, output); });
    EXPECT_FALSE(std::filesystem::exists(output));
  };
  TokenizerTraining options = options_for(folder.write("text.txt", sample_text()));
  options.vocab_size = 5000;
  refused(options, ErrorKind::kData, "the text gives at most ");
  options.vocab_size = 262;
  refused(options, ErrorKind::kData, "is 262, the text needs at least ");
  options = options_for(folder.write("empty.txt", "\n\n"));
  refused(options, ErrorKind::kData, "holds no text");
  options = options_for(folder.write("bad.txt", "ok\n\xC3\x28\n"));
  refused(options, ErrorKind::kData, "bad.txt:2");
  options = options_for(folder.path() / "missing.txt");
  refused(options, ErrorKind::kIo, "missing.txt");
  options = options_for(folder.write("text.txt", sample_text()));
  options.model_type = "word";
  refused(options, ErrorKind::kUsage, "bpe or unigram");
  options.model_type = "bpe";
  options.character_coverage = 2;
  refused(options, ErrorKind::kUsage, "character_coverage");
  options.character_coverage = 1;
  options.inputs.clear();
  refused(options, ErrorKind::kUsage, "no text");
}

}  // namespace
}  // namespace llama2zh
