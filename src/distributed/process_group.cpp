// c10d's process group, Gloo for tensors on the CPU and NCCL for those on a GPU, as torchrun's
// "cpu:gloo,cuda:nccl". Gloo notices at once when a peer's process ends; NCCL only after the
// timeout, and then its watchdog ends the process.
#include "llama2zh/distributed/process_group.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <csignal>
#include <utility>

#include "distributed/address.h"
#include "distributed/meeting.h"
#include "distributed/wait_watch.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/reason.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

// Gloo whose connections can be ended. A rank that has seen another go may be all that a third one
// waits for, which would not know of it until this rank ends.
class Gloo final : public c10d::ProcessGroupGloo {
 public:
  using ProcessGroupGloo::ProcessGroupGloo;
  void close_connections() {
    for (const auto& context : contexts_) context->closeConnections();
  }
};

c10::intrusive_ptr<Gloo> gloo(const c10::intrusive_ptr<c10d::Store>& store,
                              const RankEnvironment& environment,
                              std::chrono::milliseconds timeout) {
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(
      local_address_towards(environment.master_addr, environment.master_port)));
  return c10::make_intrusive<Gloo>(c10::make_intrusive<c10d::PrefixStore>("gloo", store),
                                   static_cast<int>(environment.rank),
                                   static_cast<int>(environment.world_size), options);
}

#ifdef USE_C10D_NCCL
c10::intrusive_ptr<c10d::Backend> nccl(const c10::intrusive_ptr<c10d::Store>& store,
                                       const RankEnvironment& environment,
                                       std::chrono::milliseconds timeout) {
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(
      c10::make_intrusive<c10d::PrefixStore>("nccl", store), static_cast<int>(environment.rank),
      static_cast<int>(environment.world_size), options);
}
#endif

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

bool is_transport_error(const std::exception& error) {
  if (dynamic_cast<const c10::DistError*>(&error) != nullptr) return true;
  const std::string text = error.what();
  return text.find("gloo/") != std::string::npos || text.find("NCCL") != std::string::npos;
}

}  // namespace

struct ProcessGroup::State {
  State(int64_t rank, std::chrono::milliseconds patience) : watch(rank, patience) {}
  WaitWatch watch;
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<Gloo> gloo;
  c10::intrusive_ptr<c10d::ProcessGroup> group;
};

ProcessGroup::ProcessGroup(const RankEnvironment& environment, at::Device device,
                           std::chrono::milliseconds timeout, std::chrono::milliseconds patience)
    : environment_(environment),
      timeout_(timeout),
      state_(std::make_unique<State>(environment.rank, patience)) {
#ifndef USE_C10D_NCCL
  if (device.is_cuda()) {
    fail_usage("model.device", "several ranks on CUDA need a build with CUDA",
               "build with scripts/build.sh --cuda");
  }
#endif
  // Gloo writes to a rank that has ended as if to a file: an error that can be told, not an end.
  std::signal(SIGPIPE, SIG_IGN);
  state_->store = meet(environment_, timeout_);
  guarded("connecting with the other ranks", [&] {
    state_->group = c10::make_intrusive<c10d::ProcessGroup>(state_->store, static_cast<int>(rank()),
                                                            static_cast<int>(size()));
    state_->gloo = gloo(state_->store, environment_, timeout_);
    state_->group->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::BackendType::GLOO,
                              state_->gloo);
#ifdef USE_C10D_NCCL
    if (device.is_cuda()) {
      state_->group->setBackend(c10::DeviceType::CUDA, c10d::ProcessGroup::BackendType::NCCL,
                                nccl(state_->store, environment_, timeout_));
    }
#endif
    state_->group->setDefaultBackend(device.is_cuda() ? c10d::ProcessGroup::BackendType::NCCL
                                                      : c10d::ProcessGroup::BackendType::GLOO);
  });
}

ProcessGroup::~ProcessGroup() = default;

c10d::ProcessGroup& ProcessGroup::backend() { return *state_->group; }

