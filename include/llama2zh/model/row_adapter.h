#pragma once

#include <memory>

#include "llama2zh/formats/peft.h"
#include "llama2zh/model/llama.h"
#include "llama2zh/nn/row_adapters.h"

namespace llama2zh {

// A saved adapter made ready to stand beside `model`, which stays as it is and must outlive it: of
// any rank, targets and scaling, with DoRA's magnitudes or matrices of its own for embed_tokens and
// lm_head. kFormat where shapes or names do not fit the model, kUsage for DoRA on a projection that
// has an adapter already.
std::shared_ptr<const RowAdapter> make_row_adapter(Llama& model, const PeftAdapter& adapter);

}  // namespace llama2zh
