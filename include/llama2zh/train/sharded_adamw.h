#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "llama2zh/distributed/distributed_config.h"
#include "llama2zh/distributed/process_group.h"
#include "llama2zh/distributed/shard_layout.h"
#include "llama2zh/train/adamw.h"

namespace llama2zh {

class MomentFiles;

// What each rank holds for itself alone; see docs/distributed.md.
struct Sharding {
  int64_t stage = 0;  // of ZeRO: 0, 1 or 2
  // Of moments and update, in stages 1 and 2; none: the parameters' own.
  std::optional<at::Device> state_device;
};
// kUsage for an offload without stages.
Sharding sharding_of(const DistributedConfig& config);

// A moment, or a part of one, as it is held: element `begin` and what follows of `whole` elements.
struct HeldMoment {
  std::string name;
  at::Tensor values;
  int64_t begin = 0, whole = 0;
};

// AdamW over the parameters of all ranks. Stage 0: every rank does the same. Stages 1 and 2 (on one
// rank too): a rank holds moments for its shard alone and updates only that; step() then brings the
// values of all shards into the parameters, which become views of one flat tensor. All calls are
// made by every rank.
class ShardedAdamW {
 public:
  // `group` (null: there is one rank) has to outlive it.
  ShardedAdamW(std::vector<NamedParameter> parameters, const AdamWOptions& options,
               const Sharding& sharding = {}, ProcessGroup* group = nullptr);

  // All that trains, in the order in which the forward pass uses it.
  const std::vector<NamedParameter>& parameters() const { return parameters_; }
  bool is_sharded() const { return layout_.has_value(); }
  // Stage 2 on several ranks: the layout, and this rank's part of the summed gradients
  // [shard_elements], which the step is taken with; undefined otherwise, where every rank has
  // all of them in the parameters' grad().
  const ShardLayout& layout() const { return *layout_; }
  const at::Tensor& shard_gradient() const { return shard_gradient_; }
  int64_t updates() const { return adamw_->updates(); }

  // As AdamW's, the norm over all ranks. `what` is for errors of the exchange.
  double gradient_norm(const std::string& what) const;
  void step(double learning_rate, double gradient_divisor, const std::string& what);
  void zero_grad();

  // What this rank holds, under AdamW's names.
  std::vector<HeldMoment> state() const;
  // Takes what state() names from a checkpoint of any number of ranks.
  void load_state(const MomentFiles& files, int64_t updates);

 private:
  struct OwnPart {
    ShardPiece piece;
    at::Tensor values;  // [count] of the flat tensor
    at::Tensor master;  // what AdamW updates: `values`, or a copy on the states' device
  };
  void lay_out(const AdamWOptions& options, const Sharding& sharding);
  void make_flat(at::Tensor& flat) const;
  at::Tensor gradient_of(const ShardPiece& piece) const;  // undefined: there is none

  std::vector<NamedParameter> parameters_;
  ProcessGroup* group_;
  std::optional<ShardLayout> layout_;  // none: stage 0
  at::Tensor flat_, shard_gradient_;
  std::vector<OwnPart> own_;
  std::unique_ptr<AdamW> adamw_;  // over parameters_, or the masters of own_
};

}  // namespace llama2zh
