// JSON through nlohmann's SAX parser, which is iterative, into a value that is built here: so depth
// and duplicate keys are refused while reading (RFC 8259, section 4: names should be unique), and
// the position of each event is known from the iterator that feeds the parser.
#include "llama2zh/base/json.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <unordered_set>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

constexpr uint64_t kMaxJsonBytes = uint64_t{1} << 30;

std::string json_place(std::string_view where, std::string_view text, size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t newline = before.rfind('\n');
  const std::string_view same_line =
      newline == std::string_view::npos ? before : before.substr(newline + 1);
  return cat(where, ":", line, ":", utf8_length(same_line) + 1);
}

// Feeds the parser and writes down how far it has read.
class TrackedIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  TrackedIterator(const char* at, const char** read_to) : at_(at), read_to_(read_to) {}
  const char& operator*() const { return *at_; }
  TrackedIterator& operator++() {
    *read_to_ = ++at_;
    return *this;
  }
  TrackedIterator operator++(int) {
    TrackedIterator old = *this;
    ++*this;
    return old;
  }
  bool operator==(const TrackedIterator& other) const { return at_ == other.at_; }
  bool operator!=(const TrackedIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** read_to_;
};

template <typename Json>
class JsonBuilder {
 public:
  JsonBuilder(std::string_view text, std::string_view where, const JsonLimits& limits,
              KeyLines* lines)
      : text_(text), where_(where), limits_(limits), lines_(lines), read_to_(text.data()) {}

  Json build() {
    const char* end = text_.data() + text_.size();
    Json::sax_parse(TrackedIterator(text_.data(), &read_to_), TrackedIterator(end, &read_to_), this,
                    nlohmann::detail::input_format_t::json, /*strict=*/true,
                    limits_.allow_comments);
    return std::move(root_);
  }

  // The events of nlohmann's SAX interface.
  bool null() { return put(nullptr); }
  bool boolean(bool value) { return put(value); }
  bool number_integer(typename Json::number_integer_t value) { return put(value); }
  bool number_unsigned(typename Json::number_unsigned_t value) { return put(value); }
  bool number_float(double value, const std::string&) { return put(value); }
  bool string(std::string& value) { return put(std::move(value)); }
  bool binary(typename Json::binary_t&) { return false; }  // JSON text has none
  bool start_object(size_t) { return open(Json::object()); }
  bool end_object() { return close(); }
  bool start_array(size_t) { return open(Json::array()); }
  bool end_array() { return close(); }
  bool key(std::string& name);
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error);

 private:
  struct Level {
    Json* value;
    std::unordered_set<std::string> keys;  // of an object
    std::string path;                      // "lora.": before the keys of this object
    bool in_array;
  };

  size_t offset() const { return static_cast<size_t>(read_to_ - text_.data()); }
  [[noreturn]] void fail(size_t at, std::string_view problem) const {
    fail_format(json_place(where_, text_, at), problem);
  }

  template <typename Value>
  bool put(Value&& value) {
    add(Json(std::forward<Value>(value)));
    return true;
  }
  Json* add(Json&& value);
  bool open(Json&& container);
  bool close() {
    levels_.pop_back();
    return true;
  }
  Json* add_member(Json& object, const std::string& name, bool repeated);
  void note_line(const std::string& name, size_t at);
  size_t key_start() const;

  std::string_view text_;
  std::string_view where_;
  JsonLimits limits_;
  KeyLines* lines_;
  const char* read_to_;  // one behind the last byte of the event's token
  Json root_;
  std::vector<Level> levels_;
  Json* member_ = nullptr;  // the value of the last key
  std::string member_path_;
  size_t counted_to_ = 0;  // lines before this offset are in line_
  int line_ = 1;
};

template <typename Json>
Json* JsonBuilder<Json>::add(Json&& value) {
  if (levels_.empty()) {
    root_ = std::move(value);
    return &root_;
  }
  Json& container = *levels_.back().value;
  if (container.is_array()) {
    container.push_back(std::move(value));
    return &container.back();
  }
  *member_ = std::move(value);
  return member_;
}

