#include "engine/scheduler.h"

#include <algorithm>
#include <tuple>

namespace llama2zh {
namespace {

bool goes_before(const Sequence* a, const Sequence* b) {
  const auto rank = [](const Sequence* s) {
    return std::tuple(-s->request->request.priority, s->request->id, s->index);
  };
  return rank(a) < rank(b);
}

void insert_in_order(std::vector<Sequence*>& list, Sequence* sequence) {
  list.insert(std::upper_bound(list.begin(), list.end(), sequence, goes_before), sequence);
}

// What keys and values depend on beside the tokens: whose they are, and whether the draft model's
// are there too.
BlockKey root_key(const RequestState& request) {
  BlockKey key = request.adapter ? request.adapter->root : BlockKey();
  if (request.draft_model) key += " and draft";
  return key;
}

int64_t priority_of(const Sequence& sequence) { return sequence.request->request.priority; }

}  // namespace

Scheduler::Scheduler(const EngineConfig& config, const Llama& model, const Llama* draft)
    : config_(config),
      pool_(kv_blocks(config, model, draft), config.prefix_cache),
      store_(model.config, pool_.size(), kv_type(config, model), model.device()) {}

void Scheduler::add(Sequence& sequence) { insert_in_order(waiting_, &sequence); }

void Scheduler::remove(Sequence& sequence) {
  std::erase(running_, &sequence);
  std::erase(waiting_, &sequence);
  sequence.running = false;
  release_blocks(sequence.table, pool_);
}

void Scheduler::fork(const Sequence& from, Sequence& to) {
  to.table = from.table;
  to.keys = from.keys;
  for (const BlockId block : to.table.blocks) pool_.share(block);
  to.running = true;
  insert_in_order(running_, &to);
}

void Scheduler::rebase(const std::vector<Sequence*>& sequences,
                       const std::vector<size_t>& parents) {
  std::vector<BlockTable> tables;
  std::vector<std::vector<BlockKey>> keys;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& parent = *sequences[parents[i]];
    tables.push_back(sequences[i]->running ? parent.table : BlockTable());
    keys.push_back(parent.keys);
    for (const BlockId block : tables.back().blocks) pool_.share(block);
  }
  for (size_t i = 0; i < sequences.size(); ++i) {
    release_blocks(sequences[i]->table, pool_);
    sequences[i]->table = std::move(tables[i]);
    sequences[i]->keys = std::move(keys[i]);
  }
}

std::vector<Planned> Scheduler::plan_step(std::vector<Failure>& failed) {
  Step step{{}, config_.max_step_tokens, &failed};
  plan_running(step, /*decoding=*/true);
  plan_running(step, /*decoding=*/false);
  plan_waiting(step);
  std::sort(step.planned.begin(), step.planned.end(), [](const Planned& a, const Planned& b) {
    return a.sequence->table.length != b.sequence->table.length
               ? a.sequence->table.length > b.sequence->table.length
               : goes_before(a.sequence, b.sequence);
  });
  return step.planned;
}

void Scheduler::plan_running(Step& step, bool decoding) {
  const std::vector<Sequence*> candidates = running_;  // making way changes running_
  // Guesses get what is left when each answer has its token and prompts have a block.
  int64_t spare = step.budget - std::ssize(candidates) - kBlockTokens;
  for (Sequence* sequence : candidates) {
    if (!sequence->running || (sequence->pending() == 1) != decoding) continue;
    const int64_t rows =
        decoding ? std::min<int64_t>(1, step.budget) : prompt_rows(*sequence, step);
    if (rows <= 0 || !make_way(*sequence, rows, step)) continue;
    const int64_t drafts = decoding ? affordable_drafts(*sequence, spare) : 0;
    spare -= drafts;
    plan(*sequence, rows + drafts, step, drafts);
  }
}

// A prompt that takes several steps leaves half of each to others, so that a short one behind it need
// not wait for all of it.
int64_t Scheduler::prompt_rows(const Sequence& sequence, const Step& step) const {
  const int64_t pending = sequence.pending();
  if (pending <= step.budget) return pending;
  const auto reads = [&](const Sequence* other) {
    return other != &sequence && other->pending() > 1 && !other->ready();
  };
  const bool others = std::any_of(waiting_.begin(), waiting_.end(), reads) ||
                      std::any_of(running_.begin(), running_.end(), reads);
  return others ? std::min(step.budget, std::max(kBlockTokens, step.budget / 2)) : step.budget;
}

// Nobody is interrupted for guesses.
int64_t Scheduler::affordable_drafts(const Sequence& sequence, int64_t spare) const {
  const int64_t drafts = std::min(sequence.wanted_drafts, std::max<int64_t>(0, spare));
  return pool_.available() < sequence.table.needed(1 + drafts, pool_) ? 0 : drafts;
}

