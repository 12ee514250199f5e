// llama2zh train-tokenizer: a sentencepiece model of LLaMA's kind from the user's own text.
#include <cstdio>
#include <string>
#include <tuple>
#include <vector>

#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/data/datasets.h"
#include "llama2zh/tokenizer/vocabulary.h"

namespace llama2zh {
namespace {

struct TrainTokenizerOptions {
  std::vector<std::string> input;
  std::string output;
  std::string field = "text";
  int64_t vocab_size = 20000;
  std::string model_type = "bpe";
  double character_coverage = 0.9995;
  bool split_digits = true;
  int64_t max_lines = 0;
  int64_t threads = 0;
  int64_t seed = 100;
  bool overwrite = false;
  bool json_output = false;
  static auto options() {
    using T = TrainTokenizerOptions;
    return std::tuple(
        option(
            "input", &T::input,
            "Text files, folders or globs: .txt (a sentence a line), .jsonl, also .gz and .zst."),
        option("output", &T::output, "The .model file to write."),
        option("field", &T::field, "Key of the text in .jsonl files."),
        option("vocab_size", &T::vocab_size,
               "Pieces, the 3 special and 256 byte pieces among them.", between(300, 1000000)),
        option("model_type", &T::model_type, "bpe (LLaMA's kind) or unigram.",
               one_of({"bpe", "unigram"})),
        option("character_coverage", &T::character_coverage,
               "Share of the text's characters that get a piece; the rest become bytes.",
               between(0.98, 1)),
        option("split_digits", &T::split_digits, "Each digit is a piece of its own, as in LLaMA."),
        option("max_lines", &T::max_lines, "Train on a random sample of so many lines; 0: all.",
               at_least(0)),
        option("threads", &T::threads, "Threads; 0: all cores.", at_least(0)),
        option("seed", &T::seed, "Seed of the sample.", at_least(0)),
        option("overwrite", &T::overwrite, "Replace the output file if it exists."),
        option("json", &T::json_output, "Report as one JSON object."));
  }
};

}  // namespace

int run_train_tokenizer(const std::vector<std::string>& args) {
  TrainTokenizerOptions options;
  const CommandSpec spec{.verb = "train-tokenizer",
                         .summary =
                             "Trains a sentencepiece tokenizer with byte fallback: identity "
                             "normalizer, spaces kept, <unk> <s> </s> first.",
                         .examples = {"llama2zh train-tokenizer --input corpus/*.txt --vocab-size "
                                      "20000 --model-type bpe --output zh.model"},

                         .required = {"input", "output"}};
  const OptionTable table = bind_options(options);
  if (parse_command_line(spec, table, args).help) return 0;
  if (fs::exists(options.output) && !options.overwrite) {
    fail_usage(options.output, "the file exists already",
               "choose another --output or pass --overwrite");
  }

  TokenizerTraining training;
  for (const std::string& file : expand_files(options.input)) training.inputs.emplace_back(file);
  training.field = options.field;
  training.vocab_size = options.vocab_size;
  training.model_type = options.model_type;
  training.character_coverage = options.character_coverage;
  training.split_digits = options.split_digits;
  training.input_sentences = options.max_lines;
  training.threads = options.threads;
  training.seed = static_cast<uint64_t>(options.seed);
  log_info(cat("training a ", options.model_type, " tokenizer of ", options.vocab_size,
               " pieces on ", training.inputs.size(), " files"));
  train_tokenizer(training, options.output);

  const Tokenizer tokenizer = Tokenizer::load(options.output);
  if (options.json_output) {
    std::puts(ordered_json{{"output", options.output},
                           {"vocab_size", tokenizer.vocab_size()},
                           {"sha256", tokenizer.fingerprint()}}
                  .dump()
                  .c_str());
  } else {
    std::puts(cat(options.output, ": ", tokenizer.vocab_size(), " pieces, sha256 ",
                  tokenizer.fingerprint())
                  .c_str());
  }
  return 0;
}

}  // namespace llama2zh
