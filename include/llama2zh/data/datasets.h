#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/data/data_config.h"
#include "llama2zh/data/token_rows.h"
#include "llama2zh/tokenizer/chat_template.h"

namespace llama2zh {

enum class RowKind { kPretrain, kSft };

struct NamedRows {
  std::string name;  // file name without extension, "train" or "validation"
  TokenRows rows;
  RowCounts counts;
};
struct Datasets {
  NamedRows train;
  std::vector<NamedRows> validation;
};

// Reads, checks and tokenises rows into memory, on data.threads threads. (Training reads stores,
// training_data.h, which hold the same rows.) Pretraining rows are "<s>" +
// text + "</s>", all supervised; blank texts are dropped. SFT rows are dialogues encoded by the
// template, cut to block_size as `overlong` says (a question without an answer at the end is left
// out); one without supervised tokens is bad. Plain text among them ({"text": ...}, format "auto")
// is encoded as a pretraining row and cut to block_size. Errors are kData/kFormat with file, line and column;
// no rows at all is an error that names the files. With skip_bad_rows, rows with a kData error are
// counted; a file that is cut off or is no array to its end stays an error. Deterministic: whether
// validation_split holds a row out depends on its text alone.
Datasets load_datasets(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer);

// Files, folders (recursively, known extensions only) and globs -> files, each once, in the order of
// the patterns and sorted within one; kUsage for a pattern without a match.
std::vector<std::string> expand_files(const std::vector<std::string>& patterns);

// Calls `row` for each text of a pretraining file: a .txt is one document (blank lines and all; \r\n
// becomes \n), JSON and JSONL one a row: a text, or a list of texts that newlines will join. `field`
// "auto" takes input or text. Errors are kData/kFormat and name file, line and, for JSON, column.
void for_each_text(const std::string& file, const std::string& field,
                   const std::function<void(std::string_view text, std::string_view where)>& row);
// One SFT row of any of the known forms as messages; kData names `where`.
// Forms: conversations (from/value or role/content; a question at the end is answered by "chosen"),
// alpaca (also with one of "instances"), query_response (also {"input", "target"}); all may have
// "system", the last two "history".
std::vector<Message> parse_dialogue(const json& row, const std::string& format,
                                    std::string_view where);

// Whether a row among dialogues is plain text, {"text": ...}: replay against forgetting.
bool is_text_row(const json& row);

// kSft if the file's first row has one of the forms of a dialogue.
RowKind guess_row_kind(const std::string& file);

}  // namespace llama2zh
