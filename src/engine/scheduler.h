#pragma once

#include <cstdint>
#include <exception>
#include <vector>

#include "engine/request_state.h"
#include "llama2zh/engine/block_pool.h"
#include "llama2zh/engine/engine_config.h"
#include "llama2zh/engine/paged_batch.h"

namespace llama2zh {

// The next `rows` tokens of a sequence, to be computed in one step.
struct Planned {
  Sequence* sequence;
  int64_t rows;
  int64_t drafts = 0;  // the last of the rows that are guesses
  // Behind it all of the sequence's own tokens are computed.
  bool is_complete() const { return rows - drafts == sequence->pending(); }
};

// Decides what each step computes, and owns the blocks. Sequences stand in one order: higher
// priority first, then who came first. A step takes one token of each running sequence that has its
// prompt behind it, then parts of prompts (of long ones at most half of what is left, where others have
// prompts to be read); then waiting sequences are let in, in order, none past
// another. Where blocks run out, the last running sequence in that order loses its own and waits
// again, so the first always gets on. A beam that only waits for the other beams of its request
// (ready()) is not computed, and makes way for them.
class Scheduler {
 public:
  Scheduler(const EngineConfig& config, const Llama& model, const Llama* draft = nullptr);

  void add(Sequence& sequence);     // waits
  void remove(Sequence& sequence);  // wherever it is; its blocks are free
  // `from` has its prompt computed: `to` begins with the same blocks and runs.
  void fork(const Sequence& from, Sequence& to);

  // Room is made already. The furthest sequences come first, as PagedBatch wants it. `failed` gets the
  // sequences for which there was no memory, and why; they are to be removed.
  struct Failure {
    Sequence* sequence;
    std::exception_ptr error;
  };
  std::vector<Planned> plan_step(std::vector<Failure>& failed);
  // The step was computed, its guesses aside: full blocks can be found from now on.
  void computed(const Planned& planned);
  // So many of the guesses were right, and stand in the sequence's tokens.
  void accepted(Sequence& sequence, int64_t drafts) { advance(sequence, drafts); }
  // sequences[i] goes on from what sequences[parents[i]] has: it takes that one's blocks, which are
  // copied when they are written to. One that waits has none and is computed anew.
  void rebase(const std::vector<Sequence*>& sequences, const std::vector<size_t>& parents);
  // Before a step: sequences that run, to be given guesses.
  const std::vector<Sequence*>& running_sequences() const { return running_; }

  PageStore& store() { return store_; }
  const BlockPool& pool() const { return pool_; }
  int64_t running() const { return static_cast<int64_t>(running_.size()); }
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t preemptions() const { return preemptions_; }

 private:
  struct Step {
    std::vector<Planned> planned;
    int64_t budget;
    std::vector<Failure>* failed;
  };
  void plan_running(Step& step, bool decoding);
  void plan_waiting(Step& step);
  bool make_way(Sequence& sequence, int64_t rows, Step& step);
  bool let_in(Sequence& sequence, Step& step);
  Sequence* who_makes_way(const Sequence& sequence) const;
  bool fits(Sequence& sequence);
  void take_cached(Sequence& sequence);
  void preempt(Sequence& sequence, Step& step);
  void plan(Sequence& sequence, int64_t rows, Step& step, int64_t drafts = 0);
  int64_t prompt_rows(const Sequence& sequence, const Step& step) const;
  int64_t affordable_drafts(const Sequence& sequence, int64_t spare) const;
  void advance(Sequence& sequence, int64_t rows);
  const BlockKey& key_of(Sequence& sequence, size_t block);

  EngineConfig config_;
  BlockPool pool_;
  PageStore store_;
  std::vector<Sequence*> running_, waiting_;  // both in order
  int64_t preemptions_ = 0;
};

}  // namespace llama2zh
