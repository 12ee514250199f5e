#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace llama2zh {

// A client that says exactly what it is told to, for tests of what no client library would send.
class RawSocket {
 public:
  explicit RawSocket(uint16_t port) : descriptor_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    ::inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    connected_ =
        ::connect(descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~RawSocket() { close(); }
  RawSocket(const RawSocket&) = delete;
  RawSocket& operator=(const RawSocket&) = delete;

  bool connected() const { return connected_; }
  void close() {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = -1;
  }
  bool send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t sent = ::send(descriptor_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  // What comes until `end` is in it, the other side closes, or nothing comes for `seconds`.
  std::string read_until(std::string_view end, double seconds = 10) {
    std::string out = std::move(rest_);
    rest_.clear();
    for (;;) {
      const size_t found = end.empty() ? std::string::npos : out.find(end);
      if (found != std::string::npos) {
        rest_ = out.substr(found + end.size());
        out.resize(found + end.size());
        return out;
      }
      pollfd waiting{descriptor_, POLLIN, 0};
      if (::poll(&waiting, 1, static_cast<int>(seconds * 1000)) <= 0) return out;
      char bytes[65536];
      const ssize_t size = ::recv(descriptor_, bytes, sizeof(bytes), 0);
      if (size <= 0) {
        closed_ = true;
        return out;
      }
      out.append(bytes, static_cast<size_t>(size));
    }
  }
  std::string read_all(double seconds = 10) { return read_until("", seconds); }
  bool closed() const { return closed_; }  // by the other side, as seen by a read

 private:
  int descriptor_;
  bool connected_ = false, closed_ = false;
  std::string rest_;
};

}  // namespace llama2zh
