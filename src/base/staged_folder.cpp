// StagedFolder: the folder is built as NAME.llama2zh.partial beside its target. commit() flushes every file
// and folder in it, then renames. Where a non-empty folder is replaced, renameat2(RENAME_EXCHANGE)
// swaps the two in one step, so that at no moment there is neither; file systems that lack it get
// two renames. A lock on the partial folder tells a crashed writer's remains (removed) from a
// living writer (an error); the lock goes with its process.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

// Absolute, symbolic links resolved, no trailing slash: a sibling can be named from it.
fs::path resolved_target(const fs::path& target) {
  if (target.empty()) fail_usage("output folder", "no folder was named");
  std::error_code error;
  fs::path path = fs::weakly_canonical(fs::absolute(target), error);
  if (error) fail_io(target.string(), "the path can't be resolved", error.value());
  if (!path.has_filename()) path = path.parent_path();
  if (!path.has_relative_path()) fail_usage(target.string(), "not usable as an output folder");
  return path;
}

void check_target(const fs::path& target, Existing existing) {
  std::error_code error;
  const fs::file_status status = fs::status(target, error);
  if (status.type() == fs::file_type::not_found) return;
  if (error) fail_io(target.string(), "can't be examined", error.value());
  if (!fs::is_directory(status)) {
    fail_usage(target.string(), "expected a folder to write to, found a file",
               "name another output folder");
  }
  const bool empty = fs::is_empty(target, error);
  if (error) fail_io(target.string(), "the folder can't be read", error.value());
  if (!empty && existing == Existing::kRefuse) {
    fail_usage(target.string(), "the output folder is not empty",
               "name another one or pass --overwrite to replace it");
  }
}

int lock_folder(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail_io(folder.string(), "the folder can't be opened", errno);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int error_number = errno;
    // Some network file systems know no locks; going on without one is what they ask for.
    if (error_number == EWOULDBLOCK) {
      ::close(fd);
      fail_io(folder.string(), "another process is writing this folder");
    }
  }
  return fd;
}

void fsync_tree(const fs::path& folder) {
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_symlink() && (entry.is_regular_file() || entry.is_directory())) {
      fsync_path(entry.path());
    }
  }
  fsync_path(folder);
}

void move_aside_and_replace(const fs::path& partial, const fs::path& target) {
  fs::path old = target;
  old += ".llama2zh.replaced";
  std::error_code ignored;
  fs::remove_all(old, ignored);
  if (::rename(target.c_str(), old.c_str()) != 0) {
    fail_io(target.string(), "the old folder can't be moved aside", errno);
  }
  if (::rename(partial.c_str(), target.c_str()) != 0) {
    const int error_number = errno;
    ::rename(old.c_str(), target.c_str());
    fail_io(target.string(), "the finished folder can't be moved into place", error_number);
  }
  fs::remove_all(old, ignored);
}

}  // namespace

FolderLock::FolderLock(const fs::path& folder) : fd_(lock_folder(folder)) {}
FolderLock::FolderLock(FolderLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
FolderLock::~FolderLock() {
  if (fd_ >= 0) ::close(fd_);
}

StagedFolder::StagedFolder(const fs::path& target, Existing existing, Unfinished unfinished)
    : target_(resolved_target(target)), partial_(target_), keep_(unfinished == Unfinished::kKeep) {
  partial_ += kSuffix;
  check_target(target_, existing);
  std::error_code error;
  fs::create_directories(target_.parent_path(), error);
  if (error) fail_io(target_.string(), "the folder above can't be made", error.value());
  if (fs::exists(partial_, error)) {
    lock_ = lock_folder(partial_);
    if (keep_) return;
    fs::remove_all(partial_, error);
    ::close(lock_);
    lock_ = -1;
    if (error) fail_io(partial_.string(), "an unfinished folder can't be removed", error.value());
  }
  if (!fs::create_directory(partial_, error)) {
    fail_io(target_.string(), "the folder can't be made", error ? error.value() : EEXIST);
  }
  lock_ = lock_folder(partial_);
}

StagedFolder::~StagedFolder() {
  if (lock_ >= 0) ::close(lock_);
  std::error_code ignored;
  if (!committed_ && !keep_) fs::remove_all(partial_, ignored);
}

void StagedFolder::commit() {
  try {
    fsync_tree(partial_);
  } catch (const fs::filesystem_error& error) {
    fail_io(partial_.string(), "the finished folder can't be read", error.code().value());
  }
  std::error_code ignored;
  const bool replaces = fs::exists(target_, ignored) && !fs::is_empty(target_, ignored);
  if (!replaces) {
    if (::rename(partial_.c_str(), target_.c_str()) != 0) {
      fail_io(target_.string(), "the finished folder can't be moved into place", errno);
    }
  } else if (::renameat2(AT_FDCWD, partial_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) ==
             0) {
    fs::remove_all(partial_, ignored);  // holds the old folder now
  } else {
    move_aside_and_replace(partial_, target_);
  }
  committed_ = true;
  fsync_path(target_.parent_path());
}

}  // namespace llama2zh
