// Work is cut into items: a key-value head of a sequence with up to 16 of its rows, whose queries
// (rows times the group of query heads) read each page together. Items are taken by threads one
// after another. Where there are fewer items than threads could use (a few long sequences), their
// partitions of 256 tokens are spread over threads as well and joined afterwards, in the same order
// and by the same operations, so that the result does not depend on the way it was cut.
#include "llama2zh/kernels/paged_attention.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/util/Exception.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <vector>

#include "kernels/page_tiles.h"

namespace llama2zh {
namespace {

using page_tiles::kPartition;
using page_tiles::kPartitionPages;
using page_tiles::QueryState;

constexpr int64_t kItemRows = 16;

struct AttentionShape {
  int64_t query_heads, kv_heads, dim, padded_dim;
  int64_t group() const { return query_heads / kv_heads; }
  int64_t most_queries() const { return kItemRows * group(); }
  // Floats that an item's states take: top, sum and out of each query.
  int64_t state_size() const { return most_queries() * (padded_dim + 2); }
};

struct Item {
  const PagedRows* sequence;
  int64_t kv_head, row, rows;  // rows of the sequence's part, from `row` on
  int64_t past() const { return sequence->length - sequence->rows + row; }  // tokens before `row`
  int64_t partitions() const { return (past() + rows + kPartition - 1) / kPartition; }
};

std::vector<Item> make_items(std::span<const PagedRows> sequences, int64_t kv_heads) {
  std::vector<Item> items;
  for (const PagedRows& sequence : sequences) {
    // The last rows see most: they come first, so that threads end together.
    const int64_t blocks = (sequence.rows + kItemRows - 1) / kItemRows;
    for (int64_t block = blocks - 1; block >= 0; --block) {
      const int64_t row = block * kItemRows, rows = std::min(kItemRows, sequence.rows - row);
      for (int64_t head = 0; head < kv_heads; ++head) items.push_back({&sequence, head, row, rows});
    }
  }
  return items;
}

// Calls work(i) for all i in [0, count), each thread taking the next one that is left.
void share_out(int64_t count, const std::function<void(int64_t)>& work) {
  std::atomic<int64_t> next{0};
  const int64_t threads = std::min<int64_t>(count, at::get_num_threads());
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    for (int64_t i = next++; i < count; i = next++) work(i);
  });
}

// The states of an item's queries inside `memory` (state_size() floats), all empty.
std::vector<QueryState>& empty_states(float* memory, int64_t queries, int64_t padded_dim,
                                      std::vector<QueryState>& states) {
  std::fill_n(memory, queries * padded_dim, 0.0f);
  states.clear();
  for (int64_t i = 0; i < queries; ++i)
    states.push_back({-std::numeric_limits<float>::infinity(), 0, memory + i * padded_dim});
  return states;
}

template <typename Query, typename Page>
class PagedAttention {
 public:
  PagedAttention(const at::Tensor& q, const KvPages& pages, at::Tensor& out)
      : shape_{q.size(1), pages.keys.size(1), q.size(2), pages.values.size(3)},
        scale_(1 / std::sqrt(static_cast<float>(shape_.dim))),
        q_(q.const_data_ptr<Query>()),
        out_(out.data_ptr<Query>()),
        keys_(pages.keys.const_data_ptr<Page>()),
        values_(pages.values.const_data_ptr<Page>()) {
    if (!pages.key_scales.defined()) return;
    key_scales_ = pages.key_scales.const_data_ptr<float>();
    value_scales_ = pages.value_scales.const_data_ptr<float>();
  }

  void run(std::span<const PagedRows> sequences) const {
    const std::vector<Item> items = make_items(sequences, shape_.kv_heads);
    const auto count = static_cast<int64_t>(items.size());
    int64_t parts = 0;
    for (const Item& item : items) parts += item.partitions();
    if (count >= 2 * at::get_num_threads() || parts == count) {
      share_out(count, [&](int64_t i) { attend(items[static_cast<size_t>(i)]); });
    } else {
      attend_in_parts(items, parts);
    }
  }

