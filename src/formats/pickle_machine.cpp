// The pickle machine (CPython's Lib/pickletools.py describes all opcodes) cut down to the values that
// torch.save writes for a dict of tensors, protocols 2 to 5.
#include "formats/pickle_machine.h"

#include "formats/pickle_opcodes.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

// A value takes about 100 bytes, the opcode that makes it one: so their number has a limit of its
// own. A tensor needs about 30 values.
constexpr size_t kMaxPickleValues = size_t{1} << 22;

}  // namespace

const char* pickle_kind_name(PickleKind kind) {
  constexpr const char* kNames[] = {"None",    "a bool",    "an int",  "a float",
                                    "a str",   "a tuple",   "a list",  "a dict",
                                    "a class", "a storage", "a tensor"};
  return kNames[static_cast<int>(kind)];
}

std::string_view PickleMachine::take(uint64_t size) {
  if (size > rest_.size()) {
    fail(cat("data.pkl is truncated: ", size, " bytes wanted, ", rest_.size(), " left"));
  }
  const auto bytes = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return bytes;
}

std::string_view PickleMachine::take_line() {
  const size_t end = rest_.find('\n');
  if (end == std::string_view::npos) fail("data.pkl is truncated inside a name");
  const auto line = rest_.substr(0, end);
  rest_.remove_prefix(end + 1);
  return line;
}

uint64_t PickleMachine::take_number(size_t size) {
  const auto bytes = take(size);
  uint64_t value = 0;
  for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

std::string_view PickleMachine::take_text(uint64_t size) {
  const auto text = take(size);
  if (!is_utf8(text)) fail("data.pkl holds text that is not UTF-8");
  return text;
}

void PickleMachine::push(PickleValue value) {
  if (values_.size() == kMaxPickleValues) fail("data.pkl holds more values than a dict of tensors");
  values_.push_back(std::move(value));
  stack_.push_back(static_cast<PickleRef>(values_.size() - 1));
}

PickleRef PickleMachine::pop() {
  const PickleRef ref = top();
  stack_.pop_back();
  return ref;
}

PickleRef PickleMachine::top() const {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) {
    fail("data.pkl takes from an empty stack");
  }
  return stack_.back();
}

std::vector<PickleRef> PickleMachine::pop_to_mark() {
  if (marks_.empty()) fail("data.pkl closes a group that it did not open");
  const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<PickleRef> items(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  marks_.pop_back();
  return items;
}

void PickleMachine::pop_tuple(size_t size) {
  std::vector<PickleRef> items(size);
  for (size_t i = size; i-- > 0;) items[i] = pop();
  push({.kind = PickleKind::kTuple, .items = std::move(items)});
}

void PickleMachine::remember(uint64_t slot) { memo_[slot] = top(); }

void PickleMachine::recall(uint64_t slot) {
  const auto it = memo_.find(slot);
  if (it == memo_.end()) fail(cat("data.pkl refers to memo ", slot, ", which it did not set"));
  stack_.push_back(it->second);
}

bool PickleMachine::step() {
  const auto opcode = static_cast<uint8_t>(take_number(1));
  if (opcode == kOpStop) return false;
  if (step_scalar(opcode) || step_text(opcode) || step_container(opcode) || step_memo(opcode)) {
    return true;
  }
  step_object(opcode);
  return true;
}

bool PickleMachine::step_scalar(uint8_t opcode) {
  switch (opcode) {
    case kOpProto:
      if (const auto version = take_number(1); version < 2 || version > 5) {
        fail(cat("data.pkl has pickle protocol ", version, ", 2 to 5 were expected"));
      }
      return true;
    case kOpFrame:  // a hint for readers that buffer; but it must be true
      if (take_number(8) > rest_.size()) fail("data.pkl is truncated inside a frame");
      return true;
    case kOpNone:
      push({});
      return true;
    case kOpNewTrue:
      push({.kind = PickleKind::kBool, .number = 1});
      return true;
    case kOpNewFalse:
      push({.kind = PickleKind::kBool});
      return true;
    case kOpBinInt:
      push_int(static_cast<int32_t>(take_number(4)));
      return true;
    case kOpBinInt1:
      push_int(static_cast<int64_t>(take_number(1)));
      return true;
    case kOpBinInt2:
      push_int(static_cast<int64_t>(take_number(2)));
      return true;
    case kOpLong1:
      push_long();
      return true;
    case kOpBinFloat:
      take(8);
      push({.kind = PickleKind::kFloat});
      return true;  // no tensor needs it
    default:
      return false;
  }
}

void PickleMachine::push_long() {
  const size_t size = take_number(1);
  if (size > 8) fail("data.pkl holds a number of more than 64 bits");
  uint64_t value = take_number(size);
  if (size > 0 && size < 8 && (value >> (8 * size - 1) & 1) != 0)
    value |= ~uint64_t{0} << (8 * size);
  push_int(static_cast<int64_t>(value));
}

bool PickleMachine::step_text(uint8_t opcode) {
  size_t width = 0;  // of the length
  switch (opcode) {
    case kOpShortBinUnicode:
      width = 1;
      break;
    case kOpBinUnicode:
      width = 4;
      break;
    case kOpBinUnicode8:
      width = 8;
      break;
    default:
      return false;
  }
  push({.kind = PickleKind::kText, .text = take_text(take_number(width))});
  return true;
}

bool PickleMachine::step_container(uint8_t opcode) {
  switch (opcode) {
    case kOpMark:
      marks_.push_back(stack_.size());
      return true;
    case kOpEmptyTuple:
      push({.kind = PickleKind::kTuple});
      return true;
    case kOpEmptyList:
      push({.kind = PickleKind::kList});
      return true;
    case kOpEmptyDict:
      push({.kind = PickleKind::kDict});
      return true;
    case kOpTuple1:
      pop_tuple(1);
      return true;
    case kOpTuple2:
      pop_tuple(2);
      return true;
    case kOpTuple3:
      pop_tuple(3);
      return true;
    case kOpTuple:
      push({.kind = PickleKind::kTuple, .items = pop_to_mark()});
      return true;
    case kOpAppends:
      add_items(PickleKind::kList, pop_to_mark());
      return true;
    case kOpSetItems:
      add_items(PickleKind::kDict, pop_to_mark());
      return true;
    case kOpAppend:
      add_items(PickleKind::kList, {pop()});
      return true;
    case kOpSetItem: {
      const PickleRef value = pop();
      add_items(PickleKind::kDict, {pop(), value});
      return true;
    }
    default:
      return false;
  }
}

void PickleMachine::add_items(PickleKind kind, const std::vector<PickleRef>& items) {
  PickleValue& target = values_[top()];
  if (target.kind != kind || (kind == PickleKind::kDict && items.size() % 2 != 0)) {
    fail("data.pkl adds items to something that can't hold them");
  }
  target.items.insert(target.items.end(), items.begin(), items.end());
}

bool PickleMachine::step_memo(uint8_t opcode) {
  switch (opcode) {
    case kOpBinPut:
      remember(take_number(1));
      return true;
    case kOpLongBinPut:
      remember(take_number(4));
      return true;
    case kOpMemoize:
      remember(memo_.size());
      return true;
    case kOpBinGet:
      recall(take_number(1));
      return true;
    case kOpLongBinGet:
      recall(take_number(4));
      return true;
    default:
      return false;
  }
}

PickleRef PickleMachine::run() {
  while (step()) {
  }
  return pop();
}

}  // namespace llama2zh
