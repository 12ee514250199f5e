#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/row_collector.h"
#include "data/store_format.h"

namespace llama2zh {

// A file that only grows, and can be cut back. Errors are kIo naming it.
class GrowingFile {
 public:
  // Opens or makes it, cut to `size` bytes; kIo if it is shorter.
  GrowingFile(const std::filesystem::path& path, uint64_t size);
  ~GrowingFile();
  GrowingFile(const GrowingFile&) = delete;
  GrowingFile& operator=(const GrowingFile&) = delete;
  void append(const void* data, size_t bytes);
  void cut(uint64_t size);
  uint64_t size() const { return size_; }  // what is not written yet included
  void sync();                             // written and on the disk

 private:
  void write_out();
  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
  std::string buffer_;
};

// The shards of one set. A shard ends with the row that reaches shard_tokens.
class SetWriter {
 public:
  struct Layout {
    RowKind kind = RowKind::kPretrain;
    int64_t id_bytes = 2;
    int64_t shard_tokens = 0;
  };
  // Goes on where `written` and the open row's tokens and targets say.
  SetWriter(std::filesystem::path folder, std::string name, const Layout& layout,
            const StoreSet& written, int64_t open_tokens, int64_t open_supervised);
  void append(const EncodedRow& row);
  void abandon();
  void sync();
  const StoreSet& written() const { return set_; }  // whole rows
  int64_t open_tokens() const { return open_tokens_; }
  int64_t open_supervised() const { return open_supervised_; }

 private:
  struct Files {
    std::unique_ptr<GrowingFile> ids, rows, mask;
  };
  void open_shard(const ShardInfo& shard, int64_t open_tokens);
  void append_ids(const std::vector<TokenId>& ids);

  std::filesystem::path folder_;
  std::string name_;
  Layout layout_;
  StoreSet set_;
  int64_t open_tokens_, open_supervised_;  // of the row that is not at its end yet
  Files files_;
  std::string bytes_;
};

}  // namespace llama2zh
