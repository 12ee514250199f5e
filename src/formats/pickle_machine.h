#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "llama2zh/base/error.h"

namespace llama2zh {

enum class PickleKind : uint8_t {
  kNone,
  kBool,
  kInt,
  kFloat,
  kText,
  kTuple,
  kList,
  kDict,
  kGlobal,
  kStorage,
  kTensor
};
const char* pickle_kind_name(PickleKind kind);  // "a dict"

// What a kGlobal is.
enum class PickleKnown : uint8_t {
  kOrderedDict,
  kRebuildTensor,
  kRebuildTensorV3,
  kRebuildParameter,
  kStorageType,
  kUntypedStorage,
  kDtype
};

using PickleRef = uint32_t;  // index of a value

struct PickleValue {
  PickleKind kind = PickleKind::kNone;
  PickleKnown known = PickleKnown::kOrderedDict;  // kGlobal
  at::ScalarType dtype = at::kByte;               // kGlobal (storage type, dtype), kStorage
  int64_t number = 0;          // kBool, kInt; kStorage: elements; kTensor: its place in a list
  std::string_view text = {};  // kText; kGlobal: name; kStorage: key. Points into the pickle
  std::vector<PickleRef> items = {};  // kTuple, kList; kDict: key, value, key, value, ...
};

// The pickle machine without its objects: a stack of plain values and containers, and a memo. What
// makes objects (GLOBAL, REDUCE, BUILD, persistent ids) is left to step_object(). Values live in one
// array and refer to each other by index: so a value that holds itself, or a million nested lists,
// cost nothing but their place in it. Errors are kFormat naming `where`.
class PickleMachine {
 public:
  PickleMachine(std::string_view pickle, std::string_view where) : rest_(pickle), where_(where) {}
  virtual ~PickleMachine() = default;
  PickleMachine(const PickleMachine&) = delete;
  PickleMachine& operator=(const PickleMachine&) = delete;

 protected:
  PickleRef run();  // to STOP; the value on top
  virtual void step_object(uint8_t opcode) = 0;

  [[noreturn]] void fail(std::string_view problem, std::string_view remedy = {}) const {
    fail_format(where_, problem, remedy);
  }
  std::string_view take_line();
  const PickleValue& at(PickleRef ref) const { return values_[ref]; }
  void push(PickleValue value);
  void push_ref(PickleRef ref) { stack_.push_back(ref); }
  PickleRef pop();
  PickleRef top() const;

 private:
  std::string_view take(uint64_t size);
  uint64_t take_number(size_t size);
  std::string_view take_text(uint64_t size);
  void push_int(int64_t number) { push({.kind = PickleKind::kInt, .number = number}); }
  void push_long();
  std::vector<PickleRef> pop_to_mark();
  void pop_tuple(size_t size);
  void remember(uint64_t slot);
  void recall(uint64_t slot);
  void add_items(PickleKind kind, const std::vector<PickleRef>& items);

  bool step();  // false at STOP
  bool step_scalar(uint8_t opcode);
  bool step_text(uint8_t opcode);
  bool step_container(uint8_t opcode);
  bool step_memo(uint8_t opcode);

  std::string_view rest_;
  std::string_view where_;
  std::vector<PickleValue> values_;
  std::vector<PickleRef> stack_;
  std::vector<size_t> marks_;  // stack heights
  std::unordered_map<uint64_t, PickleRef> memo_;
};

}  // namespace llama2zh
