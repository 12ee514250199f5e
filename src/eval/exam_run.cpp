// Questions become probes: prompts whose next token is looked at, or an answer that is generated. All
// of them go through one engine; before a subject's first question a probe of its own leaves the shots
// in the prefix cache, for prompts that are computed side by side could not use them.
#include "llama2zh/eval/exam_run.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <memory>

#include "llama2zh/base/error.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/engine/conversation.h"
#include "llama2zh/eval/answer_extraction.h"

namespace llama2zh {
namespace {

constexpr int64_t kAheadOfEngine = 4;  // requests that wait, for each that runs

struct Probe {
  std::vector<TokenId> prompt, next;
  std::vector<size_t> letter;  // that each of `next` counts for
};

// The harness's: log-likelihood of " A" behind the text. What those two texts make together is encoded
// and cut where the text alone ends (TemplateLM._encode_pair()); a letter of several tokens has a probe
// for each. The model sees `context` tokens, and the last token is only predicted.
std::vector<Probe> harness_probes(const Tokenizer& tokenizer, const std::string& text,
                                  const std::vector<TokenId>& ids, int64_t context, bool& cut) {
  std::vector<Probe> probes;
  for (size_t letter = 0; letter < 4; ++letter) {
    const std::vector<TokenId> whole =
        raw_prompt(tokenizer, cat(text, " ", static_cast<char>('A' + letter)));
    if (whole.size() <= ids.size())
      fail_data("prompt", "the tokenizer merges the answer with the prompt",
                "the harness can't score it either; take --prompt official");
    std::vector<TokenId> all = ids;
    all.insert(all.end(), whole.begin() + std::ssize(ids), whole.end());
    const int64_t begin = std::max<int64_t>(0, std::ssize(all) - context - 1);
    cut = cut || begin > 0;
    for (size_t end = ids.size(); end < all.size(); ++end) {
      const std::vector<TokenId> prompt(all.begin() + begin,
                                        all.begin() + static_cast<std::ptrdiff_t>(end));
      auto same = std::find_if(probes.begin(), probes.end(),
                               [&](const Probe& probe) { return probe.prompt == prompt; });
      if (same == probes.end()) same = probes.insert(probes.end(), Probe{prompt, {}, {}});
      same->next.push_back(all[end]);
      same->letter.push_back(letter);
    }
  }
  return probes;
}

class ExamRunner {
 public:
  ExamRunner(const LoadedModel& loaded, const std::vector<ExamSubject>& subjects,
             const ExamOptions& options, const EngineConfig& engine)
      : loaded_(&loaded),
        subjects_(&subjects),
        options_(&options),
        most_(kAheadOfEngine * engine.max_running),
        context_(loaded.model->config.context_length()),
        engine_(*loaded.model, *loaded.tokenizer, engine, loaded.parts()) {
    for (const ExamSubject& subject : subjects) run_.answers.emplace_back(subject.questions.size());
    if (options.extract || options.protocol.harness) return;
    const bool ceval = options.protocol.suite == ExamSuite::kCeval;
    const std::string own = options.chat != nullptr ? "both" : ceval ? "word" : "bare";
    letters_ = letter_tokens(*loaded.tokenizer, options.letters == "auto" ? own : options.letters);
  }

  using OnAnswer = std::function<void(const ExamSubject&, const ExamQuestion&, const ExamAnswer&)>;

  ExamRun run(const OnAnswer& on_answer) {
    on_answer_ = &on_answer;
    const auto start = std::chrono::steady_clock::now();
    std::string hashes;
    for (size_t s = 0; s < subjects_->size(); ++s) {
      for (size_t q = 0; q < (*subjects_)[s].questions.size(); ++q) hashes += put(s, q);
    }
    while (outstanding_ > 0) step();
    run_.prompts_sha256 = sha256_hex(hashes);
    const EngineStats stats = engine_.stats();
    run_.computed_tokens = stats.prompt_tokens;
    run_.cached_tokens = stats.cached_prompt_tokens;
    run_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return std::move(run_);
  }

 private:
  void step() {
    throw_if_stopped();
    engine_.step();
    if (error_) std::rethrow_exception(error_);
  }

  // Tokens that a prompt may have; an answer gets half of the context at most.
  int64_t room() const {
    return options_->extract ? context_ - std::min(options_->max_new_tokens, context_ / 2)
                             : context_;
  }

