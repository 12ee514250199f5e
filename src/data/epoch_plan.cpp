// The order of an epoch. Best-fit finds the fullest bin with room in a map from room to bins.
#include "data/epoch_plan.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace llama2zh {
namespace {

// Keeps the permutation of blocks apart from that of the rows in them.
constexpr uint64_t kBlockOrder = 0x626c6f636b730000u;

UnitOrder epoch_order(int64_t n, const LoaderOptions& options, uint64_t seed, int64_t epoch) {
  return options.shuffle ? UnitOrder(n, seed, static_cast<uint64_t>(epoch)) : UnitOrder();
}

}  // namespace

std::vector<std::vector<int64_t>> pack_best_fit(const std::vector<int64_t>& sizes,
                                                int64_t capacity) {
  std::vector<int64_t> order(sizes.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return sizes[static_cast<size_t>(a)] > sizes[static_cast<size_t>(b)];
  });
  std::vector<std::vector<int64_t>> bins;
  std::map<int64_t, std::vector<size_t>> by_room;
  for (const int64_t item : order) {
    const int64_t size = sizes[static_cast<size_t>(item)];
    auto found = by_room.lower_bound(size);
    size_t bin = bins.size();
    int64_t room = capacity;
    if (found == by_room.end()) {
      bins.emplace_back();
    } else {
      room = found->first;
      bin = found->second.back();
      found->second.pop_back();
      if (found->second.empty()) by_room.erase(found);
    }
    bins[bin].push_back(item);
    if (room > size) by_room[room - size].push_back(bin);
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

EpochPlan::EpochPlan(const RowSource& rows, const LoaderOptions& options, uint64_t seed,
                     int64_t epoch)
    : epoch_(epoch) {
  if (options.kind == RowKind::kSft && options.packing) {
    pack(rows, options, seed);
    return;
  }
  const bool blocks = options.kind == RowKind::kPretrain;
  const int64_t usable = rows.total_tokens() + options.block_size - 2;  // a last one of 1: none
  units_ = blocks ? usable / options.block_size : rows.size();
  order_ = epoch_order(units_, options, blocks ? seed ^ kBlockOrder : seed, epoch);
}

void EpochPlan::pack(const RowSource& rows, const LoaderOptions& options, uint64_t seed) {
  const UnitOrder order = epoch_order(rows.size(), options, seed, epoch_);
  std::vector<int64_t> sizes;
  sizes.reserve(static_cast<size_t>(rows.size()));
  for (int64_t i = 0; i < rows.size(); ++i)
    sizes.push_back(static_cast<int64_t>(rows.length(order[i])));
  const auto bins = options.shuffle ? pack_best_fit(sizes, options.block_size)
                                    : pack_next_fit(sizes, options.block_size);
  units_ = static_cast<int64_t>(bins.size());
  const UnitOrder bin_order = epoch_order(units_, options, seed ^ kBlockOrder, epoch_);
  items_.reserve(sizes.size());
  unit_starts_ = {0};
  for (int64_t unit = 0; unit < units_; ++unit) {
    for (const int64_t member : bins[static_cast<size_t>(bin_order[unit])])
      items_.push_back(order[member]);
    unit_starts_.push_back(static_cast<int64_t>(items_.size()));
  }
}

}  // namespace llama2zh
