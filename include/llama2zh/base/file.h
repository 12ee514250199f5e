#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace llama2zh {

namespace fs = std::filesystem;

// A whole file mapped read-only and shared (one copy in memory for all processes). The mapping
// lives as long as any copy of the shared_ptr. Throws kIo if the file can't be opened, is a
// directory, or can't be mapped. An empty file has size 0.
class MappedFile {
 public:
  static std::shared_ptr<const MappedFile> open(const fs::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view bytes() const { return {reinterpret_cast<const char*>(data_), size_}; }
  const fs::path& path() const { return path_; }

 private:
  MappedFile() = default;
  fs::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// The file's bytes; kIo when it is missing, unreadable or larger than `max_bytes`.
std::string read_file(const fs::path& path, uint64_t max_bytes = uint64_t{1} << 32);

// Writes beside `path` (same folder), then fsync, rename, fsync of the folder: a reader sees the
// old file or the new one, never a part, and a mapping of the old one stays valid. Every failure
// (no permission, disk full) is a kIo error that names the path; without commit() the temporary is
// removed. A replaced file keeps its permissions. The folder must exist. One thread at a time.
class AtomicFile {
 public:
  explicit AtomicFile(const fs::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  uint64_t offset() const { return offset_; }               // bytes written so far
  const fs::path& temporary() const { return temporary_; }  // where they are until commit()
  void commit();

 private:
  fs::path path_;
  fs::path temporary_;
  int fd_ = -1;
  uint64_t offset_ = 0;
};

void write_file_atomic(const fs::path& path, std::string_view bytes);

// What to do when an output folder exists and is not empty.
enum class Existing { kRefuse, kReplace };
// What to do with a partial folder that an earlier process left, and with one's own without commit().
enum class Unfinished { kRemove, kKeep };

// A folder that appears whole or not at all: build it under path() (a sibling named NAME + kSuffix), then
// commit() moves it to `target`, replacing the old folder only then. Throws kUsage at construction
// if `target` is a file, or a non-empty folder and `existing` is kRefuse. A partial folder that a
// crashed process left is removed, one that a living process writes is a kIo error. Without
// commit() the partial folder is removed. With kKeep both stay, for work that can be resumed. One
// thread at a time.
class StagedFolder {
 public:
  StagedFolder(const fs::path& target, Existing existing,
               Unfinished unfinished = Unfinished::kRemove);
  ~StagedFolder();
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  // Named after the program: what carries it is ours to remove.
  static constexpr const char* kSuffix = ".llama2zh.partial";

  const fs::path& path() const { return partial_; }
  void commit();

 private:
  fs::path target_;
  fs::path partial_;
  int lock_ = -1;
  bool committed_ = false;
  bool keep_ = false;
};

// A lock on an existing folder while it lives, against a second process that would write there too:
// kIo if one holds it. File systems without locks give none. It goes with its process.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder);
  ~FolderLock();
  FolderLock(FolderLock&& other) noexcept;
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
};

// kIo unless a file of `bytes` more can be expected to fit into the folder's file system.
void check_free_space(const fs::path& folder, uint64_t bytes);
void fsync_path(const fs::path& path);  // a file or a folder

}  // namespace llama2zh
