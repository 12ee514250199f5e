// Pretraining rows: <s> text </s>, every id a target. A long text (a .txt file is one row) is cut
// behind newlines into segments for the threads; LLaMA's pieces never cross a newline, so that the
// ids are those of the whole text.
// Dialogues: the chat template's ids; one longer than block_size is cut as `overlong` says, always
// to a row that ends with the end of an answer. {"text": ...} among them is learnt as it is.
#include "data/row_encoder.h"

#include <algorithm>

#include "data/parallel.h"
#include "data/row_text.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

constexpr size_t kSegmentBytes = size_t{1} << 16;

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

// A part of one row's text and its ids.
struct Segment {
  size_t row;
  std::string_view text;
  bool first;
  std::vector<TokenId> ids;
  std::exception_ptr error;
};

class TextEncoder : public RowEncoder {
 public:
  TextEncoder(const DataConfig& config, const Tokenizer& tokenizer)
      : field_(config.field), tokenizer_(tokenizer), cut_(newlines_separate(tokenizer)) {}

  std::vector<EncodedRow> encode(std::vector<RawRow>& rows, const std::string& file) override {
    std::vector<EncodedRow> encoded(rows.size());
    std::vector<std::string> texts(rows.size());
    parallel_for(rows.size(), [&](size_t i) {
      try {
        texts[i] = text_of_row(rows[i], field_, file);
        rows[i].text = {};
        if (is_blank(texts[i])) texts[i].clear();
        encoded[i].characters = static_cast<int64_t>(utf8_length(texts[i]));
      } catch (...) {
        encoded[i].error = std::current_exception();
      }
    });
    std::vector<Segment> segments = cut(texts);
    parallel_for(segments.size(), [&](size_t i) {
      try {
        tokenizer_.encode_append(segments[i].text, segments[i].first, segments[i].ids);
      } catch (...) {
        segments[i].error = std::current_exception();
      }
    });
    join_segments(segments, encoded);
    return encoded;
  }

 private:
  std::vector<Segment> cut(const std::vector<std::string>& texts) const {
    std::vector<Segment> segments;
    for (size_t row = 0; row < texts.size(); ++row) {
      std::string_view rest = texts[row];
      for (bool first = true; !rest.empty(); first = false) {
        size_t size = rest.size();
        if (cut_ && size > kSegmentBytes) {
          const size_t newline = rest.find('\n', kSegmentBytes - 1);
          size = newline == std::string_view::npos ? size : newline + 1;
        }
        segments.push_back({row, rest.substr(0, size), first, {}, {}});
        rest.remove_prefix(size);
      }
    }
    return segments;
  }

  void join_segments(std::vector<Segment>& segments, std::vector<EncodedRow>& encoded) const {
    for (Segment& segment : segments) {
      EncodedRow& row = encoded[segment.row];
      if (segment.error) row.error = segment.error;
      if (segment.first) row.ids.push_back(tokenizer_.bos_id());
      row.ids.insert(row.ids.end(), segment.ids.begin(), segment.ids.end());
      segment.ids = {};
    }
    for (EncodedRow& row : encoded) {
      if (!row.ids.empty()) row.ids.push_back(tokenizer_.eos_id());
      row.supervised.assign(row.ids.size(), 1);
    }
  }

  std::string field_;
  const Tokenizer& tokenizer_;
  bool cut_;
};

class DialogueEncoder : public RowEncoder {
 public:
  DialogueEncoder(const DataConfig& config, const Tokenizer& tokenizer)
      : config_(config),
        tokenizer_(tokenizer),
        template_(ChatTemplate::get(config.chat_template)),
        block_size_(static_cast<size_t>(config.block_size)) {}

  std::vector<EncodedRow> encode(std::vector<RawRow>& rows, const std::string& file) override {
    std::vector<EncodedRow> encoded(rows.size());
    parallel_for(rows.size(), [&](size_t i) {
      try {
        encode_row(rows[i], file, encoded[i]);
      } catch (...) {
        encoded[i].error = std::current_exception();
      }
    });
    return encoded;
  }

