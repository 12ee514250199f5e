// Names of the config to mapped rows: stores directly, raw files through the cache.
#include "llama2zh/data/training_data.h"

#include <cstdio>

#include "data/joined_rows.h"
#include "data/row_cache.h"
#include "data/set_names.h"
#include "data/store_format.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

std::string hex(uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

void add_counts(RowCounts& sum, const RowCounts& part) {
  sum.rows += part.rows;
  sum.bad += part.bad;
  sum.overlong += part.overlong;
  sum.dropped += part.dropped;
  sum.filtered += part.filtered;
  sum.duplicates += part.duplicates;
  sum.characters += part.characters;
  if (sum.first_bad.empty()) sum.first_bad = part.first_bad;
}

// What the names come to, in their order: each a store, or raw files that follow one another.
struct Named {
  fs::path store;
  std::vector<std::string> files;
};

std::vector<Named> resolve(const std::vector<std::string>& names) {
  std::vector<Named> result;
  std::vector<std::string> raw;
  const auto flush = [&] {
    if (!raw.empty()) result.push_back({{}, expand_files(raw)});
    raw.clear();
  };
  for (const std::string& name : names) {
    if (is_token_store(name)) {
      flush();
      result.push_back({name, {}});
    } else {
      raw.push_back(name);
    }
  }
  flush();
  return result;
}

// Validation names: a store is one set, and so is every raw file.
std::vector<std::string> expand_names(const std::vector<std::string>& names) {
  std::vector<std::string> result;
  for (const Named& named : resolve(names)) {
    if (named.files.empty())
      result.push_back(named.store.string());
    else
      result.insert(result.end(), named.files.begin(), named.files.end());
  }
  return result;
}

// The two sets of one store; `held_out` may be without rows.
struct OpenedStore {
  RowSet train, held_out;
};

SplitSide side_of(const RowSource& rows) { return {rows.size(), rows.total_tokens()}; }

class Opener {
 public:
  Opener(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer,
         const std::function<bool()>& stop)
      : config_(config), kind_(kind), tokenizer_(tokenizer), stop_(stop) {}

  bool stopped() const { return stopped_; }

  // All names as one set, one behind the other.
  OpenedStore open(const std::vector<std::string>& names, double held_out) {
    std::vector<RowSet> train, validation;
    bool made_here = true;
    for (const Named& named : resolve(names)) {
      const bool raw = named.store.empty();
      made_here = made_here && raw;
      if (!raw) check_store_options(named.store, held_out);
      std::optional<fs::path> folder = named.store;
      if (raw) folder = cached_store(config_, kind_, tokenizer_, named.files, held_out, stop_);
      stopped_ = stopped_ || !folder;
      if (stopped_) return {};
      const StoreInfo info = read_store_info(*folder);
      check_fits(*folder, info);
      train.push_back(set_of(*folder, info, kTrainSet));
      if (info.sets.count(kValidationSet) != 0)
        validation.push_back(set_of(*folder, info, kValidationSet));
    }
    OpenedStore result{joined(train), joined(validation)};
    if (held_out > 0 && train.size() == 1 && result.held_out.rows) {
      // A store that was prepared by hand has the share that was asked for then.
      check_split(made_here ? held_out : 1, side_of(*result.train.rows),
                  side_of(*result.held_out.rows));
    }
    return result;
  }

 private:
  void check_store_options(const fs::path& store, double held_out) const {
    if (config_.max_rows > 0) {
      fail_usage("data.max_rows", cat("does not apply to the token store ", store.string()),
                 "limit the run with train.max_steps");
    }
    if (held_out > 0 && read_store_info(store).sets.count(kValidationSet) == 0) {
      fail_usage("data.validation_split", cat(store.string(), " was prepared without one"),
                 "prepare it with --validation-split, or name data.validation_files");
    }
  }

  void check_fits(const fs::path& folder, const StoreInfo& info) const {
    const std::string where = folder.string();
    constexpr const char* kRemedy = "prepare it again for this run";
    if (info.tokenizer_sha256 != tokenizer_.fingerprint()) {
      fail_format(
          where,
          cat("its tokens are of another tokenizer (sha256 ", info.tokenizer_sha256.substr(0, 12),
              ", the run's is ", tokenizer_.fingerprint().substr(0, 12), ")"),
          kRemedy);
    }
    if (info.kind != kind_) {
      fail_format(where,
                  cat("its rows were prepared for ", row_kind_name(info.kind), ", this is ",
                      row_kind_name(kind_)),
                  kRemedy);
    }
    if (kind_ == RowKind::kPretrain) return;
    const std::string stored = info.key.value("template", "");
    if (stored != config_.chat_template) {
      fail_format(where,
                  cat("its dialogues follow the template ", stored, ", data.template is ",
                      config_.chat_template),
                  kRemedy);
    }
    for (const auto& [name, set] : info.sets) {
      if (set.longest > config_.block_size) {
        fail_format(
            where,
            cat("it has rows of ", set.longest, " tokens, data.block_size is ", config_.block_size),
            kRemedy);
      }
    }
  }

  static RowSet set_of(const fs::path& folder, const StoreInfo& info, const char* name) {
    return {name, open_token_store(folder, name), info.sets.at(name).counts, info.fingerprint,
            ordered_json::array({info.key})};
  }

  static RowSet joined(const std::vector<RowSet>& parts) {
    if (parts.empty()) return {};
    RowSet result = parts[0];
    if (parts.size() == 1) return result;
    result.counts = {};
    std::vector<std::shared_ptr<const RowSource>> rows;
    std::string fingerprints;
    for (const RowSet& part : parts) {
      add_counts(result.counts, part.counts);
      rows.push_back(part.rows);
      fingerprints += part.fingerprint;
      if (rows.size() > 1) result.stores.push_back(part.stores.at(0));
    }
    result.rows = join_rows(std::move(rows));
    result.fingerprint = hex(xxh64(fingerprints));
    return result;
  }

  const DataConfig& config_;
  RowKind kind_;
  const Tokenizer& tokenizer_;
  const std::function<bool()>& stop_;
  bool stopped_ = false;
};

void check_names(const DataConfig& config) {
  if (config.train_files.empty() && config.mixture.empty())
    fail_usage("data.train_files", "no training files are named");
  if (config.mixture.empty()) return;
  if (!config.train_files.empty()) {
    fail_usage("data.mixture", "can't be there together with data.train_files",
               "name every source in data.mixture");
  }
  if (config.max_rows > 0)
    fail_usage("data.max_rows", "does not apply to a mixture", "give a source its tokens instead");
}

void add_validation(RowSet set, const std::string& name, std::vector<RowSet>& sets) {
  if (!set.rows || set.rows->size() == 0) return;
  set.name = name;
  sets.push_back(std::move(set));
}

}  // namespace

