// Reading of files: memory maps and whole files; free space and fsync.
#include "llama2zh/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/descriptor.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/writable.h"

namespace llama2zh {
namespace {

// Opens a regular file (or a pipe, device) for reading; a folder is an error here, not at read().
Descriptor open_for_reading(const fs::path& path, struct stat& status) {
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) fail_io(path.string(), "the file can't be opened", errno);
  if (::fstat(fd.get(), &status) != 0) fail_io(path.string(), "the file can't be examined", errno);
  if (S_ISDIR(status.st_mode)) fail_io(path.string(), "expected a file, found a folder");
  return fd;
}

// The path itself, or the nearest one above it that is there.
fs::path existing_part(const fs::path& path) {
  std::error_code ignored;
  fs::path existing = fs::absolute(path, ignored);
  while (!fs::exists(existing, ignored) && existing.has_relative_path()) {
    existing = existing.parent_path();
  }
  return existing;
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const fs::path& path) {
  struct stat status {};
  const Descriptor fd = open_for_reading(path, status);
  if (!S_ISREG(status.st_mode)) fail_io(path.string(), "only a regular file can be mapped");
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = path;
  if (status.st_size == 0) return file;  // mmap refuses length 0
  const auto size = static_cast<size_t>(status.st_size);
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) fail_io(path.string(), "the file can't be mapped into memory", errno);
  file->data_ = static_cast<const std::byte*>(data);
  file->size_ = size;
  return file;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

std::string read_file(const fs::path& path, uint64_t max_bytes) {
  struct stat status {};
  const Descriptor fd = open_for_reading(path, status);
  const auto too_large = [&] {
    fail_io(path.string(), cat("larger than the ", human_bytes(max_bytes), " allowed here"));
  };
  if (S_ISREG(status.st_mode) && static_cast<uint64_t>(status.st_size) > max_bytes) too_large();
  std::string bytes;
  if (S_ISREG(status.st_mode)) bytes.reserve(static_cast<size_t>(status.st_size));
  // The size is a hint only: pipes have none, and a file may grow meanwhile.
  char block[65536];
  while (true) {
    const ssize_t count = ::read(fd.get(), block, sizeof block);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_io(path.string(), "the file can't be read", errno);
    if (count == 0) return bytes;
    if (bytes.size() + static_cast<uint64_t>(count) > max_bytes) too_large();
    bytes.append(block, static_cast<size_t>(count));
  }
}

void check_writable(const fs::path& folder) {
  const fs::path existing = existing_part(folder);
  std::string probe = (existing / ".llama2zh.probe-XXXXXX").string();
  if (::mkdtemp(probe.data()) == nullptr) {
    fail_io(folder.string(), "the output folder can't be written to", errno);
  }
  ::rmdir(probe.c_str());
}

void check_free_space(const fs::path& folder, uint64_t bytes) {
  const fs::path existing = existing_part(folder);
  struct statvfs space {};
  if (::statvfs(existing.c_str(), &space) != 0) {
    fail_io(folder.string(), "the free space can't be determined", errno);
  }
  const uint64_t available = static_cast<uint64_t>(space.f_bavail) * space.f_frsize;
  if (available < bytes) {
    fail_io(folder.string(), cat("not enough free space: ", human_bytes(bytes), " needed, ",
                                 human_bytes(available), " available"));
  }
}

void fsync_path(const fs::path& path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) fail_io(path.string(), "can't be opened for fsync", errno);
  // EINVAL: a file system that does not offer fsync (of folders); there is nothing more to do.
  if (::fsync(fd.get()) != 0 && errno != EINVAL) fail_io(path.string(), "fsync failed", errno);
}

}  // namespace llama2zh
