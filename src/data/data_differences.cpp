// Sources are matched by their path, their files by theirs, in turn.
#include "llama2zh/data/data_differences.h"

#include <algorithm>
#include <map>
#include <set>

#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr size_t kNamedDifferences = 20;

// Of a store's key: what other lines of a comparison say, or has no influence on the rows.
const std::set<std::string> kSaidElsewhere = {
    "files", "row_kind", "tokenizer", "special_ids", "shard_tokens", "template", "block_size"};

using NamedValues = std::map<std::string, ordered_json>;

// The n-th source of a path is its own.
NamedValues by_path(const ordered_json& sources) {
  NamedValues result;
  for (const ordered_json& source : sources) {
    const auto path = source.value("path", std::string());
    std::string name = path;
    for (int i = 2; result.count(name) != 0; ++i) name = cat(path, " (", i, ")");
    result[name] = source;
  }
  return result;
}

std::string value_text(const NamedValues& values, const std::string& name) {
  const auto found = values.find(name);
  return found == values.end() ? "unset" : found->second.dump();
}

// A line for each name whose values differ.
void add_values(const std::string& place, const NamedValues& before, const NamedValues& now,
                std::vector<std::string>& lines) {
  std::set<std::string> names;
  for (const auto& entry : before) names.insert(entry.first);
  for (const auto& entry : now) names.insert(entry.first);
  for (const std::string& name : names) {
    if (value_text(before, name) == value_text(now, name)) continue;
    lines.push_back(cat(place, name, ": ", value_text(before, name), " in the checkpoint, ",
                        value_text(now, name), " now"));
  }
}

NamedValues share_of(const ordered_json& source) {
  NamedValues share;
  for (const char* name : {"weight", "epochs", "tokens"}) {
    if (source.contains(name)) share[name] = source.at(name);
  }
  return share;
}

// Those of all its stores.
NamedValues options_of(const ordered_json& source) {
  NamedValues options;
  for (const ordered_json& store : source.value("stores", ordered_json::array())) {
    for (const auto& [name, value] : store.items()) {
      if (kSaidElsewhere.count(name) == 0) options[name] = value;
    }
  }
  return options;
}

struct SourceFiles {
  std::vector<std::string> order;
  NamedValues by_path;
};

SourceFiles files_of(const ordered_json& source) {
  SourceFiles files;
  for (const ordered_json& store : source.value("stores", ordered_json::array())) {
    for (const ordered_json& file : store.value("files", ordered_json::array())) {
      const auto path = file.value("path", std::string());
      files.order.push_back(path);
      files.by_path[path] = file;
    }
  }
  return files;
}

std::string change_of(const ordered_json& before, const ordered_json& now) {
  const auto old_bytes = before.value("bytes", uint64_t{0}),
             bytes = now.value("bytes", uint64_t{0});
  if (old_bytes == bytes) return "was written again";
  return cat("has ", bytes, " bytes, in the checkpoint ", old_bytes);
}

void add_files(const ordered_json& before, const ordered_json& now,
               std::vector<std::string>& lines) {
  const SourceFiles old_files = files_of(before), files = files_of(now);
  const size_t known = lines.size();
  for (const auto& [path, file] : old_files.by_path) {
    const auto found = files.by_path.find(path);
    if (found == files.by_path.end()) {
      lines.push_back(path + " was removed");
    } else if (found->second != file) {
      lines.push_back(cat(path, " ", change_of(file, found->second)));
    }
  }
  for (const auto& entry : files.by_path) {
    if (old_files.by_path.count(entry.first) == 0) lines.push_back(entry.first + " was added");
  }
  if (lines.size() == known && old_files.order != files.order) {
    lines.emplace_back("the files have another order");
  }
}

void add_source(const std::string& path, const ordered_json& before, const ordered_json& now,
                std::vector<std::string>& lines) {
  const std::string place = path.empty() ? "data." : cat("data.mixture ", path, " ");
  add_values(place, share_of(before), share_of(now), lines);
  if (before.value("fingerprint", ordered_json()) == now.value("fingerprint", ordered_json()))
    return;
  const size_t known = lines.size();
  add_files(before, now, lines);
  add_values(path.empty() ? "data." : place, options_of(before), options_of(now), lines);
  if (lines.size() > known) return;
  lines.push_back(path.empty() ? "the rows are others" : cat("the rows of ", path, " are others"));
}

}  // namespace

std::vector<std::string> data_differences(const ordered_json& before, const ordered_json& now) {
  if (!before.is_array() || !now.is_array() || before.empty() || now.empty()) return {};
  const NamedValues old_sources = by_path(before), sources = by_path(now);
  std::vector<std::string> lines;
  for (const auto& [path, source] : old_sources) {
    const auto found = sources.find(path);
    if (found != sources.end()) {
      add_source(path, source, found->second, lines);
    } else {
      lines.push_back(path.empty() ? "data.train_files became data.mixture"
                                   : cat("data.mixture ", path, " was removed"));
    }
  }
  for (const auto& [path, source] : sources) {
    if (old_sources.count(path) != 0) continue;
    lines.push_back(path.empty() ? "data.mixture became data.train_files"
                                 : cat("data.mixture ", path, " was added"));
  }
  if (lines.empty()) lines.emplace_back("the sources have another order");
  if (lines.size() > kNamedDifferences + 1) {
    const size_t more = lines.size() - kNamedDifferences;
    lines.resize(kNamedDifferences);
    lines.push_back(cat("and ", more, " more differences"));
  }
  return lines;
}

}  // namespace llama2zh
