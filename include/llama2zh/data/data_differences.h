#pragma once

#include <string>
#include <vector>

#include "llama2zh/base/json.h"

namespace llama2zh {

// What differs between two TrainingData::description()s, a line each: "data/b.txt was added",
// "data.mixture english weight: 0.9 in the checkpoint, 0.5 now". `before` is a checkpoint's. Sources
// whose rows are the same are not looked into: moved files are no difference. Long lists end with
// their number. Empty if either says nothing.
std::vector<std::string> data_differences(const ordered_json& before, const ordered_json& now);

}  // namespace llama2zh
