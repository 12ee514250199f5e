#pragma once

#include "llama2zh/base/json.h"
#include "llama2zh/engine/session.h"

namespace llama2zh {

// What a number was measured with, to the last weight:
//   model_hash   sha256 of the lines "NAME XXH64" of model_files: config and weights
//   model_files  {NAME: XXH64}, as the folder's manifest lists them, else read
//   adapters     [{"path", "sha256" of the weights, "config_sha256"}]
ordered_json model_checksums(const LoadRequest& request);

}  // namespace llama2zh
