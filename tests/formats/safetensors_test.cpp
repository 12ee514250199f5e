// Well-formed safetensors files: what is written is read, and Python's own file is read.
#include "llama2zh/formats/safetensors.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include "format_test.h"
#include "formats/safetensors_header.h"

namespace llama2zh {
namespace {

using format_test::bytes_of;
using format_test::expect_error;
using format_test::Scratch;

at::Tensor numbers(at::IntArrayRef shape, at::ScalarType dtype) {
  int64_t count = 1;
  for (int64_t dim : shape) count *= dim;
  return at::arange(count).to(dtype).reshape(shape);
}

TEST(Safetensors, RoundTripsEveryType) {
  const Scratch folder;
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (auto dtype :
       {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf, at::kBFloat16,
        at::kFloat, at::kDouble, at::kComplexFloat, at::ScalarType::UInt16, at::ScalarType::UInt32,
        at::ScalarType::UInt64, at::ScalarType::Float8_e5m2, at::ScalarType::Float8_e4m3fn}) {
    tensors.emplace_back(c10::toString(dtype), numbers({3, 5}, dtype));
  }
  tensors.emplace_back("scalar", at::full({}, 7.5));
  tensors.emplace_back("empty", at::zeros({0, 4}));
  const auto file = folder / "all.safetensors";
  write_safetensors(file, tensors, {{"origin", "a \"test\""}});
  const auto source = open_safetensors(file);
  ASSERT_EQ(source->tensors().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const auto loaded = source->load(name);
    EXPECT_EQ(loaded.scalar_type(), tensor.scalar_type()) << name;
    ASSERT_EQ(loaded.sizes(), tensor.sizes()) << name;
    const auto size = tensor.nbytes();
    EXPECT_EQ(std::string_view(static_cast<const char*>(loaded.const_data_ptr()), size),
              std::string_view(static_cast<const char*>(tensor.const_data_ptr()), size))
        << name;
  }
  const auto bytes = bytes_of(file);
  const auto header = parse_safetensors_header(bytes, bytes.size(), "file");
  EXPECT_EQ(header.metadata.at("format"), "pt");
  EXPECT_EQ(header.metadata.at("origin"), "a \"test\"");
}

// Written by safetensors 0.8 (Python): torch tensors {"b": [[1, 2], [3, 4]] bfloat16, "a": [-1.5]
// float32}, no metadata given.
TEST(Safetensors, ReadsPythonsFile) {
  const std::string header =
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[2,2],"data_offsets":[4,12]}})";
  std::string file = header;
  file.append((8 - file.size() % 8) % 8, ' ');
  file = format_test::little_endian_u64(file.size()) + file;
  file += std::string("\x00\x00\xc0\xbf\x80\x3f\x00\x40\x40\x40\x80\x40", 12);
  const Scratch folder;
  const auto source = open_safetensors(folder.write("python.safetensors", file));
  ASSERT_EQ(source->tensors().size(), 2);
  EXPECT_EQ(source->tensors()[0].name, "a");
  EXPECT_EQ(source->load("a").item<float>(), -1.5f);
  const auto b = source->load("b");
  EXPECT_EQ(b.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(b.to(at::kFloat), numbers({2, 2}, at::kFloat).add(1)));
}

TEST(Safetensors, LaysOutByFallingElementSizeOnAlignedBytes) {
  const Scratch folder;
  const auto file = folder / "mixed.safetensors";
  write_safetensors(file, {{"a", numbers({3}, at::kByte)},
                           {"b", numbers({3}, at::kBFloat16)},
                           {"c", numbers({3}, at::kDouble)}});
  const auto bytes = bytes_of(file);
  const auto header = parse_safetensors_header(bytes, bytes.size(), "file");
  ASSERT_EQ(header.entries.size(), 3);
  EXPECT_EQ(header.entries[2].offset % 64, 0);  // c first
  EXPECT_EQ(header.entries[1].offset, header.entries[2].offset + 24);
  EXPECT_EQ(header.entries[0].offset, header.entries[1].offset + 6);
}

