// Names of devices and number types. Built without CUDA, libtorch's hooks simply report no device.
#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include <charconv>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/kernels/product.h"
#include "llama2zh/model/load.h"

namespace llama2zh {
namespace {

int64_t cuda_device_count() { return at::hasCUDA() ? at::detail::getCUDAHooks().deviceCount() : 0; }

// "cuda" -> 0, "cuda:3" -> 3, else -1.
int64_t cuda_index(const std::string& name) {
  constexpr std::string_view kPrefix = "cuda:";
  if (name == "cuda") return 0;
  if (!name.starts_with(kPrefix)) return -1;
  int64_t index = -1;
  const char* const end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + kPrefix.size(), end, index);
  return error == std::errc() && rest == end && index >= 0 ? index : -1;
}

}  // namespace

Range device_names() {
  return matching("auto, cpu, cuda or cuda:N", [](const std::string& name) {
    return name == "auto" || name == "cpu" || cuda_index(name) >= 0;
  });
}

at::Device parse_device(const std::string& name) {
  const int64_t count = cuda_device_count();
  if (name == "cpu" || (name == "auto" && count == 0)) return at::kCPU;
  if (name == "auto") return at::Device(at::kCUDA, 0);
  const int64_t index = cuda_index(name);
  if (index < 0) {
    fail_usage("device", cat("\"", name, "\" is not a device"),
               "expected auto, cpu, cuda or cuda:0, cuda:1, ...");
  }
  if (count == 0) {
    fail_usage("device", cat("\"", name, "\" was asked for, but no CUDA device is usable"),
               "use --device cpu, or a build with -DLLAMA2ZH_CUDA=ON on a machine with a GPU");
  }
  if (index >= count) {
    fail_usage("device", cat("\"", name, "\" is not there: this machine has ", count,
                             " CUDA device(s), numbered from 0"));
  }
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

at::ScalarType parse_dtype(const std::string& name, const LlamaConfig& config, at::Device device) {
  if (name == "auto") {
    if (config.dtype == "float32" || (device.is_cpu() && !has_fast_bfloat16())) return at::kFloat;
    return config.dtype == "float16" && !device.is_cpu() ? at::kHalf : at::kBFloat16;
  }
  if (name == "float32") return at::kFloat;
  if (name == "bfloat16") return at::kBFloat16;
  if (name == "float16" && !device.is_cpu()) return at::kHalf;
  if (name == "float16") {
    fail_usage("dtype", "float16 is not supported on a CPU", "use bfloat16, float32 or auto");
  }
  fail_usage("dtype", cat("\"", name, "\" is not a number type"),
             "expected auto, float32, bfloat16 or float16");
}

std::string dtype_name(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return "float32";
    case at::kBFloat16:
      return "bfloat16";
    case at::kHalf:
      return "float16";
    default:
      return c10::toString(type);
  }
}

}  // namespace llama2zh
