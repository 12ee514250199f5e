#pragma once

#include "config_reader.h"
#include "llama2zh/base/json.h"
#include "llama2zh/nn/rope.h"

namespace llama2zh {

// rope_theta with rope_scaling (transformers 4) or rope_parameters (5). kFormat for types that are
// not supported and for values that make no rotation.
RopeConfig read_rope(const ConfigReader& reader, int64_t max_position_embeddings);
// An object as rope_parameters has it, alone.
RopeConfig read_rope_object(const ConfigReader& rope, double theta,
                            int64_t max_position_embeddings);

// {"rope_type", "rope_theta", ...}: the keys that the type has.
ordered_json rope_to_json(const RopeConfig& rope);
// Both spellings into a config.json.
void write_rope(ordered_json& out, const RopeConfig& rope);

}  // namespace llama2zh
