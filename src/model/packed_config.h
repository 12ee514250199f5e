#pragma once

#include <string_view>

#include "config_reader.h"
#include "llama2zh/model/quantization_config.h"

namespace llama2zh {

// quantization_config with quant_method gptq or awq, or the file beside config.json that stood for it
// earlier (quantize_config.json; quant_config.json with w_bit and q_group_size). kFormat, naming the
// key, for what the kernels can't represent exactly.
QuantizationConfig parse_packed_config(const ordered_json& value, std::string_view where,
                                       PackedLayout::Kind kind);

// "activations": what products do with their input, int8 unless the folder says float.
std::string read_activations(const ConfigReader& reader);

}  // namespace llama2zh