TrainingData open_training_data(const DataConfig& config, RowKind kind, const Tokenizer& tokenizer,
                                const std::function<bool()>& stop) {
  check_names(config);
  TrainingData data;
  Opener opener(config, kind, tokenizer, stop);
  SetNames names;
  const bool own_sets = config.validation_files.empty();
  const double held_out = own_sets ? config.validation_split : 0;
  if (config.mixture.empty()) {
    OpenedStore opened = opener.open(config.train_files, held_out);
    data.train.push_back({std::move(opened.train), {}});
    if (own_sets) add_validation(std::move(opened.held_out), "validation", data.validation);
  }
  for (const MixtureSource& source : config.mixture) {
    if (opener.stopped()) break;
    OpenedStore opened = opener.open({source.path}, held_out);
    opened.train.name = source.path;
    data.train.push_back({std::move(opened.train), source});
    if (own_sets)
      add_validation(std::move(opened.held_out), names.of(source.path), data.validation);
  }
  for (const std::string& file : expand_names(config.validation_files)) {
    if (opener.stopped()) break;
    add_validation(opener.open({file}, 0).train, names.of(file), data.validation);
  }
  if (opener.stopped()) return {.stopped = true, .train = {}, .validation = {}};
  return data;
}

std::vector<MixedRows> TrainingData::mixed_rows() const {
  std::vector<MixedRows> rows;
  for (const TrainingSource& source : train) {
    rows.push_back(
        {source.set.rows.get(), source.share.weight, source.share.epochs, source.share.tokens});
  }
  return rows;
}

RowCounts TrainingData::counts() const {
  RowCounts sum;
  for (const TrainingSource& source : train) add_counts(sum, source.set.counts);
  return sum;
}

int64_t TrainingData::total_tokens() const {
  int64_t sum = 0;
  for (const TrainingSource& source : train) sum += source.set.rows->total_tokens();
  return sum;
}

int64_t TrainingData::total_supervised() const {
  int64_t sum = 0;
  for (const TrainingSource& source : train) sum += source.set.rows->total_supervised();
  return sum;
}

std::string TrainingData::fingerprint() const {
  if (train.size() == 1 && train[0].share.path.empty()) return train[0].set.fingerprint;
  std::string all;
  for (const TrainingSource& source : train) {
    const MixtureSource& share = source.share;
    all += ordered_json{source.set.fingerprint, share.weight.value_or(0), share.epochs.value_or(0),
                        share.tokens.value_or(0)}
               .dump();
  }
  return hex(xxh64(all));
}

ordered_json TrainingData::description() const {
  ordered_json sources = ordered_json::array();
  for (const TrainingSource& source : train) {
    ordered_json entry = {{"path", source.share.path}, {"fingerprint", source.set.fingerprint}};
    if (source.share.weight) entry["weight"] = *source.share.weight;
    if (source.share.epochs) entry["epochs"] = *source.share.epochs;
    if (source.share.tokens) entry["tokens"] = *source.share.tokens;
    entry["stores"] = source.set.stores;
    sources.push_back(std::move(entry));
  }
  return sources;
}

}  // namespace llama2zh