  // Submits question q of subject s; the hash of its prompt.
  std::string put(size_t s, size_t q) {
    const ExamSubject& subject = (*subjects_)[s];
    FittedExam fitted =
        fit_exam(*loaded_->tokenizer, *options_, subject, subject.questions[q], room());
    ExamAnswer& answer = run_.answers[s][q];
    answer.prompt_tokens = std::ssize(fitted.ids);
    answer.dropped_shots = fitted.dropped_shots;
    answer.cut = fitted.cut;
    std::vector<Probe> probes;
    if (options_->protocol.harness)
      probes = harness_probes(*loaded_->tokenizer, fitted.text, fitted.ids, context_, answer.cut);
    else
      probes.push_back({fitted.ids, letters_, {0, 1, 2, 3, 0, 1, 2, 3}});
    if (q == 0 && !subject.shots.empty() && subject.questions.size() > 1)
      keep_in_cache(probes.front().prompt);
    while (outstanding_ >= most_) step();
    auto left = std::make_shared<size_t>(probes.size());
    for (Probe& probe : probes) submit(s, q, std::move(probe), left);
    return sha256_hex(fitted.text);
  }

  void keep_in_cache(const std::vector<TokenId>& prompt) {
    Request request;
    request.prompt = prompt;
    request.kind = RequestKind::kLastEmbedding;
    bool done = false;
    engine_.submit(std::move(request), [&done, this](const RequestEvent& event) {
      if (event.result == nullptr) return;
      done = true;
      if (event.result->error) error_ = event.result->error;
    });
    while (!done) step();
  }

  void submit(size_t s, size_t q, Probe probe, const std::shared_ptr<size_t>& left) {
    Request request;
    request.prompt = std::move(probe.prompt);
    if (options_->extract) {
      request.continues = options_->chat == nullptr;
      request.sampling.temperature = 0;
      request.sampling.max_new_tokens = options_->max_new_tokens;
      if (options_->chat != nullptr)
        request.extra_stops = options_->chat->stop_texts();
      else
        request.extra_stops = {options_->protocol.cot ? "让我们一步一步思考" : "\n\n"};
    } else {
      request.kind = RequestKind::kNextToken;
      request.next_ids = std::move(probe.next);
    }
    ++outstanding_;
    engine_.submit(std::move(request),
                   [this, s, q, left, letter = std::move(probe.letter)](const RequestEvent& event) {
                     if (event.result == nullptr) return;
                     --outstanding_;
                     if (event.result->error) {
                       error_ = event.result->error;
                       return;
                     }
                     take(s, q, *event.result, letter);
                     if (--*left == 0) finish(s, q);
                   });
  }

  void take(size_t s, size_t q, const RequestResult& result, const std::vector<size_t>& letter) {
    ExamAnswer& answer = run_.answers[s][q];
    if (options_->extract) answer.response = result.completions.front().text;
    for (size_t i = 0; i < result.next_scores.size(); ++i)
      answer.scores[letter[i]] += result.next_scores[i].logprob;
  }

  void finish(size_t s, size_t q) {
    const ExamSubject& subject = (*subjects_)[s];
    const ExamQuestion& question = subject.questions[q];
    ExamAnswer& answer = run_.answers[s][q];
    if (options_->extract) {
      const ExamSuite suite = options_->protocol.suite;
      answer.choice = extract_answer(suite, trim(answer.response), question.choices);
      if (answer.choice == 0 && suite == ExamSuite::kCmmlu) {
        answer.choice = static_cast<char>(
            'A' +
            xxh64(cat(subject.name, "/", question.id), static_cast<uint64_t>(options_->seed)) % 4);
        answer.guessed = true;
      }
    } else {
      const auto best = std::max_element(answer.scores.begin(), answer.scores.end());
      answer.choice = static_cast<char>('A' + (best - answer.scores.begin()));
    }
    if (*on_answer_) (*on_answer_)(subject, question, answer);
  }

  const LoadedModel* loaded_;
  const std::vector<ExamSubject>* subjects_;
  const ExamOptions* options_;
  const OnAnswer* on_answer_ = nullptr;
  int64_t most_, context_, outstanding_ = 0;
  std::vector<TokenId> letters_;
  ExamRun run_;
  std::exception_ptr error_;
  Engine engine_;
};

}  // namespace

ExamRun run_exam(const LoadedModel& loaded, const std::vector<ExamSubject>& subjects,
                 const ExamOptions& options, const EngineConfig& engine,
                 const std::function<void(const ExamSubject&, const ExamQuestion&,
                                          const ExamAnswer&)>& on_answer) {
  return ExamRunner(loaded, subjects, options, engine).run(on_answer);
}

}  // namespace llama2zh
