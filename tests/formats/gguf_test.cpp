// GGUF: what is written reads back, by hand-made bytes and by our own writer.
#include "llama2zh/formats/gguf.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>

#include <limits>

#include "format_test.h"
#include "gguf_test_util.h"

namespace llama2zh {
namespace {

using format_test::bytes_of;
using format_test::expect_error;
using format_test::Scratch;
using gguf_test::GgufBytes;

TEST(Gguf, ReadsEveryKindOfValue) {
  const Scratch folder;
  GgufBytes file;
  file.head(0, 14, 2);
  file.string("u8").u32(0).number(uint8_t{255});
  file.string("i8").u32(1).number(int8_t{-128});
  file.string("u16").u32(2).number(uint16_t{65535});
  file.string("i16").u32(3).number(int16_t{-32768});
  file.string("u32").u32(4).u32(4'000'000'000);
  file.string("i32").u32(5).number(int32_t{-7});
  file.string("f32").u32(6).number(1.5F);
  file.string("yes").u32(7).number(uint8_t{1});
  file.string("text").u32(8).string("汉字");
  file.string("list").u32(9).u32(8).u64(2).string("a").string("");
  file.string("u64").u32(10).u64(std::numeric_limits<uint64_t>::max());
  file.string("i64").u32(11).number(int64_t{-1});
  file.string("f64").u32(12).number(0.1);
  file.string("empty").u32(9).u32(6).u64(0);
  const auto gguf = GgufFile::open(folder.write("a.gguf", file.str()));
  EXPECT_EQ(gguf->version(), 2u);
  const GgufMetadata& data = gguf->metadata();
  EXPECT_EQ(data.integer("u8", 0, 255), 255);
  EXPECT_EQ(data.integer("i8", -128, 0), -128);
  EXPECT_EQ(data.integer("u16", 0, 65535), 65535);
  EXPECT_EQ(data.integer("i16", -32768, 0), -32768);
  EXPECT_EQ(data.integer("u32", 0, 1LL << 40), 4'000'000'000);
  EXPECT_EQ(data.integer("i32", -7, -7), -7);
  EXPECT_EQ(data.number("f32"), 1.5);
  EXPECT_TRUE(data.flag("yes", false));
  EXPECT_EQ(data.text("text"), "汉字");
  EXPECT_EQ(data.texts("list"), (std::vector<std::string>{"a", ""}));
  EXPECT_EQ(data.integer("i64", -1, 0), -1);
  EXPECT_EQ(data.number("f64"), 0.1);
  EXPECT_TRUE(data.numbers("empty").empty());
  EXPECT_EQ(data.integer("absent", 0, 9, 5), 5);
  const std::string path = (folder / "a.gguf").string();
  expect_error(
      ErrorKind::kFormat, [&] { data.integer("u64", 0, 9); }, path, "u64", "18446744073709551615",
      "from 0 to 9");
  expect_error(
      ErrorKind::kFormat, [&] { data.integer("yes", 0, 9); }, "yes", "true (bool)");
  expect_error(
      ErrorKind::kFormat, [&] { data.number("text"); }, "text is \"汉字\" (string)");
  expect_error(
      ErrorKind::kFormat, [&] { data.texts("f32"); }, "an array of texts");
  expect_error(
      ErrorKind::kFormat, [&] { data.text("nothing"); }, "nothing: it is missing");
}

TEST(Gguf, PlacesTensorsByTheirOffsets) {
  const Scratch folder;
  GgufBytes file;
  file.head(2, 1).string("general.alignment").u32(4).u32(64);
  file.tensor("late", {3, 2}, 0, 64).tensor("early", {2}, 1, 0).pad(64);
  file.raw(std::string("\x00\x3c\x00\xc0", 4)).pad(64);  // 1 and -2 as halves
  for (int i = 0; i < 6; ++i) file.number(static_cast<float>(i));
  const auto gguf = GgufFile::open(folder.write("a.gguf", file.str()));
  EXPECT_TRUE(at::equal(gguf->load("late"), at::arange(6, at::kFloat).reshape({2, 3})));
  const at::Tensor early = gguf->load("early");
  EXPECT_EQ(early.scalar_type(), at::kHalf);
  EXPECT_EQ(early[0].item<float>(), 1);
  EXPECT_EQ(early[1].item<float>(), -2);
  EXPECT_EQ(gguf->tensor("late").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_TRUE(is_gguf_file(folder / "a.gguf"));
  EXPECT_FALSE(is_gguf_file(folder.path()));
  EXPECT_FALSE(is_gguf_file(folder.write("b.gguf", "GGU")));
}

TEST(Gguf, WhatIsWrittenReadsBack) {
  const Scratch folder;
  GgufMetadata metadata;
  metadata.set("general.architecture", GgufValue::text("llama"));
  metadata.set("list", GgufValue::texts({"x", "", "▁"}));
  metadata.set("types", GgufValue::int32s({1, -2}));
  metadata.set("scores", GgufValue::float32s({0.5F, -1e30F}));
  metadata.set("flag", GgufValue::boolean(false));
  const at::Tensor odd = at::randn({3, 5}), vector = at::randn({7}), rows = at::randn({4, 64});
  {
    GgufWriter writer(folder / "a.gguf", metadata,
                      {{"odd", {3, 5}, GgmlType::kF32},
                       {"vector", {7}, GgmlType::kBF16},
                       {"half", {3, 5}, GgmlType::kF16},
                       {"rows", {4, 64}, GgmlType::kQ8_0}});
    writer.add("odd", odd);
    writer.add("vector", vector);
    writer.add("half", odd);
    writer.add("rows", rows.to(at::kDouble));
    EXPECT_FALSE(std::filesystem::exists(folder / "a.gguf"));
    writer.finish();
  }
  const auto gguf = GgufFile::open(folder / "a.gguf");
  EXPECT_EQ(gguf->version(), 3u);
  EXPECT_EQ(gguf->metadata().texts("list"), (std::vector<std::string>{"x", "", "▁"}));
  EXPECT_EQ(gguf->metadata().integers("types", -9, 9), (std::vector<int64_t>{1, -2}));
  EXPECT_EQ(gguf->metadata().numbers("scores")[1], static_cast<double>(-1e30F));
  EXPECT_FALSE(gguf->metadata().flag("flag", true));
  EXPECT_TRUE(at::equal(gguf->load("odd"), odd));
  EXPECT_TRUE(at::equal(gguf->load("half"), odd.to(at::kHalf)));
  EXPECT_TRUE(at::equal(gguf->load("vector"), vector.to(at::kBFloat16)));
  EXPECT_EQ(gguf->bytes_of("rows").size(), 4u * 2 * 34);
  EXPECT_LT((gguf->load("rows") - rows).abs().max().item<float>(), 0.03);
  for (const GgufTensor* tensor : {&gguf->tensor("odd"), &gguf->tensor("half")}) {
    EXPECT_EQ(tensor->offset % 32, 0u);
  }
}

TEST(Gguf, TheWriterRefusesWhatItWasNotTold) {
  const Scratch folder;
  const auto declare = [&](std::vector<GgufTensor> tensors) {
    GgufWriter(folder / "a.gguf", GgufMetadata(), std::move(tensors));
  };
  const std::string long_name(64, 'n');
  expect_error(
      ErrorKind::kData,
      [&] {
        declare({{long_name, {1}}});
      },
      "longer than 63");
  expect_error(
      ErrorKind::kData,
      [&] {
        declare({{"a", {1}}, {"a", {1}}});
      },
      "given twice");
  expect_error(
      ErrorKind::kData,
      [&] {
        declare({{"a", {2, 33}, GgmlType::kQ8_0}});
      },
      "[2, 33]");
  expect_error(
      ErrorKind::kData,
      [&] {
        declare({{"a", {2, 32}, GgmlType::kQ5_1}});
      },
      "Q5_1");
  GgufWriter writer(folder / "a.gguf", GgufMetadata(),
                    {{"a", {2, 32}, GgmlType::kQ8_0}, {"b", {1}}});
  expect_error(
      ErrorKind::kData, [&] { writer.add("b", at::randn({1})); }, "order");
  expect_error(
      ErrorKind::kData,
      [&] {
        writer.add("a", at::randn({2, 31}));
      },
      "[2, 32]");
  at::Tensor broken = at::randn({2, 32});
  broken[1][3] = std::numeric_limits<float>::infinity();
  expect_error(
      ErrorKind::kData, [&] { writer.add("a", broken); }, "not finite");
  expect_error(
      ErrorKind::kData, [&] { writer.finish(); }, "a was declared but not added");
  EXPECT_FALSE(std::filesystem::exists(folder / "a.gguf"));
}

}  // namespace
}  // namespace llama2zh
