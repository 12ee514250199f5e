// The reference is taken in one pass before training, while the weights are what it should be: no
// second model, no switching of adapters, and weights that modules_to_save trains need no copy.
#include "train/preference_run.h"

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/train/reference_pass.h"
#include "train/output_folder.h"

namespace llama2zh {
namespace {

struct PassSet {
  PreferenceLoss* loss;
  std::vector<MixedRows> sources;
  std::string fingerprint;  // of the rows
  std::string file;
  int64_t rows() const {
    int64_t count = 0;
    for (const MixedRows& source : sources) count += source.rows->size();
    return count;
  }
};

// Of a mixture every row, whatever its share.
std::vector<MixedRows> whole_sources(const TrainingData& data) {
  std::vector<MixedRows> sources = data.mixed_rows();
  for (MixedRows& source : sources) source = {source.rows, {}, {}, {}};
  return sources;
}

std::string reference_fingerprint(const RunConfig& config, const RunInputs& inputs,
                                  const std::string& rows, const std::string& base_identity) {
  const bool adapter = inputs.adapter && config.preference.reference == "start";
  const ordered_json whose = {
      {"data", rows},
      {"model", base_identity},
      {"dtype", config.model.dtype},
      {"adapter", adapter ? fs::weakly_canonical(config.model.peft_path).string() : ""}};
  return whose.dump();
}

}  // namespace

void check_preference(const RunConfig& config) {
  if (!is_preference(config)) return;
  const PreferenceConfig& preference = config.preference;
  if (preference.label_smoothing > 0 && preference.loss != "sigmoid" &&
      preference.loss != "simpo") {
    fail_usage("preference.label_smoothing",
               cat("the loss ", preference.loss, " has no label smoothing"),
               "set it to 0, or take the loss sigmoid or simpo");
  }
  if (config.train.label_smoothing_factor > 0 || config.train.z_loss > 0) {
    fail_usage("train.label_smoothing_factor, train.z_loss", "they belong to the loss of tokens",
               "set them to 0; the losses sigmoid and simpo have preference.label_smoothing");
  }
  if (config.data.overlong == "drop_turns") {
    fail_usage("data.overlong", "drop_turns would drop the answers of a pair",
               "expected keep_last or drop_row");
  }
}

PreferenceRun::PreferenceRun(const RunConfig& config, std::vector<ValidationSet>& validation) {
  const auto make = [&] {
    return std::make_shared<PreferenceLoss>(config.preference, config.train.head_chunk_rows);
  };
  train_ = make();
  for (ValidationSet& set : validation) {
    validation_.push_back(make());
    set.loss = validation_.back();
  }
}

bool PreferenceRun::take_reference(const RunConfig& config, const RunInputs& inputs,
                                   const Llama& model, LoaderOptions options,
                                   const std::string& base_identity, ProcessGroup* group) {
  if (!needs_reference(config.preference)) return true;
  options.shuffle = false;
  std::vector<PassSet> sets = {
      {train_.get(), whole_sources(inputs.data), inputs.data.fingerprint(), kReferenceFile}};
  for (size_t i = 0; i < validation_.size(); ++i) {
    const RowSet& set = inputs.data.validation[i];
    sets.push_back({validation_[i].get(),
                    {{set.rows.get(), {}, {}, {}}},
                    set.fingerprint,
                    cat(kReferencePrefix, "-", set.name, ".safetensors")});
  }
  std::unique_ptr<Llama> base;  // only where it is not the model itself, and not all is known
  const bool other = inputs.adapter && config.preference.reference == "base";
  for (const PassSet& set : sets) {
    const fs::path file = fs::path(config.output_dir) / set.file;
    const std::string whose = reference_fingerprint(config, inputs, set.fingerprint, base_identity);
    std::optional<PairLogProbs> known = read_reference_log_probs(file, set.rows(), whose);
    // A rank may look when rank 0 has just written it.
    if (group != nullptr && group->any(!known, "whether the reference is known")) known.reset();
    if (!known) {
      if (other && !base)
        base = load_model(inputs.open, inputs.dtype, inputs.device, ModelUse::kTraining);
      log_info(cat("log-probabilities of the reference for ", set.rows(), " pairs"));
      known = reference_log_probs(base ? *base : model, BatchLoader(set.sources, options),
                                  set.rows(), config.train.head_chunk_rows, file, whose, group);
    }
    if (!known) return false;
    set.loss->set_reference(*known);
  }
  return true;
}

}  // namespace llama2zh
