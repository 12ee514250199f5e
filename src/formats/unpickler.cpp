// The objects in data.pkl of torch.save: storages, tensors, parameters and ordered dicts, recognised
// by name and never called. The same idea: pytorch/torch/_weights_only_unpickler.py.
#include "formats/unpickler.h"

#include <optional>
#include <unordered_set>

#include "formats/dtype.h"
#include "formats/pickle_machine.h"
#include "formats/pickle_opcodes.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

constexpr size_t kMaxPickledTensors = size_t{1} << 18;
constexpr size_t kMaxStorageKey = 256;  // torch writes decimal numbers

class Unpickler final : public PickleMachine {
 public:
  using PickleMachine::PickleMachine;
  std::vector<PickledTensor> read();

 private:
  void step_object(uint8_t opcode) override;
  void push_global(std::string_view module, std::string_view name);
  std::optional<PickleValue> lookup(std::string_view module, std::string_view name) const;
  void push_storage();
  void reduce();
  void rebuild_tensor(const std::vector<PickleRef>& arguments, bool v3);
  std::vector<int64_t> sizes(PickleRef tuple) const;
  int64_t whole_number(PickleRef ref, std::string_view what) const;
  void build();

  std::vector<PickledTensor> tensors_;
};

void Unpickler::step_object(uint8_t opcode) {
  switch (opcode) {
    case kOpGlobal: {
      const auto module = take_line();
      return push_global(module, take_line());
    }
    case kOpStackGlobal: {
      const PickleRef name = pop(), module = pop();
      if (at(name).kind != PickleKind::kText || at(module).kind != PickleKind::kText) {
        fail("data.pkl names a class by something that is not text");
      }
      return push_global(at(module).text, at(name).text);
    }
    case kOpBinPersId:
      return push_storage();
    case kOpReduce:
      return reduce();
    case kOpBuild:
      return build();
    default:
      fail(cat("data.pkl holds pickle opcode ", static_cast<int>(opcode),
               ", which a dict of tensors does not need; nothing was executed"),
           "don't trust this file");
  }
}

std::optional<PickleValue> Unpickler::lookup(std::string_view module, std::string_view name) const {
  PickleValue value{.kind = PickleKind::kGlobal, .text = name};
  if (module == "collections" && name == "OrderedDict") {
    value.known = PickleKnown::kOrderedDict;
  } else if (module == "torch._utils" && name == "_rebuild_tensor_v2") {
    value.known = PickleKnown::kRebuildTensor;
  } else if (module == "torch._utils" && name == "_rebuild_tensor_v3") {
    value.known = PickleKnown::kRebuildTensorV3;
  } else if (module == "torch._utils" && name == "_rebuild_parameter") {
    value.known = PickleKnown::kRebuildParameter;
  } else if ((module == "torch.storage" || module == "torch") && name == "UntypedStorage") {
    value.known = PickleKnown::kUntypedStorage;
  } else if (const auto* storage = dtype_by_storage(name);
             module == "torch" && storage != nullptr) {
    value.known = PickleKnown::kStorageType;
    value.dtype = storage->dtype;
  } else if (const auto* dtype = dtype_by_torch(name); module == "torch" && dtype != nullptr) {
    value.known = PickleKnown::kDtype;
    value.dtype = dtype->dtype;
  } else {
    return std::nullopt;
  }
  return value;
}

void Unpickler::push_global(std::string_view module, std::string_view name) {
  auto value = lookup(module, name);
  if (value) return push(std::move(*value));
  const auto full = cat(utf8_sanitize(module), ".", utf8_sanitize(name));
  if (module == "torch._utils" || (module.starts_with("torch") && name.ends_with("Storage"))) {
    fail(cat("data.pkl holds a kind of tensor that is not supported (", full,
             "): only dense, unquantized ones are"));
  }
  fail(cat("data.pkl asks for ", full,
           ", which a dict of tensors does not need; nothing was executed"),
       "don't trust this file, or save only the state_dict of it");
}

// ('storage', torch.FloatStorage, key, device, elements)
void Unpickler::push_storage() {
  const PickleValue& tuple = at(pop());
  const bool shaped = tuple.kind == PickleKind::kTuple && tuple.items.size() == 5 &&
                      at(tuple.items[0]).kind == PickleKind::kText &&
                      at(tuple.items[0]).text == "storage" &&
                      at(tuple.items[1]).kind == PickleKind::kGlobal &&
                      at(tuple.items[2]).kind == PickleKind::kText;
  const PickleKnown type = shaped ? at(tuple.items[1]).known : PickleKnown::kOrderedDict;
  if (type != PickleKnown::kStorageType && type != PickleKnown::kUntypedStorage) {
    fail("data.pkl refers to data that is not a storage");
  }
  push({.kind = PickleKind::kStorage,
        .known = type,
        .dtype = at(tuple.items[1]).dtype,
        .number = whole_number(tuple.items[4], "the size of a storage"),
        .text = at(tuple.items[2]).text});
}

