// A cache entry is a token store, named after the files and the kind of rows it was made of: with
// another tokenizer, other options or changed files it is stale, and is replaced. A lock file beside
// it lets one process build and the others wait.
#include "data/row_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

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
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(100);

// Held while an entry is looked at and built; gone with the process.
class EntryLock {
 public:
  // Waits; false if a stop was asked for meanwhile.
  bool take(const fs::path& path) {
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd_ < 0) fail_io(path.string(), "the cache can't be written to", errno);
    for (bool said = false; ::flock(fd_, LOCK_EX | LOCK_NB) != 0; said = true) {
      if (errno != EWOULDBLOCK) return true;  // a file system without locks
      if (!said) log_info(cat("waiting for another process that tokenises into ", path.string()));
      if (stop_requested()) return false;
      std::this_thread::sleep_for(kPoll);
    }
    return true;
  }
  ~EntryLock() {
    if (fd_ >= 0) ::close(fd_);
  }

 private:
  int fd_ = -1;
};

std::string entry_name(RowKind kind, const std::vector<std::string>& files) {
  std::string all = row_kind_name(kind);
  for (const std::string& file : files) {
    std::error_code error;
    all += "\n" + fs::weakly_canonical(file, error).string();
    if (error) fail_io(file, "the file can't be examined", error.value());
  }
  char hash[17];
  std::snprintf(hash, sizeof hash, "%016llx", static_cast<unsigned long long>(xxh64(all)));
  return cat(fs::path(files[0]).stem().string().substr(0, 40), "-", hash);
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
                                     const std::vector<std::string>& files, double held_out) {
  PrepareOptions options;
  options.files = files;
  options.held_out = held_out;
  options.existing = Existing::kReplace;
  const fs::path folder = cache_folder(config);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail_io(folder.string(), "the cache folder can't be made", error.value());
  options.output = folder / entry_name(kind, files);
  const ordered_json key = store_key(config, kind, tokenizer, options);
  EntryLock lock;
  if (!lock.take(options.output.string() + ".lock")) return std::nullopt;
  if (is_fresh(options.output, key)) {
    log_debug(cat("tokens of ", files[0], files.size() > 1 ? " ..." : "", " from ",
                  options.output.string()));
    return options.output;
  }
  if (prepare_store(config, kind, tokenizer, options) == PrepareOutcome::kStopped)
    return std::nullopt;
  return options.output;
}

}  // namespace llama2zh
