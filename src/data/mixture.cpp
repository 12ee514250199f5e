// With weights w an epoch of T blocks takes T w / sum(w) of each source; T is the least for which no
// source of n blocks gets fewer than n: the largest n sum(w) / w.
#include "data/mixture.h"

#include <algorithm>
#include <cmath>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr const char* kMixture = "data.mixture";
constexpr double kMostBlocks = 1e12;

int64_t rounded_blocks(double blocks, size_t source) {
  if (blocks > kMostBlocks) {
    fail_usage(kMixture, cat("source ", source + 1, " would give ", blocks, " blocks an epoch"),
               "lower its share");
  }
  return std::max<int64_t>(1, std::llround(blocks));
}

void check_shares(const std::vector<MixedRows>& sources) {
  size_t weighted = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    const MixedRows& source = sources[i];
    const int shares =
        source.weight.has_value() + source.epochs.has_value() + source.tokens.has_value();
    if (shares > 1) {
      fail_usage(kMixture, cat("source ", i + 1, " has more than one of weight, epochs and tokens"),
                 "give one");
    }
    weighted += source.weight ? 1 : 0;
  }
  if (weighted != 0 && weighted != sources.size()) {
    fail_usage(kMixture, cat(weighted, " of ", sources.size(), " sources have a weight"),
               "give all of them a weight, or none");
  }
}

}  // namespace

std::vector<int64_t> blocks_in_epoch(const std::vector<MixedRows>& sources,
                                     const std::vector<int64_t>& blocks, int64_t block_size) {
  check_shares(sources);
  double total_weight = 0, longest = 0;
  for (size_t i = 0; i < sources.size(); ++i) {
    if (blocks[i] == 0 && sources.size() > 1)
      fail_data(kMixture, cat("source ", i + 1, " has too few tokens for a block"));
    total_weight += sources[i].weight.value_or(0);
  }
  for (size_t i = 0; i < sources.size(); ++i) {
    if (sources[i].weight)
      longest =
          std::max(longest, static_cast<double>(blocks[i]) * total_weight / *sources[i].weight);
  }
  std::vector<int64_t> result;
  for (size_t i = 0; i < sources.size(); ++i) {
    const MixedRows& source = sources[i];
    const auto n = static_cast<double>(blocks[i]);
    if (blocks[i] == 0)
      result.push_back(0);
    else if (source.weight)
      result.push_back(rounded_blocks(longest * *source.weight / total_weight, i));
    else if (source.epochs)
      result.push_back(rounded_blocks(*source.epochs * n, i));
    else if (source.tokens)
      result.push_back(rounded_blocks(
          std::ceil(static_cast<double>(*source.tokens) / static_cast<double>(block_size)), i));
    else
      result.push_back(blocks[i]);
  }
  return result;
}

}  // namespace llama2zh
