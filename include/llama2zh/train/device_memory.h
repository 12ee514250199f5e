#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace llama2zh {

// Memory of a device that this process holds, in bytes. On a CPU that is the process: resident now
// and at its peak (mapped weights count as far as they are in memory). On a GPU what tensors occupy
// and what libtorch's allocator has taken for them; its context and libraries come on top.
struct DeviceMemory {
  uint64_t allocated = 0, peak_allocated = 0;
  uint64_t peak_reserved = 0;  // of the allocator; 0 on a CPU
};
DeviceMemory device_memory(at::Device device);
void reset_peak_device_memory(at::Device device);

}  // namespace llama2zh