 private:
  struct Scratch {
    std::vector<float> queries, part, whole;
    std::vector<QueryState> part_states, whole_states;
    std::vector<int64_t> tokens;
  };
  Scratch& scratch() const {
    static thread_local Scratch memory;
    memory.queries.resize(static_cast<size_t>(shape_.most_queries() * shape_.dim));
    memory.part.resize(static_cast<size_t>(shape_.most_queries() * shape_.padded_dim));
    memory.whole.resize(memory.part.size());
    memory.tokens.resize(static_cast<size_t>(shape_.most_queries()));
    return memory;
  }
  int64_t queries_of(const Item& item) const { return item.rows * shape_.group(); }

  void attend(const Item& item) const {
    Scratch& memory = scratch();
    read_queries(item, memory.queries.data());
    auto& whole =
        empty_states(memory.whole.data(), queries_of(item), shape_.padded_dim, memory.whole_states);
    auto& part =
        empty_states(memory.part.data(), queries_of(item), shape_.padded_dim, memory.part_states);
    for (int64_t i = 0; i < item.partitions(); ++i) {
      attend_partition(item, i, memory, part);
      join_states(whole, part);
    }
    write_rows(item, whole);
  }

  void attend_in_parts(const std::vector<Item>& items, int64_t parts) const {
    const int64_t floats = shape_.most_queries() * shape_.padded_dim;
    const at::Tensor memory = at::empty({parts * floats}, at::kFloat);
    std::vector<std::pair<const Item*, int64_t>> tasks;
    for (const Item& item : items)
      for (int64_t i = 0; i < item.partitions(); ++i) tasks.emplace_back(&item, i);
    std::vector<std::vector<QueryState>> states(tasks.size());
    share_out(parts, [&](int64_t task) {
      const auto index = static_cast<size_t>(task);
      const Item& item = *tasks[index].first;
      Scratch& own = scratch();
      read_queries(item, own.queries.data());
      empty_states(memory.data_ptr<float>() + task * floats, queries_of(item), shape_.padded_dim,
                   states[index]);
      attend_partition(item, tasks[index].second, own, states[index]);
    });
    for (size_t task = 0; task < tasks.size();) {
      const Item& item = *tasks[task].first;
      Scratch& own = scratch();
      auto& whole =
          empty_states(own.whole.data(), queries_of(item), shape_.padded_dim, own.whole_states);
      for (int64_t i = 0; i < item.partitions(); ++i) join_states(whole, states[task++]);
      write_rows(item, whole);
    }
  }

  void attend_partition(const Item& item, int64_t partition, Scratch& memory,
                        std::vector<QueryState>& states) const {
    const int64_t group = shape_.group(), queries = queries_of(item);
    const int64_t before = partition * kPartition;
    for (int64_t i = 0; i < queries; ++i) {
      memory.tokens[static_cast<size_t>(i)] =
          std::clamp<int64_t>(item.past() + i / group + 1 - before, 0, kPartition);
    }
    page_tiles::HeadPages<Page> head = pages_of(item);
    head.table += partition * kPartitionPages;
    const float* const q = memory.queries.data();
    const int64_t* const tokens = memory.tokens.data();
    QueryState* const out = states.data();
    run_with_isa([&] { page_tiles::attend_partition(head, q, tokens, queries, out); });
  }

  void join_states(std::vector<QueryState>& whole, const std::vector<QueryState>& part) const {
    QueryState* const into = whole.data();
    const QueryState* const from = part.data();
    const auto count = static_cast<int64_t>(whole.size());
    run_with_isa([&] {
      for (int64_t i = 0; i < count; ++i) page_tiles::join(into[i], from[i], shape_.padded_dim);
    });
  }

