// llama2zh tokenize: ids and pieces of a text or of a file's lines.
#include <cstdio>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/lines.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/model/load.h"

namespace llama2zh {
namespace {

struct TokenizeOptions {
  std::string model;
  std::optional<std::string> text;
  std::string file;
  bool specials = false;
  bool add_bos = false;
  bool json_output = false;
  static auto options() {
    return std::tuple(
        option("model", &TokenizeOptions::model,
               "Tokenizer: a folder with tokenizer.model or a byte-level tokenizer.json, a .model "
               "or a "
               ".gguf file."),
        option("text", &TokenizeOptions::text, "Text to encode as one piece."),
        option("file", &TokenizeOptions::file, "File to encode line by line (also .gz, .zst)."),
        option("specials", &TokenizeOptions::specials,
               "Special and added tokens in the text (</s>, [PAD]) become their ids."),
        option("add_bos", &TokenizeOptions::add_bos, "Put BOS in front of each line."),
        option("json", &TokenizeOptions::json_output,
               "One object {\"ids\",\"pieces\"} a line of input."));
  }
};

void print_tokens(const Tokenizer& tokenizer, const TokenizeOptions& options,
                  const std::string& text) {
  std::vector<TokenId> ids =
      options.specials ? tokenizer.encode_with_specials(text) : tokenizer.encode(text);
  if (options.add_bos) ids.insert(ids.begin(), tokenizer.bos_id());
  std::vector<std::string> pieces;
  for (const TokenId id : ids) pieces.push_back(tokenizer.piece(id));
  if (options.json_output) {
    std::puts(ordered_json{{"ids", ids}, {"pieces", pieces}}.dump().c_str());
    return;
  }
  std::string line;
  for (size_t i = 0; i < ids.size(); ++i) line += cat(i == 0 ? "" : " ", ids[i], ":", pieces[i]);
  std::puts(line.c_str());
}

void print_file(const Tokenizer& tokenizer, const TokenizeOptions& options) {
  LineReader reader(options.file);
  std::string line;
  while (reader.next(line)) {
    if (!is_utf8(line))
      fail_data(reader.where(), "the line is not UTF-8",
                "convert the file, e.g. with iconv -f GB18030 -t UTF-8");
    print_tokens(tokenizer, options, line);
  }
}

}  // namespace

int run_tokenize(const std::vector<std::string>& args) {
  TokenizeOptions options;
  const CommandSpec spec{
      .verb = "tokenize",
      .summary = "Ids and pieces of a text, and the folder's special tokens in it.",
      .examples =
          {"llama2zh tokenize --model chinese-llama2 --text 人工智能是计算机科学的一个分支。",
           "llama2zh tokenize --model tokenizer.model --file corpus.txt --json"},

      .required = {"model"}};
  const OptionTable table = bind_options(options);
  if (parse_command_line(spec, table, args).help) return 0;
  if (options.text.has_value() == !options.file.empty())
    fail_usage("tokenize", "give either --text or --file");

  const Tokenizer tokenizer = load_tokenizer(options.model);
  if (options.text) {
    if (!is_utf8(*options.text)) fail_data("--text", "the text is not UTF-8");
    print_tokens(tokenizer, options, *options.text);
  } else {
    print_file(tokenizer, options);
  }
  return 0;
}

}  // namespace llama2zh
