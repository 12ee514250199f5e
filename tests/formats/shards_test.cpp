// Shards with an index: written in a stream, read as one; hostile and broken indices (F6). Which of
// a folder's files is read.
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include "format_test.h"
#include "llama2zh/base/json.h"
#include "llama2zh/formats/safetensors.h"
#include "llama2zh/formats/torch_zip.h"

namespace llama2zh {
namespace {

namespace fs = std::filesystem;
using format_test::expect_error;
using format_test::Scratch;

constexpr const char* kIndex = "model.safetensors.index.json";

TEST(ShardedWriter, WritesOneFileWithoutIndex) {
  const Scratch folder;
  ShardedWriter writer(folder.path(), {{"z", at::kFloat, {3}}, {"a", at::kBFloat16, {2, 2}}});
  writer.add("z", at::arange(3.f));
  writer.add("a", at::full({2, 2}, 1.5, at::kBFloat16));
  writer.finish();
  EXPECT_EQ(writer.files(), std::vector<std::string>{"model.safetensors"});
  EXPECT_FALSE(fs::exists(folder / kIndex));
  const auto source = open_tensors(folder.path());
  EXPECT_TRUE(at::equal(source->load("z"), at::arange(3.f)));
}

TEST(ShardedWriter, SplitsByBytesAndWritesTheIndex) {
  const Scratch folder;
  std::vector<TensorInfo> infos;
  for (const char* name : {"e", "d", "c", "b", "a"}) infos.push_back({name, at::kFloat, {10}});
  infos.push_back({"huge", at::kFloat, {100}});
  ShardedWriter writer(folder.path(), infos, 80);  // two small ones fill a shard exactly
  for (size_t i = 0; i < infos.size(); ++i) {
    writer.add(infos[i].name, at::full(infos[i].shape, static_cast<double>(i)));
  }
  writer.finish();
  EXPECT_EQ(writer.files(),
            (std::vector<std::string>{
                "model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
                "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors", kIndex}));
  const auto index = read_json_file(folder / kIndex);
  EXPECT_EQ(index["metadata"]["total_size"], 600);
  EXPECT_EQ(index["weight_map"]["e"], "model-00001-of-00004.safetensors");
  EXPECT_EQ(index["weight_map"]["b"], "model-00002-of-00004.safetensors");
  EXPECT_EQ(index["weight_map"]["huge"], "model-00004-of-00004.safetensors");
  const auto source = open_tensors(folder.path());
  ASSERT_EQ(source->tensors().size(), 6);
  EXPECT_EQ(source->tensors().front().name, "a");
  for (size_t i = 0; i < infos.size(); ++i) {
    EXPECT_EQ(source->load(infos[i].name)[9].item<float>(), static_cast<float>(i));
  }
}

// Python's reader views the bytes in place: a float after an odd number of bytes opens a shard.
TEST(ShardedWriter, KeepsTensorsAligned) {
  const Scratch folder;
  ShardedWriter writer(folder.path(), {{"u", at::kByte, {3}}, {"f", at::kFloat, {1}}});
  writer.add("u", at::zeros({3}, at::kByte));
  writer.add("f", at::zeros({1}));
  writer.finish();
  EXPECT_EQ(writer.files().size(), 3);
}

TEST(ShardedWriter, HoldsTheCallerToItsDeclaration) {
  const Scratch folder;
  const std::vector<TensorInfo> infos = {{"a", at::kFloat, {2}}, {"b", at::kFloat, {2}}};
  {
    ShardedWriter writer(folder.path(), infos, 8);
    const auto refused = [&](const char* name, const at::Tensor& tensor, const char* words) {
      expect_error(
          ErrorKind::kData, [&] { writer.add(name, tensor); }, words);
    };
    refused("b", at::zeros({2}), "tensor b was added, a was to come next");
    refused("a", at::zeros({3}), "tensor a is Float [3], Float [2] was declared");
    refused("a", at::zeros({2}, at::kHalf), "tensor a is Half [2]");
    writer.add("a", at::zeros({2}));
    EXPECT_TRUE(fs::exists(folder / "model-00001-of-00002.safetensors"));
    expect_error(
        ErrorKind::kData, [&] { writer.finish(); }, "tensor b was declared but not added");
    writer.add("b", at::zeros({2}));
    refused("c", at::zeros({2}), "after the last one");
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));  // without finish() nothing stays
  expect_error(
      ErrorKind::kData,
      [&] {
        ShardedWriter(folder.path(), {infos[0], infos[0]});
      },
      "declared twice");
  expect_error(
      ErrorKind::kData, [&] { ShardedWriter(folder.path(), {}); }, "no tensors");
  expect_error(
      ErrorKind::kData,
      [&] {
        ShardedWriter(folder.path(), {{"a", at::kFloat, {1LL << 62}}});
      },
      "too large");
  expect_error(
      ErrorKind::kIo,
      [&] {
        ShardedWriter(folder.path(), {{"a", at::kFloat, {1LL << 50}}});
      },
      "free space");
  folder.write("model.safetensors", "old");
  expect_error(
      ErrorKind::kUsage, [&] { ShardedWriter(folder.path(), infos, 8); }, "would be read instead");
}

class Index : public testing::Test {
 protected:
  Index() {
    write_safetensors(folder_ / "one.safetensors", {{"a", at::zeros({2})}});
    write_safetensors(folder_ / "two.safetensors", {{"b", at::full({2}, 3.)}});
  }
  void write_index(const std::string& weight_map) {
    folder_.write(kIndex, R"({"metadata":{},"weight_map":)" + weight_map + "}");
  }
  template <typename... Words>
  void refused(const std::string& weight_map, const Words&... words) {
    write_index(weight_map);
    expect_error(
        ErrorKind::kFormat, [&] { open_tensors(folder_.path()); }, words...);
  }
  Scratch folder_;
};

TEST_F(Index, NamesThatLeaveTheFolder) {
  write_safetensors(folder_.path().parent_path() / "llama2zh_outside.safetensors",
                    {{"a", at::zeros({2})}});
  fs::create_directory(folder_ / "sub");
  fs::copy_file(folder_ / "one.safetensors", folder_ / "sub/one.safetensors");
  for (const char* name : {"../llama2zh_outside.safetensors", "/etc/passwd", "sub/one.safetensors",
                           "..", ".", "", "sub\\\\one.safetensors", "one.safetensors\\u0000"}) {
    refused(std::string(R"({"a":")") + name + "\"}", kIndex, "plain name of a file");
  }
  refused(R"({"a":7})", kIndex, "plain name of a file");
  refused(R"({"a":")" + std::string(400, 'x') + "\"}",
          "no such file");  // too long for any file system
  fs::remove(folder_.path().parent_path() / "llama2zh_outside.safetensors");
}

