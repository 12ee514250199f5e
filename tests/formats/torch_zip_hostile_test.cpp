// torch.save archives from strangers (reliability tests F8, F9): pickles that want to run something,
// and archives and tensors that lie about their sizes. Nothing is executed, all of it is refused.
#include <ATen/ops/arange.h>
#include <zlib.h>

#include "format_test.h"
#include "formats/unpickler.h"
#include "formats/zip_writer.h"
#include "llama2zh/base/random.h"
#include "llama2zh/formats/tensor_source.h"
#include "llama2zh/formats/torch_zip.h"

namespace llama2zh {
namespace {

using format_test::expect_error;
using format_test::Scratch;

std::string operator""_b(const char* text, size_t size) { return {text, size}; }

// BINUNICODE.
std::string text(const std::string& value) {
  std::string out = "X";
  for (int i = 0; i < 4; ++i) out += static_cast<char>(value.size() >> (8 * i) & 0xff);
  return out + value;
}
// BININT, or LONG1 of 8 bytes.
std::string number(int64_t value) {
  const bool small = value >= INT32_MIN && value <= INT32_MAX;
  std::string out = small ? "J" : "\x8a\x08";
  for (int i = 0; i < (small ? 4 : 8); ++i) {
    out += static_cast<char>(static_cast<uint64_t>(value) >> (8 * i) & 0xff);
  }
  return out;
}
std::string tuple(const std::vector<int64_t>& values) {
  std::string out = "(";
  for (int64_t value : values) out += number(value);
  return out + "t";
}
std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
std::string storage(int64_t elements, const std::string& type = "FloatStorage",
                    const std::string& key = "0") {
  return "(" + text("storage") + global("torch", type) + text(key) + text("cpu") +
         number(elements) + "tQ";
}
std::string tensor(const std::string& data, int64_t offset, const std::vector<int64_t>& shape,
                   const std::vector<int64_t>& strides) {
  return global("torch._utils", "_rebuild_tensor_v2") + "(" + data + number(offset) + tuple(shape) +
         tuple(strides) + "\x89" + global("collections", "OrderedDict") + ")RtR";
}
// A whole pickle whose dict has one member "t".
std::string pickle(const std::string& value) { return "\x80\x02}(" + text("t") + value + "u."; }

std::filesystem::path write_archive(const Scratch& folder, const std::string& data_pkl,
                                    size_t bytes = 24) {
  const auto path = folder / "evil.bin";
  AtomicFile file(path);
  ZipWriter zip(file);
  zip.add("archive/data.pkl", data_pkl);
  zip.add("archive/data/0", std::string(bytes, '\0'));
  zip.finish();
  file.commit();
  return path;
}

void expect_refused(const std::string& data_pkl, const std::string& words) {
  const Scratch folder;
  const auto path = write_archive(folder, data_pkl);
  expect_error(
      ErrorKind::kFormat, [&] { open_torch_zip(path); }, "evil.bin", words);
}

TEST(TorchZipHostile, PicklesThatRunSomething) {
  const Scratch folder;
  const auto mark = (folder / "ran").string();
  const auto system = global("os", "system") + text("touch " + mark) + "\x85R";
  expect_refused(pickle(system), "asks for os.system");
  expect_refused("\x80\x02" + system + ".", "asks for os.system");
  expect_refused(pickle(global("posix", "system") + text("touch " + mark) + "\x85R"),
                 "posix.system");
  expect_refused(pickle(global("builtins", "eval") + text("1") + "\x85R"),
                 "asks for builtins.eval");
  expect_refused(pickle(global("__builtin__", "eval")), "__builtin__.eval");
  expect_refused(pickle(global("torch", "load") + text(mark) + "\x85R"), "torch.load");
  expect_refused(pickle(global("torch.hub", "load") + text(mark) + "\x85R"), "torch.hub.load");
  // STACK_GLOBAL, inside a list inside a tuple inside the metadata that BUILD would set
  const auto nested =
      "\x80\x04}" + text("t") + "]" + text("builtins") + text("exec") + "\x93" + "a\x85s.";
  expect_refused(nested, "asks for builtins.exec");
  expect_refused("\x80\x04}}" + text("x") + text("os") + text("system") + "\x93sb.",
                 "asks for os.system");
  EXPECT_FALSE(std::filesystem::exists(mark));
}

TEST(TorchZipHostile, OpcodesThatNothingNeeds) {
  expect_refused("\x80\x02\xffu.", "opcode 255");
  expect_refused("\x80\x02ios\nsystem\n.", "opcode 105");                                // INST
  expect_refused("\x80\x02(cos\nsystem\no.", "asks for os.system");                      // OBJ
  expect_refused(pickle("\x82\x01"), "opcode 130");                                      // EXT1
  expect_refused(pickle(global("collections", "OrderedDict") + ")\x81"), "opcode 129");  // NEWOBJ
  expect_refused(pickle("P1\n"), "opcode 80");                                           // PERSID
  expect_refused(pickle("I1\n"), "opcode 73");  // INT, protocol 0
  expect_refused("\x80\x01}.", "protocol 1");
}

TEST(TorchZipHostile, DamagedPickles) {
  expect_refused("", "truncated");
  expect_refused("\x80\x02}", "truncated");
  expect_refused("\x80\x02}(X\xff\xff\xff\xff", "truncated: 4294967295 bytes wanted");
  expect_refused("\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "truncated");
  expect_refused("\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.", "frame");
  expect_refused("\x80\x02.", "empty stack");
  expect_refused("\x80\x02u.", "closes a group");
  expect_refused("\x80\x02(R.", "empty stack");
  expect_refused("\x80\x02}h\7.", "memo 7");
  expect_refused("\x80\x02}(Nu.", "can't hold");
  expect_refused("\x80\x02Nq\1h\1R.", "not a function");
  expect_refused("\x80\x02}\x8a\x09" + std::string(9, '\x7f') + ".", "more than 64 bits");
  expect_refused("\x80\x02}X\1\0\0\0\xff."_b, "not UTF-8");
  expect_refused("\x80\x02]q\1h\1a.", "a list, a dict of tensors was expected");  // holds itself
  expect_refused("\x80\x02" + std::string(1'000'000, ']') + "N" + std::string(1'000'000, 'a') + ".",
                 "a list, a dict");
  expect_refused("\x80\x02" + std::string(5'000'000, ']') + ".", "more values");
  expect_refused(std::string(kMaxPickle + 1, 'N'), "at most");
}

TEST(TorchZipHostile, DictsOfSomethingElse) {
  expect_refused("\x80\x02N.", "the file holds None");
  expect_refused(pickle("N"), "\"t\" holds None");
  expect_refused(pickle("K\5"), "\"t\" holds an int");
  expect_refused(pickle("}" + text("a") + tensor(storage(6), 0, {6}, {1}) + "s"),
                 "torch.save(checkpoint[\"t\"], file)");
  expect_refused("\x80\x02}(K\1" + tensor(storage(6), 0, {6}, {1}) + "u.", "not text");
  const auto once = text("t") + tensor(storage(6), 0, {6}, {1});
  expect_refused("\x80\x02}(" + once + once + "u.", "tensor t is there twice");
}

TEST(TorchZipHostile, TensorsThatLie) {
  const Scratch folder;
  EXPECT_EQ(open_torch_zip(write_archive(folder, pickle(tensor(storage(6), 0, {2, 3}, {3, 1}))))
                ->load("t")
                .sizes(),
            at::IntArrayRef({2, 3}));
  const auto refused = [](const std::string& value, const std::string& words) {
    expect_refused(pickle(value), words);
  };
  refused(tensor(storage(7), 0, {6}, {1}), "said to have 28 bytes, data/0 has 24");
  refused(tensor(storage(INT64_MAX), 0, {6}, {1}), "claims a storage of");
  refused(tensor(storage(int64_t{1} << 62), 0, {0}, {1}), "claims a storage of");  // * 4 wraps to 0
  refused(tensor(storage(6, "FloatStorage", std::string(257, '0')), 0, {6}, {1}), "overlong key");
  refused(tensor(storage(-6), 0, {6}, {1}), "not negative");
  refused(tensor(storage(6), 1, {6}, {1}), "does not fit");
  refused(tensor(storage(6), INT64_MAX, {1}, {1}), "does not fit");
  refused(tensor(storage(6), 7, {0}, {1}), "does not fit");
  refused(tensor(storage(6), -1, {1}, {1}), "not negative");
  refused(tensor(storage(6), 0, {7}, {1}), "does not fit");
  refused(tensor(storage(6), 0, {2, 3}, {4, 1}), "does not fit");
  refused(tensor(storage(6), 0, {2}, {INT64_MAX}), "does not fit");
  refused(tensor(storage(6), 0, {3}, {INT64_MAX}), "does not fit");
  refused(tensor(storage(6), 5, {2}, {-1}), "not negative");
  refused(tensor(storage(6), 0, {-2}, {1}), "not negative");
  refused(tensor(storage(6), 0, {int64_t{1} << 40}, {0}), "does not fit");  // 4 TiB of one element
  refused(tensor(storage(6), 0, {int64_t{1} << 32, int64_t{1} << 32}, {0, 0}), "does not fit");
  refused(tensor(storage(6), 0, {2, 3}, {1}), "different number of sizes and strides");
  refused(tensor("N", 0, {6}, {1}), "wrong arguments");
  refused(storage(6), "holds a storage");
  refused(
      "(" + text("module") + global("torch", "FloatStorage") + text("0") + text("cpu") + "K\6tQ",
      "not a storage");
  refused(tensor(storage(6, "UntypedStorage"), 0, {6}, {1}), "without an element type");
  refused(global("torch._utils", "_rebuild_sparse_tensor"), "only dense, unquantized ones");
  refused(global("torch._utils", "_rebuild_qtensor"), "only dense, unquantized ones");
  refused(storage(6, "QInt8Storage"), "only dense, unquantized ones");
}

// The same bytes in the headers of an honest archive, changed one field at a time.
class TorchZipLies : public testing::Test {
 protected:
  TorchZipLies() {
    write_torch_zip(folder_ / "good.bin", {{"w", at::arange(6.f)}});
    bytes_ = format_test::bytes_of(folder_ / "good.bin");
    central_ = bytes_.find("PK\x01\x02");
    end_ = bytes_.rfind("PK\x05\x06");
    data_ = bytes_.find("archive/data/0", central_) - 46;  // its record in the directory
  }
  void refused(const std::string& bytes, const std::string& words) {
    const auto path = folder_.write("lies.bin", bytes);
    expect_error(
        ErrorKind::kFormat, [&] { open_torch_zip(path); }, "lies.bin", words);
  }
  // `width` bytes of `value` at `at`.
  std::string with(size_t at, uint64_t value, int width) const {
    auto changed = bytes_;
    for (int i = 0; i < width; ++i) changed[at + i] = static_cast<char>(value >> (8 * i) & 0xff);
    return changed;
  }

  Scratch folder_;
  std::string bytes_;
  size_t central_, end_, data_;
};

TEST_F(TorchZipLies, Directory) {
  refused(with(data_ + 10, 8, 2), "is compressed");
  refused(with(data_ + 8, 1, 2), "is encrypted");
  refused(with(data_ + 24, 0xfffffff0, 4), "two different sizes");  // a bomb's claim
  auto both = with(data_ + 24, 0x7ffffff0, 4);
  both.replace(data_ + 20, 4, both.substr(data_ + 24, 4));
  refused(both, "claims 2147483632 bytes");
  refused(with(data_ + 24, 0xffffffff, 4), "lacks its zip64 sizes");
  refused(with(data_ + 42, 0x7fffffff, 4), "has no header at byte 2147483647");
  refused(with(data_ + 42, 1, 4), "has no header at byte 1");
  refused(with(data_ + 42, 0, 4), "differs between the directory and its own header");
  refused(with(data_ + 46, 'x', 1), "differs between the directory and its own header");
  refused(with(data_ + 28, 0xffff, 2), "an entry leaves it");
  refused(with(central_, 0, 4), "does not start with its signature");
  refused(with(end_ + 10, 3, 2), "more than the entries it claims");
  refused(with(end_ + 10, 0xffff, 2), "can't hold the 65535 entries");
  refused(with(end_ + 12, 0xfffffff0, 4), "lies outside");
  refused(with(end_ + 16, 0xfffffff0, 4), "lies outside");
}

TEST_F(TorchZipLies, OverlappingEntries) {
  write_torch_zip(folder_ / "good.bin", {{"v", at::arange(6.f)}, {"w", at::arange(6.f)}});
  bytes_ = format_test::bytes_of(folder_ / "good.bin");
  const size_t first = bytes_.find("archive/data/0", bytes_.find("PK\x01\x02")) - 46;
  auto longer = with(first + 20, 200, 4);  // reaches into the second one
  longer.replace(first + 24, 4, longer.substr(first + 20, 4));
  refused(longer, "overlap");
}

TEST_F(TorchZipLies, Truncated) {
  for (size_t size : {bytes_.size() - 1, bytes_.size() / 2, size_t{100}, size_t{5}}) {
    refused(bytes_.substr(0, size), "truncated");
  }
  refused("", "is empty");
  refused("PK", "does not start as a zip file");
  refused("version https://git-lfs.github.com/spec/v1\n", "git lfs pull");
}

TEST_F(TorchZipLies, Legacy) {
  refused("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", "before 1.6");
}

TEST_F(TorchZipLies, OtherArchives) {
  const auto archive = [&](const std::vector<std::string>& names, const std::string& body) {
    const auto path = folder_ / "other.bin";
    AtomicFile file(path);
    ZipWriter zip(file);
    for (const auto& name : names) zip.add(name, body);
    zip.finish();
    file.commit();
    return path;
  };
  const auto other = [&](const std::vector<std::string>& names, const std::string& words) {
    const auto path = archive(names, "big");
    expect_error(
        ErrorKind::kFormat, [&] { open_torch_zip(path); }, "other.bin", words);
  };
  other({"a/data.pkl", "a/code.py", "a/constants.pkl"}, "TorchScript");
  other({"word/document.xml"}, "holds no data.pkl");
  other({"a/data.pkl", "b/data.pkl"}, "two data.pkl");
  other({"a/data.pkl", "a/data.pkl"}, "is there twice");
  other({"a/data.pkl", "a/byteorder"}, "its byte order is big");
}

TEST_F(TorchZipLies, Zip64IsRead) {
  const auto path = folder_ / "wide.bin";
  AtomicFile file(path);
  ZipWriter zip(file, true);
  zip.add("archive/data.pkl", pickle(tensor(storage(2), 0, {2}, {1})));
  const float values[] = {0.5f, 4.f};
  zip.add("archive/data/0", values, sizeof values);
  zip.finish();
  file.commit();
  const auto loaded = open_torch_zip(path)->load("t");
  EXPECT_EQ(loaded[0].item<float>(), 0.5f);
  EXPECT_EQ(loaded[1].item<float>(), 4.f);
  auto bytes = format_test::bytes_of(path);
  const size_t locator = bytes.rfind("PK\x06\x07");
  for (uint64_t at : {uint64_t{0}, uint64_t{locator}, ~uint64_t{0}}) {
    for (int i = 0; i < 8; ++i) bytes[locator + 8 + i] = static_cast<char>(at >> (8 * i) & 0xff);
    refused(bytes, "zip64 end record");
  }
}

TEST_F(TorchZipLies, RandomDamageIsRefusedOrHarmless) {
  Random random(9);
  int refusals = 0;
  const size_t pkl = bytes_.find("\x80\x02");
  for (int round = 0; round < 1500; ++round) {
    auto damaged = bytes_;
    for (uint64_t n = 1 + random.below(3); n > 0; --n) {
      const bool in_pickle = random.below(2) == 0;
      const size_t at =
          in_pickle ? pkl + random.below(250) : central_ + random.below(bytes_.size() - central_);
      damaged[at] = static_cast<char>(random.below(256));
    }
    try {
      const auto source = open_torch_zip(folder_.write("d.bin", damaged));
      for (const auto& info : source->tensors()) source->load(info.name).clone();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kFormat);
      ++refusals;
    }
  }
  EXPECT_GT(refusals, 600);
}

}  // namespace
}  // namespace llama2zh
