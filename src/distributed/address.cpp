// Sockets for the meeting of the ranks. c10d's own server would listen on every interface of the
// host, without authentication; a socket that is bound by us it takes over as it is.
#include "distributed/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <thread>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr int kBacklog = 1024;
constexpr auto kConnectInterval = std::chrono::milliseconds(100);

using AddressList = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

std::string endpoint(const std::string& address, int64_t port) { return cat(address, ":", port); }

AddressList resolve(const std::string& address, int64_t port, int type) {
  addrinfo hints{};
  hints.ai_socktype = type;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) {
    fail_io("MASTER_ADDR", cat("'", address, "' can't be resolved: ", ::gai_strerror(code),
                               "; expected the name or address of rank 0's host"));
  }
  return {found, ::freeaddrinfo};
}

// A socket on which `act` (bind or connect) succeeds, or -1 and errno.
template <typename Act>
int first_socket(const AddressList& list, int type, Act&& act) {
  int error = EADDRNOTAVAIL;
  for (const addrinfo* item = list.get(); item != nullptr; item = item->ai_next) {
    const int socket = ::socket(item->ai_family, type | SOCK_CLOEXEC, 0);
    if (socket < 0) continue;
    if (act(socket, *item)) return socket;
    error = errno;
    ::close(socket);
  }
  errno = error;
  return -1;
}

}  // namespace

int listen_at(const std::string& address, int64_t port) {
  const AddressList list = resolve(address, port, SOCK_STREAM);
  const int socket = first_socket(list, SOCK_STREAM, [](int candidate, const addrinfo& item) {
    const int on = 1;
    ::setsockopt(candidate, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    return ::bind(candidate, item.ai_addr, item.ai_addrlen) == 0 &&
           ::listen(candidate, kBacklog) == 0;
  });
  if (socket < 0) {
    fail_io("MASTER_ADDR, MASTER_PORT",
            cat("rank 0 can't listen at ", endpoint(address, port),
                " (expected an address of rank 0's host and a free port)"),
            errno);
  }
  return socket;
}

bool wait_until_reachable(const std::string& address, int64_t port,
                          const std::function<bool()>& give_up) {
  while (true) {
    const AddressList list = resolve(address, port, SOCK_STREAM);
    const int socket = first_socket(list, SOCK_STREAM, [](int candidate, const addrinfo& item) {
      return ::connect(candidate, item.ai_addr, item.ai_addrlen) == 0;
    });
    if (socket >= 0) {
      ::close(socket);
      return true;
    }
    if (give_up()) return false;
    std::this_thread::sleep_for(kConnectInterval);
  }
}

// Connecting a datagram socket sends nothing; it makes the system choose the route.
std::string local_address_towards(const std::string& address, int64_t port) {
  const AddressList list = resolve(address, port, SOCK_DGRAM);
  const int socket = first_socket(list, SOCK_DGRAM, [](int candidate, const addrinfo& item) {
    return ::connect(candidate, item.ai_addr, item.ai_addrlen) == 0;
  });
  if (socket < 0) fail_io("MASTER_ADDR", cat("there is no route to ", address), errno);
  sockaddr_storage own{};
  socklen_t size = sizeof own;
  char text[NI_MAXHOST] = "";
  const bool known = ::getsockname(socket, reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
                     ::getnameinfo(reinterpret_cast<sockaddr*>(&own), size, text, sizeof text,
                                   nullptr, 0, NI_NUMERICHOST) == 0;
  ::close(socket);
  if (!known) fail_io("MASTER_ADDR", cat("no own address towards ", address, " is known"));
  return text;
}

}  // namespace llama2zh
