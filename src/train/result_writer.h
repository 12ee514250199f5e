#pragma once

#include <filesystem>
#include <string>

#include "llama2zh/data/datasets.h"
#include "llama2zh/formats/manifest.h"
#include "llama2zh/train/checkpoint.h"
#include "llama2zh/train/run_config.h"
#include "train/run_inputs.h"

namespace llama2zh {

// The type in which full matrices leave a run.
at::ScalarType result_dtype(const RunConfig& config, const RunInputs& inputs);

// Writes results and the weights of checkpoints. What it is made from must outlive it.
class ResultWriter {
 public:
  ResultWriter(const RunConfig& config, RowKind kind, const RunInputs& inputs, Llama& model);

  // Into an existing folder: an adapter (method lora) or a model, with the tokenizer, without
  // a manifest. `trained`: a B of zeros is a mistake.
  void write(const std::filesystem::path& folder, at::ScalarType dtype, bool trained) const;
  // What trains, in fp32, for a checkpoint; `copy` as in WeightsSnapshot.
  WeightsWriter snapshot(bool copy) const;
  Manifest manifest(const std::string& base_identity) const;

 private:
  PeftAdapter adapter(at::ScalarType dtype, bool copy) const;
  void write_adapter(const std::filesystem::path& folder, const PeftAdapter& adapter,
                     bool trained) const;

  const RunConfig* config_;
  const RunInputs* inputs_;
  Llama* model_;
  std::string template_;
};

}  // namespace llama2zh
