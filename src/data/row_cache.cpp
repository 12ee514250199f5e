// A cache entry is a token store, named NAME-FILES-OPTIONS: hashes of the kind of rows and the files'
// paths, and of the tokenizer and the options. Runs with other options have entries beside it; one
// whose files have changed is stale, and is replaced. A lock file beside it lets one process build and
// the others wait; its time of change is that of the last use.
#include "data/row_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <thread>

#include "data/store_format.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(100);
constexpr size_t kEntriesOfFiles = 4;
constexpr const char* kLockSuffix = ".lock";

// Held while an entry is looked at and built; gone with the process.
class EntryLock {
 public:
  // Waits; false if there is to be a stop meanwhile.
  bool take(const fs::path& path, const std::function<bool()>& stop) {
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd_ < 0) fail_io(path.string(), "the cache can't be written to", errno);
    for (bool said = false; ::flock(fd_, LOCK_EX | LOCK_NB) != 0; said = true) {
      if (errno != EWOULDBLOCK) break;  // a file system without locks
      if (!said) log_info(cat("waiting for another process that tokenises into ", path.string()));
      if (stop()) return false;
      std::this_thread::sleep_for(kPoll);
    }
    ::futimens(fd_, nullptr);  // used now
    return true;
  }
  // False if another process has it, or it can't be had.
  bool try_take(const fs::path& path) {
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    return fd_ >= 0 && ::flock(fd_, LOCK_EX | LOCK_NB) == 0;
  }
  ~EntryLock() {
    if (fd_ >= 0) ::close(fd_);
  }

 private:
  int fd_ = -1;
};

std::string hash_text(const std::string& text) {
  char hash[17];
  std::snprintf(hash, sizeof hash, "%016llx", static_cast<unsigned long long>(xxh64(text)));
  return hash;
}

// NAME-FILES of these files' entries.
std::string entry_stem(RowKind kind, const std::vector<std::string>& files) {
  std::string all = row_kind_name(kind);
  for (const std::string& file : files) {
    std::error_code error;
    all += "\n" + fs::weakly_canonical(file, error).string();
    if (error) fail_io(file, "the file can't be examined", error.value());
  }
  return cat(fs::path(files[0]).stem().string().substr(0, 40), "-", hash_text(all));
}

std::string options_hash(ordered_json key) {
  key.erase("files");
  return hash_text(key.dump());
}

// Which of the files a store was made of are not as they were.
std::string changed_files(const ordered_json& before, const ordered_json& now) {
  std::string names;
  for (size_t i = 0; i < now.size() && i < before.size(); ++i) {
    if (now[i] == before[i]) continue;
    if (!names.empty()) return names + ", ...";
    names = now[i].at("path").get<std::string>();
  }
  return names;
}

// What makes an entry of key `before` useless for `now`; empty: nothing.
std::string differences(const ordered_json& before, const ordered_json& now) {
  std::string text;
  std::set<std::string> names;
  for (const auto& [name, value] : before.items()) names.insert(name);
  for (const auto& [name, value] : now.items()) names.insert(name);
  for (const std::string& name : names) {
    const ordered_json old = before.value(name, ordered_json());
    const ordered_json current = now.value(name, ordered_json());
    if (old == current) continue;
    text += text.empty() ? "" : ", ";
    text += name == "files" ? cat("files (", changed_files(old, current), ")") : name;
  }
  return text;
}

// Whether the entry is there and of this key.
bool is_fresh(const fs::path& entry, const ordered_json& key) {
  if (!fs::exists(entry)) return false;
  std::string why;
  try {
    why = differences(read_store_info(entry).key, key);
  } catch (const Error& error) {
    why = error.what();
  }
  if (why.empty()) return true;
  log_info(cat("the tokens in ", entry.string(), " are stale (", why, "): tokenising again"));
  return false;
}

// The last use of an entry; the beginning of time if it never had a lock.
fs::file_time_type last_use(const fs::path& entry) {
  std::error_code error;
  const auto time = fs::last_write_time(entry.string() + kLockSuffix, error);
  return error ? fs::file_time_type::min() : time;
}

// Makes room for one more entry of the same files: the least recently used of the others go, but for
// those that another process works at. Who has one mapped keeps its pages.
void remove_old_entries(const fs::path& own, const std::string& stem) {
  std::vector<std::pair<fs::file_time_type, fs::path>> others;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(own.parent_path(), error)) {
    const std::string name = entry.path().filename().string();
    const bool same_files = name.size() == own.filename().string().size() && name.starts_with(stem);
    if (same_files && entry.is_directory() && entry.path() != own)
      others.emplace_back(last_use(entry.path()), entry.path());
  }
  std::sort(others.begin(), others.end());
  for (size_t i = 0; i + kEntriesOfFiles <= others.size(); ++i) {
    const fs::path& old = others[i].second;
    EntryLock lock;
    if (!lock.try_take(old.string() + kLockSuffix)) continue;
    log_info(cat("removing ", old.string(), ": tokens of the same files with options of long ago"));
    fs::remove_all(old, error);
  }
}

}  // namespace

fs::path cache_folder(const DataConfig& config) {
  if (!config.cache_dir.empty()) return config.cache_dir;
  if (const char* own = std::getenv("LLAMA2ZH_CACHE"); own != nullptr && *own != '\0')
    return fs::path(own) / "data";
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg != nullptr && *xdg != '\0')
    return fs::path(xdg) / "llama2zh/data";
  const char* home = std::getenv("HOME");
  if (home == nullptr || *home == '\0')
    fail_usage("data.cache_dir", "there is no home folder for the cache", "name a folder");
  return fs::path(home) / ".cache/llama2zh/data";
}

std::optional<fs::path> cached_store(const DataConfig& config, RowKind kind,
                                     const Tokenizer& tokenizer,
                                     const std::vector<std::string>& files, double held_out,
                                     const std::function<bool()>& stop) {
  PrepareOptions options;
  options.files = files;
  options.held_out = held_out;
  options.existing = Existing::kReplace;
  options.stop = stop;
  const fs::path folder = cache_folder(config);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail_io(folder.string(), "the cache folder can't be made", error.value());
  const ordered_json key = store_key(config, kind, tokenizer, options);
  const std::string stem = entry_stem(kind, files);
  options.output = folder / cat(stem, "-", options_hash(key));
  EntryLock lock;
  if (!lock.take(options.output.string() + kLockSuffix, stop)) return std::nullopt;
  if (is_fresh(options.output, key)) {
    log_debug(cat("tokens of ", files[0], files.size() > 1 ? " ..." : "", " from ",
                  options.output.string()));
    return options.output;
  }
  if (!fs::exists(options.output)) remove_old_entries(options.output, stem);
  if (prepare_store(config, kind, tokenizer, options) == PrepareOutcome::kStopped)
    return std::nullopt;
  return options.output;
}

}  // namespace llama2zh
