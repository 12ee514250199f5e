// Names of element types: https://github.com/huggingface/safetensors (Dtype), torch/storage.py.
#include "formats/dtype.h"

#include <array>

namespace llama2zh {
namespace {

constexpr std::array<DtypeNames, 18> kDtypes = {{
    {at::kBool, "BOOL", "BoolStorage", "bool"},
    {at::kByte, "U8", "ByteStorage", "uint8"},
    {at::kChar, "I8", "CharStorage", "int8"},
    {at::ScalarType::Float8_e5m2, "F8_E5M2", "", "float8_e5m2"},
    {at::ScalarType::Float8_e4m3fn, "F8_E4M3", "", "float8_e4m3fn"},
    {at::ScalarType::Float8_e8m0fnu, "F8_E8M0", "", "float8_e8m0fnu"},
    {at::kShort, "I16", "ShortStorage", "int16"},
    {at::ScalarType::UInt16, "U16", "", "uint16"},
    {at::kHalf, "F16", "HalfStorage", "float16"},
    {at::kBFloat16, "BF16", "BFloat16Storage", "bfloat16"},
    {at::kInt, "I32", "IntStorage", "int32"},
    {at::ScalarType::UInt32, "U32", "", "uint32"},
    {at::kFloat, "F32", "FloatStorage", "float32"},
    {at::kLong, "I64", "LongStorage", "int64"},
    {at::ScalarType::UInt64, "U64", "", "uint64"},
    {at::kDouble, "F64", "DoubleStorage", "float64"},
    {at::kComplexFloat, "C64", "ComplexFloatStorage", "complex64"},
    {at::kComplexDouble, "", "ComplexDoubleStorage", "complex128"},
}};

const DtypeNames* find_dtype(std::string_view name, const char* DtypeNames::*column) {
  if (name.empty()) return nullptr;
  for (const auto& entry : kDtypes) {
    if (name == entry.*column) return &entry;
  }
  return nullptr;
}

}  // namespace

const DtypeNames* dtype_names(at::ScalarType dtype) {
  for (const auto& entry : kDtypes) {
    if (entry.dtype == dtype) return &entry;
  }
  return nullptr;
}

const DtypeNames* dtype_by_safetensors(std::string_view name) {
  return find_dtype(name, &DtypeNames::safetensors);
}

const DtypeNames* dtype_by_storage(std::string_view name) {
  return find_dtype(name, &DtypeNames::storage);
}

const DtypeNames* dtype_by_torch(std::string_view name) {
  return find_dtype(name, &DtypeNames::torch);
}

std::string safetensors_dtype_list() {
  std::string list;
  for (const auto& entry : kDtypes) {
    if (*entry.safetensors == '\0') continue;
    if (!list.empty()) list += ' ';
    list += entry.safetensors;
  }
  return list;
}

std::optional<uint64_t> dense_bytes(std::span<const int64_t> shape, at::ScalarType dtype) {
  // Strides are products of max(dim, 1), so those must fit too, not only the element count.
  auto extent = static_cast<int64_t>(c10::elementSize(dtype));
  bool empty = false;
  for (int64_t dim : shape) {
    if (dim < 0) return std::nullopt;
    if (dim == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(extent, dim, &extent)) {
      return std::nullopt;
    }
  }
  return empty ? 0 : static_cast<uint64_t>(extent);
}

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace llama2zh
