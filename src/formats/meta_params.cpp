// params.json (github.com/meta-llama/llama: ModelArgs). The intermediate size is not stated there but
// computed: round_up(int(ffn_dim_multiplier * int(2 * 4 * dim / 3)), multiple_of).
#include "formats/meta_params.h"

#include <cmath>
#include <optional>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

namespace {

class MetaParamsReader {
 public:
  MetaParamsReader(const ordered_json& object, std::string where)
      : object_(object), where_(std::move(where)) {}

  std::optional<int64_t> integer(const char* key) const {
    const ordered_json* value = get(key);
    if (!value) return std::nullopt;
    if (!value->is_number_integer()) {
      fail_format(where_, cat(key, " is ", value->dump(), ", expected a whole number"));
    }
    return value->get<int64_t>();
  }

  int64_t required(const char* key) const {
    const std::optional<int64_t> value = integer(key);
    if (!value) fail_format(where_, cat(key, " is missing"));
    return *value;
  }

  double number(const char* key, double fallback) const {
    const ordered_json* value = get(key);
    if (!value) return fallback;
    if (!value->is_number()) {
      fail_format(where_, cat(key, " is ", value->dump(), ", expected a number"));
    }
    return value->get<double>();
  }

  bool flag(const char* key) const {
    const ordered_json* value = get(key);
    return value && *value != false;
  }

 private:
  const ordered_json* get(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }
  const ordered_json& object_;
  std::string where_;
};

// Meta's code rounds down here, and once more after the multiplier.
int64_t whole_width(int64_t dim) { return 8 * dim / 3; }

constexpr int64_t kMaxMetaSize = int64_t{1} << 24;

}  // namespace

int64_t meta_intermediate_size(int64_t dim, int64_t multiple_of, double multiplier) {
  const int64_t width = static_cast<int64_t>(multiplier * static_cast<double>(whole_width(dim)));
  return (width + multiple_of - 1) / multiple_of * multiple_of;
}

LlamaShape read_meta_params(const std::filesystem::path& file) {
  const std::string where = file.string();
  const ordered_json object = read_ordered_json_file(file);
  if (!object.is_object()) fail_format(where, "expected a JSON object");
  const MetaParamsReader reader(object, where);
  if (reader.flag("use_scaled_rope")) {
    fail_format(where, "use_scaled_rope is set: this is a LLaMA-3.1 or later",
                "only LLaMA-1 and LLaMA-2 checkpoints in Meta's layout are read");
  }
  LlamaShape shape;
  shape.hidden = reader.required("dim");
  shape.layers = reader.required("n_layers");
  shape.heads = reader.required("n_heads");
  shape.kv_heads = reader.integer("n_kv_heads").value_or(shape.heads);
  shape.vocab = reader.integer("vocab_size").value_or(-1);
  shape.norm_eps = reader.number("norm_eps", 1e-5);
  shape.rope_theta = reader.number("rope_theta", 10000);
  // Not in the file: Code Llama is the family's one member with another theta, and has 16,384.
  shape.max_positions =
      reader.integer("max_seq_len").value_or(shape.rope_theta > 10000 ? 16384 : 4096);
  const int64_t multiple_of = reader.integer("multiple_of").value_or(256);
  const double multiplier = reader.number("ffn_dim_multiplier", 1);
  if (multiple_of < 1 || multiple_of > kMaxMetaSize) {
    fail_format(where, cat("multiple_of is ", multiple_of, ", expected 1 to ", kMaxMetaSize));
  }
  if (!(multiplier > 0 && multiplier <= 1000)) {
    fail_format(where, cat("ffn_dim_multiplier is ", multiplier, ", expected above 0"));
  }
  if (shape.hidden < 1 || shape.hidden > kMaxMetaSize) {
    fail_format(where, cat("dim is ", shape.hidden, ", expected 1 to ", kMaxMetaSize));
  }
  shape.intermediate = meta_intermediate_size(shape.hidden, multiple_of, multiplier);
  LlamaShape checked = shape;
  if (shape.vocab == -1) checked.vocab = 1;
  check_llama_shape(checked, where);
  return shape;
}

ordered_json meta_params_json(const LlamaShape& shape) {
  ordered_json out;
  out["dim"] = shape.hidden;
  out["n_layers"] = shape.layers;
  out["n_heads"] = shape.heads;
  if (shape.kv_heads != shape.heads) out["n_kv_heads"] = shape.kv_heads;
  // First the values of Meta's own models, then smaller steps, then whatever fits.
  int64_t multiple_of = 1;
  double multiplier = (static_cast<double>(shape.intermediate) + 0.5) /
                      static_cast<double>(whole_width(shape.hidden));
  bool found = false;
  for (const double factor : {1.0, 1.3}) {
    for (const int64_t step : {256, 4096, 1024, 512, 128, 64, 32, 16, 8, 4, 2, 1}) {
      if (found || meta_intermediate_size(shape.hidden, step, factor) != shape.intermediate) {
        continue;
      }
      multiple_of = step;
      multiplier = factor;
      found = true;
    }
  }
  out["multiple_of"] = multiple_of;
  if (multiplier != 1.0) out["ffn_dim_multiplier"] = multiplier;
  out["norm_eps"] = shape.norm_eps;
  if (shape.rope_theta != 10000) out["rope_theta"] = shape.rope_theta;
  out["vocab_size"] = shape.vocab;
  if (meta_intermediate_size(shape.hidden, multiple_of, multiplier) != shape.intermediate) {
    fail_format("params.json",
                cat("no ffn_dim_multiplier gives an intermediate size of ", shape.intermediate));
  }
  return out;
}

}  // namespace llama2zh
