// Rows are read as the engine takes them, so that neither prompts nor answers of a large file are
// held in memory: at most kAhead rows for each running sequence are between reading and writing.
#include "commands/generate_rows.h"

#include <algorithm>
#include <chrono>
#include <exception>

#include "commands/inference_options.h"
#include "commands/rows_output.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/progress.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/data/json_rows.h"

namespace llama2zh {
namespace {

constexpr int64_t kAhead = 8;

std::string message_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  }
}

class RowsRun {
 public:
  RowsRun(const LoadedModel& loaded, const RowsJob& job)
      : loaded_(&loaded),
        job_(&job),
        output_(job.output, job.settings + " input " + xxh64_file(job.input), job.overwrite),
        total_(count_json_rows(job.input.string())),
        rows_(job.input.string()),
        engine_(*loaded.model, *loaded.tokenizer, job.engine, loaded.parts()),
        progress_("rows", total_, "row") {
    if (output_.written() > total_)
      fail_format(job.output.string(), "its partial file has more rows than the input");
    if (output_.written() > 0) log_info(cat("going on behind ", output_.written(), " rows"));
    resumed_ = done_ = output_.written();
    while (read_ < resumed_) next_row();
  }

  void run() {
    while (done_ < total_) {
      while (read_ < total_ && read_ - output_.written() < kAhead * job_->engine.max_running)
        submit_next();
      engine_.step();
      progress_.update(done_, rate());
      throw_if_stopped();
    }
    output_.commit();
    progress_.finish(rate());
    log_info(cat(job_->output.string(), ": ", total_, " rows",
                 failed_ > 0 ? cat(", ", failed_, " of them without an answer") : "",
                 draft_report(engine_.stats().drafted_tokens, engine_.stats().accepted_tokens)));
  }

 private:
  void next_row() {
    if (!rows_.next()) fail_io(job_->input.string(), "it became shorter while it was read");
    ++read_;
  }

  void submit_next() {
    next_row();
    const int64_t index = read_ - 1;
    const std::string where = rows_.where();
    Request request;
    try {
      const json row = rows_.row();
      request.prompt = prompt_of_row(*loaded_, job_->form, row, where);
      request.adapter = adapter_of(row, where);
      request.priority = priority_of(row, where);
      request.n = job_->answers;
      request.best_of = job_->best_of;
      request.logprobs = job_->logprobs;
      request.kind = job_->kind;
      request.constraint = job_->constraint;
      request.normalize = job_->normalize;
      request.sampling = job_->sampling;
      request.sampling.seed += index;
      request.continues = job_->form.raw;
      if (!job_->form.raw) request.extra_stops = loaded_->chat_template->stop_texts();
      engine_.submit(request, [this, index, where](const RequestEvent& event) {
        if (event.result != nullptr) finish(index, where, *event.result);
      });
    } catch (const Error& error) {
      // Of the options, not of the row: every row would fail.
      if (error.kind() == ErrorKind::kUsage && !request.prompt.empty()) throw;
      refuse(index, error.what());
    }
  }

  std::string adapter_of(const json& row, const std::string& where) const {
    if (!row.contains("adapter")) return job_->adapter;
    if (!row["adapter"].is_string()) fail_data(where, "\"adapter\": expected the name of one");
    return row["adapter"].get<std::string>();
  }

  static int64_t priority_of(const json& row, const std::string& where) {
    if (!row.contains("priority")) return 0;
    if (!row["priority"].is_number_integer())
      fail_data(where, "\"priority\": expected a whole number");
    return row["priority"].get<int64_t>();
  }

  void finish(int64_t index, const std::string& where, const RequestResult& result) {
    if (result.cancelled) return;
    if (result.error) return refuse(index, cat(where, ": ", message_of(result.error)));
    ++done_;
    if (job_->kind != RequestKind::kAnswer) {
      return output_.add(
          index,
          {{"index", index}, {"embedding", result.embedding}, {"tokens", result.prompt_tokens}});
    }
    const Completion& answer = result.completions.front();
    ordered_json row = {{"index", index},
                        {"text", answer.text},
                        {"finish_reason", answer.finish_reason},
                        {"prompt_tokens", result.prompt_tokens},
                        {"new_tokens", answer.ids.size()}};
    add_details(row, result.completions, *loaded_->tokenizer);
    output_.add(index, row);
  }

  void refuse(int64_t index, const std::string& message) {
    log_warning(message);
    output_.add(index, {{"index", index}, {"error", message}});
    ++failed_;
    ++done_;
  }

  std::string rate() const {
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start_;
    return cat(
        static_cast<int64_t>(static_cast<double>(engine_.stats().generated_tokens) / time.count()),
        " new tokens/s");
  }

  const LoadedModel* loaded_;
  const RowsJob* job_;
  RowsOutput output_;
  int64_t total_;
  JsonRows rows_;
  Engine engine_;
  Progress progress_;
  int64_t read_ = 0, done_ = 0, resumed_ = 0, failed_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

std::string answer_settings(const OptionTable& table) {
  ordered_json values;
  for (const OptionEntry& entry : table) {
    static const std::vector<std::string> kOthers = {
        "input",       "output",          "overwrite",    "json",
        "max_running", "max_step_tokens", "kv_cache_gib", "prefix_cache"};
    if (std::find(kOthers.begin(), kOthers.end(), entry.key) == kOthers.end())
      values[entry.key] = entry.get();
  }
  return values.dump();
}

namespace {

ordered_json logprobs_of(const Completion& answer, const Tokenizer& tokenizer) {
  ordered_json tokens = ordered_json::array();
  const auto named = [&](TokenId id, double logprob) {
    return ordered_json{
        {"id", id}, {"token", utf8_sanitize(tokenizer.piece(id))}, {"logprob", logprob}};
  };
  for (const SampledToken& token : answer.tokens) {
    ordered_json one = named(token.id, token.logprob);
    one["top"] = ordered_json::array();
    for (const TokenLogprob& top : token.top) one["top"].push_back(named(top.id, top.logprob));
    tokens.push_back(std::move(one));
  }
  return tokens;
}

}  // namespace

void add_details(ordered_json& object, const std::vector<Completion>& completions,
                 const Tokenizer& tokenizer) {
  const bool several = completions.size() > 1;
  if (several) {
    object["texts"] = ordered_json::array();
    for (const Completion& one : completions) object["texts"].push_back(one.text);
  }
  const bool asked = std::any_of(completions.begin(), completions.end(),
                                 [](const Completion& one) { return !one.tokens.empty(); });
  if (!asked) return;
  if (!several) {
    object["logprobs"] = logprobs_of(completions.front(), tokenizer);
    return;
  }
  object["logprobs"] = ordered_json::array();
  for (const Completion& one : completions)
    object["logprobs"].push_back(logprobs_of(one, tokenizer));
}

RowsJob rows_job(const AnswerOptions& options, const SamplingConfig& sampling,
                 const EngineConfig& engine, const OptionTable& table) {
  RowsJob job{options.input, options.output, options.overwrite, options.form(), sampling, engine};
  job.adapter = options.use_adapter;
  job.settings = answer_settings(table);
  return job;
}

void generate_rows(const LoadedModel& loaded, const RowsJob& job) { RowsRun(loaded, job).run(); }

}  // namespace llama2zh
