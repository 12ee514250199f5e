// The automaton is not deterministic; sets of its stacks are, and are made as they are met (as lazy
// DFAs of regular expressions are), so that masks over a whole vocabulary cost a table look-up a byte.
#include "llama2zh/engine/grammar.h"

#include <algorithm>
#include <set>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

constexpr size_t kMostStates = 1'000'000;
constexpr size_t kMostPlaces = 100'000;
constexpr size_t kMostStacks = 4096;   // ways to read one text
constexpr size_t kDeepestStack = 256;  // rules within rules: what is nested deeper is not let in

std::string utf8_of(uint32_t c) {
  std::string out;
  append_utf8(out, static_cast<char32_t>(c));
  return out;
}

}  // namespace

Grammar::State Grammar::add_state() {
  if (nodes_.size() >= kMostStates)
    fail_usage("constraint", cat("it takes more than ", kMostStates, " states to follow"),
               "give smaller limits of lengths and items");
  nodes_.emplace_back();
  return static_cast<State>(nodes_.size() - 1);
}

void Grammar::add_bytes(State from, uint8_t low, uint8_t high, State to) {
  at(from).edges.push_back({low, high, to});
}
void Grammar::add_nothing(State from, State to) { at(from).nothing.push_back(to); }
void Grammar::add_call(State from, const Part& rule, State to) {
  at(from).calls.push_back({rule.start, to});
}
void Grammar::set_root(const Part& root) {
  root_ = root.start;
  mark_rule_end(root.end);
}

// By splitting ranges where the length or a leading byte changes.
void Grammar::add_characters(State from, uint32_t low, uint32_t high, State to) {
  // Borders at which the number of bytes changes, and the surrogates.
  for (const uint32_t border : {0x7Fu, 0x7FFu, 0xD7FFu, 0xDFFFu, 0xFFFFu}) {
    if (low <= border && border < high) {
      add_characters(from, low, border, to);
      return add_characters(from, border + 1, high, to);
    }
  }
  if (low >= 0xD800 && high <= 0xDFFF) return;
  // So that all but the last differing byte have whole ranges behind them.
  const size_t length = utf8_of(low).size();
  for (size_t i = 1; i < length; ++i) {
    const uint32_t mask = (1u << (6 * i)) - 1;
    if ((low & ~mask) == (high & ~mask)) continue;
    if ((low & mask) != 0) {
      add_characters(from, low, low | mask, to);
      return add_characters(from, (low | mask) + 1, high, to);
    }
    if ((high & mask) != mask) {
      add_characters(from, low, (high & ~mask) - 1, to);
      return add_characters(from, high & ~mask, high, to);
    }
  }
  const std::string first = utf8_of(low), last = utf8_of(high);
  for (size_t i = 0; i < length; ++i) {
    const State next = i + 1 == length ? to : add_state();
    add_bytes(from, static_cast<uint8_t>(first[i]), static_cast<uint8_t>(last[i]), next);
    from = next;
  }
}

Grammar::Part Grammar::bytes(std::string_view text) {
  Part part;
  part.start = part.end = add_state();
  for (const char character : text) {
    const State next = add_state();
    const auto byte = static_cast<uint8_t>(character);
    add_bytes(part.end, byte, byte, next);
    part.end = next;
  }
  return part;
}

Grammar::Part Grammar::nothing() { return bytes(""); }

Grammar::Part Grammar::alternatives(const std::vector<Part>& parts) {
  const Part all{add_state(), add_state()};
  for (const Part& part : parts) {
    add_nothing(all.start, part.start);
    add_nothing(part.end, all.end);
  }
  return all;
}

Grammar::Part Grammar::in_order(const std::vector<Part>& parts) {
  Part all = nothing();
  for (const Part& part : parts) {
    add_nothing(all.end, part.start);
    all.end = part.end;
  }
  return all;
}

