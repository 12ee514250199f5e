// Activation checkpointing (Chen et al. 2016) as a node of the autograd graph of its own. Its
// inputs are x and every trained parameter of the body: unlike PyTorch's reentrant variant, where
// the parameters' gradients come out of a nested backward(), the output requires a gradient as soon
// as one of them does, and each gradient arrives once, at its own leaf, where hooks see it.
#include "llama2zh/nn/checkpoint.h"

#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <mutex>
#include <string>
#include <utility>

namespace llama2zh {
namespace {

at::Tensor generator_state(at::Device device) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_generator_state(at::Device device, const at::Tensor& state) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

// Puts the state at the time of the forward pass in place, and the present one back at the end.
class ReplayedRandom {
 public:
  ReplayedRandom(at::Device device, const at::Tensor& state) : device_(device) {
    if (!state.defined()) return;
    present_ = generator_state(device);
    set_generator_state(device, state);
  }
  ~ReplayedRandom() {
    if (present_.defined()) set_generator_state(device_, present_);
  }
  ReplayedRandom(const ReplayedRandom&) = delete;
  ReplayedRandom& operator=(const ReplayedRandom&) = delete;

 private:
  at::Device device_;
  at::Tensor present_;
};

class CheckpointNode : public torch::autograd::Node {
 public:
  std::function<at::Tensor(const at::Tensor&)> body;
  at::Tensor x;  // detached
  bool x_requires_grad = false;
  std::vector<at::Tensor> trained;
  at::Tensor random_state;  // undefined: nothing to replay

  torch::autograd::variable_list apply(torch::autograd::variable_list&& grads) override {
    TORCH_CHECK(x.defined(), "checkpoint: backward ran already");
    if (!grads[0].defined()) return torch::autograd::variable_list(num_outputs());
    const at::AutoGradMode enable(true);
    const at::Tensor input = x.detach().requires_grad_(x_requires_grad);
    at::Tensor output;
    {
      const ReplayedRandom replayed(x.device(), random_state);
      output = body(input);
    }
    torch::autograd::variable_list wanted;
    if (x_requires_grad) wanted.push_back(input);
    wanted.insert(wanted.end(), trained.begin(), trained.end());
    auto result = torch::autograd::grad({output}, wanted, {grads[0]}, /*retain_graph=*/false,
                                        /*create_graph=*/false, /*allow_unused=*/true);
    if (!x_requires_grad) result.insert(result.begin(), at::Tensor());
    return result;
  }
  void release_variables() override {
    x.reset();
    trained.clear();
    random_state.reset();
    body = nullptr;
  }
  std::string name() const override { return "llama2zh::Checkpoint"; }
};

}  // namespace

at::Tensor checkpoint(const std::function<at::Tensor(const at::Tensor&)>& body, const at::Tensor& x,
                      const std::vector<at::Tensor>& parameters, bool random) {
  std::vector<at::Tensor> trained;
  for (const at::Tensor& parameter : parameters) {
    if (parameter.requires_grad()) trained.push_back(parameter);
  }
  if (!at::GradMode::is_enabled() || (trained.empty() && !x.requires_grad())) return body(x);

  auto node = c10::make_intrusive<CheckpointNode>();
  torch::autograd::variable_list inputs{x};
  inputs.insert(inputs.end(), trained.begin(), trained.end());
  node->set_next_edges(torch::autograd::collect_next_edges(inputs));
  node->body = body;
  node->x = x.detach();
  node->x_requires_grad = x.requires_grad();
  node->trained = std::move(trained);
  if (random) node->random_state = generator_state(x.device());
  at::Tensor output;
  {
    const at::AutoGradMode disable(false);
    output = body(x);
  }
  torch::autograd::set_history(output, node);
  return output;
}

}  // namespace llama2zh
