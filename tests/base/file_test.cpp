#include "llama2zh/base/file.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/child.h"
#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/base/writable.h"

namespace llama2zh {
namespace {

using testing::HasSubstr;

TEST(MappedFile, ReadsBytes) {
  const TempFolder folder;
  const std::string bytes("a\0b\xff", 4);
  write_file_atomic(folder / "x", bytes);
  const auto file = MappedFile::open(folder / "x");
  EXPECT_EQ(file->bytes(), bytes);
  EXPECT_EQ(file->path(), folder / "x");
}

TEST(MappedFile, EmptyFileHasSizeZero) {
  const TempFolder folder;
  write_file_atomic(folder / "x", "");
  EXPECT_EQ(MappedFile::open(folder / "x")->size(), 0u);
}

TEST(MappedFile, MissingFileFolderAndDeviceAreErrors) {
  const TempFolder folder;
  EXPECT_THAT(error_text_of(ErrorKind::kIo, [&] { MappedFile::open(folder / "none"); }),
              HasSubstr("none: the file can't be opened: no such file"));
  EXPECT_THAT(error_text_of(ErrorKind::kIo, [&] { MappedFile::open(folder.path()); }),
              HasSubstr("expected a file, found a folder"));
  EXPECT_THAT(error_text_of(ErrorKind::kIo, [] { MappedFile::open("/dev/null"); }),
              HasSubstr("/dev/null"));
}

TEST(ReadFile, ReadsAllAndKeepsToTheLimit) {
  const TempFolder folder;
  const std::string bytes(200000, 'x');
  write_file_atomic(folder / "x", bytes);
  EXPECT_EQ(read_file(folder / "x"), bytes);
  EXPECT_EQ(read_file(folder / "x", 200000), bytes);
  EXPECT_THAT(error_text_of(ErrorKind::kIo, [&] { read_file(folder / "x", 199999); }),
              HasSubstr("larger than the 195.3 KiB allowed"));
  // A device has no size: the limit holds while reading.
  error_text_of(ErrorKind::kIo, [] { read_file("/dev/zero", 1 << 20); });
}

TEST(AtomicFile, ReplacesOnlyOnCommit) {
  const TempFolder folder;
  write_file_atomic(folder / "x", "old");
  {
    AtomicFile file(folder / "x");
    file.write("ne");
    file.write("w");
    EXPECT_EQ(file.offset(), 3u);
    EXPECT_EQ(read_file(folder / "x"), "old");
    file.commit();
    EXPECT_EQ(read_file(folder / "x"), "new");
  }
  EXPECT_EQ(read_file(folder / "x"), "new");
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(AtomicFile, WithoutCommitNothingChangesAndNothingStays) {
  const TempFolder folder;
  write_file_atomic(folder / "x", "old");
  { AtomicFile(folder / "x").write("new"); }
  { AtomicFile(folder / "y").write("new"); }
  EXPECT_EQ(read_file(folder / "x"), "old");
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(AtomicFile, WritesAndCommitsAfterCommitAreErrors) {
  const TempFolder folder;
  AtomicFile file(folder / "x");
  file.commit();
  error_text_of(ErrorKind::kIo, [&] { file.write("x"); });
  error_text_of(ErrorKind::kIo, [&] { file.commit(); });
}

// safetensors' test_serialize_to_file_same_path_with_active_mmap.
TEST(AtomicFile, SavingOverAMappedFileLeavesTheMappingRight) {
  const TempFolder folder;
  const std::string old_bytes(100000, 'o');
  write_file_atomic(folder / "x", old_bytes);
  const auto mapped = MappedFile::open(folder / "x");
  write_file_atomic(folder / "x", "new");
  EXPECT_EQ(mapped->bytes(), old_bytes);
  EXPECT_EQ(read_file(folder / "x"), "new");
}

TEST(AtomicFile, KeepsThePermissionsOfAReplacedFile) {
  const TempFolder folder;
  write_file_atomic(folder / "x", "old");
  ASSERT_EQ(::chmod((folder / "x").c_str(), 0640), 0);
  write_file_atomic(folder / "x", "new");
  struct stat status {};
  ASSERT_EQ(::stat((folder / "x").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
}

TEST(CheckWritable, TriesItWhereTheFolderWouldBe) {
  const TempFolder folder;
  EXPECT_NO_THROW(check_writable(folder.path()));
  EXPECT_NO_THROW(check_writable(folder / "a/b/c"));
  EXPECT_TRUE(fs::is_empty(folder.path()));
  // Permissions let root write there; the file system does not.
  EXPECT_THAT(error_text_of(ErrorKind::kIo, [] { check_writable("/proc/x/y"); }),
              HasSubstr("/proc/x/y: the output folder can't be written to: "));
}

TEST(AtomicFile, FolderOfThatNameOrMissingFolderIsAnError) {
  const TempFolder folder;
  fs::create_directory(folder / "x");
  EXPECT_THAT(error_text_of(ErrorKind::kIo, [&] { write_file_atomic(folder / "x", "new"); }),
              HasSubstr("a folder has that name"));
  EXPECT_THAT(error_text_of(ErrorKind::kIo, [&] { write_file_atomic(folder / "n/x", "new"); }),
              HasSubstr("n/x: the file can't be written: no such file or directory"));
}

TEST(AtomicFile, AFullDiskIsAnErrorAndTheOldFileStays) {
  const TempFolder folder;
  write_file_atomic(folder / "x", "old");
  const int status = run_in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 10;
    try {
      write_file_atomic(folder / "x", std::string(10000, 'n'));
    } catch (const Error& error) {
      const std::string text = error.what();
      const bool named = text.find((folder / "x").string()) == 0 &&
                         text.find("writing failed at byte 4096: file too large") != text.npos;
      return error.kind() == ErrorKind::kIo && named ? 0 : 11;
    }
    return 12;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(folder / "x"), "old");
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(AtomicFile, NoPermissionIsAnError) {
  const TempFolder folder;
  write_file_atomic(folder / "x", "old");
  ASSERT_EQ(::chmod(folder.path().c_str(), 0555), 0);
  const int status = run_in_child([&] {
    // Root may write everywhere: become nobody.
    if (::geteuid() == 0 && ::setuid(65534) != 0) return 10;
    try {
      write_file_atomic(folder / "x", "new");
    } catch (const Error& error) {
      const bool named = std::string(error.what()).find("permission denied") != std::string::npos;
      return error.kind() == ErrorKind::kIo && named ? 0 : 11;
    }
    return 12;
  });
  ::chmod(folder.path().c_str(), 0755);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(folder / "x"), "old");
}

TEST(CheckFreeSpace, ComparesWithTheFileSystem) {
  const TempFolder folder;
  EXPECT_NO_THROW(check_free_space(folder.path(), 1));
  EXPECT_NO_THROW(check_free_space(folder / "not/yet/there", 1));
  EXPECT_THAT(
      error_text_of(ErrorKind::kIo, [&] { check_free_space(folder.path(), uint64_t{1} << 62); }),
      HasSubstr("not enough free space: 4.0 EiB needed"));
}

}  // namespace
}  // namespace llama2zh
