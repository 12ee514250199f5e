#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace llama2zh {

// A socket that listens on this address and port alone. kIo naming both if it can't be had.
int listen_at(const std::string& address, int64_t port);

// Tries every 100 ms to connect until it succeeds (true) or `give_up` says so (false). kIo if the
// name can't be resolved.
bool wait_until_reachable(const std::string& address, int64_t port,
                          const std::function<bool()>& give_up);

// The address of this host that packets to `address` leave from: what peers there can reach.
std::string local_address_towards(const std::string& address, int64_t port);

}  // namespace llama2zh
