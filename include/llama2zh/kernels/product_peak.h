#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

namespace llama2zh {

// The rate of one large matrix product of this type on this device, in FLOP/s (a multiply-add is
// two): the best of a few products of some 10 GFLOP on a CPU, 1 TFLOP on a GPU, in about 0.2 s. What
// a training step's rate is set against. bfloat16 on a processor without it is measured through
// float32, as the model computes it (product_type). All threads of the pool take part.
double measure_product_peak(at::ScalarType type, at::Device device);

}  // namespace llama2zh
