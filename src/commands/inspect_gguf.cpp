#include "commands/inspect_gguf.h"

#include <map>
#include <type_traits>
#include <variant>

#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/formats/gguf.h"

namespace llama2zh {
namespace {

constexpr size_t kShownElements = 16;  // of an array; vocabularies have tens of thousands

template <typename Element>
ordered_json element_json(const Element& element, GgufKind kind) {
  if constexpr (std::is_same_v<Element, std::string>) {
    return utf8_sanitize(element);  // a header may hold any bytes
  } else if constexpr (std::is_same_v<Element, double>) {
    return kind == GgufKind::kFloat32 ? rounded(element, 9) : element;
  } else {
    return kind == GgufKind::kBool ? ordered_json(element != 0) : ordered_json(element);
  }
}

ordered_json value_json(const GgufValue& value) {
  if (value.is_array && value.size() > kShownElements) return value.describe();
  return std::visit(
      [&](const auto& elements) {
        ordered_json list = ordered_json::array();
        for (const auto& element : elements) list.push_back(element_json(element, value.kind));
        return value.is_array ? list : list[0];
      },
      value.elements);
}

}  // namespace

ordered_json inspect_gguf_header(const std::filesystem::path& file, bool list) {
  const auto gguf = GgufFile::open(file);
  ordered_json metadata = ordered_json::object(), all = ordered_json::array();
  for (const auto& [key, value] : gguf->metadata().entries()) metadata[key] = value_json(value);
  std::map<std::string, int64_t> types;
  uint64_t bytes = 0;
  int64_t elements = 0;
  for (const TensorInfo& info : gguf->tensors()) {
    const GgufTensor& tensor = gguf->tensor(info.name);
    ++types[ggml_type_name(tensor.type)];
    bytes += tensor.bytes;
    elements += info.numel();
    if (list)
      all.push_back(
          {{"name", info.name}, {"dtype", ggml_type_name(tensor.type)}, {"shape", info.shape}});
  }
  ordered_json tensors = {
      {"tensors", gguf->tensors().size()},
      {"elements", elements},
      {"bytes", bytes},
      {"bits_per_weight",
       elements == 0
           ? 0.0
           : rounded(8.0 * static_cast<double>(bytes) / static_cast<double>(elements), 3)},
      {"types", types}};
  if (list) tensors["list"] = all;
  return {{"version", gguf->version()}, {"metadata", metadata}, {"stored", tensors}};
}

}  // namespace llama2zh
