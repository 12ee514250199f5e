#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>

#include <fstream>

#include "base/child.h"
#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "llama2zh/base/file.h"

namespace llama2zh {
namespace {

using testing::HasSubstr;

TEST(StagedFolder, AppearsWholeOnCommit) {
  const TempFolder folder;
  const fs::path target = folder / "deep/out";
  {
    StagedFolder staged(target, Existing::kRefuse);
    EXPECT_EQ(staged.path().parent_path(), target.parent_path());
    write_file_atomic(staged.path() / "a", "1");
    fs::create_directory(staged.path() / "sub");
    write_file_atomic(staged.path() / "sub/b", "2");
    EXPECT_FALSE(fs::exists(target));
    staged.commit();
  }
  EXPECT_EQ(read_file(target / "a"), "1");
  EXPECT_EQ(read_file(target / "sub/b"), "2");
  EXPECT_FALSE(fs::exists(folder / "deep/out.llama2zh.partial"));
}

TEST(StagedFolder, WithoutCommitNothingStays) {
  const TempFolder folder;
  {
    const StagedFolder staged(folder / "out", Existing::kRefuse);
    write_file_atomic(staged.path() / "a", "1");
  }
  EXPECT_EQ(folder.entries(), 0u);
}

TEST(StagedFolder, EmptyFolderAndTrailingSlashAreFine) {
  const TempFolder folder;
  fs::create_directory(folder / "out");
  StagedFolder staged((folder / "out").string() + "/", Existing::kRefuse);
  write_file_atomic(staged.path() / "a", "1");
  staged.commit();
  EXPECT_EQ(read_file(folder / "out/a"), "1");
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(StagedFolder, RefusesANonEmptyFolderAndAFile) {
  const TempFolder folder;
  fs::create_directory(folder / "out");
  write_file_atomic(folder / "out/a", "old");
  write_file_atomic(folder / "file", "old");
  EXPECT_THAT(
      error_text_of(ErrorKind::kUsage, [&] { StagedFolder(folder / "out", Existing::kRefuse); }),
      testing::AllOf(HasSubstr("the output folder is not empty"), HasSubstr("--overwrite")));
  for (const Existing existing : {Existing::kRefuse, Existing::kReplace}) {
    EXPECT_THAT(error_text_of(ErrorKind::kUsage, [&] { StagedFolder(folder / "file", existing); }),
                HasSubstr("expected a folder to write to, found a file"));
  }
  error_text_of(ErrorKind::kUsage, [] { StagedFolder("", Existing::kRefuse); });
  error_text_of(ErrorKind::kUsage, [] { StagedFolder("/", Existing::kReplace); });
  EXPECT_EQ(read_file(folder / "out/a"), "old");
  EXPECT_EQ(folder.entries(), 2u);
}

TEST(StagedFolder, ReplacesTheOldFolderOnlyOnCommit) {
  const TempFolder folder;
  fs::create_directory(folder / "out");
  write_file_atomic(folder / "out/old", "old");
  const auto mapped = MappedFile::open(folder / "out/old");
  { StagedFolder(folder / "out", Existing::kReplace); }
  EXPECT_EQ(read_file(folder / "out/old"), "old");
  StagedFolder staged(folder / "out", Existing::kReplace);
  write_file_atomic(staged.path() / "new", "new");
  EXPECT_EQ(read_file(folder / "out/old"), "old");
  staged.commit();
  EXPECT_FALSE(fs::exists(folder / "out/old"));
  EXPECT_EQ(read_file(folder / "out/new"), "new");
  EXPECT_EQ(mapped->bytes(), "old");
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(StagedFolder, ReplacesThroughASymbolicLink) {
  const TempFolder folder;
  fs::create_directory(folder / "real");
  write_file_atomic(folder / "real/old", "old");
  fs::create_directory_symlink(folder / "real", folder / "link");
  StagedFolder staged(folder / "link", Existing::kReplace);
  write_file_atomic(staged.path() / "new", "new");
  staged.commit();
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(read_file(folder / "real/new"), "new");
}

TEST(StagedFolder, AKilledWriterLeavesTheOldFolderAndIsNoObstacle) {
  const TempFolder folder;
  fs::create_directory(folder / "out");
  write_file_atomic(folder / "out/a", "old");
  const int status = run_in_child([&]() -> int {
    const StagedFolder staged(folder / "out", Existing::kReplace);
    write_file_atomic(staged.path() / "a", "half");
    return ::raise(SIGKILL);
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(read_file(folder / "out/a"), "old");
  EXPECT_TRUE(fs::exists(folder / "out.llama2zh.partial"));
  StagedFolder staged(folder / "out", Existing::kReplace);
  EXPECT_FALSE(fs::exists(staged.path() / "a"));
  write_file_atomic(staged.path() / "a", "new");
  staged.commit();
  EXPECT_EQ(read_file(folder / "out/a"), "new");
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(StagedFolder, ALivingWriterIsLeftAlone) {
  const TempFolder folder;
  const StagedFolder staged(folder / "out", Existing::kRefuse);
  write_file_atomic(staged.path() / "a", "1");
  const int status = run_in_child([&] {
    try {
      StagedFolder(folder / "out", Existing::kRefuse);
    } catch (const Error& error) {
      return error.kind() == ErrorKind::kIo ? 0 : 11;
    }
    return 12;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(staged.path() / "a"), "1");
}

TEST(StagedFolder, AFullDiskLeavesNothingHalfWritten) {
  const TempFolder folder;
  fs::create_directory(folder / "out");
  write_file_atomic(folder / "out/a", "old");
  const int status = run_in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 10;
    try {
      StagedFolder staged(folder / "out", Existing::kReplace);
      write_file_atomic(staged.path() / "a", "new");
      write_file_atomic(staged.path() / "b", std::string(10000, 'n'));
      staged.commit();
    } catch (const Error& error) {
      return error.kind() == ErrorKind::kIo ? 0 : 11;
    }
    return 12;
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(folder / "out/a"), "old");
  EXPECT_EQ(folder.entries(), 1u);
}

}  // namespace
}  // namespace llama2zh