 private:
  void encode_row(const RawRow& raw, const std::string& file, EncodedRow& row) const {
    const std::string place = row_place(raw, file);
    if (!raw.is_json) {
      fail_usage(file, "dialogues can't be read from plain text", "expected .json or .jsonl");
    }
    const json value = parse_row(raw, file);
    if (config_.format == "auto" && is_text_row(value)) return encode_text(value, place, row);
    std::vector<Message> messages = parse_dialogue(value, config_.format, place);
    if (!config_.system.empty() && messages.front().role != Role::kSystem)
      messages.insert(messages.begin(), {Role::kSystem, config_.system});
    // A question without an answer at the end has no target and nobody sees it.
    if (messages.back().role == Role::kUser) messages.pop_back();
    if (messages.empty()) fail_data(place, "the dialogue has no answer");
    for (const Message& message : messages)
      row.characters += static_cast<int64_t>(utf8_length(message.content));
    EncodedDialogue dialogue = encode_messages(messages, place);
    row.overlong = dialogue.ids.size() > block_size_;
    if (row.overlong) shorten(dialogue);
    // The first id is nobody's target.
    if (!dialogue.ids.empty() &&
        std::find(dialogue.supervised.begin() + 1, dialogue.supervised.end(), 1) ==
            dialogue.supervised.end())
      fail_data(place, "the row has no answer to learn from");
    row.ids = std::move(dialogue.ids);
    row.supervised = std::move(dialogue.supervised);
  }

  // As a pretraining row, cut to one block.
  void encode_text(const json& value, const std::string& place, EncodedRow& row) const {
    if (!value["text"].is_string())
      fail_data(place, cat("\"text\": expected a text, found ", value["text"].type_name()));
    const auto& text = value["text"].get_ref<const std::string&>();
    if (is_blank(text)) return;
    row.characters = static_cast<int64_t>(utf8_length(text));
    row.ids.push_back(tokenizer_.bos_id());
    tokenizer_.encode_append(text, /*dummy_prefix=*/true, row.ids);
    row.ids.push_back(tokenizer_.eos_id());
    row.overlong = row.ids.size() > block_size_;
    row.ids.resize(std::min(row.ids.size(), block_size_));
    row.supervised.assign(row.ids.size(), 1);
  }

  EncodedDialogue encode_messages(const std::vector<Message>& messages,
                                  const std::string& place) const {
    try {
      return template_.encode(tokenizer_, messages);
    } catch (const Error& error) {  // knows the turn, not the row
      fail_data(place, error.what());
    }
  }

  // Empties the dialogue if nothing of it can be kept.
  void shorten(EncodedDialogue& dialogue) const {
    size_t begin = 0, end = 0;
    if (config_.overlong == "keep_last") {
      begin = dialogue.ids.size() - block_size_;
      end = dialogue.ids.size();
    } else if (config_.overlong == "drop_turns") {
      for (const int64_t turn_end : dialogue.turn_ends) {
        if (static_cast<size_t>(turn_end) <= block_size_) end = static_cast<size_t>(turn_end);
      }
    }
    const auto slice = [begin, end](auto& items) {
      items.resize(end);
      items.erase(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(begin));
    };
    slice(dialogue.ids);
    slice(dialogue.supervised);
  }

  DataConfig config_;
  const Tokenizer& tokenizer_;
  const ChatTemplate& template_;
  size_t block_size_;
};

}  // namespace

std::unique_ptr<RowEncoder> RowEncoder::create(const DataConfig& config, RowKind kind,
                                               const Tokenizer& tokenizer) {
  if (kind == RowKind::kPretrain) return std::make_unique<TextEncoder>(config, tokenizer);
  return std::make_unique<DialogueEncoder>(config, tokenizer);
}

bool newlines_separate(const Tokenizer& tokenizer) {
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.piece(id).find('\n') != std::string::npos) return false;
  }
  // A normalizer that trims, joins or replaces white space shows on this text.
  const std::string_view parts[] = {" a  \n", "\n", "  b \n", " c  d"};
  std::string whole;
  std::vector<TokenId> joined;
  for (const std::string_view part : parts) {
    tokenizer.encode_append(part, whole.empty(), joined);
    whole += part;
  }
  const auto is_newline = [&](TokenId id) {
    return tokenizer.is_byte(id) && tokenizer.bytes_of(id) == "\n";
  };
  return std::count_if(joined.begin(), joined.end(), is_newline) == 3 &&
         joined == tokenizer.encode(whole);
}

}  // namespace llama2zh
