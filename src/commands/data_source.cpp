#include "commands/data_source.h"

#include "llama2zh/base/error.h"
#include "llama2zh/data/token_store.h"
#include "llama2zh/model/load.h"

namespace llama2zh {

RowKind find_row_kind(const std::string& asked, const DataConfig& data) {
  if (asked != "auto") return asked == "sft" ? RowKind::kSft : RowKind::kPretrain;
  std::string first;
  if (!data.train_files.empty()) first = data.train_files[0];
  if (!data.mixture.empty()) first = data.mixture[0].path;
  if (first.empty()) return RowKind::kPretrain;
  if (is_token_store(first)) return read_store_info(first).kind;
  return guess_row_kind(expand_files({first}).front());
}

Tokenizer load_run_tokenizer(const RunConfig& run) {
  if (run.model.tokenizer.empty() && run.model.path.empty()) {
    fail_usage("model.tokenizer", "no tokenizer is named",
               "give --model.tokenizer or --model.path");
  }
  return load_tokenizer(run.model.tokenizer.empty() ? run.model.path : run.model.tokenizer);
}

}  // namespace llama2zh
