// Text from plain, gzip (RFC 1952, several members allowed) and Zstandard (RFC 8878, several frames
// allowed) files through one fixed buffer each.
#include "llama2zh/base/lines.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/descriptor.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

constexpr size_t kBlock = size_t{1} << 16;
constexpr std::string_view kGzipMagic = "\x1f\x8b";
constexpr std::string_view kZstdMagic = "\x28\xb5\x2f\xfd";
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// The file's bytes as they are, with a look at the first ones.
class RawFile {
 public:
  explicit RawFile(const std::filesystem::path& path)
      : path_(path.string()), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_.get() < 0) fail_io(path_, "the file can't be opened", errno);
    fill();
  }

  bool starts_with(std::string_view magic) const {
    return std::string_view(block_, end_).substr(0, magic.size()) == magic;
  }
  // The unread bytes; empty only at the end of the file.
  std::string_view peek() {
    if (begin_ == end_) fill();
    return {block_ + begin_, end_ - begin_};
  }
  void consume(size_t size) {
    begin_ += size;
    consumed_ += size;
  }
  uint64_t consumed() const { return consumed_; }
  const std::string& path() const { return path_; }

 private:
  void fill() {
    begin_ = end_ = 0;
    // A pipe may give its first bytes one by one: fill at least what the magic numbers need.
    while (end_ < 4) {
      const ssize_t count = ::read(fd_.get(), block_ + end_, sizeof block_ - end_);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail_io(path_, "the file can't be read", errno);
      if (count == 0) return;
      end_ += static_cast<size_t>(count);
    }
  }

  std::string path_;
  Descriptor fd_;
  char block_[kBlock];
  size_t begin_ = 0, end_ = 0;
  uint64_t consumed_ = 0;
};

class PlainSource : public ByteSource {
 public:
  explicit PlainSource(std::unique_ptr<RawFile> file) : file_(std::move(file)) {}

  size_t read(char* buffer, size_t size) override {
    const std::string_view bytes = file_->peek().substr(0, size);
    std::copy(bytes.begin(), bytes.end(), buffer);
    file_->consume(bytes.size());
    return bytes.size();
  }
  uint64_t consumed() const override { return file_->consumed(); }

 private:
  std::unique_ptr<RawFile> file_;
};

class GzipSource : public ByteSource {
 public:
  explicit GzipSource(std::unique_ptr<RawFile> file) : file_(std::move(file)) {
    if (::inflateInit2(&stream_, 15 + 16) != Z_OK) fail_io(file_->path(), "zlib could not start");
  }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;
  ~GzipSource() override { ::inflateEnd(&stream_); }

  size_t read(char* buffer, size_t size) override {
    size = std::min(size, kBlock);
    size_t got = 0;
    while (got == 0 && size > 0) {
      const std::string_view input = file_->peek();
      if (input.empty()) {
        if (between_members_) return 0;
        fail_format(file_->path(), "the gzip stream is cut off");
      }
      if (between_members_) start_member(input);
      got = inflate_some(input, buffer, size);
    }
    return got;
  }
  uint64_t consumed() const override { return file_->consumed(); }

 private:
  void start_member(std::string_view input) {
    if (input[0] != kGzipMagic[0]) {
      fail_format(file_->path(), "bytes that are not gzip follow the gzip stream");
    }
    ::inflateReset(&stream_);
    between_members_ = false;
  }

  size_t inflate_some(std::string_view input, char* buffer, size_t size) {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));
    stream_.avail_in = static_cast<uInt>(input.size());
    stream_.next_out = reinterpret_cast<Bytef*>(buffer);
    stream_.avail_out = static_cast<uInt>(size);
    const int status = ::inflate(&stream_, Z_NO_FLUSH);
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) {
      fail_format(file_->path(), cat("the gzip stream is corrupt: ",
                                     stream_.msg != nullptr ? stream_.msg : "unexpected data"));
    }
    file_->consume(input.size() - stream_.avail_in);
    between_members_ = status == Z_STREAM_END;
    return size - stream_.avail_out;
  }

  std::unique_ptr<RawFile> file_;
  z_stream stream_{};
  bool between_members_ = false;
};

