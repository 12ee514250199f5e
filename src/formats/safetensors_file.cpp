// A safetensors file on its way to disk; the format is in safetensors_header.cpp.
#include "formats/safetensors_file.h"

#include "formats/safetensors_header.h"
#include "formats/tensor_bytes.h"
#include "llama2zh/base/error.h"

namespace llama2zh {

SafetensorsFile::SafetensorsFile(const fs::path& path, const std::vector<TensorInfo>& infos,
                                 const std::map<std::string, std::string>& metadata)
    : path_(path), header_(make_safetensors_header(infos, metadata, path.string())), file_(path) {
  end_ = header_.size();
  for (const auto& info : infos) end_ += info.bytes();
  file_.write(header_);
}

void SafetensorsFile::add(const at::Tensor& tensor) {
  const auto dense = dense_on_cpu(tensor);
  file_.write(dense.const_data_ptr(), dense.nbytes());
}

void SafetensorsFile::commit() {
  const auto written = MappedFile::open(file_.temporary());
  if (written->size() != end_ || !written->bytes().starts_with(header_)) {
    fail_io(path_.string(), "what was written did not read back: the disk may be full or failing");
  }
  parse_safetensors_header(written->bytes(), written->size(), path_.string());
  file_.commit();
}

}  // namespace llama2zh
