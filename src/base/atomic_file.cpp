// AtomicFile: temporary in the same folder -> write -> fsync -> rename -> fsync of the folder. The
// same folder, because rename(2) is atomic only within one file system; the fsync before the
// rename, because otherwise a crash can leave the new name with no content.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

fs::path temporary_beside(const fs::path& path) {
  static std::atomic<int> counter{0};
  fs::path temporary = path;
  temporary += cat(".tmp-", ::getpid(), "-", counter++);
  return temporary;
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

}  // namespace

AtomicFile::AtomicFile(const fs::path& path) : path_(path), temporary_(temporary_beside(path)) {
  std::error_code ignored;
  if (fs::is_directory(path_, ignored)) {
    fail_io(path_.string(), "the file can't be written: a folder has that name");
  }
  // A file that is replaced keeps its permissions; a new one follows the umask.
  struct stat old {};
  const bool replaces = ::stat(path_.c_str(), &old) == 0 && S_ISREG(old.st_mode);
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_io(path_.string(), "the file can't be written", errno);
  if (replaces && ::fchmod(fd_, old.st_mode & 07777) != 0) {
    const int error_number = errno;  // not fatal on file systems without permissions
    if (error_number != EPERM && error_number != ENOTSUP) {
      ::close(fd_);
      ::unlink(temporary_.c_str());
      fail_io(path_.string(), "the old file's permissions can't be kept", error_number);
    }
  }
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t size) {
  if (fd_ < 0) fail_io(path_.string(), "written to after commit()");
  const char* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t count = ::write(fd_, next, size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_io(path_.string(), cat("writing failed at byte ", offset_), errno);
    next += count;
    size -= static_cast<size_t>(count);
    offset_ += static_cast<uint64_t>(count);
  }
}

void AtomicFile::commit() {
  if (fd_ < 0) fail_io(path_.string(), "committed twice");
  if (::fsync(fd_) != 0) fail_io(path_.string(), "fsync failed", errno);
  const int fd = fd_;
  fd_ = -1;
  // NFS reports a full disk or quota only here.
  if (::close(fd) != 0) fail_io(path_.string(), "closing failed", errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail_io(path_.string(), "the finished file can't be moved into place", errno);
  }
  temporary_.clear();
  fsync_path(folder_of(path_));
}

void write_file_atomic(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

}  // namespace llama2zh
