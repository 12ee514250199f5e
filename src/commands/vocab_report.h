#pragma once

#include <string>
#include <vector>

#include "llama2zh/base/json.h"
#include "llama2zh/tokenizer/tokenizer_comparison.h"

namespace llama2zh {

// The model that a vocabulary is weighed in; hidden_size 0: none was named.
struct VocabularyHost {
  int64_t hidden_size = 0;
  bool tied = false;
  int64_t body_parameters = 0;  // without embedding and head; 0: not known
  int64_t bytes_per_parameter = 2;
};

struct ReportedTokenizer {
  std::string name, path, sha256;
  int64_t vocab_size = 0;
  TokenizerMeasure measure;
};

// The first tokenizer is what the others are compared with.
ordered_json vocab_report_json(const std::vector<ReportedTokenizer>& tokenizers,
                               const std::vector<std::string>& domains, const VocabularyHost& host);
// The JSON report as Markdown tables.
std::string vocab_report_markdown(const ordered_json& report);

}  // namespace llama2zh
