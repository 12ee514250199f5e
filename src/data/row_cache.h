#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "llama2zh/data/prepare.h"

namespace llama2zh {

// data.cache_dir or its default.
std::filesystem::path cache_folder(const DataConfig& config);

// The store of these raw files in the cache folder, made or made anew if need be; none if `stop` said
// so on the way. `held_out` as in PrepareOptions.
std::optional<std::filesystem::path> cached_store(const DataConfig& config, RowKind kind,
                                                  const Tokenizer& tokenizer,
                                                  const std::vector<std::string>& files,
                                                  double held_out,
                                                  const std::function<bool()>& stop);

}  // namespace llama2zh
