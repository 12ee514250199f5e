#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "http/answer_text.h"
#include "http/asio.h"

namespace llama2zh {

// The bytes of one connection's answers, joined while others are being written; chunked where they
// are streamed. No IO of its own, one thread.
class OutgoingAnswer {
 public:
  // What the answers of one request are like. `version`: 10 or 11.
  void begin_exchange(unsigned version, bool head_only) {
    version_ = version;
    head_only_ = head_only;
    status_ = 0;
    sent_ = 0;
    chunked_ = ended_ = false;
  }

  void put_whole(const HttpResponse& response, bool keep_alive) {
    status_ = response.status;
    out_ += whole_head(response, version_, keep_alive);
    if (!head_only_) {
      out_ += response.body;
      sent_ += response.body.size();
    }
    ended_ = true;
  }

  // In HTTP/1.0 the end of the connection ends the body.
  bool needs_close() const { return version_ < 11; }
  void put_head(const HttpResponse& response, bool keep_alive) {
    status_ = response.status;
    chunked_ = !needs_close();
    out_ += stream_head(response, version_, keep_alive);
    if (!response.body.empty()) put_body(response.body, 0);
  }

  // `counted`: its bytes in ClientWatch::unsent.
  void put_body(const std::string& text, int64_t counted) {
    if (head_only_) return;
    sent_ += text.size();
    waiting_text_ += counted;
    if (chunked_)
      out_ += beast::buffers_to_string(http::make_chunk(asio::buffer(text)));
    else
      out_ += text;
  }

  void put_end() {
    if (chunked_ && !head_only_) out_ += beast::buffers_to_string(http::make_chunk_last());
    ended_ = true;
  }

  // What is to be written now, empty for nothing; stays valid until batch_written(). Not to be asked
  // for while a batch is under way.
  std::string_view take_batch() {
    batch_.clear();
    batch_.swap(out_);
    batch_text_ = std::exchange(waiting_text_, 0);
    is_writing_ = !batch_.empty();
    return batch_;
  }
  // Counted bytes of the batch.
  int64_t batch_written() {
    is_writing_ = false;
    return batch_text_;
  }

  bool is_writing() const { return is_writing_; }
  bool ended() const { return ended_; }
  int status() const { return status_; }  // 0: nothing was said yet
  uint64_t sent() const { return sent_; }

 private:
  unsigned version_ = 11;
  bool head_only_ = false, chunked_ = false, ended_ = false;
  int status_ = 0;
  uint64_t sent_ = 0;
  std::string out_, batch_;                    // waits; is being written
  int64_t waiting_text_ = 0, batch_text_ = 0;  // of them counted in ClientWatch::unsent
  bool is_writing_ = false;
};

}  // namespace llama2zh
