// The order of an epoch. First-fit finds the first bin with room by descending a tournament tree
// whose nodes hold the largest room among their bins: n log n, where a search bin by bin would be
// quadratic.
#include "data/epoch_plan.h"

#include <algorithm>
#include <numeric>

#include "llama2zh/base/random.h"

namespace llama2zh {
namespace {

// Keeps the permutation of blocks apart from that of the rows in them.
constexpr uint64_t kBlockOrder = 0x626c6f636b730000u;

// Room in the bins, all of them empty at first: leaf i is bin i.
class RoomTree {
 public:
  RoomTree(size_t bins, int64_t capacity) {
    while (leaves_ < bins) leaves_ *= 2;
    room_.assign(2 * leaves_, capacity);
  }
  // The first bin with room for `size`, which is taken from it.
  size_t place(int64_t size) {
    size_t node = 1;
    while (node < leaves_) node = 2 * node + (room_[2 * node] >= size ? 0 : 1);
    const size_t bin = node - leaves_;
    room_[node] -= size;
    for (node /= 2; node > 0; node /= 2)
      room_[node] = std::max(room_[2 * node], room_[2 * node + 1]);
    return bin;
  }

 private:
  size_t leaves_ = 1;
  std::vector<int64_t> room_;
};

std::vector<int64_t> epoch_order(int64_t n, const LoaderOptions& options, uint64_t salt,
                                 int64_t epoch) {
  if (options.shuffle) return permutation(n, options.seed ^ salt, static_cast<uint64_t>(epoch));
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  return order;
}

}  // namespace

std::vector<std::vector<int64_t>> pack_first_fit(const std::vector<int64_t>& sizes,
                                                 int64_t capacity) {
  RoomTree rooms(sizes.size(), capacity);
  std::vector<std::vector<int64_t>> bins;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const size_t bin = rooms.place(sizes[i]);
    if (bin == bins.size()) bins.emplace_back();
    bins[bin].push_back(static_cast<int64_t>(i));
  }
  return bins;
}

std::vector<std::vector<int64_t>> pack_next_fit(const std::vector<int64_t>& sizes,
                                                int64_t capacity) {
  std::vector<std::vector<int64_t>> bins;
  int64_t room = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (bins.empty() || sizes[i] > room) {
      bins.emplace_back();
      room = capacity;
    }
    room -= sizes[i];
    bins.back().push_back(static_cast<int64_t>(i));
  }
  return bins;
}

BatchLoader::EpochPlan BatchLoader::EpochPlan::make(const TokenRows& rows,
                                                    const LoaderOptions& options, int64_t epoch) {
  EpochPlan plan;
  plan.epoch = epoch;
  if (options.kind == RowKind::kPretrain || !options.packing) {
    const bool blocks = options.kind == RowKind::kPretrain;
    const int64_t usable = rows.total_tokens() + options.block_size - 2;  // a last one of 1: none
    const int64_t n = blocks ? usable / options.block_size : rows.size();
    plan.items = epoch_order(n, options, blocks ? kBlockOrder : 0, epoch);
    plan.unit_starts.resize(static_cast<size_t>(n) + 1);
    std::iota(plan.unit_starts.begin(), plan.unit_starts.end(), int64_t{0});
    return plan;
  }
  const std::vector<int64_t> order = epoch_order(rows.size(), options, 0, epoch);
  std::vector<int64_t> sizes;
  sizes.reserve(order.size());
  for (const int64_t row : order) sizes.push_back(static_cast<int64_t>(rows.length(row)));
  auto bins = options.shuffle ? pack_first_fit(sizes, options.block_size)
                              : pack_next_fit(sizes, options.block_size);
  const auto count = static_cast<int64_t>(bins.size());
  for (const int64_t bin : epoch_order(count, options, kBlockOrder, epoch)) {
    std::vector<int64_t>& members = bins[static_cast<size_t>(bin)];
    for (int64_t& member : members) member = order[static_cast<size_t>(member)];
    plan.add_unit(members);
  }
  return plan;
}

}  // namespace llama2zh
