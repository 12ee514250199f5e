#pragma once

#include <string>

#include "llama2zh/data/datasets.h"
#include "llama2zh/tokenizer/tokenizer.h"
#include "llama2zh/train/run_config.h"

namespace llama2zh {

// How the verbs on a run's data read its rows. `asked`: pretrain, sft, or auto, which looks at the
// first row of the first training file.
RowKind find_row_kind(const std::string& asked, const DataConfig& data);
// The run's tokenizer; kUsage if it names none.
Tokenizer load_run_tokenizer(const RunConfig& run);

}  // namespace llama2zh
