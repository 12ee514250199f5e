#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace llama2zh {

// body(x) with activation checkpointing: only x is kept, and backward runs `body` a second time
// with gradients on. `parameters` are the tensors that body uses and whose gradients are wanted
// (those that don't require one are passed over); they get them even when x itself requires none,
// as under frozen embeddings. With `random` the default generator's state is replayed, so that
// dropout drops the same elements. Whatever body refers to must live until backward has run.
at::Tensor checkpoint(const std::function<at::Tensor(const at::Tensor&)>& body, const at::Tensor& x,
                      const std::vector<at::Tensor>& parameters, bool random);

}  // namespace llama2zh
