// Pretraining rows: <s> text </s>, every id a target. A long text (a .txt file is one row) is cut
// behind newlines into parts for the threads and segments for the cache; LLaMA's pieces never cross a
// newline, so that the ids are those of the whole text.
// Dialogues: the chat template's ids; one longer than block_size is cut as `overlong` says, always
// to a row that ends with the end of an answer. {"text": ...} among them is learnt as it is.
#include "data/row_encoder.h"

#include <algorithm>

#include "data/row_text.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "llama2zh/data/preference_rows.h"

namespace llama2zh {
namespace {

constexpr size_t kSegmentBytes = size_t{1} << 16;
constexpr size_t kPartBytes = size_t{1} << 18;

// min_characters and max_characters; 0 is no limit.
class LengthFilter {
 public:
  explicit LengthFilter(const DataConfig& config)
      : low_(config.min_characters), high_(config.max_characters) {}
  bool refuses(int64_t characters) const {
    return characters < low_ || (high_ > 0 && characters > high_);
  }

 private:
  int64_t low_, high_;
};

class TextEncoder : public RowEncoder {
 public:
  TextEncoder(const DataConfig& config, const Tokenizer& tokenizer)
      : config_(config),
        filter_(config),
        tokenizer_(tokenizer),
        cut_(newlines_separate(tokenizer)) {}

  TextOptions text_options() const override {
    // The length of a text must be known before any of it is used.
    const bool parts = cut_ && config_.max_characters == 0;
    return {parse_text_documents(config_.txt_documents),
            parts ? std::max(kPartBytes, 4 * static_cast<size_t>(config_.min_characters)) : 0};
  }

  EncodedRow encode(RawRow& raw, const std::string& file) const override {
    EncodedRow row;
    row.begins = raw.begins;
    row.ends = raw.ends;
    try {
      const std::string text = text_of_row(raw, config_.field, file);
      if (row.begins && is_blank(text)) return row;
      row.characters = static_cast<int64_t>(utf8_length(text));
      row.filtered = row.begins && row.ends && filter_.refuses(row.characters);
      if (row.filtered) return row;
      row.hash = row.begins ? xxh64(text) : 0;
      append_text(text, row_place(raw, file), row);
    } catch (const Error&) {
      row.ids.clear();
      row.error = std::current_exception();
    }
    return row;
  }

 private:
  void append_text(std::string_view rest, const std::string& place, EncodedRow& row) const {
    row.ids.reserve(rest.size() / 3);
    if (row.begins && tokenizer_.starts_texts_with_bos()) row.ids.push_back(tokenizer_.bos_id());
    for (bool first = row.begins; !rest.empty(); first = false) {
      size_t size = rest.size();
      if (cut_ && size > kSegmentBytes) {
        const size_t newline = rest.find('\n', kSegmentBytes - 1);
        size = newline == std::string_view::npos ? size : newline + 1;
      }
      try {
        tokenizer_.encode_append(rest.substr(0, size), first, row.ids);
      } catch (const Error& error) {  // knows the text, not the row
        fail_data(place, error.what());
      }
      rest.remove_prefix(size);
    }
    if (row.ends) row.ids.push_back(tokenizer_.eos_id());
    row.full_length = static_cast<int64_t>(row.ids.size());
  }

  DataConfig config_;
  LengthFilter filter_;
  const Tokenizer& tokenizer_;
  bool cut_;
};

class DialogueEncoder : public RowEncoder {
 public:
  DialogueEncoder(const DataConfig& config, const Tokenizer& tokenizer)
      : config_(config),
        filter_(config),
        tokenizer_(tokenizer),
        template_(ChatTemplate::get(config.chat_template)),
        block_size_(static_cast<size_t>(config.block_size)) {}

  EncodedRow encode(RawRow& raw, const std::string& file) const override {
    if (!raw.is_json) {
      fail_usage(file, "dialogues can't be read from plain text", "expected .json or .jsonl");
    }
    EncodedRow row;
    try {
      encode_row(raw, file, row);
    } catch (const Error&) {
      row.error = std::current_exception();
      row.ids.clear();
    }
    raw.text = {};
    return row;
  }

 private:
  void encode_row(const RawRow& raw, const std::string& file, EncodedRow& row) const {
    const std::string place = row_place(raw, file);
    const json value = parse_row(raw, file);
    if (config_.format == "preference") return encode_pair(value, place, row);
    if (config_.format == "auto" && is_text_row(value)) return encode_text(value, place, row);
    std::vector<Message> messages = parse_dialogue(value, config_.format, place);
    if (!config_.system.empty() && messages.front().role != Role::kSystem)
      messages.insert(messages.begin(), {Role::kSystem, config_.system});
    // A question without an answer at the end has no target and nobody sees it.
    if (messages.back().role == Role::kUser) messages.pop_back();
    if (messages.empty()) fail_data(place, "the dialogue has no answer");
    for (const Message& message : messages) {
      row.characters += static_cast<int64_t>(utf8_length(message.content));
      row.hash = xxh64(message.content, row.hash + static_cast<uint64_t>(message.role));
    }
    row.filtered = filter_.refuses(row.characters);
    if (row.filtered) return;
    EncodedDialogue dialogue = encode_messages(messages, place);
    row.full_length = static_cast<int64_t>(dialogue.ids.size());
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

  void encode_pair(const json& value, const std::string& place, EncodedRow& row) const {
    PreferencePair pair = parse_preference(value, place);
    if (!config_.system.empty() && pair.dialogue.front().role != Role::kSystem)
      pair.dialogue.insert(pair.dialogue.begin(), {Role::kSystem, config_.system});
    for (const Message& message : pair.dialogue) {
      row.characters += static_cast<int64_t>(utf8_length(message.content));
      row.hash = xxh64(message.content, row.hash + static_cast<uint64_t>(message.role));
    }
    for (const std::string* answer : {&pair.chosen, &pair.rejected}) {
      row.characters += static_cast<int64_t>(utf8_length(*answer));
      row.hash = xxh64(*answer, row.hash);
    }
    row.filtered = filter_.refuses(row.characters);
    if (row.filtered) return;
    EncodedPair encoded =
        encode_preference(pair, template_, tokenizer_, config_.block_size, config_.overlong, place);
    row.full_length = encoded.full_length;
    row.overlong = encoded.overlong;
    row.ids = std::move(encoded.ids);
    row.supervised = std::move(encoded.supervised);
  }

  // As a pretraining row, cut to one block.
  void encode_text(const json& value, const std::string& place, EncodedRow& row) const {
    if (!value["text"].is_string())
      fail_data(place, cat("\"text\": expected a text, found ", value["text"].type_name()));
    const auto& text = value["text"].get_ref<const std::string&>();
    if (is_blank(text)) return;
    row.characters = static_cast<int64_t>(utf8_length(text));
    row.filtered = filter_.refuses(row.characters);
    if (row.filtered) return;
    row.hash = xxh64(text);
    if (tokenizer_.starts_texts_with_bos()) row.ids.push_back(tokenizer_.bos_id());
    tokenizer_.encode_append(text, /*dummy_prefix=*/true, row.ids);
    row.ids.push_back(tokenizer_.eos_id());
    row.full_length = static_cast<int64_t>(row.ids.size());
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
  LengthFilter filter_;
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
