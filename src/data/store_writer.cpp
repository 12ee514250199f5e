// Appends to the shards of a store that is being made. Files are cut to what a journal says on
// resuming, so that what was written after it does not count.
#include "data/store_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr size_t kWriteBytes = size_t{1} << 20;

}  // namespace

GrowingFile::GrowingFile(const fs::path& path, uint64_t size) : path_(path.string()), size_(size) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_io(path_, "the file can't be written", errno);
  struct stat status {};
  const bool known = ::fstat(fd_, &status) == 0;
  if (!known || static_cast<uint64_t>(status.st_size) < size ||
      ::ftruncate(fd_, static_cast<off_t>(size)) != 0 ||
      ::lseek(fd_, static_cast<off_t>(size), SEEK_SET) < 0) {
    ::close(fd_);
    fail_io(path_, cat("unfinished work can't be taken up: the file should have ", size, " bytes"));
  }
}

GrowingFile::~GrowingFile() { ::close(fd_); }

void GrowingFile::append(const void* data, size_t bytes) {
  buffer_.append(static_cast<const char*>(data), bytes);
  size_ += bytes;
  if (buffer_.size() >= kWriteBytes) write_out();
}

void GrowingFile::write_out() {
  const char* next = buffer_.data();
  size_t left = buffer_.size();
  while (left > 0) {
    const ssize_t count = ::write(fd_, next, left);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_io(path_, cat("writing failed at byte ", size_ - left), errno);
    next += count;
    left -= static_cast<size_t>(count);
  }
  buffer_.clear();
}

void GrowingFile::cut(uint64_t size) {
  write_out();
  if (::ftruncate(fd_, static_cast<off_t>(size)) != 0 ||
      ::lseek(fd_, static_cast<off_t>(size), SEEK_SET) < 0) {
    fail_io(path_, "the file can't be cut", errno);
  }
  size_ = size;
}

void GrowingFile::sync() {
  write_out();
  if (::fdatasync(fd_) != 0 && errno != EINVAL) fail_io(path_, "fsync failed", errno);
}

SetWriter::SetWriter(fs::path folder, std::string name, const Layout& layout,
                     const StoreSet& written, int64_t open_tokens, int64_t open_supervised)
    : folder_(std::move(folder)),
      name_(std::move(name)),
      layout_(layout),
      set_(written),
      open_tokens_(open_tokens),
      open_supervised_(open_supervised) {
  if (!set_.shards.empty()) open_shard(set_.shards.back(), open_tokens_);
}

// The newest shard's files, cut to its rows and the open row's tokens.
void SetWriter::open_shard(const ShardInfo& shard, int64_t open_tokens) {
  const size_t number = set_.shards.size() - 1;
  const auto tokens = static_cast<uint64_t>(shard.tokens + open_tokens);
  const auto open = [&](const char* extension, uint64_t size) {
    return std::make_unique<GrowingFile>(folder_ / shard_name(name_, number, extension), size);
  };
  files_.ids = open("ids", tokens * static_cast<uint64_t>(layout_.id_bytes));
  files_.rows = open("rows", static_cast<uint64_t>(shard.rows) * 8);
  if (layout_.kind == RowKind::kSft) files_.mask = open("mask", tokens);
}

void SetWriter::append(const EncodedRow& row) {
  const bool opens = open_tokens_ == 0;
  if (opens && (set_.shards.empty() || set_.shards.back().tokens >= layout_.shard_tokens)) {
    if (!set_.shards.empty()) sync();
    set_.shards.emplace_back();
    open_shard({}, 0);
  }
  append_ids(row.ids);
  const bool all = row.supervised.empty();
  const auto count = static_cast<int64_t>(row.ids.size());
  if (files_.mask) {
    if (all) bytes_.assign(row.ids.size(), 1);
    files_.mask->append(all ? bytes_.data() : reinterpret_cast<const char*>(row.supervised.data()),
                        row.ids.size());
  }
  open_tokens_ += count;
  open_supervised_ +=
      all ? count : std::count(row.supervised.begin(), row.supervised.end(), uint8_t{1});
  if (!row.ends) return;
  ShardInfo& shard = set_.shards.back();
  shard.tokens += open_tokens_;
  ++shard.rows;
  const auto end = static_cast<uint64_t>(shard.tokens);
  files_.rows->append(&end, sizeof end);
  ++set_.rows;
  set_.tokens += open_tokens_;
  set_.supervised += open_supervised_;
  set_.longest = std::max(set_.longest, open_tokens_);
  open_tokens_ = open_supervised_ = 0;
}

void SetWriter::append_ids(const std::vector<TokenId>& ids) {
  if (layout_.id_bytes == 4) return files_.ids->append(ids.data(), ids.size() * 4);
  bytes_.resize(ids.size() * 2);
  char* out = bytes_.data();
  for (const TokenId id : ids) {
    const auto narrow = static_cast<uint16_t>(id);
    std::memcpy(out, &narrow, 2);
    out += 2;
  }
  files_.ids->append(bytes_.data(), bytes_.size());
}

void SetWriter::abandon() {
  if (open_tokens_ == 0) return;
  const auto tokens = static_cast<uint64_t>(set_.shards.back().tokens);
  files_.ids->cut(tokens * static_cast<uint64_t>(layout_.id_bytes));
  if (files_.mask) files_.mask->cut(tokens);
  open_tokens_ = open_supervised_ = 0;
}

void SetWriter::sync() {
  if (files_.ids) files_.ids->sync();
  if (files_.rows) files_.rows->sync();
  if (files_.mask) files_.mask->sync();
}

}  // namespace llama2zh
