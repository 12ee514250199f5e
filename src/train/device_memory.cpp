// libtorch's allocators of devices report through c10, so that nothing of CUDA is linked here.
#include "llama2zh/train/device_memory.h"

#include <c10/core/CachingDeviceAllocator.h>

#include "llama2zh/base/memory.h"

namespace llama2zh {
namespace {

uint64_t in_bytes(int64_t value) { return static_cast<uint64_t>(value < 0 ? 0 : value); }

}  // namespace

DeviceMemory device_memory(at::Device device) {
  if (device.is_cpu()) {
    const ProcessMemory memory = process_memory();
    return {memory.resident, memory.peak, 0};
  }
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  return {in_bytes(stats.allocated_bytes[0].current), in_bytes(stats.allocated_bytes[0].peak),
          in_bytes(stats.reserved_bytes[0].peak)};
}

void reset_peak_device_memory(at::Device device) {
  if (device.is_cpu()) {
    reset_peak_memory();
  } else {
    c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
  }
}

}  // namespace llama2zh
