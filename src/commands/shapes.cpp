// LLaMA-2's published shapes (Touvron et al. 2023, config.json of the models).
#include "commands/shapes.h"

#include <map>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

struct Shape {
  int64_t hidden, intermediate, layers, heads, kv_heads, vocab = 49953;
};

const std::map<std::string, Shape>& shapes() {
  static const std::map<std::string, Shape> table = {
      {"7b", {4096, 11008, 32, 32, 32}},      {"13b", {5120, 13824, 40, 40, 40}},
      {"7b-layer", {4096, 11008, 1, 32, 32}}, {"13b-layer", {5120, 13824, 1, 40, 40}},
      {"m13", {4096, 11008, 4, 32, 32}},      {"m135", {576, 1536, 30, 9, 3}},
      {"tiny", {64, 172, 2, 4, 2, 512}},
  };
  return table;
}

}  // namespace

const std::vector<std::string>& shape_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& [name, shape] : shapes()) all.push_back(name);
    return all;
  }();
  return names;
}

LlamaConfig named_shape(const std::string& name) {
  const auto found = shapes().find(name);
  if (found == shapes().end()) {
    const std::string near = nearest(name, shape_names());
    fail_usage("shape", cat("there is no shape '", name, "'"),
               near.empty() ? cat("expected one of ", join(shape_names(), ", "))
                            : cat("did you mean ", near, "?"));
  }
  const Shape& shape = found->second;
  LlamaConfig config;
  config.vocab_size = shape.vocab;
  config.hidden_size = shape.hidden;
  config.intermediate_size = shape.intermediate;
  config.num_hidden_layers = shape.layers;
  config.num_attention_heads = shape.heads;
  config.num_key_value_heads = shape.kv_heads;
  config.head_dim = shape.hidden / shape.heads;
  config.max_position_embeddings = 4096;
  config.dtype = "bfloat16";
  return config;
}

}  // namespace llama2zh
