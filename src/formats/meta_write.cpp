// Writing Meta's folder from Hugging Face tensors: the inverse of meta.cpp. A part takes whole
// heads, so Q and K are put into Meta's row order share by share.
#include <algorithm>
#include <set>

#include "formats/dtype.h"
#include "formats/meta_params.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/meta.h"
#include "llama2zh/formats/torch_zip.h"

namespace llama2zh {

namespace {

constexpr int kMaxMetaParts = 99;  // two digits in the name

void check_divides(int64_t size, int parts, std::string_view what) {
  if (size % parts == 0) return;
  fail_usage("parts", cat(what, " (", size, ") cannot be divided into ", parts, " equal parts"),
             "choose another number of parts; 1 always works");
}

void check_shape_parts(const LlamaShape& shape, int parts) {
  if (parts < 1 || parts > kMaxMetaParts) {
    fail_usage("parts", cat("is ", parts, ", expected 1 to ", kMaxMetaParts));
  }
  check_divides(shape.heads, parts, "the number of heads");
  check_divides(shape.kv_heads, parts, "the number of key/value heads");
  check_divides(shape.intermediate, parts, "the intermediate size");
  check_divides(shape.hidden, parts, "the hidden size");
  check_divides(shape.vocab, parts, "the vocabulary size");
}

void check_meta_source(const TensorSource& source, const std::vector<MetaTensor>& all) {
  std::set<std::string_view> known;
  for (const MetaTensor& tensor : all) {
    known.insert(tensor.hf);
    const TensorInfo& info = source.require(tensor.hf);
    if (info.shape != tensor.shape) {
      fail_format(source.describe(), cat(tensor.hf, " has shape ", shape_text(info.shape),
                                         ", but the config asks for ", shape_text(tensor.shape)));
    }
  }
  for (const TensorInfo& info : source.tensors()) {
    if (known.count(info.name) || info.name.ends_with(".rotary_emb.inv_freq")) continue;
    fail_format(source.describe(), cat("tensor ", info.name, " has no place in Meta's layout"));
  }
}

TensorInfo meta_share_info(const TensorSource& source, const MetaTensor& tensor, int parts) {
  TensorInfo info{tensor.meta, source.require(tensor.hf).dtype, tensor.shape};
  if (tensor.parts != MetaTensor::Parts::kCopies)
    info.shape[tensor.parts == MetaTensor::Parts::kRows ? 0 : 1] /= parts;
  return info;
}

at::Tensor meta_share(const TensorSource& source, const MetaTensor& tensor, int part, int parts) {
  at::Tensor share = source.load(tensor.hf);
  if (parts > 1 && tensor.parts != MetaTensor::Parts::kCopies) {
    const int64_t dim = tensor.parts == MetaTensor::Parts::kRows ? 0 : 1;
    const int64_t size = share.size(dim) / parts;
    share = share.narrow(dim, part * size, size);
  }
  return tensor.heads > 0 ? permute_hf_to_meta(share, tensor.heads / parts) : share;
}

}  // namespace

void check_meta_parts(const ordered_json& hf_config, int parts) {
  check_shape_parts(llama_shape_of(hf_config, "config.json"), parts);
}

void write_meta_checkpoint(const std::filesystem::path& folder, const TensorSource& source,
                           const ordered_json& hf_config, int parts) {
  LlamaShape shape = llama_shape_of(hf_config, "config.json");
  check_shape_parts(shape, parts);
  // Meta's layout knows no tied head: the embedding is written twice.
  const bool tied = shape.tied;
  std::vector<MetaTensor> all = meta_tensors(shape);
  check_meta_source(source, all);
  if (tied) {
    all.push_back({"output.weight", all.front().hf, all.front().shape, MetaTensor::Parts::kRows});
  }
  for (int part = 0; part < parts; ++part) {
    std::vector<TensorInfo> infos;
    for (const MetaTensor& tensor : all) infos.push_back(meta_share_info(source, tensor, parts));
    write_torch_zip(folder / meta_part_name(part), infos,
                    [&](size_t i) { return meta_share(source, all[i], part, parts); });
  }
  write_json_file(folder / "params.json", meta_params_json(shape));
  open_meta_checkpoint(folder);  // the headers read back and fit params.json
}

}  // namespace llama2zh
