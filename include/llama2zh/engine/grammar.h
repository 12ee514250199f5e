#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

namespace llama2zh {

// A language of byte strings as a pushdown automaton: states with edges for bytes, edges for nothing,
// and calls of rules, which are other parts of the same automaton and may call themselves.
class Grammar {
 public:
  using State = int32_t;
  // A part with one way in and one way out.
  struct Part {
    State start = 0, end = 0;
  };

  State add_state();  // kUsage where there are too many: what is to be followed is too large
  void add_bytes(State from, uint8_t low, uint8_t high, State to);
  // Characters low to high in UTF-8; surrogates are none.
  void add_characters(State from, uint32_t low, uint32_t high, State to);
  void add_nothing(State from, State to);
  // From `from` through all of `rule`, whose end must be marked, to `to`.
  void add_call(State from, const Part& rule, State to);
  void mark_rule_end(State state) { at(state).ends_rule = true; }
  void set_root(const Part& root);  // marks its end

  Part bytes(std::string_view text);
  Part nothing();
  Part alternatives(const std::vector<Part>& parts);  // one of them; at least one
  Part in_order(const std::vector<Part>& parts);
  Part optional(const Part& part);
  State root() const { return root_; }

 private:
  friend class GrammarMatcher;
  struct Edge {
    uint8_t low, high;
    State to;
  };
  struct Call {
    State start, back;
  };
  struct Node {
    std::vector<Edge> edges;
    std::vector<State> nothing;
    std::vector<Call> calls;
    bool ends_rule = false;
  };
  Node& at(State state) { return nodes_[static_cast<size_t>(state)]; }
  const Node& at(State state) const { return nodes_[static_cast<size_t>(state)]; }

  std::vector<Node> nodes_;
  State root_ = 0;
};

// Follows texts through a grammar, byte by byte. What can be the case after a beginning of a text (a
// set of stacks) gets a number, and where bytes lead from there is remembered. Texts whose rules are
// nested more than 256 deep are none of the language here. Not thread-safe.
class GrammarMatcher {
 public:
  using Position = int32_t;
  static constexpr Position kNowhere = -1;

  explicit GrammarMatcher(Grammar grammar);
  Position start() const { return start_; }
  Position advance(Position position, uint8_t byte);  // kNowhere: no text goes on so
  Position advance(Position position, std::string_view bytes);
  bool accepts(Position position) const;  // the text may end here
  bool goes_on(Position position);        // some byte leads on
  // More places than it was made for: texts that lead to further ones are errors.
  bool is_full() const;

 private:
  using Stack =
      std::vector<Grammar::State>;  // the state in front last, under it where rules return
  struct Place {
    std::vector<Stack> stacks;
    bool accepts = false;
    std::array<Position, 256> next;  // kUnknown until it is asked for
  };
  static constexpr Position kUnknown = -2;
  Position place_of(const std::vector<Stack>& stacks);
  Position follow(Position position, uint8_t byte);

  Grammar grammar_;
  std::vector<Place> places_;
  std::map<std::vector<Stack>, Position> known_;
  Position start_ = 0;
};

}  // namespace llama2zh
