// POST /v1/completions (formats.md 5.5). Where a prompt's own log-probabilities are asked for (echo
// with logprobs, as evaluation harnesses do), a scoring request goes beside the answering one.
#include "serve/completion_route.h"

#include <map>
#include <utility>

#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "serve/answer_fields.h"
#include "serve/answer_texts.h"
#include "serve/answering.h"
#include "serve/api_error.h"

namespace llama2zh {
namespace {

// What one prompt asks for: its engine requests are scores and answers, where there are any.
struct Prompt {
  std::string text;  // as echo says it
  std::vector<TokenId> ids;
  int64_t score = -1, answers = -1;  // places in the job's requests
};

class CompletionFormat final : public AnswerFormat {
 public:
  CompletionFormat(const ServedModel& model, std::string name, std::vector<Prompt> prompts,
                   AnswerFields asked, bool echo, bool logprobs)
      : tokenizer_(model.loaded.tokenizer.get()),
        asked_(std::move(asked)),
        id_(answer_id("cmpl-", asked_.request_id)),
        name_(std::move(name)),
        prompts_(std::move(prompts)),
        n_(asked_.request.n),
        echo_(echo),
        logprobs_(logprobs) {}

  json whole(const std::vector<RequestResult>& results) override {
    json choices = json::array();
    for (size_t p = 0; p < prompts_.size(); ++p) {
      const Prompt& prompt = prompts_[p];
      for (int64_t k = 0; k < n_; ++k) {
        Completion nothing;
        nothing.finish_reason = "length";
        const Completion& completion =
            prompt.answers < 0
                ? nothing
                : results[static_cast<size_t>(prompt.answers)].completions[static_cast<size_t>(k)];
        std::vector<SampledToken> tokens;
        if (prompt.score >= 0) tokens = results[static_cast<size_t>(prompt.score)].prompt_scores;
        const size_t of_prompt = tokens.size();
        tokens.insert(tokens.end(), completion.tokens.begin(), completion.tokens.end());
        choices.push_back({{"index", static_cast<int64_t>(p) * n_ + k},
                           {"text", (echo_ ? prompt.text : "") + completion.text},
                           {"logprobs", logprobs_ ? logprobs_of(tokens, of_prompt > 0, 0) : json()},
                           {"finish_reason", finish_reason_of(completion.finish_reason)},
                           {"stop_reason", stop_reason_of(completion, asked_.request.sampling)}});
        if (!asked_.token_ids) continue;
        choices.back()["prompt_token_ids"] = prompt.ids;
        choices.back()["token_ids"] = all_ids(completion);
      }
    }
    json out = head();
    out["choices"] = std::move(choices);
    out["usage"] = usage(results);
    return out;
  }

  json opening(size_t request, int64_t answer) override {
    const Prompt& prompt = prompts_[request];
    const bool echoes = echo_ && !prompt.text.empty();
    if (!echoes && !asked_.token_ids) return nullptr;
    json out = chunk(request, answer, echoes ? prompt.text : "", nullptr, nullptr);
    if (asked_.token_ids) out["choices"][0]["prompt_token_ids"] = prompt.ids;
    return out;
  }

  json piece(size_t request, const RequestEvent& event) override {
    const bool has_token = event.token != nullptr;
    made_[{request, event.index}] += has_token ? 1 : 0;
    const bool tells_token = has_token && (logprobs_ || asked_.token_ids);
    if (event.text.empty() && event.finish_reason.empty() && !tells_token) return nullptr;
    json logprobs = nullptr;
    int64_t& offset = offsets_[{request, event.index}];
    if (has_token && logprobs_) logprobs = logprobs_of({*event.token}, false, offset);
    offset += static_cast<int64_t>(utf8_length(event.text));
    json out = chunk(request, event.index, event.text, std::move(logprobs),
                     finish_reason_of(event.finish_reason));
    add_event_details(out["choices"][0], event, asked_);
    return out;
  }

  json summary(const std::vector<RequestResult>& results) override {
    if (!asked_.include_usage) return nullptr;
    json out = head();
    out["choices"] = json::array();
    out["usage"] = usage(results);
    return out;
  }

 private:
  json head() const {
    return {{"id", id_},
            {"object", "text_completion"},
            {"created", created_},
            {"model", name_},
            {"system_fingerprint", nullptr}};
  }
  // A prompt with a score beside its answer is one prompt.
  json usage(const std::vector<RequestResult>& results) const {
    std::vector<RequestResult> counted;
    for (const Prompt& prompt : prompts_)
      counted.push_back(
          results[static_cast<size_t>(prompt.answers < 0 ? prompt.score : prompt.answers)]);
    return usage_of(counted);
  }
  json chunk(size_t request, int64_t answer, const std::string& text, json logprobs,
             json finish_reason) {
    json out = head();
    out["choices"] = json::array({{{"index", static_cast<int64_t>(request) * n_ + answer},
                                   {"text", text},
                                   {"logprobs", std::move(logprobs)},
                                   {"finish_reason", std::move(finish_reason)}}});
    if (asked_.continuous_usage)
      out["usage"] = usage_so_far(std::ssize(prompts_[request].ids), made_[{request, answer}]);
    else if (asked_.include_usage)
      out["usage"] = nullptr;
    return out;
  }
  // `from_start`: the first token has nothing before it, so its logprob is null. Offsets count
  // characters.
  json logprobs_of(const std::vector<SampledToken>& tokens, bool from_start, int64_t offset) const {
    json out = {{"tokens", json::array()},
                {"token_logprobs", json::array()},
                {"top_logprobs", json::array()},
                {"text_offset", json::array()}};
    for (size_t i = 0; i < tokens.size(); ++i) {
      const std::string text = token_text(*tokenizer_, tokens[i].id);
      const bool unknown = from_start && i == 0;
      out["tokens"].push_back(text);
      out["token_logprobs"].push_back(unknown ? json() : json(shown_logprob(tokens[i].logprob)));
      json top = unknown ? json() : json::object();
      if (!unknown) {
        for (const TokenLogprob& one : tokens[i].top) {
          // Byte tokens may look alike: the likeliest of them stays.
          const std::string name = token_text(*tokenizer_, one.id);
          if (!top.contains(name)) top[name] = shown_logprob(one.logprob);
        }
        if (!top.contains(text)) top[text] = shown_logprob(tokens[i].logprob);
      }
      out["top_logprobs"].push_back(std::move(top));
      out["text_offset"].push_back(offset);
      // BOS and its like have a name and no text.
      if (!tokenizer_->bytes_of(tokens[i].id).empty())
        offset += static_cast<int64_t>(utf8_length(text));
    }
    return out;
  }