template <typename Json>
bool JsonBuilder<Json>::open(Json&& container) {
  if (static_cast<int>(levels_.size()) >= limits_.max_depth) {
    fail(offset() - 1, cat("nested deeper than the ", limits_.max_depth, " levels allowed"));
  }
  const bool member = !levels_.empty() && levels_.back().value->is_object();
  const bool in_array = container.is_array() || (!levels_.empty() && levels_.back().in_array);
  std::string path = member ? member_path_ + "." : "";
  levels_.push_back({add(std::move(container)), {}, std::move(path), in_array});
  return true;
}

// The offset of the opening quote of the key whose closing quote was just read.
template <typename Json>
size_t JsonBuilder<Json>::key_start() const {
  size_t at = offset() - 1;
  while (at > 0) {
    --at;
    if (text_[at] != '"') continue;
    size_t backslashes = 0;
    while (backslashes < at && text_[at - 1 - backslashes] == '\\') ++backslashes;
    if (backslashes % 2 == 0) break;
  }
  return at;
}

template <typename Json>
void JsonBuilder<Json>::note_line(const std::string& name, size_t at) {
  Level& level = levels_.back();
  member_path_ = level.path + name;
  line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(counted_to_),
                                       text_.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
  counted_to_ = at;
  if (!level.in_array) (*lines_)[member_path_] = line_;
}

// ordered_map looks for a key one by one; appending what `keys` has shown to be new keeps an object
// of many keys from taking quadratic time.
template <typename Json>
Json* JsonBuilder<Json>::add_member(Json& object, const std::string& name, bool repeated) {
  auto& members = object.template get_ref<typename Json::object_t&>();
  if constexpr (std::is_same_v<Json, ordered_json>) {
    if (!repeated) {
      using Members = typename Json::object_t::Container;
      static_cast<Members&>(members).emplace_back(name, Json());
      return &members.back().second;
    }
  }
  return &members[name];
}

template <typename Json>
bool JsonBuilder<Json>::key(std::string& name) {
  Level& level = levels_.back();
  const bool repeated = !level.keys.insert(name).second;
  if (repeated && limits_.refuse_duplicate_keys) {
    fail(key_start(), cat("the key \"", name, "\" is there twice"));
  }
  if (lines_ != nullptr) note_line(name, offset() - 1);
  member_ = add_member(*level.value, name, repeated);
  return true;
}

template <typename Json>
bool JsonBuilder<Json>::parse_error(size_t position, const std::string&,
                                    const nlohmann::detail::exception& error) {
  // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error while ..."
  std::string_view message = error.what();
  message.remove_prefix(std::min(message.size(), message.find("] ") + 2));
  if (message.substr(0, 11) == "parse error") {
    message.remove_prefix(std::min(message.size(), message.find(": ") + 2));
  }
  constexpr size_t kLongest = 240;  // it quotes the last token, whatever its length
  std::string problem = "not valid JSON: ";
  if (message.size() > kLongest) {
    message = message.substr(0, utf8_complete_prefix(message.substr(0, kLongest)));
    problem += cat(message, "...");
  } else {
    problem += message;
  }
  fail(position > 0 ? position - 1 : 0, problem);
  return false;
}

template <typename Json>
Json parse(std::string_view text, std::string_view where, const JsonLimits& limits,
           KeyLines* lines) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  const size_t bad = utf8_error_offset(text);
  if (bad < text.size()) fail_format(json_place(where, text, bad), "the text is not valid UTF-8");
  return JsonBuilder<Json>(text, where, limits, lines).build();
}

}  // namespace

json parse_json(std::string_view text, std::string_view where, const JsonLimits& limits) {
  return parse<json>(text, where, limits, nullptr);
}

ordered_json parse_ordered_json(std::string_view text, std::string_view where,
                                const JsonLimits& limits, KeyLines* lines) {
  return parse<ordered_json>(text, where, limits, lines);
}

json read_json_file(const std::filesystem::path& path, const JsonLimits& limits) {
  return parse_json(read_file(path, kMaxJsonBytes), path.string(), limits);
}

ordered_json read_ordered_json_file(const std::filesystem::path& path, const JsonLimits& limits) {
  return parse_ordered_json(read_file(path, kMaxJsonBytes), path.string(), limits);
}

void write_json_file(const std::filesystem::path& path, const ordered_json& value) {
  std::string text;
  try {
    text = value.dump(2);
  } catch (const ordered_json::exception& error) {
    fail_data(path.string(), cat("can't be written as JSON: ", error.what()));
  }
  write_file_atomic(path, text + "\n");
}

}  // namespace llama2zh
