#include "distributed/meeting_port.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

// Binds a socket for a moment; the port it got.
int64_t try_port(const std::string& address, int64_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) {
    fail_usage("--master-addr", cat("'", address, "' is no address: ", ::gai_strerror(code)),
               "name host 0 or give its number");
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  const int fd = ::socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, found->ai_protocol);
  if (fd < 0) fail_io("launch", "no socket", errno);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  const bool worked = ::bind(fd, found->ai_addr, found->ai_addrlen) == 0 && ::listen(fd, 1) == 0 &&
                      ::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size) == 0;
  const int error = errno;
  ::close(fd);
  if (!worked && error == EADDRNOTAVAIL) {
    fail_usage("--master-addr",
               cat("'", address, "' is not an address of this host, which is host 0"),
               "pass host 0's own, or another --node-rank");
  }
  if (!worked) {
    fail_usage("--master-port", cat(port, " at ", address, ": ", std::strerror(error)),
               "choose another port");
  }
  const bool v6 = bound.ss_family == AF_INET6;
  return ntohs(v6 ? reinterpret_cast<const sockaddr_in6&>(bound).sin6_port
                  : reinterpret_cast<const sockaddr_in&>(bound).sin_port);
}

}  // namespace

int64_t free_port(const std::string& address) { return try_port(address, 0); }
void check_port(const std::string& address, int64_t port) { try_port(address, port); }

}  // namespace llama2zh
