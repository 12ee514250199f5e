#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "llama2zh/base/json.h"
#include "llama2zh/model/llama_config.h"
#include "llama2zh/tokenizer/tokenizer_comparison.h"

namespace llama2zh {

// The model that a vocabulary is weighed in; hidden_size 0: none was named.
struct VocabularyHost {
  int64_t hidden_size = 0;
  bool tied = false;
  int64_t body_parameters = 0;  // without embedding and head; 0: not known
  int64_t bytes_per_parameter = 2;
};

VocabularyHost host_of(const LlamaConfig& config);

struct ReportedTokenizer {
  std::string name, path, sha256;
  int64_t vocab_size = 0;
  TokenizerMeasure measure;
};

struct ReportedDomain {
  std::string name;
  std::vector<std::string> files;
};

// Encodes the lines of all domains with each tokenizer, loaded from its path; the first is what the
// others are compared with. kData for a domain without text, which is `option`'s.
ordered_json make_vocab_report(std::vector<ReportedTokenizer> tokenizers,
                               const std::vector<ReportedDomain>& domains, const std::string& field,
                               const VocabularyHost& host, const std::string& option);
// vocab_report.json and vocab_report.md into an existing folder.
void write_vocab_report(const std::filesystem::path& folder, const ordered_json& report);

ordered_json vocab_report_json(const std::vector<ReportedTokenizer>& tokenizers,
                               const std::vector<std::string>& domains, const VocabularyHost& host);
// The JSON report as Markdown tables.
std::string vocab_report_markdown(const ordered_json& report);

}  // namespace llama2zh