Grammar::Part Grammar::optional(const Part& part) {
  const Part all{add_state(), add_state()};
  add_nothing(all.start, part.start);
  add_nothing(part.end, all.end);
  add_nothing(all.start, all.end);
  return all;
}

GrammarMatcher::GrammarMatcher(Grammar grammar) : grammar_(std::move(grammar)) {
  start_ = place_of({{grammar_.root()}});
}

// The number of a set of stacks, with all that can be reached from them by no byte.
GrammarMatcher::Position GrammarMatcher::place_of(const std::vector<Stack>& stacks) {
  std::set<Stack> seen(stacks.begin(), stacks.end());
  std::vector<Stack> open(stacks.begin(), stacks.end()), with_edges;
  bool accepting = false;
  const auto reach = [&](Stack stack) {
    if (seen.insert(stack).second) open.push_back(std::move(stack));
  };
  while (!open.empty()) {
    if (seen.size() > kMostStacks)
      fail_data("constraint", "the text can be read in too many ways at once",
                "let the branches of anyOf exclude each other, and repeat less");
    const Stack stack = std::move(open.back());
    open.pop_back();
    const Grammar::Node& node = grammar_.at(stack.back());
    if (!node.edges.empty()) with_edges.push_back(stack);
    for (const Grammar::State to : node.nothing) {
      Stack next = stack;
      next.back() = to;
      reach(std::move(next));
    }
    for (const Grammar::Call& call : node.calls) {
      if (stack.size() >= kDeepestStack) break;
      Stack next = stack;
      next.back() = call.back;
      next.push_back(call.start);
      reach(std::move(next));
    }
    if (!node.ends_rule) continue;
    if (stack.size() == 1) {
      accepting = true;
    } else {
      reach(Stack(stack.begin(), stack.end() - 1));
    }
  }
  if (with_edges.empty() && !accepting) return kNowhere;
  std::sort(with_edges.begin(), with_edges.end());
  if (accepting) with_edges.push_back({});  // tells it from the same set that does not accept
  const auto found = known_.find(with_edges);
  if (found != known_.end()) return found->second;
  if (is_full())
    fail_data("constraint", "the text leads to more places than can be remembered",
              "give smaller limits of lengths and items");
  Place place;
  place.next.fill(kUnknown);
  place.accepts = accepting;
  place.stacks = with_edges;
  if (accepting) place.stacks.pop_back();
  places_.push_back(std::move(place));
  const auto number = static_cast<Position>(places_.size() - 1);
  known_.emplace(std::move(with_edges), number);
  return number;
}

GrammarMatcher::Position GrammarMatcher::follow(Position position, uint8_t byte) {
  std::vector<Stack> next;
  for (const Stack& stack : places_[static_cast<size_t>(position)].stacks) {
    for (const Grammar::Edge& edge : grammar_.at(stack.back()).edges) {
      if (byte < edge.low || byte > edge.high) continue;
      next.push_back(stack);
      next.back().back() = edge.to;
    }
  }
  return next.empty() ? kNowhere : place_of(next);
}

GrammarMatcher::Position GrammarMatcher::advance(Position position, uint8_t byte) {
  if (position == kNowhere) return kNowhere;
  const Position known = places_[static_cast<size_t>(position)].next[byte];
  if (known != kUnknown) return known;
  const Position next = follow(position, byte);
  places_[static_cast<size_t>(position)].next[byte] = next;
  return next;
}

GrammarMatcher::Position GrammarMatcher::advance(Position position, std::string_view bytes) {
  for (const char byte : bytes) position = advance(position, static_cast<uint8_t>(byte));
  return position;
}

bool GrammarMatcher::accepts(Position position) const {
  return position != kNowhere && places_[static_cast<size_t>(position)].accepts;
}

bool GrammarMatcher::is_full() const { return places_.size() >= kMostPlaces; }

bool GrammarMatcher::goes_on(Position position) {
  return position != kNowhere && !places_[static_cast<size_t>(position)].stacks.empty();
}

}  // namespace llama2zh