TEST_F(Index, BrokenMaps) {
  refused(R"({"a":"one.safetensors","b":"three.safetensors"})", "three.safetensors",
          "no such file");
  refused(R"({"a":"one.safetensors","b":"one.safetensors"})", "one.safetensors",
          "tensor b is missing", kIndex);
  refused(R"({"a":"one.safetensors","c":"two.safetensors"})", "two.safetensors",
          "tensor c is missing");
  refused("{}", kIndex, "weight_map");
  refused("[]", kIndex, "weight_map");
  refused(R"({"a":"one.safetensors","a":"two.safetensors"})", kIndex, "a");
  const auto bytes = format_test::bytes_of(folder_ / "two.safetensors");
  folder_.write("two.safetensors", bytes.substr(0, bytes.size() - 1));
  refused(R"({"a":"one.safetensors","b":"two.safetensors"})", "two.safetensors",
          "1 bytes are missing");
}

TEST_F(Index, PlainSymbolicLinksAreFollowed) {
  fs::create_directory(folder_ / "blobs");
  fs::rename(folder_ / "two.safetensors", folder_ / "blobs/0123abcd");
  fs::create_symlink("blobs/0123abcd", folder_ / "two.safetensors");
  write_index(R"({"a":"one.safetensors","b":"two.safetensors"})");
  EXPECT_EQ(open_tensors(folder_.path())->load("b")[0].item<float>(), 3);
}

TEST_F(Index, TakesWhatTheIndexForgotUnlessInDoubt) {
  write_safetensors(folder_ / "two.safetensors",
                    {{"b", at::zeros({2})}, {"extra", at::zeros({1})}});
  write_index(R"({"a":"one.safetensors","b":"two.safetensors"})");
  EXPECT_NE(open_tensors(folder_.path())->find("extra"), nullptr);
  write_safetensors(folder_ / "one.safetensors",
                    {{"a", at::zeros({2})}, {"extra", at::zeros({1})}});
  expect_error(
      ErrorKind::kFormat, [&] { open_tensors(folder_.path()); }, "tensor extra",
      "the index names neither");
}

TEST_F(Index, ReadsShardsOfPickles) {
  write_torch_zip(folder_ / "pytorch_model-00001-of-00002.bin", {{"a", at::zeros({2})}});
  write_torch_zip(folder_ / "pytorch_model-00002-of-00002.bin", {{"b", at::full({2}, 5.)}});
  folder_.write("pytorch_model.bin.index.json",
                R"({"weight_map":{"a":"pytorch_model-00001-of-00002.bin",)"
                R"("b":"pytorch_model-00002-of-00002.bin"}})");
  EXPECT_EQ(open_tensors(folder_.path())->load("b")[0].item<float>(), 5);
}

TEST(OpenTensors, PrefersSafetensors) {
  const Scratch folder;
  const auto value = [&] { return open_tensors(folder.path())->load("w").item<float>(); };
  write_torch_zip(folder / "adapter_model.bin", {{"w", at::full({}, 1.)}});
  EXPECT_EQ(value(), 1);
  write_safetensors(folder / "adapter_model.safetensors", {{"w", at::full({}, 2.)}});
  EXPECT_EQ(value(), 2);
  write_torch_zip(folder / "pytorch_model.bin", {{"w", at::full({}, 3.)}});
  EXPECT_EQ(value(), 3);
  write_safetensors(folder / "shard.safetensors", {{"w", at::full({}, 4.)}});
  folder.write(kIndex, R"({"weight_map":{"w":"shard.safetensors"}})");
  EXPECT_EQ(value(), 4);
  write_safetensors(folder / "model.safetensors", {{"w", at::full({}, 5.)}});
  EXPECT_EQ(value(), 5);
  EXPECT_EQ(open_tensors(folder / kIndex)->load("w").item<float>(), 4);
}

TEST(OpenTensors, SaysWhatItLookedFor) {
  const Scratch folder;
  const auto open = [&] { open_tensors(folder.path()); };
  expect_error(ErrorKind::kFormat, open, "holds no weights", "model.safetensors.index.json");
  folder.write("consolidated.00.pth", "");
  expect_error(ErrorKind::kFormat, open, "Meta's layout", "llama2zh convert");
  expect_error(
      ErrorKind::kIo, [&] { open_tensors(folder / "none"); }, "none", "no such file");
  expect_error(
      ErrorKind::kFormat, [&] { open_tensors(folder.write("x.txt", "")); },
      "unknown kind of weights file");
}

}  // namespace
}  // namespace llama2zh
