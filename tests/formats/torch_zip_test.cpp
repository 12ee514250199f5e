// torch.save archives: Python's files are read, ours are read back.
#include "llama2zh/formats/torch_zip.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <openssl/evp.h>
#include <zlib.h>

#include <memory>

#include "format_test.h"
#include "formats/zip_reader.h"
#include "llama2zh/formats/tensor_source.h"
#include "torch_fixtures.h"

namespace llama2zh {
namespace {

using format_test::expect_error;
using format_test::Scratch;

std::string unpack_fixture(std::string_view base64, size_t size) {
  std::string packed(base64.size(), '\0');
  const int length = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(packed.data()),
                                     reinterpret_cast<const unsigned char*>(base64.data()),
                                     static_cast<int>(base64.size()));
  std::string bytes(size, '\0');
  uLongf unpacked = size;
  EXPECT_EQ(uncompress(reinterpret_cast<Bytef*>(bytes.data()), &unpacked,
                       reinterpret_cast<const Bytef*>(packed.data()), static_cast<uLong>(length)),
            Z_OK);
  EXPECT_EQ(unpacked, size);
  return bytes;
}

at::Tensor counting() { return at::arange(6).to(at::kFloat).reshape({2, 3}); }

// What scripts/make_torch_fixtures.py saved.
void expect_fixture(const TensorSource& source) {
  ASSERT_EQ(source.tensors().size(), 9);
  EXPECT_TRUE(at::equal(source.load("w"), counting()));  // a Parameter
  EXPECT_TRUE(at::equal(source.load("view"), counting().t()));
  EXPECT_TRUE(source.load("view").is_contiguous());
  EXPECT_TRUE(at::equal(source.load("tail"), counting()[1]));
  EXPECT_TRUE(at::equal(source.load("tied"), counting()));
  EXPECT_EQ(static_cast<const float*>(source.load("tail").const_data_ptr()),
            static_cast<const float*>(source.load("tied").const_data_ptr()) + 3);  // shared, mapped
  EXPECT_EQ(source.require("bf").dtype, at::kBFloat16);
  EXPECT_EQ(source.load("bf")[1].item<float>(), 2);
  EXPECT_EQ(source.require("u16").dtype, at::ScalarType::UInt16);
  EXPECT_EQ(source.load("u16")[0].item<int64_t>(), 65535);
  EXPECT_EQ(source.require("f8").dtype, at::ScalarType::Float8_e4m3fn);
  EXPECT_EQ(source.load("f8").to(at::kFloat)[1].item<float>(), -2);
  EXPECT_EQ(source.load("scalar").item<int64_t>(), 7);
  EXPECT_EQ(source.load("empty").sizes(), at::IntArrayRef({0, 4}));
}

TEST(TorchZip, ReadsPythonsStateDict) {
  const Scratch folder;
  const auto file = folder.write("p2.bin", unpack_fixture(kTorchProtocol2, kTorchProtocol2Size));
  expect_fixture(*open_torch_zip(file));
  expect_fixture(*open_tensors(file));
}

TEST(TorchZip, ReadsPickleProtocol4) {
  const Scratch folder;
  const auto file = folder.write("p4.bin", unpack_fixture(kTorchProtocol4, kTorchProtocol4Size));
  expect_fixture(*open_torch_zip(file));
}

TEST(TorchZip, RoundTrips) {
  const Scratch folder;
  const auto file = folder / "out.bin";
  std::vector<std::pair<std::string, at::Tensor>> tensors = {
      {"empty", at::zeros({0, 4})}, {"scalar", at::full({}, 2.5)}, {"t", counting().t()}};
  for (auto dtype : {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf,
                     at::kBFloat16, at::kFloat, at::kDouble, at::ScalarType::UInt16,
                     at::ScalarType::UInt32, at::ScalarType::UInt64, at::ScalarType::Float8_e5m2}) {
    tensors.emplace_back(c10::toString(dtype), at::arange(24).to(dtype).reshape({2, 3, 2, 2}));
  }
  write_torch_zip(file, tensors);
  const auto source = open_torch_zip(file);
  ASSERT_EQ(source->tensors().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const auto loaded = source->load(name);
    EXPECT_EQ(loaded.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_EQ(loaded.sizes(), tensor.sizes()) << name;
    EXPECT_TRUE(at::equal(loaded.to(at::kDouble), tensor.to(at::kDouble))) << name;
  }
  const ZipReader zip(MappedFile::open(file));
  for (const auto& [name, entry] : zip.entries()) EXPECT_EQ(entry.offset % 64, 0) << name;
  const auto again = folder / "again.bin";
  write_torch_zip(again, tensors);
  EXPECT_EQ(format_test::bytes_of(file), format_test::bytes_of(again));  // nothing random in it
}

TEST(TorchZip, SavesOverTheMappedFile) {
  const Scratch folder;
  const auto file = folder / "w.bin";
  write_torch_zip(file, {{"w", counting()}});
  const auto old_tensor = open_torch_zip(file)->load("w");
  write_torch_zip(file, {{"w", old_tensor.add(1)}});
  EXPECT_TRUE(at::equal(old_tensor, counting()));
  EXPECT_TRUE(at::equal(open_torch_zip(file)->load("w"), counting().add(1)));
}

TEST(TorchZip, AsksForEachTensorWhenItIsItsTurn) {
  const Scratch folder;
  const auto file = folder / "lazy.bin";
  const std::vector<TensorInfo> infos = {{"a", at::kFloat, {2, 3}}, {"b", at::kHalf, {4}}};
  std::weak_ptr<int> last;
  write_torch_zip(file, infos, [&](size_t i) {
    EXPECT_TRUE(last.expired()) << "the tensor before is still held";
    const auto alive = std::make_shared<int>(0);
    last = alive;
    const at::Tensor values = at::full(infos[i].shape, 2., infos[i].dtype);
    return at::from_blob(
        values.data_ptr(), values.sizes(), [values, alive](void*) {}, values.options());
  });
  const auto source = open_torch_zip(file);
  EXPECT_TRUE(at::equal(source->load("a"), at::full({2, 3}, 2.f)));
  EXPECT_EQ(source->load("b").scalar_type(), at::kHalf);
  expect_error(
      ErrorKind::kData,
      [&] {
        write_torch_zip(folder / "other.bin", infos,
                        [](size_t) { return at::zeros({4}, at::kHalf); });
      },
      "a was announced as float32 [2, 3] and is float16 [4]");
  EXPECT_FALSE(std::filesystem::exists(folder / "other.bin"));
}

TEST(TorchZip, RefusesWhatItCannotStore) {
  const Scratch folder;
  const auto file = folder / "x.bin";
  const auto refused = [&](std::vector<std::pair<std::string, at::Tensor>> tensors,
                           const char* words) {
    expect_error(
        ErrorKind::kData, [&] { write_torch_zip(file, tensors); }, words);
  };
  refused({{"a", counting()}, {"a", counting()}}, "given twice");
  refused({{"\xff", counting()}}, "not UTF-8");
  refused({{"a", counting().to_sparse()}}, "Sparse");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace llama2zh
