// What two models make of one text: each by itself and, of one vocabulary, place by place.
#include "commands/compare_texts.h"

#include <vector>

#include "llama2zh/base/error.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/data/datasets.h"
#include "llama2zh/eval/compare_models.h"
#include "llama2zh/eval/perplexity.h"

namespace llama2zh {
namespace {

// The file's texts, joined by newlines, up to so many characters.
std::string text_of(const std::string& file, const ComparedTextRule& rule) {
  std::string all;
  for_each_text(file, rule.field, [&](std::string_view text, std::string_view) {
    if (rule.characters > 0 && static_cast<int64_t>(all.size()) > 4 * rule.characters) return;
    if (!all.empty()) all += '\n';
    all += text;
  });
  if (rule.characters == 0) return all;
  size_t end = 0;
  for (int64_t count = 0; end < all.size(); ++end) {
    const bool begins = (static_cast<unsigned char>(all[end]) & 0xC0) != 0x80;
    if (begins && ++count > rule.characters) break;
  }
  return all.substr(0, end);
}

ordered_json measured(const LoadedModel& loaded, const std::string& text, int64_t window,
                      const std::string& label) {
  Progress progress(label, 0, "tokens");
  int64_t done = 0;
  const PerplexityResult result =
      measure_perplexity(*loaded.model, *loaded.tokenizer, text,
                         {PerplexityProtocol::kWindows, window, window}, [&](int64_t tokens) {
                           throw_if_stopped();
                           progress.update(done += tokens);
                         });
  progress.finish();
  return {{"tokens", result.tokens},
          {"characters", result.characters},
          {"perplexity", result.perplexity()},
          {"perplexity_standard_error", result.perplexity_error()},
          {"bits_per_character", result.bits_per_character()},
          {"bits_per_character_standard_error", result.bits_per_character_error()}};
}

ordered_json distance_of(const LoadedModel& a, const LoadedModel& b, const std::string& text,
                         int64_t window, const std::string& label) {
  const std::vector<TokenId> ids = a.tokenizer->encode(text);
  Progress progress(label, static_cast<int64_t>(ids.size()), "tokens");
  int64_t done = 0;
  const ModelDistance distance =
      compare_models(*a.model, *b.model, a.tokenizer->bos_id(), ids, window,
                     [&](int64_t tokens) { progress.update(done += tokens); });
  progress.finish();
  return {{"tokens", distance.positions},
          {"nll_difference", distance.nll_difference()},
          {"nll_difference_standard_error", distance.nll_difference_error()},
          {"kl_divergence", distance.mean_kl()},
          {"kl_divergence_standard_error", distance.kl_error()},
          {"top1_agreement", distance.top1_agreement()},
          {"top1_agreement_standard_error", distance.top1_error()},
          {"max_logit_difference", distance.max_logit_difference}};
}

}  // namespace

ordered_json compare_on_text(const LoadedModel& a, const LoadedModel& b, const std::string& file,
                             const ComparedTextRule& rule) {
  const std::string text = text_of(file, rule);
  if (text.empty()) fail_data(file, "it holds no text to measure");
  const int64_t window = rule.window;
  ordered_json row = {{"file", file}, {"window", window}};
  row["a"] = measured(a, text, window, "A on " + file);
  row["b"] = measured(b, text, window, "B on " + file);
  const bool comparable = a.tokenizer->fingerprint() == b.tokenizer->fingerprint() &&
                          a.model->config.vocab_size == b.model->config.vocab_size;
  row["distance"] =
      comparable ? distance_of(a, b, text, window, "distance on " + file) : ordered_json(nullptr);
  return row;
}

}  // namespace llama2zh
