// One pass from the left; the option table says which options take no value, one or several.
#include "config/arguments.h"

#include <cctype>
#include <optional>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/load.h"

namespace llama2zh {
namespace {

// Unknown names are cut to this: names, too, go through cxxopts' recursing regular expression.
constexpr size_t kLongestName = 200;

bool is_long_option(const std::string& arg) { return arg.size() > 2 && arg.starts_with("--"); }

// "-x", but not "-" (standard input) and not "-1".
bool is_short_option(const std::string& arg) {
  return arg.size() > 1 && arg[0] == '-' && arg[1] != '-' && arg[1] != '.' &&
         std::isdigit(static_cast<unsigned char>(arg[1])) == 0;
}

// The option that --no-KEY turns off; null if there is none.
const OptionEntry* find_negated(const OptionTable& options, const std::string& name) {
  const bool negation = name.starts_with("no-") || name.starts_with("no_");
  return negation ? find_named_option(options, name.substr(3)) : nullptr;
}

class ArgumentReader {
 public:
  ArgumentReader(const OptionTable& options, const std::vector<std::string>& args)
      : options_(options), args_(args) {}

  PlainArguments read() {
    while (!at_end()) {
      const std::string& arg = args_[next_++];
      if (arg == "--") {
        while (!at_end()) positional_.push_back(args_[next_++]);
      } else if (is_long_option(arg)) {
        if (!take_option(arg.substr(2))) return {words_, false, !at_end()};
      } else if (is_short_option(arg)) {  // to cxxopts, -max would be -m -a -x
        fail_usage(arg, "unknown option", "options begin with two dashes");
      } else {
        positional_.push_back(arg);
      }
    }
    words_.push_back("--");
    words_.insert(words_.end(), positional_.begin(), positional_.end());
    return {words_, true, false};
  }

 private:
  bool at_end() const { return next_ == args_.size(); }

  // `text` is what follows the dashes. False: the option is unknown or has no value.
  bool take_option(const std::string& text) {
    const size_t equals = text.find('=');
    const std::string name = text.substr(0, equals);
    std::optional<std::string> value;
    if (equals != std::string::npos) value = text.substr(equals + 1);
    const OptionEntry* entry = find_named_option(options_, name);
    if (entry == nullptr) return take_negation(name, value);
    if (value) {
      put(*entry, *value);
    } else if (entry->is_boolean) {
      const bool given = !at_end() && (args_[next_] == "true" || args_[next_] == "false");
      put(*entry, given ? args_[next_++] : "true");
    } else {
      return take_values(*entry);
    }
    return true;
  }

  // The next argument, whatever it begins with, unless it is an option of this verb; for a list all
  // up to the next option.
  bool take_values(const OptionEntry& entry) {
    if (at_end() || args_[next_] == "--" || is_known_option(args_[next_])) {
      words_.push_back(cxxopts_flag(entry));
      return false;
    }
    put(entry, args_[next_++]);
    while (entry.is_list && !at_end() && args_[next_] != "--" && !is_long_option(args_[next_])) {
      put(entry, args_[next_++]);
    }
    return true;
  }

  bool take_negation(const std::string& name, const std::optional<std::string>& value) {
    const OptionEntry* entry = find_negated(options_, name);
    if (entry == nullptr) {
      words_.push_back("--" + (name.empty() ? "=" : name.substr(0, kLongestName)));
      return false;
    }
    if (!entry->is_boolean) fail_usage("--" + name, cat(entry->key, " is not a flag"));
    if (value) fail_usage("--" + name, "takes no value");
    put(*entry, "false");
    return true;
  }

  bool is_known_option(const std::string& arg) const {
    if (!is_long_option(arg)) return false;
    const std::string name = arg.substr(2, arg.find('=') - 2);
    return find_named_option(options_, name) != nullptr || find_negated(options_, name) != nullptr;
  }

  void put(const OptionEntry& entry, const std::string& value) {
    words_.push_back(cxxopts_flag(entry));
    words_.push_back(value);
  }

  const OptionTable& options_;
  const std::vector<std::string>& args_;
  size_t next_ = 0;
  std::vector<std::string> words_;
  std::vector<std::string> positional_;
};

}  // namespace

PlainArguments plain_arguments(const OptionTable& options, const std::vector<std::string>& args) {
  return ArgumentReader(options, args).read();
}

std::string cxxopts_flag(const OptionEntry& entry) {
  return (entry.key.size() == 1 ? "-" : "--") + entry.key;
}

}  // namespace llama2zh
