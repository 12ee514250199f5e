#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace llama2zh {

// The names of one element type in the formats; "" where a format has none.
struct DtypeNames {
  at::ScalarType dtype;
  const char* safetensors;  // "BF16"
  const char* storage;      // class in torch: "BFloat16Storage"
  const char* torch;        // "bfloat16"
};
// Null if there is no such type.
const DtypeNames* dtype_names(at::ScalarType dtype);
const DtypeNames* dtype_by_safetensors(std::string_view name);
const DtypeNames* dtype_by_storage(std::string_view name);
const DtypeNames* dtype_by_torch(std::string_view name);
std::string safetensors_dtype_list();  // for messages

// Tensors in files have at most this many dimensions (libtorch's iterators hold them in a 64-bit
// set).
inline constexpr size_t kMaxDims = 64;

// The bytes of a dense tensor; nullopt if a dimension is negative or an element count or byte
// count, also of any part of the shape, leaves int64. A dimension of 0 doesn't hide the others: a
// product that starts with 0 must not pass [0, 2^63].
std::optional<uint64_t> dense_bytes(std::span<const int64_t> shape, at::ScalarType dtype);

std::string shape_text(std::span<const int64_t> shape);  // "[2, 3]"

}  // namespace llama2zh
