#pragma once

#include <cstdint>

#include "llama2zh/model/llama_config.h"
#include "llama2zh/train/run_config.h"

namespace llama2zh {

// Where a run's memory is to be estimated for.
struct MemorySetting {
  int64_t bytes_per_number = 2;  // of the arithmetic's type
  bool gpu = false;
  bool mapped = false;  // frozen weights are the file itself, shared between processes
  int64_t ranks = 1;    // processes, a device each
};

// Bytes that one rank of a run needs on its device at its peak, estimated from shapes before anything is
// loaded. Tensors only: what the system, the allocator's gaps and a GPU's libraries take comes on top.
struct MemoryEstimate {
  uint64_t frozen = 0;      // base weights in the arithmetic's type
  uint64_t trained = 0;     // fp32 masters, moments, and gradients as far as they exist at the peak
  uint64_t working = 0;     // activations of one micro-batch and the head's buffers
  uint64_t checkpoint = 0;  // on disk, and in host memory while it is written in the background
  uint64_t offloaded = 0;   // moments and what their update needs, in host memory; not in total()
  bool mapped = false;
  uint64_t total() const { return frozen + trained + working; }
};
MemoryEstimate estimate_memory(const LlamaConfig& model, const RunConfig& run,
                               const MemorySetting& setting);

// Parameters that a run trains in a model of this shape.
int64_t trainable_parameters(const LlamaConfig& model, const RunConfig& run);

// Whether it fits a GPU of so many bytes, with 8 % of the tensors for the allocator's gaps and 1.2 GB
// for the GPU's context, libraries and communication buffers.
bool fits_gpu(const MemoryEstimate& estimate, uint64_t gpu_bytes);

}  // namespace llama2zh
