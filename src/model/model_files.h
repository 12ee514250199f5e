#pragma once

#include <filesystem>

#include "llama2zh/model/llama_config.h"

namespace llama2zh {

// config.json and generation_config.json of a model folder.
void write_config_files(const std::filesystem::path& folder, const LlamaConfig& config);

}  // namespace llama2zh
