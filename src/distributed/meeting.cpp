// The ranks meet at a key-value store, c10d's TCPStore, that the launcher or rank 0 serves. Keys:
//   RUN.RESTART/arrived/RANK    that a rank is there
//   RUN.RESTART/failed/RANK     that an exchange failed on it, and which
#include "distributed/meeting.h"

#include <algorithm>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "distributed/address.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPollInterval = std::chrono::milliseconds(50);
constexpr auto kPatience = std::chrono::seconds(10);  // before a waiting rank says so
constexpr auto kRollCall = std::chrono::seconds(3);
// Rank 0 serves the store, so it leaves last.
constexpr auto kRollCallOfFirst = std::chrono::seconds(4);
constexpr auto kLingerOfFirst = std::chrono::seconds(1);

// Says once, after a while, what is waited for.
class WaitNotice {
 public:
  void say(const std::string& text) {
    if (said_ || Clock::now() - start_ < kPatience) return;
    said_ = true;
    log_warning(text);
  }

 private:
  Clock::time_point start_ = Clock::now();
  bool said_ = false;
};

std::string seconds_text(std::chrono::milliseconds time) {
  return cat(static_cast<double>(time.count()) / 1000, " s");
}

std::string arrived_key(int64_t rank) { return cat("arrived/", rank); }
std::string failed_key(int64_t rank) { return cat("failed/", rank); }

c10::intrusive_ptr<c10d::Store> open_store(const RankEnvironment& environment,
                                           std::chrono::milliseconds timeout) {
  const std::string& address = environment.master_addr;
  const int64_t port = environment.master_port;
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(port);
  options.timeout = timeout;
  options.waitWorkers = false;
  options.isServer = environment.rank == 0 && !environment.store_is_hosted;
  if (options.isServer) {
    options.masterListenFd = listen_at(address, port);
  } else {
    const auto deadline = Clock::now() + timeout;
    const std::string host = cat(environment.store_is_hosted ? "the launcher's" : "rank 0's",
                                 " store at ", address, ":", port);
    WaitNotice notice;
    const bool reached = wait_until_reachable(address, port, [&] {
      notice.say(cat("rank ", environment.rank, " waits for ", host));
      return Clock::now() >= deadline;
    });
    if (!reached) {
      fail_io(cat("rank ", environment.rank),
              cat("waited ", seconds_text(timeout), " for ", host,
                  ", nobody answers there; expected rank 0 to run with the same MASTER_ADDR and "
                  "MASTER_PORT"));
    }
  }
  return c10::make_intrusive<c10d::TCPStore>(address, options);
}

std::vector<int64_t> missing_ranks(c10d::Store& store, int64_t size) {
  std::vector<int64_t> missing;
  for (int64_t rank = 0; rank < size; ++rank) {
    if (!store.check({arrived_key(rank)})) missing.push_back(rank);
  }
  return missing;
}

void wait_for_all(c10d::Store& store, const RankEnvironment& environment,
                  std::chrono::milliseconds timeout) {
  const bool serves = environment.rank == 0 && !environment.store_is_hosted;
  const auto deadline = Clock::now() + timeout + (serves ? kLingerOfFirst : kLingerOfFirst * 0);
  WaitNotice notice;
  store.set(arrived_key(environment.rank), std::string("1"));
  while (true) {
    const std::vector<int64_t> missing = missing_ranks(store, environment.world_size);
    if (missing.empty()) return;
    const std::string place = cat(ranks_text(missing), " of ", environment.world_size, " at ",
                                  environment.master_addr, ":", environment.master_port);
    notice.say(cat("rank ", environment.rank, " waits for ", place));
    if (Clock::now() >= deadline) {
      fail_io(cat("rank ", environment.rank),
              cat("waited ", seconds_text(timeout), " for ", place,
                  "; expected every rank to start; see what the missing ones printed"));
    }
    std::this_thread::sleep_for(kPollInterval);
  }
}

}  // namespace

std::string ranks_text(const std::vector<int64_t>& ranks) {
  std::vector<std::string> numbers;
  for (const int64_t rank : ranks) numbers.push_back(std::to_string(rank));
  return (ranks.size() == 1 ? "rank " : "ranks ") + join(numbers, ", ");
}

c10::intrusive_ptr<c10d::Store> meet(const RankEnvironment& environment,
                                     std::chrono::milliseconds timeout) {
  try {
    auto store = c10::make_intrusive<c10d::PrefixStore>(
        cat("llama2zh.", environment.run_id, ".", environment.restart_count),
        open_store(environment, timeout));
    store->setTimeout(timeout);
    wait_for_all(*store, environment, timeout);
    return store;
  } catch (const c10::DistError& error) {
    fail_io(cat("rank ", environment.rank),
            cat("the store at ", environment.master_addr, ":", environment.master_port,
                " was lost while the ranks met: ", error.what_without_backtrace()));
  }
}

RollCall roll_call(c10d::Store& store, const RankEnvironment& environment,
                   const std::string& doing) {
  RollCall call;
  auto& said = call.said;
  said[environment.rank] = doing;
  const auto deadline = Clock::now() + (environment.rank == 0 ? kRollCallOfFirst : kRollCall);
  try {
    store.setTimeout(kRollCall);
    store.set(failed_key(environment.rank), doing);
    while (static_cast<int64_t>(said.size()) < environment.world_size && Clock::now() < deadline) {
      for (int64_t rank = 0; rank < environment.world_size; ++rank) {
        if (said.count(rank) == 0 && store.check({failed_key(rank)})) {
          said[rank] = store.get_to_str(failed_key(rank));
        }
      }
      std::this_thread::sleep_for(kPollInterval);
    }
  } catch (const std::exception&) {
    call.store_lost = true;
  }
  return call;
}

}  // namespace llama2zh
