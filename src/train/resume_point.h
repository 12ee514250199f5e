#pragma once

#include <filesystem>
#include <optional>

#include "llama2zh/train/checkpoint.h"
#include "llama2zh/train/run_config.h"

namespace llama2zh {

// The checkpoint that resume or resume_from asks for; none: start from the beginning. kUsage if the
// one that is named is not the run's or would be shadowed by a newer one, or if the run has ended;
// kFormat if it, or every one there is, is not whole.
std::optional<std::filesystem::path> checkpoint_to_resume(const RunConfig& config);

// kUsage with each difference if the run `now` may not go on from `saved`.
void check_unchanged(const TrainingState& saved, const TrainingState& now, const RunConfig& config,
                     const std::filesystem::path& checkpoint);

// kUsage if train.stop_at_step lies before the checkpoint. The same step again is no mistake: a job
// that is run once more has nothing left to do.
void check_stop(const TrainingState& saved, const RunConfig& config,
                const std::filesystem::path& checkpoint);

}  // namespace llama2zh
