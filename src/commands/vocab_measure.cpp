// The measuring behind `vocab report` and extend-vocab's report.
#include "commands/vocab_report.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/data/datasets.h"
#include "llama2zh/model/load.h"

namespace llama2zh {
namespace {

void count_domain(const ReportedDomain& domain, const std::string& field, const std::string& option,
                  TokenizerComparison& comparison) {
  comparison.begin_domain();
  int64_t lines = 0;
  for (const std::string& file : domain.files) {
    for_each_text(file, field, [&](std::string_view text, std::string_view) {
      throw_if_stopped();
      for (size_t begin = 0; begin < text.size();) {
        const size_t end = std::min(text.find('\n', begin), text.size());
        if (end > begin) comparison.add_line(text.substr(begin, end - begin));
        lines += end > begin;
        begin = end + 1;
      }
    });
  }
  if (lines == 0)
    fail_data(join(domain.files, ", "), "it holds no text", cat(option, " needs text to measure"));
}

void measure_tokenizers(const std::vector<ReportedDomain>& domains, const std::string& field,
                        const std::string& option, std::vector<ReportedTokenizer>& reported) {
  std::vector<Tokenizer> tokenizers;
  for (const ReportedTokenizer& one : reported) tokenizers.push_back(load_tokenizer(one.path));
  std::vector<const Tokenizer*> pointers;
  for (const Tokenizer& tokenizer : tokenizers) pointers.push_back(&tokenizer);
  TokenizerComparison comparison(pointers);
  for (const ReportedDomain& domain : domains) count_domain(domain, field, option, comparison);
  std::vector<TokenizerMeasure> measures = comparison.finish();
  for (size_t i = 0; i < reported.size(); ++i) {
    reported[i].sha256 = tokenizers[i].fingerprint();
    reported[i].vocab_size = tokenizers[i].vocab_size();
    reported[i].measure = std::move(measures[i]);
  }
}

}  // namespace

VocabularyHost host_of(const LlamaConfig& config) {
  const int64_t matrices = config.tie_word_embeddings ? 1 : 2;
  return {.hidden_size = config.hidden_size,
          .tied = config.tie_word_embeddings,
          .body_parameters =
              config.parameter_count() - matrices * config.vocab_size * config.hidden_size,
          .bytes_per_parameter = config.dtype == "float32" ? 4 : 2};
}

ordered_json make_vocab_report(std::vector<ReportedTokenizer> tokenizers,
                               const std::vector<ReportedDomain>& domains, const std::string& field,
                               const VocabularyHost& host, const std::string& option) {
  measure_tokenizers(domains, field, option, tokenizers);
  std::vector<std::string> names;
  for (const ReportedDomain& domain : domains) names.push_back(domain.name);
  return vocab_report_json(tokenizers, names, host);
}

void write_vocab_report(const std::filesystem::path& folder, const ordered_json& report) {
  write_file_atomic(folder / "vocab_report.json", report.dump(2) + "\n");
  write_file_atomic(folder / "vocab_report.md", vocab_report_markdown(report));
}

}  // namespace llama2zh
