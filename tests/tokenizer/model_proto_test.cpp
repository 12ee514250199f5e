#include "llama2zh/tokenizer/model_proto.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "llama2zh/base/random.h"
#include "tokenizer/test_models.h"

namespace llama2zh {
namespace {

using testing::expect_error;
using testing::first_pieces;
using testing::llama_specs;
using testing::piece_field;
using testing::shared_tokenizer;
using testing::tiny_model_bytes;

TEST(ModelProto, ParsesAndSerializesToTheSameBytes) {
  LLAMA2ZH_NEED_SHARED_DATA();
  for (const char* name : {"llama2_tokenizer.model", "chinese_sp.model",
                           "chinese_llama2_55296.model", "tok512_from_bin.model"}) {
    const std::string bytes = read_file(shared_tokenizer(name));
    EXPECT_TRUE(ModelProto::parse(bytes, name).serialize() == bytes) << name;
  }
}

TEST(ModelProto, ReadsPiecesAndSpecs) {
  LLAMA2ZH_NEED_SHARED_DATA();
  const ModelProto llama = ModelProto::read(shared_tokenizer("llama2_tokenizer.model"));
  ASSERT_EQ(llama.pieces().size(), 32000U);
  EXPECT_TRUE(llama.is_bpe() && llama.has_byte_fallback() && llama.specs().add_dummy_prefix);
  EXPECT_FALSE(llama.specs().remove_extra_whitespaces);
  EXPECT_EQ(llama.pieces()[0].type, PieceType::kUnknown);
  EXPECT_EQ(llama.pieces()[1].type, PieceType::kControl);
  EXPECT_EQ(llama.pieces()[258].text, "<0xFF>");
  EXPECT_EQ(llama.pieces()[258].type, PieceType::kByte);
  EXPECT_EQ(llama.pieces()[259].text, "▁▁");
  EXPECT_EQ(llama.pieces()[259].score, -1e9F);
  EXPECT_EQ(llama.pieces()[31999].score, -31740.0F);
  const ModelProto chinese = ModelProto::read(shared_tokenizer("chinese_sp.model"));
  EXPECT_EQ(chinese.pieces().size(), 20000U);
  EXPECT_FALSE(chinese.is_bpe() || chinese.has_byte_fallback());
}

TEST(ModelProto, KeepsUnknownFieldsAndAppendsBehindThePieces) {
  WireWriter unknown;
  unknown.bytes(200, "kept");
  const std::string bytes = unknown.str() + tiny_model_bytes() + unknown.str();
  ModelProto model = ModelProto::parse(bytes, "tiny");
  EXPECT_EQ(model.serialize(), bytes);
  model.append("新");
  const std::string tail = llama_specs() + unknown.str();
  EXPECT_EQ(model.serialize(),
            bytes.substr(0, bytes.size() - tail.size()) + piece_field("新") + tail);
}

TEST(ModelProto, RefusesWhatIsWrong) {
  const std::string good = first_pieces() + piece_field("a", -1) + llama_specs();
  ASSERT_NO_THROW(ModelProto::parse(good, "good"));
  const auto refused = [](const std::string& bytes, std::string_view part) {
    expect_error(ErrorKind::kFormat, part, [&] { ModelProto::parse(bytes, "m.model"); });
  };
  refused("", "no pieces");
  refused(llama_specs(), "no pieces");
  refused(first_pieces(), "cut off");
  refused(piece_field("a", -1) + good, "listed twice");
  refused(piece_field("") + good, "empty");
  refused(piece_field("\xFF\xFE") + good, "UTF-8");
  refused(piece_field(std::string_view("a\0b", 3)) + good, "UTF-8");
  refused(piece_field("z", NAN) + good, "not finite");
  refused(piece_field("z", -INFINITY) + good, "not finite");
  refused(piece_field("z", 0, 7) + good, "type 7");
  refused(piece_field("<unk2>", 0, 2) + good, "2 unknown pieces");
  refused(piece_field("a", -1) + testing::unigram_specs(), "0 unknown pieces");
  refused(piece_field("<0xg0>", 0, 6) + good, "expected <0xNN>");
  refused(first_pieces() + testing::unigram_specs(), "byte_fallback");
  refused(piece_field("<unk>", 0, 2) + llama_specs(), "byte_fallback");
  refused(good + llama_specs(), "twice");
  WireWriter wrong_type;
  wrong_type.varint(1, 5);
  refused(wrong_type.str() + good, "wire type");
  WireWriter model_type;
  model_type.varint(3, 9);
  WireWriter trainer;
  trainer.bytes(2, model_type.str());
  refused(trainer.str() + piece_field("<unk>", 0, 2), "model_type");
  // A length of 2^62 bytes, and one of 4 GiB.
  refused(std::string("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x3F") + good, "m.model");
  refused(good + std::string("\x0A\xFF\xFF\xFF\xFF\x0F"), "m.model");
}

TEST(ModelProto, RefusesEveryTruncation) {
  const std::string tiny = tiny_model_bytes();
  for (size_t size = 0; size < tiny.size(); ++size) {
    EXPECT_THROW(ModelProto::parse(tiny.substr(0, size), "cut"), Error) << size;
  }
}

TEST(ModelProto, RefusesTruncatedRealModels) {
  LLAMA2ZH_NEED_SHARED_DATA();
  Random random(3);
  for (const char* name : {"llama2_tokenizer.model", "chinese_sp.model"}) {
    const std::string bytes = read_file(shared_tokenizer(name));
    for (int i = 0; i < 60; ++i) {
      const size_t size = random.below(bytes.size() - 16);
      EXPECT_THROW(ModelProto::parse(bytes.substr(0, size), "cut"), Error) << name << " " << size;
    }
  }
}

// Loads the model and encodes with it unless a typed error says no; anything else ends the test program.
void load_hostile(const testing::TemporaryFolder& folder, const std::string& bytes) {
  try {
    const Tokenizer tokenizer = Tokenizer::load(folder.write("hostile.model", bytes));
    const auto ids = tokenizer.encode("ab 北京 \xEF\xBC\xA1\xEF\xBC\x91 é\t  ①");
    tokenizer.encode_continuation("ab");
    tokenizer.decode(ids);
  } catch (const Error& error) {
    EXPECT_NE(error.kind(), ErrorKind::kUsage) << error.what();
  }
}

TEST(ModelProto, SurvivesRandomBytesAndFlippedBits) {
  const testing::TemporaryFolder folder;
  Random random(11);
  const std::string tiny = tiny_model_bytes();
  for (int round = 0; round < 1500; ++round) {
    std::string bytes = tiny;
    if (round % 10 == 0) {
      bytes.resize(random.below(400));
      for (char& c : bytes) c = static_cast<char>(random.below(256));
    }
    for (uint64_t n = random.below(4) + 1; n > 0 && !bytes.empty(); --n) {
      // Half of the flips in the last pieces and the specs, where they do most.
      const size_t tail = std::min<size_t>(bytes.size(), 120);
      const size_t at =
          random.below(2) == 0 ? random.below(bytes.size()) : bytes.size() - 1 - random.below(tail);
      bytes[at] = static_cast<char>(random.below(256));
    }
    load_hostile(folder, bytes);
  }
}

// sentencepiece follows the character map's trie without a look at its bounds.
TEST(ModelProto, SurvivesDamagedCharacterMaps) {
  LLAMA2ZH_NEED_SHARED_DATA();
  std::string map;
  const std::string chinese = read_file(shared_tokenizer("chinese_sp.model"));
  WireReader reader(chinese, "chinese_sp.model");
  for (WireField field; reader.next(field);) {
    if (field.number != 3) continue;
    WireReader inner(field.bytes, "normalizer_spec");
    for (WireField part; inner.next(part);) {
      if (part.number == 2) map = part.bytes;
    }
  }
  ASSERT_GT(map.size(), 1000U);
  const auto model = [](const std::string& char_map) {
    WireWriter spec, fields;
    spec.bytes(2, char_map);
    fields.bytes(2, {});
    fields.bytes(3, spec.str());
    return piece_field("<unk>", 0, 2) + piece_field("<s>", 0, 3) + piece_field("</s>", 0, 3) +
           piece_field("▁", -2) + piece_field("a", -1) + fields.str();
  };
  ASSERT_NO_THROW(ModelProto::parse(model(map), "good"));
  const testing::TemporaryFolder folder;
  Random random(5);
  int refused = 0;
  for (int round = 0; round < 60; ++round) {
    std::string damaged = map;
    for (uint64_t n = random.below(200) + 1; n > 0; --n) {
      damaged[random.below(damaged.size())] = static_cast<char>(random.below(256));
    }
    if (round % 5 == 0) damaged.resize(random.below(damaged.size()));
    try {
      ModelProto::parse(model(damaged), "damaged");
    } catch (const Error&) {
      ++refused;
    }
    load_hostile(folder, model(damaged));
  }
  EXPECT_GT(refused, 20);
}

}  // namespace
}  // namespace llama2zh
