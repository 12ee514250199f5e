#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "llama2zh/base/json.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/data/datasets.h"
#include "llama2zh/data/loader.h"
#include "llama2zh/data/row_source.h"

namespace llama2zh {

// Rows of a run, memory-mapped.
struct RowSet {
  std::string name;
  std::shared_ptr<const RowSource> rows;
  RowCounts counts;
  std::string fingerprint;  // of ids and targets
  ordered_json stores;      // the keys (token_store.h) of the stores it comes from
};

struct TrainingSource {
  RowSet set;
  MixtureSource share;  // of a mixture
};

struct TrainingData {
  bool stopped = false;               // as was asked; nothing else is filled in then
  std::vector<TrainingSource> train;  // several: a mixture
  std::vector<RowSet> validation;

  std::vector<MixedRows> mixed_rows() const;  // for BatchLoader; points into this
  RowCounts counts() const;                   // of all sources of `train`
  int64_t total_tokens() const;
  int64_t total_supervised() const;
  // Of what is trained on, 16 hex digits: sources and shares.
  std::string fingerprint() const;
  // What the fingerprint comes from, for data_differences(): a list of sources with their shares,
  // files and options.
  ordered_json description() const;
};

// Opens what data.train_files or data.mixture and data.validation_files name: token stores as they
// are, raw files through a store that is kept in data.cache_dir and made by prepare_store() if there
// is none or its files, tokenizer or options have changed (the log says which). Of processes that
// want the same cache one makes it and the others wait; both end early when `stop` says so. A store's
// own held-out rows are a validation set if no validation_files are named. kUsage for options that do
// not go together, kFormat for a store of another tokenizer, kind or template.
TrainingData open_training_data(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer,
                                const std::function<bool()>& stop = stop_requested);

}  // namespace llama2zh
