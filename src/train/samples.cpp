// Prompts are encoded as generate and chat do it, once, before the weights are loaded.
#include "llama2zh/train/samples.h"

#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/tokenizer/chat_template.h"
#include "train/json_lines.h"

namespace llama2zh {
namespace {

constexpr const char* kSampleKey = "train.sample_prompts";

std::vector<TokenId> encode_sample_prompt(const RunConfig& config, RowKind kind,
                                          const Tokenizer& tokenizer, const std::string& text) {
  if (kind == RowKind::kPretrain) {
    std::vector<TokenId> ids;
    if (tokenizer.starts_texts_with_bos() || text.empty())
      ids.push_back(tokenizer.bos_id());  // as the rows begin
    tokenizer.encode_append(text, /*dummy_prefix=*/true, ids);
    return ids;
  }
  std::vector<Message> messages;
  if (!config.data.system.empty()) messages.push_back({Role::kSystem, config.data.system});
  messages.push_back({Role::kUser, text});
  return ChatTemplate::get(config.data.chat_template).encode_prompt(tokenizer, messages);
}

}  // namespace

SampleWriter::SampleWriter(const RunConfig& config, RowKind kind, const Tokenizer& tokenizer,
                           const LlamaConfig& model, SampleGenerator generate)
    : file_(fs::path(config.output_dir) / "samples.jsonl"),
      tokenizer_(&tokenizer),
      generate_(std::move(generate)),
      max_new_tokens_(config.train.sample_max_new_tokens) {
  if (config.train.sample_prompts.empty()) return;
  if (config.train.sample_steps == 0 && config.train.eval_steps == 0) {
    fail_usage(kSampleKey, "they would never be answered",
               "set train.sample_steps or train.eval_steps");
  }
  if (!generate_) fail_usage(kSampleKey, "this program can't generate while it trains");
  if (kind == RowKind::kSft) stops_ = ChatTemplate::get(config.data.chat_template).stop_texts();
  for (const std::string& text : config.train.sample_prompts) {
    if (!is_utf8(text)) fail_usage(kSampleKey, "a prompt is not UTF-8");
    prompts_.push_back({text, encode_sample_prompt(config, kind, tokenizer, text)});
    const auto length = static_cast<int64_t>(prompts_.back().ids.size());
    if (length < model.context_length()) continue;
    fail_usage(kSampleKey, cat("a prompt of ", length, " tokens leaves no room in the model's ",
                               model.context_length(), " positions"));
  }
}

void SampleWriter::open(int64_t after_step) {
  if (!prompts_.empty()) keep_json_lines(file_, after_step);
}

void SampleWriter::write(const Llama& model, int64_t step, const std::function<bool()>& stop) {
  for (const Prompt& prompt : prompts_) {
    const std::string text =
        generate_(model, *tokenizer_, {prompt.ids, stops_, max_new_tokens_, stop});
    if (stop()) return;  // it may be cut short
    log_info(cat("step ", step, ": \"", prompt.text, "\" -> \"", text, "\""));
    append_json_line(file_, {{"step", step}, {"prompt", prompt.text}, {"text", text}});
  }
}

}  // namespace llama2zh
