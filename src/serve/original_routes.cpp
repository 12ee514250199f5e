// The original's routes, with its defaults (original_system.md). Unlike there every field that is sent
// is used, and one that can't be is refused.
#include "serve/original_routes.h"

#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "serve/answer_fields.h"
#include "serve/answering.h"

namespace llama2zh {
namespace {

struct Defaults {
  double temperature, top_p, presence_penalty, frequency_penalty, repetition_penalty;
  int64_t max_new_tokens;
};
constexpr Defaults kGenerate{1e-6, 1, 0.2, 0.2, 1, 512};
constexpr Defaults kLlama{0, 1, 0, 0, 1.3, 512};
constexpr Defaults kQuantized{1, 0.9, 0, 0, 1.2, 512};

// `fields` with what it lacks from `defaults`.
Request request_of(const json& fields, const std::string& path, const Defaults& defaults,
                   const ServedModel& model, std::string_view text) {
  json all = fields;
  const auto set = [&all](const char* name, const json& value) {
    if (!all.contains(name) || all[name].is_null()) all[name] = value;
  };
  set("temperature", defaults.temperature);
  set("top_p", defaults.top_p);
  set("presence_penalty", defaults.presence_penalty);
  set("frequency_penalty", defaults.frequency_penalty);
  set("repetition_penalty", defaults.repetition_penalty);
  const BodyFields body(all, path);
  refuse_prompt_fields(body);
  AnswerFields read = read_answer_fields(body, model, text);
  if (read.stream) body.refuse("stream", "is not for this route; use /v1/chat/completions");
  if (read.token_ids) body.refuse("return_token_ids", "is not for this route");
  if (read.truncate != 0) body.refuse("truncate_prompt_tokens", "is not for this route");
  const int64_t most = most_new_tokens(model);
  const std::optional<int64_t> newer = body.integer("max_new_tokens", 1, most);
  read.request.sampling.max_new_tokens =
      newer ? *newer : body.integer("max_tokens", 1, most).value_or(defaults.max_new_tokens);
  if (!body.flag("do_sample").value_or(true)) read.request.sampling.temperature = 0;
  if (const auto beams = body.integer("num_beams", 1, most_answers(model)); beams && *beams > 1) {
    read.request.sampling.num_beams = *beams;
    read.request.sampling.temperature = 0;
  }
  return std::move(read.request);
}

// In the model's chat template; as it stands where the model has none.
void set_prompt(Request& request, const std::string& text, const ServedModel& model,
                const char* param) {
  model.check_size(text.size(), param);
  const ChatTemplate* chat_template = model.loaded.chat_template;
  if (chat_template == nullptr) {
    request.prompt = ids_of_text(text, model, true);
  } else {
    request.prompt = chat_template->encode_prompt(*model.loaded.tokenizer,
                                                  std::vector<Message>{{Role::kUser, text}});
    request.extra_stops = chat_template->stop_texts();
  }
  check_prompt_length(request.prompt, 1, model, param);
}

class GenerateFormat final : public AnswerFormat {
 public:
  json whole(const std::vector<RequestResult>& results) override {
    json texts = json::array();
    for (const Completion& completion : results.front().completions)
      texts.push_back(completion.text);
    return {{"generated_text", texts.size() == 1 ? texts.front() : texts},
            {"num_output_tokens_cf", results.front().generated_tokens},
            {"error", nullptr}};
  }
};

class QueryFormat final : public AnswerFormat {
 public:
  explicit QueryFormat(std::string query) : query_(std::move(query)) {}
  json whole(const std::vector<RequestResult>& results) override {
    return {{"query", query_}, {"response", results.front().completions.front().text}};
  }

 private:
  std::string query_;
};

void serve_query(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange,
                 const Defaults& defaults) {
  const json body = parse_body(exchange->request().body);
  const BodyFields fields(body);
  const std::optional<std::string> query = fields.text("query");
  if (!query) fields.refuse("query", "is missing");
  AnswerJob job;
  job.requests.push_back(request_of(body, "", defaults, model, exchange->request().body));
  if (job.requests.front().n > 1) fields.refuse("n", "can only be 1 on this route");
  set_prompt(job.requests.front(), *query, model, "query");
  job.format = std::make_unique<QueryFormat>(*query);
  answer(model, exchange, std::move(job));
}

}  // namespace

void serve_original_generate(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const BodyFields fields(body);
  std::string input = fields.text("input").value_or("");
  const std::string instruction = fields.text("instruction").value_or("");
  if (!instruction.empty()) input = input.empty() ? instruction : instruction + "\n" + input;
  if (input.empty()) fields.refuse("input", "is missing or empty");
  const json* parameters = fields.any("parameters");
  if (parameters != nullptr && !parameters->is_object())
    fields.refuse("parameters", "is no object");
  AnswerJob job;
  job.requests.push_back(request_of(parameters == nullptr ? json::object() : *parameters,
                                    "parameters.", kGenerate, model, exchange->request().body));
  set_prompt(job.requests.front(), input, model, "input");
  job.format = std::make_unique<GenerateFormat>();
  answer(model, exchange, std::move(job));
}

void serve_llama_generate(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange) {
  serve_query(model, exchange, kLlama);
}

void serve_llm_generate(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange) {
  serve_query(model, exchange, kQuantized);
}

}  // namespace llama2zh
