// Data-parallel gradients by c10d::Reducer, the engine of PyTorch's DistributedDataParallel: hooks on
// the parameters fill buckets in the order in which backward reaches them, and a full bucket is
// all-reduced while backward goes on. The Reducer would average; our hook sums, since the loss is
// already divided by the tokens of all ranks.
//
// The Reducer arranges its buckets anew after the first backward pass, in that one's order, and in which
// order a bucket's numbers are added up over three ranks and more depends on their places in it. A
// resumed run would differ from the uninterrupted one in the last bits, so the first pass is one
// without gradients in the order of the parameters, whatever they are used for later.
#include "llama2zh/distributed/gradient_sync.h"

#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <algorithm>
#include <torch/csrc/distributed/c10d/reducer.hpp>
#include <utility>

namespace llama2zh {
namespace {

class SumHook : public c10d::CppCommHookInterface<c10::intrusive_ptr<c10d::ProcessGroup>> {
 public:
  using CppCommHookInterface::CppCommHookInterface;
  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    std::vector<at::Tensor> tensors{bucket.getBufferRef()};
    return state_->allreduce(tensors)->getFuture();
  }
};

class TouchNode : public torch::autograd::Node {
 public:
  torch::autograd::variable_list apply(torch::autograd::variable_list&&) override {
    return torch::autograd::variable_list(num_outputs());
  }
  std::string name() const override { return "llama2zh::Touch"; }
};

}  // namespace

struct GradientSync::State {
  std::unique_ptr<c10d::Reducer> reducer;
};

GradientSync::GradientSync(ProcessGroup& group, const std::vector<at::Tensor>& parameters)
    : state_(std::make_unique<State>()) {
  const std::vector<size_t> caps = {c10d::kDefaultFirstBucketBytes, c10d::kDefaultBucketBytesCap};
  std::vector<std::vector<size_t>> buckets =
      std::get<0>(c10d::compute_bucket_assignment_by_size(parameters, caps));
  std::reverse(buckets.begin(), buckets.end());
  auto backend = c10::intrusive_ptr<c10d::ProcessGroup>::reclaim_copy(&group.backend());
  state_->reducer = std::make_unique<c10d::Reducer>(
      parameters, buckets, backend, std::vector<bool>(parameters.size(), false),
      c10d::kDefaultBucketBytesCap, /*find_unused_parameters=*/false,
      /*gradient_as_bucket_view=*/true, std::unordered_map<size_t, std::string>(),
      c10d::kDefaultFirstBucketBytes, /*skip_all_reduce_unused_params=*/false,
      /*use_python_reducer=*/false, std::vector<int64_t>());
  state_->reducer->register_comm_hook(std::make_unique<SumHook>(backend));
  start();
  for (auto parameter = parameters.rbegin(); parameter != parameters.rend(); ++parameter) {
    touch({*parameter});
    parameter->mutable_grad().reset();
  }
}

GradientSync::~GradientSync() = default;

void GradientSync::start() {
  state_->reducer->rebuild_buckets();  // once, in the order of the first backward pass
  state_->reducer->prepare_for_forward();
  state_->reducer->prepare_for_backward({});
}

void touch(const std::vector<at::Tensor>& parameters) {
  if (parameters.empty()) return;
  auto node = c10::make_intrusive<TouchNode>();
  node->set_next_edges(torch::autograd::collect_next_edges(parameters));
  at::Tensor output = at::zeros({}, parameters[0].options().requires_grad(false));
  torch::autograd::set_history(output, node);
  output.backward();
}

}  // namespace llama2zh