  const Tokenizer* tokenizer_;
  AnswerFields asked_;
  std::string id_, name_;
  int64_t created_ = unix_seconds();
  std::vector<Prompt> prompts_;
  int64_t n_;
  bool echo_, logprobs_;
  std::map<std::pair<size_t, int64_t>, int64_t> offsets_, made_;  // of each answer so far
};

bool is_list_of(const json& value, bool (json::*is)() const noexcept) {
  if (!value.is_array() || value.empty()) return false;
  for (const json& entry : value)
    if (!(entry.*is)()) return false;
  return true;
}

}  // namespace

std::vector<std::vector<TokenId>> prompts_of(const json& value, const char* name,
                                             const ServedModel& model,
                                             std::vector<std::string>* texts) {
  std::vector<std::vector<TokenId>> out;
  const auto add_text = [&](const json& text) {
    out.push_back(ids_of_text(text.get<std::string>(), model, true));
    if (texts != nullptr) texts->push_back(text.get<std::string>());
  };
  const auto add_ids = [&](const json& ids) {
    out.push_back(checked_ids(ids.get<std::vector<int64_t>>(), model, name));
    if (texts != nullptr) texts->push_back(model.loaded.tokenizer->decode(out.back()));
  };
  if (static_cast<int64_t>(value.size()) > model.config.max_prompts && value.is_array() &&
      !value.front().is_number())
    refuse_field(name, cat(name, " has ", value.size(), " texts, expected at most ",
                           model.config.max_prompts));
  if (value.is_string()) {
    add_text(value);
  } else if (is_list_of(value, &json::is_string)) {
    for (const json& text : value) add_text(text);
  } else if (is_list_of(value, &json::is_number_integer)) {
    add_ids(value);
  } else if (is_list_of(value, &json::is_array)) {
    for (const json& ids : value) {
      if (!is_list_of(ids, &json::is_number_integer))
        refuse_field(name, cat(name, " has ", shown(ids), ", expected a list of token ids"));
      add_ids(ids);
    }
  } else {
    refuse_field(name, cat(name, " is ", shown(value),
                           ", expected a text, a list of texts, token ids, or lists of token ids"));
  }
  return out;
}

void serve_completions(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const BodyFields fields(body);
  const AnswerFields read = read_answer_fields(fields, model, exchange->request().body);
  const bool echo = fields.flag("echo").value_or(false);
  const int64_t logprobs = fields.integer("logprobs", 0, 20).value_or(-1);
  const int64_t max_tokens =
      fields.integer("max_tokens", echo ? 0 : 1, most_new_tokens(model)).value_or(16);
  const json* asked = fields.any("prompt");
  if (asked == nullptr) fields.refuse("prompt", "is missing");
  std::vector<std::string> texts;
  std::vector<std::vector<TokenId>> prompts = prompts_of(*asked, "prompt", model, &texts);
  const bool scores = echo && logprobs >= 0;
  if (echo && read.truncate != 0)
    fields.refuse("truncate_prompt_tokens", "does not go with echo on this server");
  if (read.stream && scores)
    fields.refuse("echo", "with logprobs does not go with stream on this server");

  if (read.stream && max_tokens == 0)
    fields.refuse("max_tokens", "can't be 0 with stream: there would be nothing to stream");
  if (!fields.flag("add_special_tokens").value_or(true))
    fields.refuse("add_special_tokens", "can only be true for texts; send token ids without BOS");

  AnswerJob job;
  job.stream = read.stream;
  std::vector<Prompt> kept;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const int64_t room = max_tokens > 0 ? 1 : 0;
    truncate_prompt(prompts[i], read.truncate, room, model);
    check_prompt_length(prompts[i], room, model, "prompt");
    Prompt prompt{texts[i], prompts[i]};
    Request request = read.request;
    request.prompt = prompts[i];
    request.continues = true;
    request.logprobs = logprobs;
    if (scores || max_tokens == 0) {
      Request score;
      score.prompt = request.prompt;
      score.kind = RequestKind::kScore;
      score.adapter = request.adapter;
      score.logprobs = logprobs;
      prompt.score = std::ssize(job.requests);
      job.requests.push_back(std::move(score));
    }
    if (max_tokens > 0) {
      request.sampling.max_new_tokens = max_tokens;
      prompt.answers = std::ssize(job.requests);
      job.requests.push_back(std::move(request));
    }
    kept.push_back(std::move(prompt));
  }
  job.format = std::make_unique<CompletionFormat>(model, fields.text("model").value_or(model.name),
                                                  std::move(kept), read, echo, logprobs >= 0);
  answer(model, exchange, std::move(job));
}

}  // namespace llama2zh
