// The header of a GGUF file: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
//   "GGUF" | u32 version | u64 tensors | u64 keys | keys | tensors | zeros to the alignment | data
//   string: u64 length, bytes | key: string, u32 kind, value | array: u32 kind, u64 count, elements
//   tensor: name, u32 dims, u64 dims[] (the contiguous one first), u32 type, u64 offset in the data
// Offsets and the start of the data are multiples of general.alignment.
#include <algorithm>
#include <limits>

#include "formats/dtype.h"
#include "formats/gguf_cursor.h"
#include "formats/gguf_types.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

constexpr uint64_t kLeastKeyBytes = 8 + 1 + 4 + 1;         // a key of one byte, a kind, a byte
constexpr uint64_t kLeastTensorBytes = 8 + 1 + 4 + 4 + 8;  // a name of one byte, no dimensions

const GgmlTypeTraits& known_type(uint32_t type, const std::string& at) {
  if (const GgmlTypeTraits* traits = ggml_traits(type)) return *traits;
  const std::string name = ggml_foreign_type_name(type);
  fail_format(at,
              cat("it has type ", type, name.empty() ? "" : " (" + name + ")",
                  ", which is not read here; expected one of ", ggml_type_list()),
              "take the file in another quantization");
}

GgufTensor read_tensor(GgufCursor& cursor, uint64_t index, const std::string& where) {
  GgufTensor tensor;
  tensor.name = cursor.string(cat("the name of tensor ", index));
  if (tensor.name.empty() || tensor.name.size() > kGgufMaxTensorName || !is_utf8(tensor.name)) {
    fail_format(where, cat("the name of tensor ", index, " is empty, longer than ",
                           kGgufMaxTensorName, " bytes or not UTF-8"));
  }
  const std::string at = cat(where, ": tensor ", tensor.name);
  const auto dims = cursor.number<uint32_t>("the number of dimensions of tensor " + tensor.name);
  if (dims > kGgufMaxDims) {
    fail_format(at, cat("it has ", dims, " dimensions, expected at most ", kGgufMaxDims));
  }
  for (uint32_t i = 0; i < dims; ++i) {
    const auto dim = cursor.number<uint64_t>("a dimension of tensor " + tensor.name);
    if (dim > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      fail_format(at, cat("dimension ", i, " is ", dim, ", expected at most 2^63 - 1"));
    }
    tensor.shape.push_back(static_cast<int64_t>(dim));
  }
  std::reverse(tensor.shape.begin(), tensor.shape.end());
  const auto& traits = known_type(cursor.number<uint32_t>("the type of tensor " + tensor.name), at);
  tensor.type = traits.type;
  tensor.offset = cursor.number<uint64_t>("the offset of tensor " + tensor.name);
  const auto bytes = ggml_bytes(traits, tensor.shape);
  if (!bytes) {
    fail_format(at, cat("shape ", shape_text(tensor.shape), " of type ", traits.name,
                        " is too large, or its rows are no multiple of ", traits.block));
  }
  tensor.bytes = *bytes;
  return tensor;
}

// Makes offsets absolute. Tensors may lie in any order and leave holes, but not share a byte.
void place_tensors(std::vector<GgufTensor>& tensors, uint64_t start, uint64_t alignment,
                   uint64_t file_size, const std::string& where) {
  std::sort(tensors.begin(), tensors.end(), [](const GgufTensor& a, const GgufTensor& b) {
    return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
  });
  const uint64_t data = file_size - std::min(start, file_size);
  uint64_t end = 0;
  for (GgufTensor& tensor : tensors) {
    const std::string at = cat(where, ": tensor ", tensor.name);
    if (tensor.offset % alignment != 0) {
      fail_format(at, cat("its offset ", tensor.offset, " is no multiple of ", alignment,
                          ", the file's alignment"));
    }
    if (tensor.offset > data || tensor.bytes > data - tensor.offset) {
      fail_format(at,
                  cat("the file is truncated or damaged: its ", tensor.bytes, " bytes at ",
                      tensor.offset, " end beyond the file's data, which has ", data, " bytes"),
                  kGgufFetchAgain);
    }
    if (tensor.bytes > 0 && tensor.offset < end) {
      fail_format(at, cat("its bytes start at ", tensor.offset,
                          " of the data, inside another tensor that ends at ", end));
    }
    end = std::max(end, tensor.offset + tensor.bytes);
    tensor.offset += start;
  }
}

uint32_t read_version(GgufCursor& cursor, std::string_view bytes, const std::string& where) {
  if (bytes.starts_with("version https://git-lfs")) {
    fail_format(where, "this is a Git LFS pointer, not the weights", "run `git lfs pull`");
  }
  if (cursor.take(4, "the magic") != "GGUF") {
    fail_format(where, "not a GGUF file: it does not start with \"GGUF\"");
  }
  const auto version = cursor.number<uint32_t>("the version");
  if (version >= 1 << 16 && __builtin_bswap32(version) < 1 << 16) {
    fail_format(where, "the file is big-endian, expected little-endian",
                "convert it with gguf's gguf-convert-endian");
  }
  if (version != 2 && version != kGgufVersion) {
    fail_format(where, cat("it is GGUF version ", version, ", expected 2 or 3"),
                "convert the model again with a current llama.cpp");
  }
  return version;
}

uint64_t read_alignment(const GgufMetadata& metadata) {
  const auto alignment =
      metadata.integer(kGgufAlignmentKey, 1, 1 << 30, int64_t{kGgufDefaultAlignment});
  if ((alignment & (alignment - 1)) != 0) {
    metadata.fail(kGgufAlignmentKey, "expected a power of two");
  }
  return static_cast<uint64_t>(alignment);
}

}  // namespace

GgufHeader parse_gguf_header(std::string_view bytes, const std::string& where) {
  GgufCursor cursor(bytes, where);
  GgufHeader header;
  header.metadata = GgufMetadata(where);
  header.version = read_version(cursor, bytes, where);
  const auto tensors = cursor.number<uint64_t>("the number of tensors");
  const auto keys = cursor.number<uint64_t>("the number of metadata keys");
  cursor.count(tensors, kLeastTensorBytes, "tensors");
  read_gguf_metadata(cursor, cursor.count(keys, kLeastKeyBytes, "metadata keys"), where,
                     header.metadata);
  cursor.count(tensors, kLeastTensorBytes, "tensors");
  header.tensors.reserve(tensors);
  for (uint64_t i = 0; i < tensors; ++i) header.tensors.push_back(read_tensor(cursor, i, where));
  const uint64_t alignment = read_alignment(header.metadata);
  place_tensors(header.tensors, align_up(cursor.position(), alignment), alignment, bytes.size(),
                where);
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const GgufTensor& a, const GgufTensor& b) { return a.name < b.name; });
  for (size_t i = 1; i < header.tensors.size(); ++i) {
    if (header.tensors[i].name == header.tensors[i - 1].name) {
      fail_format(where, cat("tensor ", header.tensors[i].name, " stands there twice"));
    }
  }
  return header;
}

}  // namespace llama2zh