void ProcessGroup::fail(const std::string& what, const std::string& problem) {
  try {
    if (state_->gloo) state_->gloo->close_connections();
  } catch (const std::exception&) {  // they are gone already
  }
  const RollCall call = roll_call(*state_->store, environment_, what);
  std::vector<int64_t> lost;
  std::string others;
  for (int64_t other = 0; other < size(); ++other) {
    const auto found = call.said.find(other);
    if (found != call.said.end()) {
      if (found->second != what) others += cat("; rank ", other, " was at ", found->second);
    } else if (!call.store_lost || (other == 0 && !environment_.store_is_hosted)) {
      lost.push_back(other);
    }
  }
  std::string who = "all ranks are there";
  if (!lost.empty()) {
    who = cat(ranks_text(lost), lost.size() == 1 ? " is" : " are",
              " lost (ended, or silent for the timeout)");
  } else if (call.store_lost) {
    who = "the store that the ranks met at is lost";
  }
  fail_io(cat("rank ", rank()), cat(what, " failed: ", who, others,
                                    "; the transport says: ", first_line(library_reason(problem))));
}

void ProcessGroup::guarded(const std::string& what, const std::function<void()>& communicate) {
  exchange(what, /*computes=*/true, communicate);
}

void ProcessGroup::exchange(const std::string& what, bool computes,
                            const std::function<void()>& communicate) {
  try {
    const WaitWatch::Stay stay(state_->watch, what, computes);
    communicate();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    if (!is_transport_error(error)) throw;
    fail(what, error.what());
  }
}

void ProcessGroup::all_reduce(at::Tensor& tensor, const std::string& what) {
  exchange(what, /*computes=*/false, [&] {
    std::vector<at::Tensor> tensors{tensor};
    backend().allreduce(tensors)->wait();
  });
}

std::vector<double> ProcessGroup::sum(const std::vector<double>& values, const std::string& what) {
  at::Tensor tensor = at::tensor(values, at::kDouble);
  all_reduce(tensor, what);
  const double* first = tensor.const_data_ptr<double>();
  return {first, first + values.size()};
}

bool ProcessGroup::any(bool flag, const std::string& what) {
  return sum({flag ? 1.0 : 0.0}, what)[0] > 0;
}

at::Tensor ProcessGroup::all_gather(const at::Tensor& tensor, const std::string& what) {
  std::vector<int64_t> shape = tensor.sizes().vec();
  shape.insert(shape.begin(), size());
  at::Tensor result = at::empty(shape, tensor.options());
  exchange(what, /*computes=*/false, [&] {
    std::vector<std::vector<at::Tensor>> outputs{result.unbind(0)};
    std::vector<at::Tensor> inputs{tensor};
    backend().allgather(outputs, inputs)->wait();
  });
  return result;
}

at::Tensor ProcessGroup::gather(const at::Tensor& tensor, const std::string& what) {
  at::Tensor result;
  std::vector<std::vector<at::Tensor>> outputs;
  if (is_first()) {
    std::vector<int64_t> shape = tensor.sizes().vec();
    shape.insert(shape.begin(), size());
    result = at::empty(shape, tensor.options());
    outputs.push_back(result.unbind(0));
  }
  exchange(what, /*computes=*/false, [&] {
    std::vector<at::Tensor> inputs{tensor};
    backend().gather(outputs, inputs)->wait();
  });
  return result;
}

void ProcessGroup::broadcast(at::Tensor& tensor, int64_t root, const std::string& what) {
  exchange(what, /*computes=*/false, [&] {
    std::vector<at::Tensor> tensors{tensor};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    backend().broadcast(tensors, options)->wait();
  });
}

// A broadcast by each rank, all under way together: an all-gather of Gloo's would take as much memory
// again.
void ProcessGroup::share_parts(at::Tensor& whole, const std::string& what) {
  exchange(what, /*computes=*/false, [&] {
    std::vector<c10::intrusive_ptr<c10d::Work>> under_way;
    for (int64_t root = 0; root < size(); ++root) {
      std::vector<at::Tensor> part{whole.chunk(size())[static_cast<size_t>(root)]};
      c10d::BroadcastOptions options;
      options.rootRank = root;
      under_way.push_back(backend().broadcast(part, options));
    }
    for (const auto& work : under_way) work->wait();
  });
}

// A barrier of Gloo's, not of the store: it notices a rank that ends.
void ProcessGroup::barrier(const std::string& what) { sum({0.0}, what); }

}  // namespace llama2zh
