// Training a tokenizer with sentencepiece's own trainer, fed from memory, with the settings in LLaMA's trainer_spec and
// normalizer_spec: byte fallback, identity normalization, a dummy prefix, spaces kept, digits split, pieces of spaces
// allowed, <unk> <s> </s> as 0 1 2 and no pad.
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/lines.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/tokenizer/vocabulary.h"

namespace llama2zh {
namespace {

bool is_jsonl(std::filesystem::path path) {
  if (path.extension() == ".gz" || path.extension() == ".zst") path.replace_extension();
  return path.extension() == ".jsonl";
}

// The sentences of all inputs, one at a time. An error ends the iteration and is kept: exceptions should not cross the
// library.
class TrainingSentences : public sentencepiece::SentenceIterator {
 public:
  explicit TrainingSentences(const TokenizerTraining& options) : options_(options) { Next(); }

  bool done() const override { return done_; }
  const std::string& value() const override { return sentence_; }
  sentencepiece::util::Status status() const override { return {}; }
  void Next() override {
    try {
      while (!next_sentence()) {
        if (!next_line()) {
          done_ = true;
          return;
        }
      }
    } catch (...) {
      error_ = std::current_exception();
      done_ = true;
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  // Takes the next sentence off text_: a line of it, cut between characters where it is longer than the trainer takes.
  bool next_sentence() {
    while (position_ < text_.size()) {
      const size_t end = std::min(text_.find('\n', position_), text_.size());
      const std::string_view rest = std::string_view(text_).substr(position_, end - position_);
      const auto limit = static_cast<size_t>(options_.max_sentence_bytes);
      std::string_view piece = rest;
      if (rest.size() > limit) piece = rest.substr(0, utf8_complete_prefix(rest.substr(0, limit)));
      position_ += piece.size() + (piece.size() == rest.size() ? 1 : 0);
      if (piece.ends_with('\r')) piece.remove_suffix(1);
      if (piece.empty()) continue;
      sentence_ = piece;
      return true;
    }
    return false;
  }

  bool next_line() {
    while (true) {
      if (!reader_) {
        if (input_ == options_.inputs.size()) return false;
        jsonl_ = is_jsonl(options_.inputs[input_]);
        reader_.emplace(options_.inputs[input_++]);
      }
      position_ = 0;
      if (reader_->next(text_)) break;
      reader_.reset();
    }
    if (!is_utf8(text_))
      fail_data(reader_->where(), "the line is not UTF-8", "Convert the file to UTF-8 first");
    if (jsonl_ && !trim(text_).empty()) text_ = field_of(text_);
    return true;
  }

  std::string field_of(const std::string& line) const {
    const json row = parse_json(line, reader_->where());
    const auto it = row.is_object() ? row.find(options_.field) : row.end();
    if (!row.is_object() || it == row.end() || !it->is_string()) {
      fail_data(reader_->where(), cat("the row has no text in \"", options_.field, "\""),
                "Set the field to read");
    }
    return it->get<std::string>();
  }

  const TokenizerTraining& options_;
  size_t input_ = 0;
  std::optional<LineReader> reader_;
  bool jsonl_ = false;
  std::string text_, sentence_;
  size_t position_ = 0;
  bool done_ = false;
  std::exception_ptr error_;
};

void check_options(const TokenizerTraining& options) {
  if (options.inputs.empty()) fail_usage("input", "there is no text to train on");
  if (options.model_type != "bpe" && options.model_type != "unigram") {
    fail_usage("model_type", cat("\"", options.model_type, "\", expected bpe or unigram"));
  }
  // 3 control pieces, 256 bytes and at least one more.
  if (options.vocab_size < 260 || options.vocab_size > 10'000'000) {
    fail_usage("vocab_size", cat(options.vocab_size, ", expected 260 to 10000000"));
  }
  if (!(options.character_coverage >= 0.98 && options.character_coverage <= 1)) {
    fail_usage("character_coverage", cat(options.character_coverage, ", expected 0.98 to 1"));
  }
  if (options.max_sentence_bytes < 16 || options.max_sentence_bytes > (int64_t{1} << 30)) {
    fail_usage("max_sentence_bytes", cat(options.max_sentence_bytes, ", expected 16 to 2^30"));
  }
  if (options.input_sentences < 0)
    fail_usage("input_sentences", "expected 0 (all) or a number of lines");
}

std::unordered_map<std::string, std::string> trainer_flags(const TokenizerTraining& options) {
  const auto flag = [](bool value) { return std::string(value ? "true" : "false"); };
  const int64_t cores = std::max<int64_t>(1, std::thread::hardware_concurrency());
  return {{"model_type", options.model_type},
          {"vocab_size", std::to_string(options.vocab_size)},
          {"character_coverage", cat(options.character_coverage)},
          {"split_digits", flag(options.split_digits)},
          {"num_threads", std::to_string(std::clamp<int64_t>(
                              options.threads > 0 ? options.threads : cores, 1, 128))},
          {"max_sentence_length", std::to_string(options.max_sentence_bytes)},
          {"input_sentence_size", std::to_string(options.input_sentences)},
          {"shuffle_input_sentence", flag(options.input_sentences > 0)},
          {"byte_fallback", "true"},
          {"normalization_rule_name", "identity"},
          {"add_dummy_prefix", "true"},
          {"remove_extra_whitespaces", "false"},
          {"allow_whitespace_only_pieces", "true"},
          {"unk_id", "0"},
          {"bos_id", "1"},
          {"eos_id", "2"},
          {"pad_id", "-1"},
          {"minloglevel", "2"}};
}

// Characters that get a piece each, as sentencepiece chooses them: the most frequent ones until
// they cover `character_coverage` of the text, with a "▁" before each sentence and for each space.
int64_t required_characters(const TokenizerTraining& options) {
  std::unordered_map<char32_t, int64_t> counts;
  int64_t all = 0;
  for (TrainingSentences sentences(options); !sentences.done(); sentences.Next()) {
    ++counts[U' '];
    ++all;
    for (const char32_t c : utf8_to_codepoints(sentences.value())) {
      ++counts[c];
      ++all;
    }
  }
  std::vector<int64_t> frequent;
  for (const auto& [character, count] : counts) frequent.push_back(count);
  std::sort(frequent.rbegin(), frequent.rend());
  const auto coverage = static_cast<float>(options.character_coverage);
  int64_t covered = 0, required = 0;
  for (const int64_t count : frequent) {
    if (coverage < 1 && static_cast<float>(1.0 * static_cast<double>(covered) /
                                           static_cast<double>(all)) >= coverage)
      break;
    covered += count;
    ++required;
  }
  return required;
}

[[noreturn]] void fail_training(const TokenizerTraining& options, const std::string& message) {
  constexpr std::string_view kLimit = "value <= ";  // "... Please set it to a value <= 320."
  if (const size_t at = message.find(kLimit); at != std::string::npos) {
    const size_t begin = at + kLimit.size();
    const std::string limit =
        message.substr(begin, message.find_first_not_of("0123456789", begin) - begin);
    fail_data("vocab_size",
              cat("the text gives at most ", limit, " pieces, but ", options.vocab_size,
                  " are asked for"),
              "Give more text or ask for fewer pieces");
  }
  constexpr int64_t kOtherPieces = 3 + 256;  // <unk> <s> </s> and the bytes
  const int64_t needed = kOtherPieces + required_characters(options);
  if (options.vocab_size < needed) {
    fail_data(
        "vocab_size",
        cat("is ", options.vocab_size, ", the text needs at least ", needed, ": ", kOtherPieces,
            " special and byte pieces and one for each of ", needed - kOtherPieces, " characters"),
        "Ask for more pieces or lower character_coverage");
  }
  fail_data("tokenizer training", cat("sentencepiece gave up: ", message),
            "A vocabulary must have room for 259 pieces and every character of the text (see "
            "character_coverage)");
}

}  // namespace

void train_tokenizer(const TokenizerTraining& options, const std::filesystem::path& output) {
  check_options(options);
  TrainingSentences sentences(options);
  sentences.rethrow();
  if (sentences.done()) fail_data(options.inputs.front().string(), "the input holds no text");
  sentencepiece::SetRandomGeneratorSeed(static_cast<unsigned>(options.seed));
  std::string model;
  std::string problem;
  try {
    const auto status =
        sentencepiece::SentencePieceTrainer::Train(trainer_flags(options), &sentences, &model);
    if (!status.ok()) problem = status.error_message();
  } catch (const std::exception& error) {
    problem = error.what();
  }
  sentences.rethrow();
  if (!problem.empty()) fail_training(options, problem);
  ModelProto::parse(model, output.string());  // what we write we can read
  write_file_atomic(output, model);
}

}  // namespace llama2zh
