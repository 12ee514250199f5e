// llama2.c's .bin (github.com/karpathy/llama2.c: export.py, run.c). Little-endian.
//   version 0: 7 int32 (dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, max_seq_len); a
//     negative vocab_size means that the head is stored. fp32: tok_embeddings, all attention_norm,
//     all wq, wk, wv, wo, all ffn_norm, all w1, w2, w3, norm, two rope tables [max_seq_len,
//     head_dim / 2] (not used), the head if it is stored.
//   version 1: "ak42", version, the same 7 int32 with vocab_size positive, a byte that is 1 if the
//     head is shared, zeros up to 256. fp32: all attention_norm, all ffn_norm, norm,
//     tok_embeddings, all wq, wk, wv, wo, w1, w2, w3, the head if it is stored.
// Q and K rows are interleaved as Meta's. The file's length must be what the header says.
#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>

#include "formats/llama_shape.h"
#include "formats/mapped_tensor.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/meta.h"

namespace llama2zh {

namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint32_t kLlama2cMagic = 0x616b3432;
constexpr uint64_t kLlama2cHeaderV0 = 7 * 4;
constexpr uint64_t kLlama2cHeaderV1 = 256;
constexpr int64_t kMaxLlama2cLayers = 1000;

struct Llama2cHeader {
  LlamaShape shape;
  int version = 0;
  uint64_t bytes = 0;
};

int32_t int32_at(std::string_view bytes, size_t offset) {
  int32_t value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

void read_llama2c_sizes(std::string_view bytes, size_t offset, LlamaShape& shape) {
  shape.hidden = int32_at(bytes, offset);
  shape.intermediate = int32_at(bytes, offset + 4);
  shape.layers = int32_at(bytes, offset + 8);
  shape.heads = int32_at(bytes, offset + 12);
  shape.kv_heads = int32_at(bytes, offset + 16);
  shape.vocab = int32_at(bytes, offset + 20);
  shape.max_positions = int32_at(bytes, offset + 24);
}

Llama2cHeader read_llama2c_header(std::string_view bytes, const std::string& where) {
  Llama2cHeader header;
  if (bytes.size() < kLlama2cHeaderV0) {
    fail_format(where, cat("has ", bytes.size(), " bytes, too few for a llama2.c header"));
  }
  if (static_cast<uint32_t>(int32_at(bytes, 0)) == kLlama2cMagic) {
    header.version = int32_at(bytes, 4);
    if (header.version != 1) {
      fail_format(where, cat("is llama2.c version ", header.version, ", expected 0 or 1"),
                  "export the model again with --version 1 (version 2 is quantized)");
    }
    if (bytes.size() < kLlama2cHeaderV1) {
      fail_format(where, cat("has ", bytes.size(), " bytes, fewer than its header of 256"));
    }
    read_llama2c_sizes(bytes, 8, header.shape);
    header.shape.tied = bytes[36] != 0;
    header.bytes = kLlama2cHeaderV1;
  } else {
    read_llama2c_sizes(bytes, 0, header.shape);
    header.shape.tied = header.shape.vocab > 0;
    header.shape.vocab = std::abs(header.shape.vocab);
    header.bytes = kLlama2cHeaderV0;
  }
  check_llama_shape(header.shape, where);
  if (header.shape.layers > kMaxLlama2cLayers) {
    fail_format(where, cat("claims ", header.shape.layers, " layers, expected at most ",
                           kMaxLlama2cLayers));
  }
  return header;
}

// The groups of tensors in the file's order: each is stored for all layers before the next.
// "rope" stands for the two tables.
std::vector<std::string> llama2c_order(const Llama2cHeader& header) {
  std::vector<std::string> order;
  if (header.version == 0) {
    order = {"tok_embeddings",  "attention_norm",  "attention.wq", "attention.wk",
             "attention.wv",    "attention.wo",    "ffn_norm",     "feed_forward.w1",
             "feed_forward.w2", "feed_forward.w3", "norm",         "rope"};
  } else {
    order = {"attention_norm",  "ffn_norm",        "norm",           "tok_embeddings",
             "attention.wq",    "attention.wk",    "attention.wv",   "attention.wo",
             "feed_forward.w1", "feed_forward.w2", "feed_forward.w3"};
  }
  if (!header.shape.tied) order.push_back("output");
  return order;
}

class Llama2cCheckpoint : public ForeignCheckpoint {
 public:
  explicit Llama2cCheckpoint(const std::filesystem::path& path);

  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  at::Tensor load(std::string_view name) const override;
  std::string describe() const override { return file_->path().string(); }
  const ordered_json& config() const override { return config_; }

 private:
  struct Place {
    uint64_t offset = 0;
    int64_t heads = 0;
  };
  void place_all(const Llama2cHeader& header);

  std::shared_ptr<const MappedFile> file_;
  std::vector<TensorInfo> infos_;
  std::map<std::string, Place, std::less<>> places_;
  ordered_json config_;
};

Llama2cCheckpoint::Llama2cCheckpoint(const std::filesystem::path& path)
    : file_(MappedFile::open(path)) {
  const Llama2cHeader header = read_llama2c_header(file_->bytes(), path.string());
  place_all(header);
  std::sort(infos_.begin(), infos_.end(),
            [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  config_ = llama_config_json(header.shape, at::kFloat);
}

void Llama2cCheckpoint::place_all(const Llama2cHeader& header) {
  std::map<std::string, MetaTensor> by_meta;
  for (MetaTensor& tensor : meta_tensors(header.shape)) {
    std::string name = tensor.meta;
    by_meta.emplace(std::move(name), std::move(tensor));
  }
  // At most 1,000 layers of nine tensors of 2^48 elements: sums stay below 2^64.
  uint64_t offset = header.bytes;
  const auto place = [&](const std::string& name) {
    const auto it = by_meta.find(name);
    if (it == by_meta.end()) return false;
    const MetaTensor& tensor = it->second;
    infos_.push_back({tensor.hf, at::kFloat, tensor.shape});
    places_.emplace(tensor.hf, Place{offset, tensor.heads});
    offset += infos_.back().bytes();
    return true;
  };
  for (const std::string& group : llama2c_order(header)) {
    if (group == "rope") {
      const int64_t table = header.shape.max_positions * (header.shape.head_dim() / 2);
      offset += 2 * sizeof(float) * static_cast<uint64_t>(table);
    } else if (!place(group + ".weight")) {
      for (int64_t layer = 0; layer < header.shape.layers; ++layer) {
        place(cat("layers.", layer, ".", group, ".weight"));
      }
    }
  }
  if (offset != file_->size()) {
    fail_format(
        describe(),
        cat("has ", with_thousands(static_cast<int64_t>(file_->size())),
            " bytes, but its header asks for ", with_thousands(static_cast<int64_t>(offset))),
        file_->size() < offset ? "the file is truncated, or not of llama2.c"
                               : "the file is not of llama2.c, version 0 or 1");
  }
}

at::Tensor Llama2cCheckpoint::load(std::string_view name) const {
  const TensorInfo& info = require(name);
  const Place& place = places_.find(name)->second;
  const at::Tensor stored = map_tensor(file_, place.offset, info);
  return place.heads > 0 ? permute_meta_to_hf(stored, place.heads) : stored;
}

}  // namespace

std::unique_ptr<ForeignCheckpoint> open_llama2c_checkpoint(const std::filesystem::path& file) {
  return std::make_unique<Llama2cCheckpoint>(file);
}

}  // namespace llama2zh
