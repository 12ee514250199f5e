// Tensors over mapped files without a copy: at::from_blob with a deleter that owns the mapping.
#include "formats/mapped_tensor.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <cstring>
#include <vector>

namespace llama2zh {
namespace {

at::Tensor strided_over(void* data, const TensorInfo& info, std::span<const int64_t> strides,
                        const std::function<void(void*)>& deleter) {
  const auto options = at::TensorOptions().dtype(info.dtype);
  if (strides.empty()) return at::from_blob(data, info.shape, deleter, options);
  return at::from_blob(data, info.shape, at::IntArrayRef(strides.data(), strides.size()), deleter,
                       options);
}

// The bytes from the first to the last element that the strides reach.
uint64_t span_bytes(const TensorInfo& info, std::span<const int64_t> strides) {
  if (strides.empty()) return info.bytes();
  int64_t last = 0;
  for (size_t i = 0; i < strides.size(); ++i) last += (info.shape[i] - 1) * strides[i];
  return static_cast<uint64_t>(last + 1) * c10::elementSize(info.dtype);
}

}  // namespace

at::Tensor map_tensor(const std::shared_ptr<const MappedFile>& file, uint64_t offset,
                      const TensorInfo& info, std::span<const int64_t> strides) {
  const auto options = at::TensorOptions().dtype(info.dtype);
  if (info.numel() == 0) return at::empty(info.shape, options);
  const std::byte* source = file->data() + offset;
  // from_blob takes a pointer to non-const; nothing below writes through it.
  auto* data = const_cast<std::byte*>(source);
  const bool aligned = reinterpret_cast<uintptr_t>(source) % c10::elementSize(info.dtype) == 0;
  if (aligned) {
    auto tensor = strided_over(data, info, strides, [file](void*) {});
    return tensor.is_contiguous() ? tensor : tensor.contiguous();
  }
  const auto bytes = static_cast<int64_t>(span_bytes(info, strides));
  auto buffer = at::empty({bytes}, at::TensorOptions().dtype(at::kByte));
  std::memcpy(buffer.mutable_data_ptr(), source, static_cast<size_t>(bytes));
  auto tensor = strided_over(buffer.mutable_data_ptr(), info, strides, [buffer](void*) {});
  return tensor.is_contiguous() ? tensor : tensor.contiguous();
}

}  // namespace llama2zh