void Unpickler::reduce() {
  const PickleValue& arguments = at(pop());
  const PickleValue& function = at(pop());
  if (arguments.kind != PickleKind::kTuple || function.kind != PickleKind::kGlobal) {
    fail("data.pkl calls something that is not a function; nothing was executed");
  }
  const auto& items = arguments.items;
  switch (function.known) {
    case PickleKnown::kOrderedDict:
      if (!items.empty()) fail("data.pkl builds an OrderedDict from arguments, none were expected");
      return push({.kind = PickleKind::kDict});
    case PickleKnown::kRebuildTensor:
      return rebuild_tensor(items, false);
    case PickleKnown::kRebuildTensorV3:
      return rebuild_tensor(items, true);
    case PickleKnown::kRebuildParameter:  // (tensor, requires_grad, hooks)
      if (items.empty() || items.size() > 3 || at(items[0]).kind != PickleKind::kTensor) {
        fail("data.pkl builds a parameter from something that is not a tensor");
      }
      push_ref(items[0]);
      return;
    default:
      fail("data.pkl calls something that is not a function; nothing was executed");
  }
}

// v2: (storage, storage_offset, size, stride, requires_grad, hooks[, metadata]);
// v3: (untyped storage, storage_offset, size, stride, requires_grad, hooks, dtype[, metadata]).
void Unpickler::rebuild_tensor(const std::vector<PickleRef>& arguments, bool v3) {
  const size_t least = v3 ? 7 : 6;
  if (arguments.size() < least || arguments.size() > least + 1 ||
      at(arguments[0]).kind != PickleKind::kStorage) {
    fail("data.pkl builds a tensor from the wrong arguments");
  }
  const PickleValue& storage = at(arguments[0]);
  PickledTensor tensor;
  tensor.dtype = storage.dtype;
  if (v3) {
    const PickleValue& dtype = at(arguments[6]);
    if (dtype.kind != PickleKind::kGlobal || dtype.known != PickleKnown::kDtype) {
      fail("data.pkl builds a tensor without an element type");
    }
    tensor.dtype = dtype.dtype;
  } else if (storage.known == PickleKnown::kUntypedStorage) {
    fail("data.pkl builds a tensor without an element type");
  }
  const uint64_t unit =
      storage.known == PickleKnown::kUntypedStorage ? 1 : c10::elementSize(storage.dtype);
  if (__builtin_mul_overflow(static_cast<uint64_t>(storage.number), unit, &tensor.storage_bytes)) {
    fail(cat("data.pkl claims a storage of ", storage.number, " elements"));
  }
  // The key is copied for each tensor: a long one, shared by all, would multiply into memory that the file does not justify.
  if (storage.text.size() > kMaxStorageKey) fail("data.pkl names a storage by an overlong key");
  tensor.storage = std::string(storage.text);
  tensor.storage_offset = whole_number(arguments[1], "the offset of a tensor");
  tensor.shape = sizes(arguments[2]);
  tensor.strides = sizes(arguments[3]);
  if (tensor.shape.size() != tensor.strides.size()) {
    fail("data.pkl builds a tensor with a different number of sizes and strides");
  }
  if (tensors_.size() == kMaxPickledTensors) fail("data.pkl holds too many tensors");
  tensors_.push_back(std::move(tensor));
  push({.kind = PickleKind::kTensor, .number = static_cast<int64_t>(tensors_.size() - 1)});
}

std::vector<int64_t> Unpickler::sizes(PickleRef tuple) const {
  if (at(tuple).kind != PickleKind::kTuple || at(tuple).items.size() > kMaxDims) {
    fail(cat("data.pkl: sizes and strides must be tuples of at most ", kMaxDims, " numbers"));
  }
  std::vector<int64_t> result;
  for (PickleRef item : at(tuple).items) result.push_back(whole_number(item, "a size or stride"));
  return result;
}

int64_t Unpickler::whole_number(PickleRef ref, std::string_view what) const {
  if (at(ref).kind != PickleKind::kInt || at(ref).number < 0) {
    fail(cat("data.pkl: ", what, " must be a whole number that is not negative"));
  }
  return at(ref).number;
}

// state_dict() gives its OrderedDict an attribute _metadata (versions of modules): not needed.
void Unpickler::build() {
  pop();
  if (at(top()).kind != PickleKind::kDict) {
    fail("data.pkl sets the state of an object that is not a dict; nothing was executed");
  }
}

std::vector<PickledTensor> Unpickler::read() {
  const PickleValue& root = at(run());
  if (root.kind != PickleKind::kDict) {
    fail(cat("the file holds ", pickle_kind_name(root.kind), ", a dict of tensors was expected"),
         "save the model's state_dict()");
  }
  std::vector<PickledTensor> named;
  std::unordered_set<std::string_view> names;
  for (size_t i = 0; i < root.items.size(); i += 2) {
    const PickleValue& key = at(root.items[i]);
    const PickleValue& value = at(root.items[i + 1]);
    if (key.kind != PickleKind::kText) fail("a key of the dict of tensors is not text");
    if (value.kind != PickleKind::kTensor) {
      fail(
          cat("\"", key.text, "\" holds ", pickle_kind_name(value.kind), ", a tensor was expected"),
          value.kind == PickleKind::kDict
              ? cat("if the weights are inside it, save it alone: torch.save(checkpoint[\"",
                    key.text, "\"], file)")
              : "save the model's state_dict() alone");
    }
    if (!names.insert(key.text).second) fail(cat("tensor ", key.text, " is there twice"));
    named.push_back(tensors_[static_cast<size_t>(value.number)]);
    named.back().name = std::string(key.text);
  }
  return named;
}

}  // namespace

std::vector<PickledTensor> unpickle_tensors(std::string_view pickle, std::string_view where) {
  if (pickle.size() > kMaxPickle) {
    fail_format(where, cat("data.pkl has ", pickle.size(), " bytes, at most ", kMaxPickle,
                           " were expected"));
  }
  return Unpickler(pickle, where).read();
}

}  // namespace llama2zh
