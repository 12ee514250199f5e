// One reader, some encoders, one taker. The reader numbers the chunks; encoders take any chunk that is
// waiting; the taker waits for the next number. The reader stops while kChunksAhead a thread are not
// taken yet: that bounds the memory.
#include "data/encode_files.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

namespace llama2zh {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 18;
constexpr size_t kChunkRows = 2048;
constexpr int64_t kChunksAhead = 4;

struct RawChunk {
  int64_t number = 0;
  EncodedChunk result;  // without its rows
  std::vector<RawRow> rows;
};

// Cuts a file into chunks.
class ChunkReader {
 public:
  ChunkReader(const std::string& file, const TextOptions& options)
      : source_(RowFile::open(file, options)) {}

  // An error of the file itself is kept: the rows before it come first.
  void next(RawChunk& chunk) {
    RawRow row;
    try {
      while (chunk.result.text_bytes < kChunkBytes && chunk.rows.size() < kChunkRows) {
        if (!source_->next(row)) {
          chunk.result.ends_file = true;
          break;
        }
        chunk.result.text_bytes += row.text.size();
        chunk.rows.push_back(std::move(row));
      }
    } catch (...) {
      chunk.result.file_error = std::current_exception();
      chunk.result.ends_file = true;
    }
    chunk.result.consumed = source_->consumed();
  }

 private:
  std::unique_ptr<RowFile> source_;
};

class FileEncoding {
 public:
  FileEncoding(const std::vector<std::string>& files, ChunkPlace start, const RowEncoder& encoder,
               int64_t threads)
      : files_(files), start_(start), encoder_(encoder), window_(threads * kChunksAhead + 1) {
    helpers_.emplace_back([this] { guarded([this] { read_all(); }); });
    for (int64_t i = 0; i < threads; ++i)
      helpers_.emplace_back([this] { guarded([this] { encode_all(); }); });
  }
  ~FileEncoding() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
  }

  // The next chunk in order; false at the end.
  bool next(EncodedChunk& chunk) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] {
      return failure_ || (!done_.empty() && done_.begin()->first == taken_) ||
             (all_read_ && taken_ == read_);
    });
    if (failure_) std::rethrow_exception(failure_);
    if (done_.empty()) return false;
    chunk = std::move(done_.begin()->second);
    done_.erase(done_.begin());
    ++taken_;
    lock.unlock();
    changed_.notify_all();
    return true;
  }

 private:
  template <typename Work>
  void guarded(const Work& work) {
    try {
      work();
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!failure_) failure_ = std::current_exception();
    }
    changed_.notify_all();
  }

  void read_all() {
    for (size_t file = start_.file; file < files_.size(); ++file) {
      ChunkReader reader(files_[file], encoder_.text_options());
      for (int64_t number = 0;; ++number) {
        RawChunk chunk;
        chunk.result.place = {file, number};
        reader.next(chunk);
        const bool last = chunk.result.ends_file;
        const bool skipped = file == start_.file && number < start_.chunk;
        if (!skipped && !put(std::move(chunk))) return;
        if (last) break;
      }
    }
    const std::lock_guard lock(mutex_);
    all_read_ = true;
  }

  bool put(RawChunk chunk) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stop_ || read_ - taken_ < window_; });
    if (stop_) return false;
    chunk.number = read_++;
    waiting_.push_back(std::move(chunk));
    lock.unlock();
    changed_.notify_all();
    return true;
  }

  void encode_all() {
    RawChunk chunk;
    while (take_raw(chunk)) {
      EncodedChunk& result = chunk.result;
      result.rows.reserve(chunk.rows.size());
      for (RawRow& row : chunk.rows)
        result.rows.push_back(encoder_.encode(row, files_[result.place.file]));
      {
        const std::lock_guard lock(mutex_);
        done_.emplace(chunk.number, std::move(result));
      }
      changed_.notify_all();
    }
  }

  bool take_raw(RawChunk& chunk) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return stop_ || failure_ || all_read_ || !waiting_.empty(); });
    if (stop_ || failure_ || waiting_.empty()) return false;
    chunk = std::move(waiting_.front());
    waiting_.pop_front();
    return true;
  }

  const std::vector<std::string>& files_;
  const ChunkPlace start_;
  const RowEncoder& encoder_;
  const int64_t window_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<RawChunk> waiting_;
  std::map<int64_t, EncodedChunk> done_;  // by number
  int64_t read_ = 0, taken_ = 0;          // chunks that were numbered, that were taken
  bool all_read_ = false, stop_ = false;
  std::exception_ptr failure_;
  std::vector<std::jthread> helpers_;  // last: they end before the rest is gone
};

}  // namespace

void encode_files(const std::vector<std::string>& files, ChunkPlace start,
                  const RowEncoder& encoder, int64_t threads,
                  const std::function<bool(EncodedChunk& chunk)>& take) {
  if (threads < 1) threads = std::max(1u, std::thread::hardware_concurrency());
  FileEncoding encoding(files, start, encoder, threads);
  EncodedChunk chunk;
  while (encoding.next(chunk) && take(chunk)) {
  }
}

}  // namespace llama2zh
