// The embedded page is whole: every file that a file of it names is there, with the right type, and nothing names another machine.
#include "llama2zh/serve/page_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace llama2zh {
namespace {

namespace fs = std::filesystem;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

std::string file_text(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

fs::path page_folder() { return fs::path(std::getenv("LLAMA2ZH_SOURCE_DIR")) / "assets/page"; }

bool is_own(const PageFile& file) { return !file.path.starts_with("/assets/lib/"); }

// What the first group of `pattern` takes at each place in `text`.
std::vector<std::string> all_matches(std::string_view text, const char* pattern) {
  const std::string copy(text);
  const std::regex regex(pattern);
  std::vector<std::string> found;
  for (std::sregex_iterator it(copy.begin(), copy.end(), regex), end; it != end; ++it) {
    found.push_back((*it)[1]);
  }
  return found;
}

// The path of `reference` (relative) as a browser takes it in the file at `base`.
std::string resolved(std::string_view base, const std::string& reference) {
  const fs::path folder = fs::path(base).parent_path();
  return (folder / reference).lexically_normal().string();
}

std::string unzipped(std::string_view bytes, size_t size) {
  std::string out(size, '\0');
  z_stream stream{};
  EXPECT_EQ(inflateInit2(&stream, 16 + MAX_WBITS), Z_OK);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(size);
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  EXPECT_EQ(stream.avail_out, 0u);
  inflateEnd(&stream);
  return out;
}

TEST(PageFilesTest, HoldsTheRepositorysBytes) {
  size_t own = 0;
  for (const auto& entry : fs::directory_iterator(page_folder())) {
    const std::string name = entry.path().filename();
    if (name == "libraries.txt") continue;
    const PageFile* file = find_page_file(name == "index.html" ? "/" : "/assets/" + name);
    ASSERT_NE(file, nullptr) << name;
    EXPECT_EQ(file->bytes, file_text(entry.path())) << name;
    ++own;
  }
  EXPECT_GT(own, 20u);
  EXPECT_EQ(find_page_file("/assets/libraries.txt"), nullptr);
  EXPECT_EQ(find_page_file("/index.html"), nullptr);
  EXPECT_EQ(find_page_file("/assets/../../etc/passwd"), nullptr);
  EXPECT_EQ(find_page_file(""), nullptr);
}

TEST(PageFilesTest, EveryNamedFileExists) {
  size_t checked = 0;
  const auto expect_files = [&](const PageFile& file, const char* pattern) {
    for (const std::string& name : all_matches(file.bytes, pattern)) {
      EXPECT_NE(find_page_file(resolved(file.path, name)), nullptr)
          << file.path << " names " << name;
      ++checked;
    }
  };
  for (const PageFile& file : page_files()) {
    if (file.path == "/") expect_files(file, R"re((?:src|href)="([^"#]+)")re");
    if (is_own(file) && file.path.ends_with(".js")) {
      expect_files(file, R"re((?:from |import |import\()'([^']+)')re");
      expect_files(file, R"re(new URL\('([^']+\.js)', import\.meta)re");
    }
    if (file.path.ends_with(".css"))
      expect_files(file, R"re(url\(([^)]+\.woff2)\))re");  // browsers skip the other formats
  }
  EXPECT_GT(checked, 80u);
}

TEST(PageFilesTest, EveryIconAndIdThatScriptsUseIsInThePage) {
  const std::string html(find_page_file("/")->bytes);
  for (const PageFile& file : page_files()) {
    if (!is_own(file) || !file.path.ends_with(".js")) continue;
    for (const std::string& id : all_matches(file.bytes, R"re(byId\('([\w-]+)'\))re")) {
      if (id == "enter-key") continue;  // models.js makes it
      EXPECT_THAT(html, HasSubstr("id=\"" + id + "\"")) << file.path;
    }
    for (const std::string& name : all_matches(file.bytes, R"re(con(?:Button)?\('([\w-]+)')re")) {
      EXPECT_THAT(html, HasSubstr("id=\"i-" + name + "\"")) << file.path;
    }
  }
}

TEST(PageFilesTest, TypesTagsAndCompressedCopiesAreRight) {
  std::set<std::string_view> paths, tags;
  const std::vector<std::pair<std::string_view, std::string_view>> types = {
      {".css", "text/css; charset=utf-8"},
      {".js", "text/javascript; charset=utf-8"},
      {".svg", "image/svg+xml"},
      {".woff2", "font/woff2"},
      {".txt", "text/plain; charset=utf-8"}};
  for (const PageFile& file : page_files()) {
    EXPECT_TRUE(paths.insert(file.path).second) << file.path;
    EXPECT_TRUE(tags.insert(file.etag).second) << file.path;
    EXPECT_THAT(std::string(file.etag), testing::MatchesRegex("\"[0-9a-f]+\""));
    const auto type = std::ranges::find_if(
        types, [&](const auto& pair) { return file.path.ends_with(pair.first); });
    EXPECT_EQ(file.content_type, file.path == "/" ? "text/html; charset=utf-8" : type->second)
        << file.path;
    if (file.path.ends_with(".woff2")) {
      EXPECT_TRUE(file.gzip.empty());
    } else {
      EXPECT_EQ(unzipped(file.gzip, file.bytes.size()), file.bytes) << file.path;
    }
  }
}

TEST(PageFilesTest, NothingIsFetchedFromElsewhere) {
  for (const PageFile& file : page_files()) {
    if (!is_own(file)) continue;
    for (const std::string& address : all_matches(file.bytes, R"re((https?://[^\s'"`)]+))re")) {
      const bool name_or_comment = address == "http://www.w3.org/2000/svg" ||
                                   address.starts_with("https://html.spec.whatwg.org") ||
                                   address.starts_with("https://example.com");
      EXPECT_TRUE(name_or_comment) << file.path << ": " << address;
    }
  }
  for (const PageFile& file : page_files()) {
    if (!file.path.ends_with(".css")) continue;
    EXPECT_TRUE(all_matches(file.bytes, R"re((url\(['"]?(?:https?:)?//[^)]*))re").empty())
        << file.path;
  }
}

// The page holds to the policy: no inline script or style, no text made into HTML (the sanitizer's own calls apart).
TEST(PageFilesTest, OwnFilesNeedNothingThatThePolicyForbids) {
  const std::string html(find_page_file("/")->bytes);
  EXPECT_TRUE(all_matches(html, R"re(<[^>]*\s(on\w+|style)=)re").empty());
  EXPECT_TRUE(all_matches(html, R"re(<(script)(?![^>]*src=))re").empty());
  EXPECT_TRUE(all_matches(html, R"re((<style))re").empty());
  for (const PageFile& file : page_files()) {
    if (!is_own(file) || !file.path.ends_with(".js")) continue;
    EXPECT_TRUE(
        all_matches(
            file.bytes,
            R"re((innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function))re")
            .empty())
        << file.path;
  }
  EXPECT_THAT(kPageContentSecurityPolicy, StartsWith("default-src 'none'"));
  EXPECT_THAT(kPageContentSecurityPolicy, testing::Not(HasSubstr("unsafe")));
}

}  // namespace
}  // namespace llama2zh
