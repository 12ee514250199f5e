// Weights quantized by other tools, in their Hugging Face layouts. With n = 32 / bits:
//   GPTQ  NAME.qweight [in / n, out] int32, packed along in; NAME.qzeros [groups, out / n], packed along
//         out, one less than the zero (as whole words: 0 borrows from its neighbour) unless
//         checkpoint_format is gptq_v2; NAME.scales [groups, out]; NAME.g_idx [in]: group of each
//         input column.
//   AWQ   (GEMM) NAME.qweight [in, out / 8] and NAME.qzeros [groups, out / 8], packed along out in the
//         order 0, 2, 4, 6, 1, 3, 5, 7; NAME.scales [groups, out].
// w = scale * (code - zero). Sources: AutoGPTQ's and GPTQModel's qlinear modules, AutoAWQ's WQLinear_GEMM.
#include "packed_checkpoint.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/equal.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "full_weights.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/packed_integers.h"
#include "packed_config.h"

namespace llama2zh {
namespace {

constexpr std::string_view kPlainSuffix = ".weight";

class PackedCheckpoint final : public TensorSource {
 public:
  PackedCheckpoint(std::unique_ptr<TensorSource> stored, LlamaConfig& config,
                   std::filesystem::path path)
      : stored_(std::move(stored)), path_(std::move(path)) {
    QuantizationConfig& quantization = *config.quantization;
    LlamaConfig plain = config;
    plain.quantization.reset();
    std::set<std::string> taken;
    for (const TensorInfo& info : expected_tensors(plain, at::kFloat)) {
      if (!is_quantized(quantization, info.name, config.tie_word_embeddings)) continue;
      const std::string module = info.name.substr(0, info.name.size() - kPlainSuffix.size());
      shapes_[module] = {info.shape.at(0), info.shape.at(1)};
      config_ = quantization;
      check_module(module, taken);
      if (column_order(module).defined()) quantization.columns = true;
    }
    config_ = quantization;
    for (const TensorInfo& info : stored_->tensors())
      if (taken.count(info.name) == 0) infos_.push_back(info);
    for (const auto& [module, shape] : shapes_) {
      const TensorInfo weight{module + ".weight", at::kFloat, {shape.out, shape.in}};
      for (TensorInfo& part : quantized_tensors(config_, weight)) infos_.push_back(std::move(part));
    }
    std::sort(infos_.begin(), infos_.end(),
              [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  }

  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  std::string describe() const override { return stored_->describe(); }

  at::Tensor load(std::string_view name) const override {
    const size_t dot = name.rfind('.');
    const std::string module(name.substr(0, dot));
    if (dot == std::string_view::npos || shapes_.count(module) == 0) return stored_->load(name);
    const QuantizedMatrix matrix = matrix_of(module);
    const std::string_view part = name.substr(dot + 1);
    if (part == "codes") return matrix.codes;
    if (part == "scales") return matrix.scales;
    if (part == "zeros") return matrix.zeros;
    if (part == "columns" && config_.columns) {
      return matrix.columns.defined() ? matrix.columns : at::arange(matrix.in);
    }
    return stored_->load(require(name).name);  // says that there is none
  }

 private:
  struct Shape {
    int64_t out = 0, in = 0;
  };

  const PackedLayout& layout() const { return *config_.packed; }
  bool gptq() const { return layout().kind == PackedLayout::Kind::kGptq; }
  int64_t group_of(const Shape& shape) const {
    return layout().group_size == -1 ? shape.in : layout().group_size;
  }
  int64_t groups_of(const Shape& shape) const {
    return (shape.in + group_of(shape) - 1) / group_of(shape);
  }

  [[noreturn]] void fail(const std::string& tensor, const std::string& problem) const {
    fail_format(cat(path_.string(), ": ", tensor), problem,
                "check that config.json and the weights belong together");
  }

  void expect(const std::string& name, const std::vector<at::ScalarType>& types,
              const std::vector<int64_t>& shape, std::set<std::string>& taken) const {
    const TensorInfo& info = stored_->require(name);
    if (std::find(types.begin(), types.end(), info.dtype) == types.end()) {
      fail(name, cat("it holds ", dtype_name(info.dtype), ", expected ", dtype_name(types[0])));
    }
    if (info.shape != shape) {
      fail(name,
           cat("it has shape ", at::IntArrayRef(info.shape), ", expected ", at::IntArrayRef(shape),
               " with ", config_.bits, " bits in groups of ", layout().group_size));
    }
    taken.insert(name);
  }

  void check_module(const std::string& module, std::set<std::string>& taken) const {
    const Shape shape = shapes_.at(module);
    const int64_t in_word = 32 / config_.bits, groups = groups_of(shape);
    if (shape.out % in_word != 0 || (gptq() && shape.in % in_word != 0)) {
      fail(module, cat("its shape [", shape.out, ", ", shape.in, "] is no multiple of ", in_word));
    }
    expect(module + ".qweight", {at::kInt},
           gptq() ? std::vector<int64_t>{shape.in / in_word, shape.out}
                  : std::vector<int64_t>{shape.in, shape.out / in_word},
           taken);
    expect(module + ".qzeros", {at::kInt}, {groups, shape.out / in_word}, taken);
    expect(module + ".scales", {at::kHalf, at::kBFloat16, at::kFloat}, {groups, shape.out}, taken);
    const std::string columns = module + ".g_idx", bias = module + ".bias";
    if (gptq() && (layout().act_order || stored_->find(columns) != nullptr)) {
      expect(columns, {at::kInt, at::kLong}, {shape.in}, taken);
    }
    if (stored_->find(bias) == nullptr) return;  // some tools store one of zeros
    expect(bias, {at::kHalf, at::kBFloat16, at::kFloat}, {shape.out}, taken);
    if (stored_->load(bias).count_nonzero().item<int64_t>() != 0) {
      fail(bias, "biases are not supported");
    }
  }

  // Input columns sorted by their group, whose scales are then neighbours' as without act-order.
  // Undefined: they are in order.
  at::Tensor column_order(const std::string& module) const {
    const std::string name = module + ".g_idx";
    if (!gptq() || stored_->find(name) == nullptr) return {};
    const Shape shape = shapes_.at(module);
    const at::Tensor groups = stored_->load(name).to(at::kLong);
    const int64_t low = groups.min().item<int64_t>(), high = groups.max().item<int64_t>();
    if (low < 0 || high >= groups_of(shape)) {
      fail(name, cat("it holds ", low < 0 ? low : high, ", expected groups from 0 to ",
                     groups_of(shape) - 1));
    }
    const at::Tensor in_order =
        at::arange(shape.in).div(group_of(shape), /*rounding_mode=*/"floor").to(at::kLong);
    if (at::equal(groups, in_order)) return {};
    if (!at::equal(at::bincount(groups, {}, groups_of(shape)),
                   at::bincount(in_order, {}, groups_of(shape)))) {
      fail(name, cat("expected each group to have ", group_of(shape), " columns"));
    }
    return groups.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
  }

  at::Tensor zeros_of(const std::string& module) const {
    at::Tensor words = stored_->load(module + ".qzeros").contiguous();
    const auto bits = static_cast<int>(config_.bits);
    if (!gptq()) return in_order_of_awq(unpack_integers(words, bits));
    if (layout().zeros_less_one) words = words.add(one_in_each(bits));
    return unpack_integers(words, bits);
  }

  // [groups, out], in the type that the kernels read.
  at::Tensor scales_of(const std::string& module) const {
    const std::string name = module + ".scales";
    at::Tensor stored = stored_->load(name).to(at::kFloat);
    if (!stored.isfinite().all().item<bool>()) fail(name, "a scale is not a finite number");
    if (config_.group_size == -1) return stored;
    at::Tensor half = stored.to(at::kHalf);
    if (!at::equal(half.to(at::kFloat), stored)) {
      fail(name, "a scale is no float16 number, and the kernels have no other for groups");
    }
    return half;
  }

  // One for each of the kernels' groups: [groups, out] -> [out, groups].
  at::Tensor by_rows(const at::Tensor& stored, const Shape& shape) const {
    if (config_.group_size == -1) return stored.t().contiguous();
    const int64_t groups = (shape.in + config_.group_size - 1) / config_.group_size;
    return stored.t()
        .repeat_interleave(layout().group_size / config_.group_size, 1)
        .narrow(1, 0, groups)
        .contiguous();
  }

  QuantizedMatrix matrix_of(const std::string& module) const {
    const std::lock_guard lock(mutex_);
    if (module == last_module_) return last_;
    const Shape shape = shapes_.at(module);
    const auto bits = static_cast<int>(config_.bits);
    const at::Tensor words = stored_->load(module + ".qweight").contiguous();
    QuantizedRows rows;
    rows.codes = gptq() ? unpack_integers_transposed(words, bits)
                        : in_order_of_awq(unpack_integers(words, bits)).t().contiguous();
    const at::Tensor order = column_order(module);
    if (order.defined()) rows.codes = rows.codes.index_select(1, order);
    rows.scales = by_rows(scales_of(module), shape);
    rows.zeros = by_rows(zeros_of(module), shape);
    last_ = pack(rows, bits, config_.group_size);
    if (order.defined()) last_.set_columns(order, module);
    last_module_ = module;
    return last_;
  }

  std::unique_ptr<TensorSource> stored_;
  std::filesystem::path path_;
  QuantizationConfig config_;
  std::map<std::string, Shape> shapes_;  // by module
  std::vector<TensorInfo> infos_;
  // The parts of a matrix are asked for one after the other.
  mutable std::mutex mutex_;
  mutable std::string last_module_;
  mutable QuantizedMatrix last_;
};

// Before transformers knew these layouts, their settings stood in a file beside config.json.
std::optional<QuantizationConfig> settings_beside(const OpenModel& open) {
  const auto& infos = open.source->tensors();
  if (std::none_of(infos.begin(), infos.end(),
                   [](const TensorInfo& info) { return info.name.ends_with(".qweight"); })) {
    return std::nullopt;
  }
  for (const auto& [name, kind] : {std::pair{"quantize_config.json", PackedLayout::Kind::kGptq},
                                   std::pair{"quant_config.json", PackedLayout::Kind::kAwq}}) {
    const std::filesystem::path file = open.path / name;
    if (!std::filesystem::exists(file)) continue;
    return parse_packed_config(read_ordered_json_file(file), file.string(), kind);
  }
  fail_format(open.path.string(),
              "its weights are quantized (NAME.qweight), and config.json has no "
              "quantization_config that says how",
              "expected that, or quantize_config.json (GPTQ), or quant_config.json (AWQ)");
}

}  // namespace

void adopt_packed_weights(OpenModel& open) {
  auto& quantization = open.config.quantization;
  if (!quantization) quantization = settings_beside(open);
  if (!quantization || !quantization->packed) return;
  if (quantization->lm_head && open.config.tie_word_embeddings) {
    fail_format(open.path.string(),
                "quantization_config.lm_head is true, but the head is tied to the embeddings");
  }
  open.source = std::make_unique<PackedCheckpoint>(std::move(open.source), open.config, open.path);
}

}  // namespace llama2zh
