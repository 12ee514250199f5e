// Reading a store: shards are mapped; a row is found by its shard and the ends in SHARD.rows. What
// is read is checked as it is used, since a file may have changed after its size was checked: an id
// must be one of the vocabulary, or the embedding would be read beyond its end.
#include "llama2zh/data/token_store.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "data/store_format.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/manifest.h"

namespace llama2zh {
namespace {

constexpr const char* kDamaged = "run `llama2zh inspect` on the store; copy it or prepare it again";

struct MappedShard {
  int64_t first_row = 0, first_token = 0;
  ShardInfo info;
  std::shared_ptr<const MappedFile> ids, rows, mask;

  // End of the first `rows` rows, in the shard's tokens.
  int64_t end_of(int64_t count) const {
    if (count == 0) return 0;
    uint64_t end;
    std::memcpy(&end, rows->data() + (count - 1) * 8, sizeof end);
    if (end > static_cast<uint64_t>(info.tokens)) {
      fail_format(rows->path().string(), cat("row ", count, " ends behind the shard's last token"),
                  kDamaged);
    }
    return static_cast<int64_t>(end);
  }
};

// Blocks are read in no order: reading ahead would fill the memory with what is not asked for.
std::shared_ptr<const MappedFile> map_file(const fs::path& path) {
  std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  if (file->size() > 0) ::madvise(const_cast<std::byte*>(file->data()), file->size(), MADV_RANDOM);
  return file;
}

class StoreRows : public RowSource {
 public:
  StoreRows(const fs::path& folder, const std::string& name, const StoreInfo& info,
            const StoreSet& set)
      : id_bytes_(info.id_bytes), vocab_size_(info.vocab_size), set_(set) {
    ShardInfo before;
    for (size_t i = 0; i < set.shards.size(); ++i) {
      MappedShard shard{before.rows, before.tokens, set.shards[i], {}, {}, {}};
      shard.ids = map_file(folder / shard_name(name, i, "ids"));
      shard.rows = map_file(folder / shard_name(name, i, "rows"));
      if (info.kind == RowKind::kSft) shard.mask = map_file(folder / shard_name(name, i, "mask"));
      before.rows += shard.info.rows;
      before.tokens += shard.info.tokens;
      shards_.push_back(std::move(shard));
    }
  }

  int64_t size() const override { return set_.rows; }
  int64_t total_supervised() const override { return set_.supervised; }
  int64_t longest() const override { return set_.longest; }
  int64_t begin(int64_t row) const override {
    if (row >= set_.rows) return set_.tokens;
    const MappedShard& shard = shard_of(row, &MappedShard::first_row);
    return shard.first_token + shard.end_of(row - shard.first_row);
  }

  void read(int64_t begin, int64_t count, std::vector<TokenId>& ids,
            std::vector<uint8_t>& supervised) const override {
    if (begin < 0 || count < 0 || begin + count > set_.tokens) {
      fail_format(shards_.empty() ? "store" : shards_[0].rows->path().string(),
                  cat("tokens ", begin, " to ", begin + count, " of ", set_.tokens), kDamaged);
    }
    while (count > 0) {
      const MappedShard& shard = shard_of(begin, &MappedShard::first_token);
      const int64_t from = begin - shard.first_token;
      const int64_t part = std::min(count, shard.info.tokens - from);
      append_ids(shard, from, part, ids);
      if (shard.mask) {
        const auto* mask = reinterpret_cast<const uint8_t*>(shard.mask->data()) + from;
        supervised.insert(supervised.end(), mask, mask + part);
      } else {
        supervised.insert(supervised.end(), static_cast<size_t>(part), 1);
      }
      begin += part;
      count -= part;
    }
  }

 private:
  // The last shard that begins at or before `position`; empty ones are passed over.
  const MappedShard& shard_of(int64_t position, int64_t MappedShard::*first) const {
    const auto behind = std::upper_bound(
        shards_.begin(), shards_.end(), position,
        [first](int64_t at, const MappedShard& shard) { return at < shard.*first; });
    return *(behind - 1);
  }

  void append_ids(const MappedShard& shard, int64_t from, int64_t count,
                  std::vector<TokenId>& ids) const {
    const size_t old = ids.size();
    ids.resize(old + static_cast<size_t>(count));
    uint32_t highest = 0;
    const auto copy = [&](auto id) {
      const std::byte* at = shard.ids->data() + from * static_cast<int64_t>(sizeof id);
      for (size_t i = old; i < ids.size(); ++i, at += sizeof id) {
        std::memcpy(&id, at, sizeof id);
        highest = std::max<uint32_t>(highest, id);
        ids[i] = static_cast<TokenId>(id);
      }
    };
    id_bytes_ == 2 ? copy(uint16_t{}) : copy(uint32_t{});
    if (highest >= static_cast<uint64_t>(vocab_size_)) {
      fail_format(shard.ids->path().string(),
                  cat("token id ", highest, " in a store of ", vocab_size_, " tokens"), kDamaged);
    }
  }

  int64_t id_bytes_, vocab_size_;
  StoreSet set_;
  std::vector<MappedShard> shards_;
};

void verify_set(const fs::path& folder, const std::string& name, const StoreInfo& info,
                const StoreSet& set) {
  constexpr int64_t kAtOnce = int64_t{1} << 20;
  const StoreRows rows(folder, name, info, set);
  int64_t longest = 0, supervised = 0;
  for (int64_t row = 0; row < rows.size(); ++row) {
    const int64_t length = rows.begin(row + 1) - rows.begin(row);
    if (length <= 0) {
      fail_format(folder.string(), cat("row ", row, " of \"", name, "\" has ", length, " tokens"),
                  kDamaged);
    }
    longest = std::max(longest, length);
  }
  std::vector<TokenId> ids;
  std::vector<uint8_t> marks;
  for (int64_t at = 0; at < set.tokens; at += kAtOnce) {
    ids.clear();
    marks.clear();
    rows.read(at, std::min(kAtOnce, set.tokens - at), ids, marks);
    supervised += std::count(marks.begin(), marks.end(), 1);
  }
  if (longest != set.longest || supervised != set.supervised) {
    fail_format(folder.string(), cat("\"", name, "\" does not hold what its counts say"), kDamaged);
  }
}

}  // namespace

std::shared_ptr<const RowSource> open_token_store(const fs::path& folder, const std::string& set) {
  const StoreInfo info = read_store_info(folder);
  const auto found = info.sets.find(set);
  if (found == info.sets.end())
    fail_format(folder.string(), cat("the store has no set \"", set, "\""));
  return std::make_shared<StoreRows>(folder, set, info, found->second);
}

void verify_token_store(const fs::path& folder) {
  verify_manifest(folder, /*deep=*/true);
  const StoreInfo info = read_store_info(folder);
  for (const auto& [name, set] : info.sets) verify_set(folder, name, info, set);
}

}  // namespace llama2zh