TEST(Safetensors, WritesViewsInRowMajorOrder) {
  const Scratch folder;
  const auto base = numbers({4, 6}, at::kFloat);
  write_safetensors(folder / "t.safetensors", {{"t", base.t()}, {"slice", base.slice(1, 2, 4)}});
  const auto source = open_safetensors(folder / "t.safetensors");
  EXPECT_TRUE(at::equal(source->load("t"), base.t()));
  EXPECT_TRUE(at::equal(source->load("slice"), base.slice(1, 2, 4)));
}

TEST(Safetensors, MapsTheFileAndKeepsItMapped) {
  const Scratch folder;
  const auto file = folder / "m.safetensors";
  write_safetensors(file, {{"w", numbers({64, 64}, at::kFloat)}});
  const auto source = open_safetensors(file);
  const auto first = source->load("w");
  EXPECT_EQ(first.const_data_ptr(), source->load("w").const_data_ptr());  // no copies
  auto kept = open_safetensors(file)->load("w");                          // its source is gone
  std::filesystem::remove(file);
  EXPECT_TRUE(at::equal(kept, numbers({64, 64}, at::kFloat)));
}

TEST(Safetensors, CopiesMisalignedTensors) {
  const std::string header =
      R"({"u":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"f":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})";
  std::string file = format_test::little_endian_u64(header.size()) + header;
  const float values[] = {1.25f, -3.f};
  file += '\7';
  file.append(reinterpret_cast<const char*>(values), sizeof values);
  const Scratch folder;
  const auto source = open_safetensors(folder.write("odd.safetensors", file));
  const auto f = source->load("f");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(f.const_data_ptr()) % 4, 0);
  EXPECT_EQ(f[0].item<float>(), 1.25f);
  EXPECT_EQ(f[1].item<float>(), -3.f);
}

// F7: the new file appears under the name while the old one stays mapped.
TEST(Safetensors, SavesOverTheMappedFile) {
  const Scratch folder;
  const auto file = folder / "w.safetensors";
  const auto old_values = numbers({1000}, at::kFloat);
  write_safetensors(file, {{"w", old_values}});
  const auto old_source = open_safetensors(file);
  const auto old_tensor = old_source->load("w");
  write_safetensors(file, {{"w", old_tensor.add(1)}, {"w2", old_tensor}});
  EXPECT_TRUE(at::equal(old_tensor, old_values));
  EXPECT_TRUE(at::equal(old_source->load("w"), old_values));
  const auto new_source = open_safetensors(file);
  EXPECT_TRUE(at::equal(new_source->load("w"), old_values.add(1)));
  EXPECT_TRUE(at::equal(new_source->load("w2"), old_values));
}

TEST(Safetensors, NamesTheNearestTensor) {
  const Scratch folder;
  write_safetensors(folder / "w.safetensors", {{"model.norm.weight", at::ones({2})}});
  const auto source = open_safetensors(folder / "w.safetensors");
  EXPECT_EQ(source->find("model.norm.weights"), nullptr);
  expect_error(
      ErrorKind::kFormat, [&] { source->load("model.norm.weights"); }, "w.safetensors",
      "there is no tensor model.norm.weights", "the nearest name is model.norm.weight");
}

TEST(Safetensors, RefusesWhatItCannotStore) {
  const Scratch folder;
  const auto file = folder / "x.safetensors";
  const auto one = at::ones({2});
  expect_error(
      ErrorKind::kData,
      [&] {
        write_safetensors(file, {{"a", one}, {"a", one}});
      },
      "given twice");
  expect_error(
      ErrorKind::kData,
      [&] {
        write_safetensors(file, {{"__metadata__", one}});
      },
      "reserved");
  expect_error(
      ErrorKind::kData,
      [&] {
        write_safetensors(file, {{"\xff", one}});
      },
      "not UTF-8");
  expect_error(
      ErrorKind::kData,
      [&] {
        write_safetensors(file, {{"a", at::Tensor()}});
      },
      "undefined");
  expect_error(
      ErrorKind::kData,
      [&] {
        write_safetensors(file, {{"a", one.to(at::kComplexDouble)}});
      },
      "ComplexDouble");
  expect_error(
      ErrorKind::kIo,
      [&] {
        write_safetensors(folder / "no/x.safetensors", {{"a", one}});
      },
      "no/x.safetensors");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));  // nothing half written
}

}  // namespace
}  // namespace llama2zh
