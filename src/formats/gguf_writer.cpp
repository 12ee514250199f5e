// Writing GGUF version 3; the layout is in gguf_header.cpp.
#include <limits>
#include <set>

#include "formats/dtype.h"
#include "formats/gguf_blocks.h"
#include "formats/gguf_types.h"
#include "formats/tensor_bytes.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_string(std::string& out, const std::string& text) {
  put(out, static_cast<uint64_t>(text.size()));
  out += text;
}

template <typename Stored, typename Held>
void put_numbers(std::string& out, const std::vector<Held>& values) {
  for (const Held value : values) put(out, static_cast<Stored>(value));
}

void put_elements(std::string& out, const GgufValue& value) {
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value.elements)) {
    for (const std::string& text : *texts) put_string(out, text);
  } else if (const auto* floats = std::get_if<std::vector<double>>(&value.elements)) {
    value.kind == GgufKind::kFloat32 ? put_numbers<float>(out, *floats)
                                     : put_numbers<double>(out, *floats);
  } else if (const auto* ints = std::get_if<std::vector<int64_t>>(&value.elements)) {
    const auto size = *gguf_kind_bytes(static_cast<uint32_t>(value.kind));
    if (size == 1) put_numbers<int8_t>(out, *ints);
    if (size == 2) put_numbers<int16_t>(out, *ints);
    if (size == 4) put_numbers<int32_t>(out, *ints);
    if (size == 8) put_numbers<int64_t>(out, *ints);
  } else {
    const auto& unsigneds = std::get<std::vector<uint64_t>>(value.elements);
    const auto size = *gguf_kind_bytes(static_cast<uint32_t>(value.kind));
    if (size == 1) put_numbers<uint8_t>(out, unsigneds);
    if (size == 2) put_numbers<uint16_t>(out, unsigneds);
    if (size == 4) put_numbers<uint32_t>(out, unsigneds);
    if (size == 8) put_numbers<uint64_t>(out, unsigneds);
  }
}

void put_value(std::string& out, const GgufValue& value) {
  if (value.is_array) {
    put(out, static_cast<uint32_t>(GgufKind::kArray));
    put(out, static_cast<uint32_t>(value.kind));
    put(out, static_cast<uint64_t>(value.size()));
  } else {
    put(out, static_cast<uint32_t>(value.kind));
  }
  put_elements(out, value);
}

// Fills in bytes and offsets within the data.
void lay_out(std::vector<GgufTensor>& tensors, const std::string& where) {
  std::set<std::string> names;
  uint64_t offset = 0;
  for (GgufTensor& tensor : tensors) {
    if (tensor.name.empty() || tensor.name.size() > kGgufMaxTensorName || !is_utf8(tensor.name) ||
        !names.insert(tensor.name).second) {
      fail_data(where,
                cat("tensor name \"", utf8_sanitize(tensor.name), "\" is empty, longer than ",
                    kGgufMaxTensorName, " bytes, not UTF-8 or given twice"));
    }
    const auto bytes = ggml_bytes(ggml_traits(tensor.type), tensor.shape);
    const bool writable = !ggml_is_quantized(tensor.type) || ggml_can_quantize(tensor.type);
    if (!bytes || !writable || tensor.shape.empty() || tensor.shape.size() > kGgufMaxDims ||
        *bytes > std::numeric_limits<int64_t>::max() - offset) {
      fail_data(cat(where, ": tensor ", tensor.name),
                cat("shape ", shape_text(tensor.shape), " can't be stored as type ",
                    ggml_type_name(tensor.type)));
    }
    tensor.bytes = *bytes;
    tensor.offset = offset;
    offset = align_up(offset + *bytes, kGgufDefaultAlignment);
  }
}

std::string make_header(const GgufMetadata& metadata, const std::vector<GgufTensor>& tensors) {
  std::string out = "GGUF";
  put(out, kGgufVersion);
  put(out, static_cast<uint64_t>(tensors.size()));
  put(out, static_cast<uint64_t>(metadata.entries().size()));
  for (const auto& entry : metadata.entries()) {
    put_string(out, entry.first);
    put_value(out, entry.second);
  }
  for (const GgufTensor& tensor : tensors) {
    put_string(out, tensor.name);
    put(out, static_cast<uint32_t>(tensor.shape.size()));
    for (size_t i = tensor.shape.size(); i > 0; --i) {
      put(out, static_cast<uint64_t>(tensor.shape[i - 1]));
    }
    put(out, static_cast<uint32_t>(tensor.type));
    put(out, tensor.offset);
  }
  out.resize(align_up(out.size(), kGgufDefaultAlignment), '\0');
  return out;
}

fs::path folder_of(const fs::path& file) {
  return file.parent_path().empty() ? fs::path(".") : file.parent_path();
}

}  // namespace

struct GgufWriter::Impl {
  Impl(const fs::path& file, const GgufMetadata& metadata, std::vector<GgufTensor> declared)
      : path(file.string()), tensors(std::move(declared)), out(file) {
    lay_out(tensors, path);
    header = make_header(metadata, tensors);
    end = header.size();
    if (!tensors.empty()) end += tensors.back().offset + tensors.back().bytes;
    check_free_space(folder_of(file), end);
    out.write(header);
  }

  void put_tensor(const GgufTensor& declared, const at::Tensor& tensor) {
    const auto& dense = ggml_traits(declared.type).dense;
    const at::Tensor values = dense_on_cpu(tensor.to(dense.value_or(at::kFloat)));
    if (dense) {
      out.write(values.const_data_ptr(), values.nbytes());
    } else {
      const auto blocks = quantize_ggml(declared.type, values, cat(path, ": ", declared.name));
      out.write(blocks.data(), blocks.size());
    }
  }

  std::string path;
  std::vector<GgufTensor> tensors;
  AtomicFile out;
  std::string header;
  uint64_t end = 0;
  size_t next = 0;
};

GgufWriter::GgufWriter(const fs::path& file, const GgufMetadata& metadata,
                       std::vector<GgufTensor> tensors)
    : impl_(std::make_unique<Impl>(file, metadata, std::move(tensors))) {}

GgufWriter::~GgufWriter() = default;

void GgufWriter::add(std::string_view name, const at::Tensor& tensor) {
  if (impl_->next >= impl_->tensors.size() || impl_->tensors[impl_->next].name != name) {
    fail_data(impl_->path, cat("tensor ", name, " was added out of the declared order"));
  }
  const GgufTensor& declared = impl_->tensors[impl_->next];
  check_storable(impl_->path, name, tensor);
  if (tensor.sizes() != at::IntArrayRef(declared.shape)) {
    fail_data(impl_->path, cat("tensor ", name, " has shape ", tensor.sizes(), ", ",
                               shape_text(declared.shape), " was declared"));
  }
  const uint64_t start = impl_->header.size() + declared.offset;
  const std::string padding(start - impl_->out.offset(), '\0');
  impl_->out.write(padding);
  impl_->put_tensor(declared, tensor);
  ++impl_->next;
}

void GgufWriter::finish() {
  if (impl_->next != impl_->tensors.size()) {
    fail_data(impl_->path,
              cat("tensor ", impl_->tensors[impl_->next].name, " was declared but not added"));
  }
  const auto written = MappedFile::open(impl_->out.temporary());
  if (written->size() != impl_->end || !written->bytes().starts_with(impl_->header)) {
    fail_io(impl_->path, "what was written did not read back: the disk may be full or failing");
  }
  parse_gguf_header(written->bytes(), impl_->path);
  impl_->out.commit();
}

}  // namespace llama2zh
