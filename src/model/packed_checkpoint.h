#pragma once

#include "llama2zh/model/load.h"

namespace llama2zh {

// Where the folder's weights are quantized in GPTQ's or AWQ's layout, by its config.json or by the
// files that older tools wrote beside it: replaces open.source by one that gives them in the kernels'
// layout (NAME.codes, NAME.scales, NAME.zeros, NAME.columns), without loss, a matrix at a time. Checks
// every shape and type, and which group each input column belongs to, before any weight is read.
// kFormat naming file and tensor.
void adopt_packed_weights(OpenModel& open);

}  // namespace llama2zh
