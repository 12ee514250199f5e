// Rotary embedding in config.json. transformers 4: rope_theta at the top and rope_scaling, null or an
// object whose type is "rope_type", in old files "type". transformers 5: rope_parameters with
// rope_theta in it; a rope_scaling that is not null replaces it. Where
// original_max_position_embeddings is not given it is max_position_embeddings; dynamic scaling always
// counts from the latter.
#include "rope_config.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/manifest.h"
#include "llama2zh/model/llama_config.h"

namespace llama2zh {
namespace {

constexpr double kHugeRope = 1e15;
constexpr int64_t kMostPositions = 100'000'000;
constexpr const char* kManifestRope = "rope_parameters";

bool is_rope_type(const std::string& type) {
  static constexpr std::array kTypes = {"default", "linear", "dynamic", "yarn", "llama3"};
  return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
}

bool needs_original(const std::string& type) { return type == "yarn" || type == "llama3"; }

void read_yarn(const ConfigReader& rope, RopeConfig& config) {
  config.beta_fast = rope.number("beta_fast", config.beta_fast, 0, kHugeRope);
  config.beta_slow = rope.number("beta_slow", config.beta_slow, 0, kHugeRope);
  config.truncate = rope.boolean("truncate", config.truncate);
  if (rope.has("attention_factor")) {
    config.attention_factor = rope.number("attention_factor", 1, 0, 1000);
  }
  config.mscale = rope.number("mscale", 0, -1, 1000);
  config.mscale_all_dim = rope.number("mscale_all_dim", 0, -1, 1000);
  if (config.beta_fast < config.beta_slow) rope.fail("beta_fast", "expected at least beta_slow");
}

void read_llama3(const ConfigReader& rope, RopeConfig& config) {
  for (const char* key : {"low_freq_factor", "high_freq_factor"}) {
    if (!rope.has(key)) rope.fail(key, "llama3 scaling needs it");
  }
  config.low_freq_factor = rope.number("low_freq_factor", 1, 0, kHugeRope);
  config.high_freq_factor = rope.number("high_freq_factor", 4, 0, kHugeRope);
  if (config.high_freq_factor <= config.low_freq_factor) {
    rope.fail("high_freq_factor", "expected more than low_freq_factor");
  }
}

}  // namespace

RopeConfig read_rope_object(const ConfigReader& rope, double theta,
                            int64_t max_position_embeddings) {
  RopeConfig config;
  const char* const key = rope.has("rope_type") ? "rope_type" : "type";
  config.type = rope.text(key, "default");
  if (!is_rope_type(config.type)) {
    rope.fail(key,
              "this rotary scaling is not supported; expected default, linear, dynamic, yarn or "
              "llama3");
  }
  config.theta = rope.number("rope_theta", theta, 0, kHugeRope);
  if (rope.number("partial_rotary_factor", 1, 0, 2) != 1) {
    rope.fail("partial_rotary_factor", "expected 1");
  }
  if (config.type == "default") return config;
  if (!rope.has("factor")) rope.fail("factor", cat(config.type, " scaling needs a factor"));
  config.factor = rope.number("factor", 1, 0, kHugeRope);
  if (config.type == "dynamic") config.original_max_position_embeddings = max_position_embeddings;
  if (needs_original(config.type)) {
    config.original_max_position_embeddings = rope.integer(
        "original_max_position_embeddings", max_position_embeddings, 1, kMostPositions);
  }
  if (config.type == "yarn") read_yarn(rope, config);
  if (config.type == "llama3") read_llama3(rope, config);
  return config;
}

RopeConfig read_rope(const ConfigReader& reader, int64_t max_position_embeddings) {
  RopeConfig config;
  config.theta = reader.number("rope_theta", config.theta, 0, kHugeRope);
  if (const auto scaling = reader.object("rope_scaling")) {
    return read_rope_object(*scaling, config.theta, max_position_embeddings);
  }
  if (const auto parameters = reader.object("rope_parameters")) {
    return read_rope_object(*parameters, config.theta, max_position_embeddings);
  }
  return config;
}

ordered_json rope_to_json(const RopeConfig& rope) {
  ordered_json out = {{"rope_type", rope.type}, {"rope_theta", rope.theta}};
  if (rope.type == "default") return out;
  out["factor"] = rope.factor;
  if (needs_original(rope.type)) {
    out["original_max_position_embeddings"] = rope.original_max_position_embeddings;
  }
  if (rope.type == "yarn") {
    out["beta_fast"] = rope.beta_fast;
    out["beta_slow"] = rope.beta_slow;
    if (!rope.truncate) out["truncate"] = false;
    if (rope.attention_factor) out["attention_factor"] = *rope.attention_factor;
    if (rope.mscale != 0) out["mscale"] = rope.mscale;
    if (rope.mscale_all_dim != 0) out["mscale_all_dim"] = rope.mscale_all_dim;
  }
  if (rope.type == "llama3") {
    out["low_freq_factor"] = rope.low_freq_factor;
    out["high_freq_factor"] = rope.high_freq_factor;
  }
  return out;
}

void write_rope(ordered_json& out, const RopeConfig& rope) {
  out["rope_theta"] = rope.theta;
  out["rope_parameters"] = rope_to_json(rope);
  out["rope_scaling"] = nullptr;
  if (rope.type == "default") return;
  ordered_json scaling = {{"type", rope.type}};
  const ordered_json keys = rope_to_json(rope);
  for (const auto& [key, value] : keys.items()) scaling[key] = value;
  out["rope_scaling"] = scaling;
}

void set_rope_scaling(LlamaConfig& config, const RopeConfig& scaling) {
  const double theta = config.rope.theta;
  int64_t trained = scaling.original_max_position_embeddings;
  if (trained == 0 && config.rope.type != "default") {
    fail_usage("rope_scaling",
               cat("the model is scaled already (", config.rope.type, ", factor ",
                   config.rope.factor, ")"),
               "say with original_max_position_embeddings from how many positions to scale");
  }
  if (trained == 0) trained = config.max_position_embeddings;
  config.rope = scaling;
  config.rope.theta = theta;
  config.rope.original_max_position_embeddings = trained;
  const bool grows = scaling.type != "default" && scaling.type != "dynamic";
  config.max_position_embeddings =
      grows ? static_cast<int64_t>(static_cast<double>(trained) * scaling.factor) : trained;
}

int64_t LlamaConfig::context_length() const {
  if (rope.type != "dynamic") return max_position_embeddings;
  return static_cast<int64_t>(static_cast<double>(max_position_embeddings) * rope.factor);
}

ordered_json rope_record(const LlamaConfig& config) {
  ordered_json record = rope_to_json(config.rope);
  record["max_position_embeddings"] = config.max_position_embeddings;
  return record;
}

void adopt_rope(const std::filesystem::path& adapter, LlamaConfig& config) {
  if (!has_manifest(adapter)) return;
  const ordered_json extra = read_manifest(adapter).extra;
  const auto found = extra.find(kManifestRope);
  if (found == extra.end()) return;
  const ConfigReader record(*found, adapter.string(), cat(kManifestRope, "."));
  config.max_position_embeddings =
      record.integer("max_position_embeddings", config.max_position_embeddings, 1, kMostPositions);
  config.rope = read_rope_object(record, config.rope.theta, config.max_position_embeddings);
}

}  // namespace llama2zh
