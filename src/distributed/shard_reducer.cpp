// The gradients of ZeRO-2 (Rajbhandari et al. 2020). The flat sequence is cut into buckets, none across
// the border of two shards. Hooks on the parameters count what a bucket still waits for; buckets are
// reduced to their owner in one order, from the end of the sequence to its beginning, which is
// about the order of the backward pass and the same on all ranks. A few are under way at a time, so
// that little memory is taken beside the shard.
//
// Each bucket has one owner, so a reduce moves just the bytes that a reduce-scatter over buckets of
// all owners would, and Gloo and NCCL both have it.
#include "llama2zh/distributed/shard_reducer.h"

#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <deque>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <utility>

namespace llama2zh {
namespace {

constexpr size_t kMostInFlight = 4;

struct ShardBucket {
  int64_t begin = 0, count = 0, owner = 0;
  std::vector<ShardPiece> pieces;
  size_t waits_for = 0;  // pieces whose gradient is not there yet in this round
};

struct ReduceInFlight {
  c10::intrusive_ptr<c10d::Work> work;
  at::Tensor buffer;
  const ShardBucket* bucket = nullptr;
};

std::vector<ShardBucket> cut_into_buckets(const ShardLayout& layout, int64_t bucket_elements) {
  std::vector<ShardBucket> buckets;
  for (int64_t rank = layout.ranks() - 1; rank >= 0; --rank) {
    const int64_t first = rank * layout.shard_elements();
    for (int64_t end = first + layout.shard_elements(); end > first;) {
      const int64_t begin = std::max(first, end - bucket_elements);
      ShardBucket bucket{begin, end - begin, rank, layout.pieces(begin, end), 0};
      if (!bucket.pieces.empty()) buckets.push_back(std::move(bucket));
      end = begin;
    }
  }
  return buckets;
}

}  // namespace

struct ShardReducer::State {
  ProcessGroup* group;
  std::vector<at::Tensor> parameters;
  at::Tensor gradient;
  int64_t shard_begin;
  std::vector<ShardBucket> buckets;
  std::vector<std::vector<size_t>> buckets_of;  // of each parameter
  std::vector<size_t> unsent;                   // pieces of each parameter in this round
  std::vector<std::pair<c10::intrusive_ptr<torch::autograd::Node>, uintptr_t>> hooks;
  std::deque<ReduceInFlight> in_flight;
  size_t next = 0;
  bool active = false;

  void hook(size_t parameter);
  void arrived(size_t parameter);
  void send(const ShardBucket& bucket);
  void land();
};

// A post hook of the node that accumulates the gradient runs even where there is none to accumulate.
void ShardReducer::State::hook(size_t parameter) {
  auto node = torch::autograd::impl::grad_accumulator(parameters[parameter]);
  const uintptr_t key =
      node->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(
          [this, parameter](const torch::autograd::variable_list& outputs,
                            const torch::autograd::variable_list&) {
            if (active) arrived(parameter);
            return outputs;
          }));
  hooks.emplace_back(std::move(node), key);
}

void ShardReducer::State::arrived(size_t parameter) {
  const at::NoGradGuard no_grad;
  for (const size_t bucket : buckets_of[parameter]) --buckets[bucket].waits_for;
  for (; next < buckets.size() && buckets[next].waits_for == 0; ++next) send(buckets[next]);
}

void ShardReducer::State::send(const ShardBucket& bucket) {
  at::Tensor buffer = at::zeros({bucket.count}, gradient.options());
  for (const ShardPiece& piece : bucket.pieces) {
    at::Tensor& grad = parameters[piece.parameter].mutable_grad();
    if (grad.defined()) {
      buffer.narrow(0, piece.offset - bucket.begin, piece.count)
          .copy_(grad.reshape(-1).narrow(0, piece.begin, piece.count));
    }
    if (--unsent[piece.parameter] == 0) grad.reset();
  }
  if (in_flight.size() == kMostInFlight) land();
  std::vector<at::Tensor> tensors{buffer};
  c10d::ReduceOptions options;
  options.rootRank = bucket.owner;
  in_flight.push_back({group->backend().reduce(tensors, options), buffer, &bucket});
}

// The oldest one.
void ShardReducer::State::land() {
  const ReduceInFlight flight = std::move(in_flight.front());
  in_flight.pop_front();
  flight.work->wait();
  if (flight.bucket->owner != group->rank()) return;
  gradient.narrow(0, flight.bucket->begin - shard_begin, flight.bucket->count).add_(flight.buffer);
}

ShardReducer::ShardReducer(ProcessGroup& group, const ShardLayout& layout,
                           std::vector<at::Tensor> parameters, at::Tensor gradient,
                           int64_t bucket_elements)
    : state_(std::make_unique<State>()) {
  state_->group = &group;
  state_->parameters = std::move(parameters);
  state_->gradient = std::move(gradient);
  state_->shard_begin = group.rank() * layout.shard_elements();
  state_->buckets = cut_into_buckets(layout, bucket_elements);
  state_->buckets_of.resize(state_->parameters.size());
  for (size_t i = 0; i < state_->buckets.size(); ++i) {
    for (const ShardPiece& piece : state_->buckets[i].pieces) {
      state_->buckets_of[piece.parameter].push_back(i);
    }
  }
  for (size_t i = 0; i < state_->parameters.size(); ++i) state_->hook(i);
}

ShardReducer::~ShardReducer() {
  for (auto& [node, key] : state_->hooks) node->del_post_hook(key);
}

void ShardReducer::start() {
  state_->active = true;
  state_->next = 0;
  for (ShardBucket& bucket : state_->buckets) bucket.waits_for = bucket.pieces.size();
  state_->unsent.clear();
  for (const auto& buckets : state_->buckets_of) state_->unsent.push_back(buckets.size());
}

void ShardReducer::finish() {
  const at::NoGradGuard no_grad;
  while (!state_->in_flight.empty()) state_->land();
  state_->active = false;
}

}  // namespace llama2zh