  page_tiles::HeadPages<Page> pages_of(const Item& item) const {
    const AttentionShape& s = shape_;
    const int64_t key_area = s.dim * kPageTokens, value_area = s.padded_dim * kPageTokens;
    const int64_t scales = item.kv_head * kPageTokens;
    return {keys_ + item.kv_head * key_area,
            values_ + item.kv_head * value_area,
            key_scales_ == nullptr ? nullptr : key_scales_ + scales,
            value_scales_ == nullptr ? nullptr : value_scales_ + scales,
            s.kv_heads * key_area,
            s.kv_heads * value_area,
            s.kv_heads * kPageTokens,
            s.dim,
            s.padded_dim,
            item.sequence->table};
  }

  // Where the item's first query is in q and out; a row's `group` heads follow each other.
  int64_t first_query(const Item& item) const {
    return (item.sequence->first_row + item.row) * shape_.query_heads +
           item.kv_head * shape_.group();
  }

  void read_queries(const Item& item, float* queries) const {
    const int64_t run = shape_.group() * shape_.dim, stride = shape_.query_heads * shape_.dim;
    const Query* const from = q_ + first_query(item) * shape_.dim;
    run_with_isa([&] {
      for (int64_t row = 0; row < item.rows; ++row) {
        lanes::for_lanes(run, [&](int64_t c, int64_t count) {
          const lanes::Floats x = lanes::load_up_to(from + row * stride + c, count) * scale_;
          lanes::store_up_to(queries + row * run + c, x, count);
        });
      }
    });
  }

  void write_rows(const Item& item, const std::vector<QueryState>& states) const {
    Query* const to = out_ + first_query(item) * shape_.dim;
    const QueryState* const from = states.data();
    const int64_t group = shape_.group(), queries = queries_of(item);
    run_with_isa([&] {
      for (int64_t i = 0; i < queries; ++i) {
        Query* const row = to + (i / group * shape_.query_heads + i % group) * shape_.dim;
        const float factor = 1 / from[i].sum;
        lanes::for_lanes(shape_.dim, [&](int64_t c, int64_t count) {
          lanes::store_up_to(row + c, lanes::load(from[i].out + c) * factor, count);
        });
      }
    });
  }

  AttentionShape shape_;
  float scale_;
  const Query* q_;
  Query* out_;
  const Page *keys_, *values_;
  const float *key_scales_ = nullptr, *value_scales_ = nullptr;
};

template <typename Query>
void attend_typed(const at::Tensor& q, const KvPages& pages, std::span<const PagedRows> sequences,
                  at::Tensor& out) {
  switch (pages.keys.scalar_type()) {
    case at::kFloat:
      return PagedAttention<Query, float>(q, pages, out).run(sequences);
    case at::kBFloat16:
      return PagedAttention<Query, c10::BFloat16>(q, pages, out).run(sequences);
    default:
      return PagedAttention<Query, int8_t>(q, pages, out).run(sequences);
  }
}

}  // namespace

at::Tensor paged_attention(const at::Tensor& queries, const KvPages& pages,
                           std::span<const PagedRows> sequences) {
  const at::ScalarType type = queries.scalar_type(), stored = pages.keys.scalar_type();
  TORCH_CHECK(queries.size(1) % pages.keys.size(1) == 0,
              "paged_attention: query heads must be a multiple of key-value heads");
  const bool own = queries.is_cpu() && (type == at::kFloat || type == at::kBFloat16) &&
                   (stored == at::kFloat || stored == at::kBFloat16 || stored == at::kChar);
  if (!own) return paged_attention_by_gather(queries, pages, sequences);
  const at::Tensor q = queries.contiguous();
  at::Tensor out = at::empty_like(q);
  if (type == at::kFloat)
    attend_typed<float>(q, pages, sequences, out);
  else
    attend_typed<c10::BFloat16>(q, pages, sequences, out);
  return out;
}

}  // namespace llama2zh