class ZstdSource : public ByteSource {
 public:
  explicit ZstdSource(std::unique_ptr<RawFile> file)
      : file_(std::move(file)), stream_(::ZSTD_createDStream(), &::ZSTD_freeDStream) {
    if (!stream_) fail_io(file_->path(), "zstd could not start");
  }

  size_t read(char* buffer, size_t size) override {
    ZSTD_outBuffer out{buffer, size, 0};
    while (out.pos == 0 && size > 0) {
      const std::string_view bytes = file_->peek();
      // Without input the decoder may still hold output that the last buffer had no room for.
      if (bytes.empty() && frame_done_) return 0;
      ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
      const size_t status = ::ZSTD_decompressStream(stream_.get(), &out, &in);
      if (::ZSTD_isError(status)) {
        fail_format(file_->path(),
                    cat("the zstd stream is corrupt: ", ::ZSTD_getErrorName(status)));
      }
      file_->consume(in.pos);
      frame_done_ = status == 0;
      if (bytes.empty() && out.pos == 0 && !frame_done_) {
        fail_format(file_->path(), "the zstd stream is cut off");
      }
    }
    return out.pos;
  }
  uint64_t consumed() const override { return file_->consumed(); }

 private:
  std::unique_ptr<RawFile> file_;
  std::unique_ptr<ZSTD_DStream, decltype(&::ZSTD_freeDStream)> stream_;
  bool frame_done_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> ByteSource::open(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    fail_io(path.string(), "expected a file, found a folder");
  }
  auto file = std::make_unique<RawFile>(path);
  if (file->starts_with(kGzipMagic)) return std::make_unique<GzipSource>(std::move(file));
  if (file->starts_with(kZstdMagic)) return std::make_unique<ZstdSource>(std::move(file));
  return std::make_unique<PlainSource>(std::move(file));
}

LineReader::LineReader(const std::filesystem::path& path, size_t max_line)
    : path_(path), source_(ByteSource::open(path)), max_line_(max_line) {}

std::string LineReader::where() const { return cat(path_.string(), ":", line_number_); }

bool LineReader::next(std::string& line) {
  line.clear();
  bool any = false;
  while (true) {
    if (position_ == buffer_.size()) {
      if (ended_) break;
      buffer_.resize(kBlock);
      buffer_.resize(source_->read(buffer_.data(), buffer_.size()));
      position_ = 0;
      ended_ = buffer_.empty();
      if (ended_) break;
    }
    any = true;
    const size_t newline = buffer_.find('\n', position_);
    const size_t end = newline == std::string::npos ? buffer_.size() : newline;
    if (end - position_ > max_line_ - line.size()) {
      fail_data(cat(path_.string(), ":", line_number_ + 1),
                cat("the line is longer than the ", human_bytes(max_line_), " allowed"));
    }
    line.append(buffer_, position_, end - position_);
    position_ = end;
    if (newline == std::string::npos) continue;
    ++position_;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    break;
  }
  if (!any) return false;
  if (++line_number_ == 1 && line.compare(0, kByteOrderMark.size(), kByteOrderMark) == 0) {
    line.erase(0, kByteOrderMark.size());
    if (line.empty() && ended_) return false;  // nothing but the mark
  }
  return true;
}

std::string read_text_file(const std::filesystem::path& path, uint64_t max_bytes) {
  const std::unique_ptr<ByteSource> source = ByteSource::open(path);
  std::string text;
  std::string block(kBlock, '\0');
  while (const size_t size = source->read(block.data(), block.size())) {
    if (text.size() + uint64_t{size} > max_bytes) {
      fail_data(path.string(),
                cat("the text is larger than the ", human_bytes(max_bytes), " allowed here"));
    }
    text.append(block, 0, size);
  }
  if (text.compare(0, kByteOrderMark.size(), kByteOrderMark) == 0) {
    text.erase(0, kByteOrderMark.size());
  }
  const size_t bad = utf8_error_offset(text);
  if (bad < text.size()) {
    const size_t line_start = bad == 0 ? 0 : text.rfind('\n', bad - 1) + 1;  // npos + 1 is 0
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<long>(bad), '\n');
    const size_t column =
        1 + utf8_length(std::string_view(text).substr(line_start, bad - line_start));
    fail_data(cat(path.string(), ":", line, ":", column), "the text is not valid UTF-8",
              "convert the file to UTF-8");
  }
  return text;
}

}  // namespace llama2zh
