#include "llama2zh/formats/manifest.h"

#include "format_test.h"

namespace llama2zh {
namespace {

namespace fs = std::filesystem;
using format_test::expect_error;
using format_test::Scratch;

class ManifestTest : public testing::Test {
 protected:
  ManifestTest() {
    folder_.write("config.json", "{}");
    folder_.write("model.safetensors", std::string(1000, 'x'));
    fs::create_directory(folder_ / "state");
    folder_.write("state/rank0.bin", "r");
    Manifest manifest;
    manifest.kind = "checkpoint";
    manifest.tokenizer_sha256 = "ab";
    manifest.vocab_size = 49953;
    manifest.base_identity = "base";
    manifest.extra["step"] = 20;
    write_manifest(folder_.path(), manifest);
  }
  void refused(bool deep, const std::string& file, const std::string& words) {
    expect_error(
        ErrorKind::kFormat, [&] { verify_manifest(folder_.path(), deep); }, file, words);
  }
  Scratch folder_;
};

TEST_F(ManifestTest, RoundTrips) {
  EXPECT_TRUE(has_manifest(folder_.path()));
  EXPECT_FALSE(has_manifest(folder_ / "state"));
  const auto manifest = read_manifest(folder_.path());
  EXPECT_EQ(manifest.kind, "checkpoint");
  EXPECT_EQ(manifest.tokenizer_sha256, "ab");
  EXPECT_EQ(manifest.vocab_size, 49953);
  EXPECT_EQ(manifest.base_identity, "base");
  EXPECT_EQ(manifest.extra["step"], 20);
  verify_manifest(folder_.path(), true);
  const auto root = read_ordered_json_file(folder_ / kManifestName);
  ASSERT_EQ(root["files"].size(), 3);  // sorted, in sub-folders too, without itself
  EXPECT_EQ(root["files"][0]["name"], "config.json");
  EXPECT_EQ(root["files"][0]["bytes"], 2);
  EXPECT_EQ(root["files"][0]["xxh64"], "2e1472b57af294d1");  // python-xxhash of b"{}"
  EXPECT_EQ(root["files"][2]["name"], "state/rank0.bin");
  write_manifest(folder_.path(), manifest);  // again: does not list itself
  EXPECT_EQ(read_ordered_json_file(folder_ / kManifestName), root);
}

TEST_F(ManifestTest, FindsWhatIsMissingShortOrChanged) {
  folder_.write("state/rank0.bin", "s");
  verify_manifest(folder_.path(), false);
  refused(true, "state/rank0.bin", "the file changed");
  folder_.write("model.safetensors", std::string(999, 'x'));
  refused(false, "model.safetensors", "the file has 999 bytes, 1000 were expected: it was cut");
  folder_.write("model.safetensors", std::string(1001, 'x'));
  refused(false, "model.safetensors", "1000 were expected: it changed");
  fs::remove(folder_ / "config.json");
  refused(false, "config.json", "is missing");
}

TEST_F(ManifestTest, RefusesBrokenManifests) {
  const auto with = [&](const std::string& member, const std::string& words) {
    folder_.write(kManifestName,
                  R"({"format":1,"kind":"model","tokenizer_sha256":"","vocab_size":3,)"
                  R"("base_identity":"",)" +
                      member + "}");
    refused(false, kManifestName, words);
  };
  const std::string rest = R"(","bytes":2,"xxh64":""}])";
  with(R"("files":[{"name":"../config.json)" + rest, "lies outside the folder");
  with(R"("files":[{"name":"state/../../config.json)" + rest, "lies outside the folder");
  with(R"("files":[{"name":"/etc/passwd)" + rest, "lies outside the folder");
  with(R"("files":[{"name":")" + rest, "lies outside the folder");
  with(R"("files":[7])", "must hold objects");
  with(R"("files":[{"name":"config.json","bytes":-2,"xxh64":""}])", "\"bytes\"");
  with(R"("extra":{})", "\"files\" is missing");
  folder_.write(kManifestName, R"({"format":2})");
  refused(false, kManifestName, "format 2 is not known");
  folder_.write(kManifestName, "{");
  refused(false, kManifestName, kManifestName);
}

}  // namespace
}  // namespace llama2zh