void Scheduler::plan_waiting(Step& step) {
  while (step.budget > 0) {
    const auto next = std::find_if(waiting_.begin(), waiting_.end(),
                                   [](const Sequence* one) { return !one->ready(); });
    if (next == waiting_.end()) return;
    Sequence& sequence = **next;
    if (!let_in(sequence, step)) return;
    std::erase(waiting_, &sequence);
    sequence.running = true;
    insert_in_order(running_, &sequence);
    take_cached(sequence);
    plan(sequence, prompt_rows(sequence, step), step);
  }
}

// Frees blocks until the sequence can have its own. False if it had to go itself.
bool Scheduler::make_way(Sequence& sequence, int64_t rows, Step& step) {
  while (pool_.available() < sequence.table.needed(rows, pool_)) {
    Sequence& last = *running_.back();
    preempt(last, step);
    if (&last == &sequence) return false;
  }
  return true;
}

// The last of lower priority, or a beam that is ready and comes later or belongs together with it.
Sequence* Scheduler::who_makes_way(const Sequence& sequence) const {
  if (running_.empty()) return nullptr;
  if (priority_of(*running_.back()) < priority_of(sequence)) return running_.back();
  for (auto it = running_.rbegin(); it != running_.rend(); ++it) {
    if ((*it)->ready() && ((*it)->request == sequence.request || goes_before(&sequence, *it)))
      return *it;
  }
  return nullptr;
}

// Whether a waiting sequence can run now; others make way.
bool Scheduler::let_in(Sequence& sequence, Step& step) {
  while (!fits(sequence)) {
    Sequence* other = who_makes_way(sequence);
    if (other == nullptr) return false;
    preempt(*other, step);
  }
  return step.budget > 0;
}

// All that is there of the sequence must find room, so that nobody is interrupted for it soon.
bool Scheduler::fits(Sequence& sequence) {
  int64_t running = static_cast<int64_t>(running_.size()) + 1;
  for (const Sequence* other : running_) {
    if (other->index == 0) running += other->request->unborn();
  }
  if (sequence.index == 0) running += sequence.request->unborn();
  if (running > config_.max_running) return false;
  const auto tokens = static_cast<int64_t>(sequence.tokens.size());
  auto needed = (tokens + kBlockTokens - 1) / kBlockTokens;
  if (needed <= pool_.available()) return true;
  for (int64_t i = 0; config_.prefix_cache && i < (tokens - 1) / kBlockTokens; ++i) {
    if (!pool_.is_held(key_of(sequence, static_cast<size_t>(i)))) break;
    --needed;
  }
  return pool_.available() >= needed;
}

// The last token is computed in any case: its logits are wanted.
void Scheduler::take_cached(Sequence& sequence) {
  // A mean and a score need all hidden states, and blocks hold none.
  const RequestKind kind = sequence.request->request.kind;
  if (!config_.prefix_cache || kind == RequestKind::kMeanEmbedding || kind == RequestKind::kScore)
    return;
  const size_t most = (sequence.tokens.size() - 1) / kBlockTokens;
  for (size_t i = 0; i < most; ++i) {
    const BlockId block = pool_.find(key_of(sequence, i));
    if (block < 0) break;
    sequence.table.blocks.push_back(block);
    sequence.table.length += kBlockTokens;
  }
  RequestState& owner = *sequence.request;
  if (!sequence.completion.ids.empty()) return;
  owner.result.queried_tokens = owner.result.prompt_tokens;
  owner.result.cached_tokens = sequence.table.length;
}

void Scheduler::preempt(Sequence& sequence, Step& step) {
  const auto planned =
      std::find_if(step.planned.begin(), step.planned.end(),
                   [&](const Planned& entry) { return entry.sequence == &sequence; });
  if (planned != step.planned.end()) {
    step.budget += planned->rows;
    step.planned.erase(planned);
  }
  remove(sequence);
  add(sequence);
  ++preemptions_;
}

void Scheduler::plan(Sequence& sequence, int64_t rows, Step& step, int64_t drafts) {
  try {
    make_room(sequence.table, rows, pool_, store_);
  } catch (...) {
    step.failed->push_back({&sequence, std::current_exception()});
    return;
  }
  step.planned.push_back({&sequence, rows, drafts});
  step.budget -= rows;
}

void Scheduler::computed(const Planned& planned) {
  advance(*planned.sequence, planned.rows - planned.drafts);
}

void Scheduler::advance(Sequence& sequence, int64_t rows) {
  BlockTable& table = sequence.table;
  const int64_t before = table.length / kBlockTokens;
  table.length += rows;
  if (!config_.prefix_cache) return;
  for (int64_t i = before; i < table.length / kBlockTokens; ++i) {
    const auto block = static_cast<size_t>(i);
    pool_.publish(table.blocks[block], key_of(sequence, block));
  }
}

const BlockKey& Scheduler::key_of(Sequence& sequence, size_t block) {
  std::vector<BlockKey>& keys = sequence.keys;
  while (keys.size() <= block) {
    const auto tokens = std::span<const TokenId>(sequence.tokens);
    keys.push_back(block_key(keys.empty() ? root_key(*sequence.request) : keys.back(),
                             tokens.subspan(keys.size() * kBlockTokens, kBlockTokens)));
  }
  return keys[block];
}

}  // namespace llama2zh
