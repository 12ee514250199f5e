#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "llama2zh/formats/tensor_source.h"

namespace llama2zh {

// Types of metadata values. The numbers stand in files.
enum class GgufKind : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12
};

// One value, or an array of them. Booleans and unsigned integers are held as uint64_t, signed ones
// as int64_t, both kinds of float as double.
struct GgufValue {
  GgufKind kind = GgufKind::kUint32;  // of the elements; never kArray
  bool is_array = false;              // else there is exactly one element
  std::variant<std::vector<uint64_t>, std::vector<int64_t>, std::vector<double>,
               std::vector<std::string>>
      elements;

  static GgufValue uint32(uint32_t value);
  static GgufValue float32(float value);
  static GgufValue boolean(bool value);
  static GgufValue text(std::string value);
  static GgufValue texts(std::vector<std::string> values);
  static GgufValue int32s(const std::vector<int32_t>& values);
  static GgufValue float32s(const std::vector<float>& values);

  size_t size() const;
  std::string describe() const;  // "4096 (uint32)", "an array of 32000 string": for messages
};

// Keys and values in the file's order. The typed getters take any kind that holds such a value
// without loss (writers differ in the widths they use) and throw kFormat naming file, key and value
// else; those with `absent` return it where the key is not there, the others throw.
class GgufMetadata {
 public:
  explicit GgufMetadata(std::string where = "metadata") : where_(std::move(where)) {}

  void set(std::string key, GgufValue value);     // replaces a value that is there
  void append(std::string key, GgufValue value);  // the key must be new
  const GgufValue* find(std::string_view key) const;
  const std::vector<std::pair<std::string, GgufValue>>& entries() const { return entries_; }
  const std::string& where() const { return where_; }

  int64_t integer(std::string_view key, int64_t low, int64_t high) const;
  int64_t integer(std::string_view key, int64_t low, int64_t high, int64_t absent) const;
  double number(std::string_view key) const;  // finite
  double number(std::string_view key, double absent) const;
  bool flag(std::string_view key, bool absent) const;
  std::string text(std::string_view key) const;  // valid UTF-8
  std::string text(std::string_view key, const std::string& absent) const;
  std::vector<std::string> texts(std::string_view key) const;  // each valid UTF-8
  std::vector<int64_t> integers(std::string_view key, int64_t low, int64_t high) const;
  std::vector<double> numbers(std::string_view key) const;  // finite

  [[noreturn]] void fail(std::string_view key, std::string_view problem,
                         std::string_view remedy = {}) const;

 private:
  const GgufValue& require(std::string_view key) const;
  std::string where_;
  std::vector<std::pair<std::string, GgufValue>> entries_;
};

// Types of tensors that are read and written here. The numbers stand in files.
enum class GgmlType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kBF16 = 30
};
const char* ggml_type_name(GgmlType type);  // "Q4_K"
int64_t ggml_block_size(GgmlType type);     // values a block; a row is a multiple of it
bool ggml_is_quantized(GgmlType type);      // more than one value a block
bool ggml_can_quantize(GgmlType type);      // whether GgufWriter makes it of floats

// A tensor's place. `shape` is row-major as everywhere here: the reverse of the file's dimensions.
struct GgufTensor {
  std::string name;
  std::vector<int64_t> shape;
  GgmlType type = GgmlType::kF32;
  uint64_t offset = 0;  // from the start of the file
  uint64_t bytes = 0;
};

// A GGUF file, version 2 or 3, little-endian, memory-mapped. open() checks everything that the file
// claims against its size (counts, lengths, types, names and keys given twice, alignment, shapes,
// tensors beyond the end or over each other) before it allocates anything; errors are kFormat.
class GgufFile : public TensorSource {
 public:
  static std::unique_ptr<GgufFile> open(const std::filesystem::path& path);

  virtual uint32_t version() const = 0;
  virtual const GgufMetadata& metadata() const = 0;
  virtual const GgufTensor& tensor(std::string_view name) const = 0;   // kFormat if there is none
  virtual std::string_view bytes_of(std::string_view name) const = 0;  // as they are stored

  // tensors() and load(), of TensorSource: plain types as they are, mapped; quantized ones are float
  // and are dequantized into a tensor of their own.
};
// Whether the file starts with GGUF's magic; false for folders and what can't be read.
bool is_gguf_file(const std::filesystem::path& path);

// Writes one GGUF file of version 3, atomically, with one tensor in memory at a time. All tensors
// are declared first (kData if a name or shape can't be stored), then added in that order: each is
// converted to its declared type. finish() reads the header back before the rename; without it
// nothing is left.
class GgufWriter {
 public:
  // `tensors`: name, shape and type; offset and bytes are filled in.
  GgufWriter(const std::filesystem::path& file, const GgufMetadata& metadata,
             std::vector<GgufTensor> tensors);
  ~GgufWriter();
  void add(std::string_view name, const at::Tensor& tensor);
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace llama2zh
