// Writing torch.save archives: the layout of torch_zip.cpp, and a pickle of protocol 2 that holds an
// OrderedDict of _rebuild_tensor_v2 calls. Types that have no storage class of their own (unsigned
// and 8-bit floating ones) are _rebuild_tensor_v3 calls over an UntypedStorage, as in torch/_tensor.py.
#include <functional>
#include <set>

#include "formats/dtype.h"
#include "formats/pickle_opcodes.h"
#include "formats/tensor_bytes.h"
#include "formats/zip_writer.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/formats/torch_zip.h"

namespace llama2zh {
namespace {

class Pickler {
 public:
  Pickler& op(uint8_t opcode) {
    out_ += static_cast<char>(opcode);
    return *this;
  }
  Pickler& global(std::string_view module, std::string_view name) {
    op(kOpGlobal);
    out_ += cat(module, "\n", name, "\n");
    return *this;
  }
  Pickler& text(std::string_view value) {
    op(kOpBinUnicode).bytes(value.size(), 4);
    out_ += value;
    return *this;
  }
  Pickler& number(int64_t value) {
    if (value < 0x7fffffff) return op(kOpBinInt).bytes(static_cast<uint64_t>(value), 4);
    return op(kOpLong1).bytes(8, 1).bytes(static_cast<uint64_t>(value), 8);
  }
  Pickler& numbers(at::IntArrayRef values) {
    op(kOpMark);
    for (int64_t value : values) number(value);
    return op(kOpTuple);
  }
  Pickler& bytes(uint64_t value, int size) {
    for (int i = 0; i < size; ++i) out_ += static_cast<char>(value >> (8 * i) & 0xff);
    return *this;
  }
  Pickler& ordered_dict() {
    return global("collections", "OrderedDict").op(kOpEmptyTuple).op(kOpReduce);
  }
  void tensor(const std::string& key, const TensorInfo& info);
  const std::string& str() const { return out_; }

 private:
  std::string out_;
};

std::vector<int64_t> dense_strides(at::IntArrayRef shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t step = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    strides[i] = step;
    step *= std::max<int64_t>(shape[i], 1);
  }
  return strides;
}

void Pickler::tensor(const std::string& key, const TensorInfo& info) {
  const DtypeNames* names = dtype_names(info.dtype);
  const bool typed = *names->storage != '\0';
  global("torch._utils", typed ? "_rebuild_tensor_v2" : "_rebuild_tensor_v3").op(kOpMark);
  op(kOpMark).text("storage");
  if (typed) {
    global("torch", names->storage);
  } else {
    global("torch.storage", "UntypedStorage");
  }
  text(key).text("cpu").number(typed ? info.numel() : static_cast<int64_t>(info.bytes()));
  op(kOpTuple).op(kOpBinPersId);
  number(0).numbers(info.shape).numbers(dense_strides(info.shape));
  op(kOpNewFalse).ordered_dict();
  if (!typed) global("torch", names->torch);
  op(kOpTuple).op(kOpReduce);
}

std::string pickle_of(const std::vector<TensorInfo>& infos) {
  Pickler pickler;
  pickler.op(kOpProto).bytes(2, 1).ordered_dict().op(kOpMark);
  for (size_t i = 0; i < infos.size(); ++i) {
    pickler.text(infos[i].name).tensor(std::to_string(i), infos[i]);
  }
  pickler.op(kOpSetItems).op(kOpStop);
  return pickler.str();
}

// 40 decimal digits, as torch writes; from the pickle, so that equal tensors give equal files.
std::string serialization_id(std::string_view pickle) {
  std::string id;
  for (uint64_t seed : {0, 1}) {
    auto digits = std::to_string(xxh64(pickle, seed));
    id += std::string(20 - digits.size(), '0') + digits;
  }
  return id;
}

void check_names(const std::string& where, const std::vector<TensorInfo>& infos) {
  std::set<std::string_view> names;
  for (const TensorInfo& info : infos) {
    if (dtype_names(info.dtype) == nullptr)
      fail_data(where, cat(info.name, " has no type we store"));
    if (!is_utf8(info.name) || !names.insert(info.name).second) {
      fail_data(where,
                cat("tensor name \"", utf8_sanitize(info.name), "\" is not UTF-8 or given twice"));
    }
  }
}

void check_is(const std::string& where, const TensorInfo& info, const at::Tensor& tensor) {
  check_storable(where, info.name, tensor);
  if (tensor.sizes() != info.shape || tensor.scalar_type() != info.dtype) {
    fail_data(where,
              cat(info.name, " was announced as ", dtype_names(info.dtype)->torch, " ",
                  shape_text(info.shape), " and is ", dtype_names(tensor.scalar_type())->torch, " ",
                  shape_text(tensor.sizes())));
  }
}

}  // namespace

void write_torch_zip(const fs::path& file, const std::vector<TensorInfo>& infos,
                     const std::function<at::Tensor(size_t)>& tensor) {
  check_names(file.string(), infos);
  uint64_t total = 0;
  for (const TensorInfo& info : infos) total += info.bytes();
  check_free_space(file.has_parent_path() ? file.parent_path() : fs::path("."), total);
  const auto pickle = pickle_of(infos);
  AtomicFile out(file);
  ZipWriter zip(out);
  zip.add("archive/data.pkl", pickle);
  zip.add("archive/.format_version", "1");
  zip.add("archive/.storage_alignment", "64");
  zip.add("archive/byteorder", "little");
  for (size_t i = 0; i < infos.size(); ++i) {
    const at::Tensor given = tensor(i);
    check_is(file.string(), infos[i], given);
    const at::Tensor dense = dense_on_cpu(given);
    zip.add(cat("archive/data/", i), dense.const_data_ptr(), dense.nbytes());
  }
  zip.add("archive/version", "3\n");
  zip.add("archive/.data/serialization_id", serialization_id(pickle));
  zip.finish();
  if (open_torch_zip(out.temporary())->tensors().size() != infos.size()) {
    fail_io(file.string(), "what was written did not read back: the disk may be full or failing");
  }
  out.commit();
}

void write_torch_zip(const fs::path& file,
                     const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  std::vector<TensorInfo> infos;
  for (const auto& [name, tensor] : tensors) {
    check_storable(file.string(), name, tensor);
    infos.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  }
  write_torch_zip(file, infos, [&](size_t i) { return tensors[i].second; });
}

}  // namespace llama2zh
