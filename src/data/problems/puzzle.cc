// State puzzles: water jugs, the tower of Hanoi from any position to any other, sliding tiles.
// A state is a row of digits: litres of each jug, the peg of each disk (smallest first), the tile
// in each place (0 is the hole). Any legal sequence of moves to the goal is right.
#include <algorithm>
#include <string>
#include <vector>

#include "data/problems/family.h"
#include "data/problems/values.h"

namespace hadal::problems {
namespace {

struct PuzzleLevel {
  int jugs, disks, rows;                  // with three jugs all amounts are asked
  int jug_moves, disk_moves, tile_moves;  // of a shortest way, at least
  int more_moves;                         // than that, at most
};
constexpr PuzzleLevel kPuzzleLevels[kLevels] = {
    {2, 3, 2, 2, 2, 2, 0},      {2, 3, 2, 2, 2, 2, 1},     {2, 3, 2, 3, 3, 3, 1},
    {2, 3, 2, 4, 4, 4, 1},      {3, 4, 2, 6, 6, 6, 1000},  {3, 5, 3, 7, 8, 8, 1000},
    {3, 6, 3, 8, 10, 10, 1000}, {3, 7, 3, 9, 12, 12, 1000}};
constexpr size_t kShortTrace = 320;     // bytes of a search, levels 1 to 4
constexpr size_t kWrittenStates = 250;  // a longer search is not written out
constexpr size_t kNoLimit = size_t{1} << 30;
constexpr size_t kLongestAnswer = 4096;  // moves

std::vector<Knob> PuzzleKnobs(int level) {
  const auto& l = kPuzzleLevels[level - 1];
  return {{"jugs", l.jugs},
          {"disks", l.disks},
          {"rows", l.rows},
          {"jug_moves", l.jug_moves},
          {"disk_moves", l.disk_moves},
          {"tile_moves", l.tile_moves},
          {"more_moves", l.more_moves}};
}

enum class Kind { kJugs, kHanoi, kTiles };

struct Puzzle {
  Kind kind = Kind::kJugs;
  std::string capacities;  // jugs: one digit each
  std::string start;
  std::string goal;  // jugs: one digit is the litres wanted in any jug; empty is never reached

  bool Solved(const std::string& state) const {
    if (kind == Kind::kJugs && goal.size() == 1) return state.find(goal) != std::string::npos;
    return state == goal;
  }
};

struct Move {
  std::string name, state;
};

void JugMoves(const Puzzle& p, const std::string& state, std::vector<Move>& moves) {
  const auto name = [](char what, size_t i) { return what + std::to_string(i + 1); };
  for (size_t i = 0; i < state.size(); ++i) {
    if (state[i] < p.capacities[i]) {
      moves.push_back({name('F', i), state});
      moves.back().state[i] = p.capacities[i];
    }
    if (state[i] > '0') {
      moves.push_back({name('E', i), state});
      moves.back().state[i] = '0';
    }
    for (size_t j = 0; j < state.size(); ++j) {
      const int amount = std::min(state[i] - '0', p.capacities[j] - state[j]);
      if (i == j || amount == 0) continue;
      moves.push_back({name('P', i) + std::to_string(j + 1), state});
      moves.back().state[i] = static_cast<char>(state[i] - amount);
      moves.back().state[j] = static_cast<char>(state[j] + amount);
    }
  }
}

void HanoiMoves(const std::string& state, std::vector<Move>& moves) {
  for (char from = '1'; from <= '3'; ++from) {
    const size_t disk = state.find(from);
    if (disk == std::string::npos) continue;
    for (char to = '1'; to <= '3'; ++to) {
      if (to == from || state.find(to) < disk) continue;
      moves.push_back({std::string{from, to}, state});
      moves.back().state[disk] = to;
    }
  }
}

void TileMoves(const std::string& state, std::vector<Move>& moves) {
  constexpr int columns = 3;
  const int hole = static_cast<int>(state.find('0')), size = static_cast<int>(state.size());
  const auto slide = [&](int from) {
    moves.push_back({std::string(1, state[static_cast<size_t>(from)]), state});
    std::swap(moves.back().state[static_cast<size_t>(from)],
              moves.back().state[static_cast<size_t>(hole)]);
  };
  if (hole % columns > 0) slide(hole - 1);
  if (hole % columns < columns - 1) slide(hole + 1);
  if (hole >= columns) slide(hole - columns);
  if (hole + columns < size) slide(hole + columns);
}

// The legal moves; the list is the caller's to use again.
void MovesFrom(const Puzzle& p, const std::string& state, std::vector<Move>& moves) {
  moves.clear();
  if (p.kind == Kind::kJugs) JugMoves(p, state, moves);
  if (p.kind == Kind::kHanoi) HanoiMoves(state, moves);
  if (p.kind == Kind::kTiles) TileMoves(state, moves);
}

// The place of a permutation of digits among all of them.
size_t RankOf(const std::string& state) {
  size_t rank = 0;
  for (size_t i = 0; i < state.size(); ++i) {
    size_t smaller = 0;
    for (size_t j = i + 1; j < state.size(); ++j) smaller += state[j] < state[i];
    rank = rank * (state.size() - i) + smaller;
  }
  return rank;
}

// A number for each state, below 10^jugs, 4^disks or tiles!.
size_t NumberOf(const Puzzle& p, const std::string& state) {
  if (p.kind == Kind::kTiles) return RankOf(state);
  size_t number = 0;
  for (const char c : state) {
    number = number * (p.kind == Kind::kJugs ? 10 : 4) + static_cast<size_t>(c - '0');
  }
  return number;
}

struct Found {
  std::string state, move;
  size_t parent = 0;
};

// States in the order of a breadth-first search, to the goal, which is then the last one. Gives up
// when writing them would take more bytes.
std::vector<Found> BreadthFirst(const Puzzle& p, size_t most_bytes, bool& solved) {
  std::vector<Found> found = {{p.start, {}, 0}};
  std::vector<bool> seen(p.kind == Kind::kTiles ? 720 : p.kind == Kind::kJugs ? 1000 : 16384);
  seen[NumberOf(p, p.start)] = true;
  std::vector<Move> moves;
  solved = p.Solved(p.start);
  size_t bytes = 0;
  for (size_t head = 0; head < found.size() && !solved && bytes <= most_bytes; ++head) {
    MovesFrom(p, found[head].state, moves);
    bytes += p.start.size() + 2;
    for (auto& move : moves) {
      const size_t number = NumberOf(p, move.state);
      if (seen[number]) continue;
      seen[number] = true;
      solved = p.Solved(move.state);
      found.push_back({std::move(move.state), std::move(move.name), head});
      bytes += p.start.size() + found.back().move.size() + 2;
      if (solved) break;
    }
  }
  return found;
}

void WriteSearch(Text& text, const std::vector<Found>& found) {
  size_t next = 1;
  for (size_t head = 0; next < found.size(); ++head) {
    text << found[head].state << ": ";
    for (; next < found.size() && found[next].parent == head; ++next) {
      text << found[next].move << ' ' << found[next].state << ' ';
    }
    text.EndLine();
  }
  size_t at = found.size() - 1;
  for (; at != 0; at = found[at].parent) text << found[at].state << ' ' << found[at].move << ' ';
  text << found[0].state;
  text.EndLine();
}

// How much jug `i` can pour into jug `j`, and what is then in both.
void WritePour(Text& text, const Puzzle& p, const std::string& state, const Move& move) {
  const auto i = static_cast<size_t>(move.name[1] - '1'),
             j = static_cast<size_t>(move.name[2] - '1');
  const int has = state[i] - '0', holds = state[j] - '0', room = p.capacities[j] - state[j];
  const int amount = std::min(has, room);
  text << p.capacities[j] << '-' << holds << '=' << room << ' ' << has
       << (has < room   ? '<'
           : has > room ? '>'
                        : '=')
       << room << ' ' << has << '-' << amount << '=' << has - amount << ' ' << holds << '+'
       << amount << '=' << holds + amount << ' ';
}

// What the goal has in each place where the state has something else, and 9 where they agree: the
// digit that says which tile belongs in the hole, or to which peg a disk must go. The litres
// wanted, where places do not matter.
std::string Missing(const Puzzle& p, const std::string& state) {
  if (p.kind == Kind::kJugs) return p.goal;
  std::string missing = p.goal;
  for (size_t i = 0; i < missing.size(); ++i) {
    if (missing[i] == state[i]) missing[i] = '9';
  }
  return missing;
}

// Moves along the way, after each what is missing and all moves so far; now and then another one,
// back to a state of the way or astray, taken back.
void WriteWay(Draft& d, const Puzzle& p, const std::vector<Move>& way) {
  std::string state = p.start;
  Text done;
  std::vector<std::string> seen = {state};
  std::vector<Move> moves;
  d.thought << state << ' ' << Missing(p, state);
  d.thought.EndLine();
  for (const auto& step : way) {
    MovesFrom(p, state, moves);
    for (const auto& other : moves) {
      const bool back = std::find(seen.begin(), seen.end(), other.state) != seen.end();
      if (other.name == step.name || !d.Chance(back ? 30 : 8)) continue;
      d.thought << state << ": " << other.name << ' ' << other.state << (back ? " seen" : " no");
      d.thought.EndLine();
    }
    done << (done.str().empty() ? "" : ", ") << step.name;
    d.thought << state << ": " << step.name << ' ';
    if (step.name[0] == 'P') WritePour(d.thought, p, state, step);
    d.thought << step.state << ' ' << Missing(p, step.state)
              << (p.Solved(step.state) ? " yes: " : " no: ") << done;
    d.thought.EndLine();
    state = step.state;
    seen.push_back(state);
  }
}

// ---- 3 x 3 tiles: distances of all positions from the goal ----

constexpr const char* kTilesGoal = "123456780";

const std::vector<uint8_t>& TileDistances() {
  static const std::vector<uint8_t> distances = [] {
    std::vector<uint8_t> table(362'880, 255);  // 9!
    std::vector<std::string> queue = {kTilesGoal};
    std::vector<Move> moves;
    table[RankOf(kTilesGoal)] = 0;
    for (size_t head = 0; head < queue.size(); ++head) {
      const std::string state = queue[head];
      const auto next = static_cast<uint8_t>(table[RankOf(state)] + 1);
      moves.clear();
      TileMoves(state, moves);
      for (const auto& move : moves) {
        uint8_t& distance = table[RankOf(move.state)];
        if (distance != 255) continue;
        distance = next;
        queue.push_back(move.state);
      }
    }
    return table;
  }();
  return distances;
}

std::string Shuffled(Draft& d, std::string digits) {
  for (size_t i = digits.size() - 1; i > 0; --i) {
    std::swap(digits[i], digits[static_cast<size_t>(d.Pick(0, static_cast<int64_t>(i)))]);
  }
  return digits;
}

std::vector<Move> PickLargeTiles(Draft& d, const PuzzleLevel& l, Puzzle& p) {
  const auto& distances = TileDistances();
  int distance = 0;
  do {
    p.start = Shuffled(d, kTilesGoal);
    distance = distances[RankOf(p.start)];
  } while (distance < l.tile_moves || distance > 2 * l.tile_moves);
  p.goal = kTilesGoal;
  std::vector<Move> way, moves;
  for (std::string state = p.start; state != p.goal; state = way.back().state) {
    moves.clear();
    TileMoves(state, moves);
    for (auto& move : moves) {
      if (distances[RankOf(move.state)] + 1 != distances[RankOf(state)]) continue;
      way.push_back(std::move(move));
      break;
    }
  }
  return way;
}

// ---- items ----

std::string PickDigits(Draft& d, int count, char low, char high) {
  std::string digits;
  for (int i = 0; i < count; ++i) digits += static_cast<char>(d.Pick(low, high));
  return digits;
}

// A state at least so many moves from the start; empty where there is none.
std::string PickFarState(Draft& d, const Puzzle& p, int least_moves) {
  bool solved = false;
  const auto found = BreadthFirst(p, kNoLimit, solved);
  std::vector<int> moves(found.size(), 0);
  size_t first = found.size();
  for (size_t i = 1; i < found.size(); ++i) {
    moves[i] = moves[found[i].parent] + 1;
    if (moves[i] >= least_moves && first == found.size()) first = i;
  }
  if (first == found.size()) return {};
  const auto pick = d.Pick(static_cast<int64_t>(first), static_cast<int64_t>(found.size()) - 1);
  return found[static_cast<size_t>(pick)].state;
}

// A drawn puzzle, not always one with a solution of the right length.
Puzzle PickPuzzle(Draft& d, const PuzzleLevel& l, Kind kind) {
  Puzzle p;
  p.kind = kind;
  if (kind == Kind::kJugs) {
    p.capacities = PickDigits(d, l.jugs, '2', '9');
    for (const char capacity : p.capacities) p.start += static_cast<char>(d.Pick('0', capacity));
    p.goal = l.jugs > 2 ? PickFarState(d, p, l.jug_moves) : PickDigits(d, 1, '1', '9');
  } else if (kind == Kind::kHanoi) {
    p.start = PickDigits(d, l.disks, '1', '3');
    p.goal = PickDigits(d, l.disks, '1', '3');
  } else {
    p.start = Shuffled(d, "012345");
    p.goal = Shuffled(d, "012345");
  }
  return p;
}

// Even permutations only reach even ones, counting the way of the hole.
bool TilesReach(const Puzzle& p) {
  const auto odd = [](const std::string& state) {
    size_t inversions = state.find('0') / 3 + state.find('0') % 3;
    for (size_t i = 0; i < state.size(); ++i) {
      for (size_t j = i + 1; j < state.size(); ++j) inversions += state[j] < state[i];
    }
    return inversions % 2;
  };
  return odd(p.start) == odd(p.goal);
}

void WriteLitres(Text& text, const std::string& digits) {
  for (size_t i = 0; i < digits.size(); ++i) text << (i > 0 ? ", " : "") << digits[i];
}

void AskPuzzle(Draft& d, const Puzzle& p) {
  if (p.kind == Kind::kJugs) {
    d.canonical << "jugs " << p.capacities << ' ' << p.start << ' ' << p.goal;
    d.prompt << d.Say("Jugs of ", "水壶容量 ");
    WriteLitres(d.prompt, p.capacities);
    d.prompt << d.Say(" litres hold ", " 升, 现有 ");
    WriteLitres(d.prompt, p.start);
    d.prompt << d.Say(". F1 fills jug 1, E1 empties it, P12 pours 1 into 2. Get ",
                      " 升。F1 装满 1 号, E1 倒空 1 号, P12 从 1 号倒入 2 号。使")
             << (p.goal.size() == 1 ? d.Say("", "某个壶有 ") : d.Say("", "各壶依次有 "));
    WriteLitres(d.prompt, p.goal);
    d.prompt << (p.goal.size() == 1 ? d.Say(" litres in a jug.", " 升。")
                                    : d.Say(" litres in them.", " 升。"));
  } else if (p.kind == Kind::kHanoi) {
    d.canonical << "hanoi " << p.start << ' ' << p.goal;
    d.prompt << d.Say("Tower of Hanoi, pegs of the disks, smallest first: ",
                      "汉诺塔, 各盘所在的柱 (从小到大): ")
             << p.start << d.Say(" to ", " 变成 ") << p.goal
             << d.Say(". 13 moves the top disk of peg 1 to peg 3.",
                      "。13 表示把 1 柱最上面的盘移到 3 柱。");
  } else {
    d.canonical << "tiles 3 " << p.start << ' ' << p.goal;
    d.prompt << d.Say("Sliding tiles in rows of 3, 0 is the hole: ", "滑块, 每行 3 个, 0 是空格: ")
             << p.start << d.Say(" to ", " 变成 ") << p.goal
             << d.Say(". Name the tiles that slide.", "。写出依次滑动的块。");
  }
  d.prompt << d.Say(" Give the moves with commas.", " 用逗号分开各步。");
}

void WriteGold(Draft& d, const std::vector<Move>& way) {
  for (size_t i = 0; i < way.size(); ++i) d.gold << (i > 0 ? ", " : "") << way[i].name;
}

std::vector<Move> WayTo(const std::vector<Found>& found) {
  std::vector<Move> way;
  for (size_t at = found.size() - 1; at != 0; at = found[at].parent) {
    way.push_back({found[at].move, found[at].state});
  }
  std::reverse(way.begin(), way.end());
  return way;
}

// Draws until the shortest way and its trace have the length of the level.
std::vector<Move> PickSearched(Draft& d, const PuzzleLevel& l, Puzzle& p) {
  const Kind kind = p.kind;
  const int least = kind == Kind::kJugs    ? l.jug_moves
                    : kind == Kind::kHanoi ? l.disk_moves
                                           : l.tile_moves;
  const bool small = d.level <= 4;
  for (;;) {
    p = PickPuzzle(d, l, kind);
    if (kind == Kind::kTiles && !TilesReach(p)) continue;
    if (p.goal.empty() || p.Solved(p.start)) continue;
    bool solved = false;
    const auto found = BreadthFirst(p, small ? kShortTrace : kNoLimit, solved);
    if (!solved) continue;
    auto way = WayTo(found);
    const int moves = static_cast<int>(way.size());
    if (moves < least || moves > least + l.more_moves) continue;
    if (!small && found.size() > kWrittenStates) {
      WriteWay(d, p, way);
      return way;
    }
    Text trace;
    WriteSearch(trace, found);
    if (!small) {
      d.thought << trace;
      return way;
    }
    if (trace.str().size() > kShortTrace) continue;  // a long search: harder than the level
    WriteWay(d, p, way);
    return way;
  }
}

void MakePuzzle(Draft& d) {
  const auto& l = kPuzzleLevels[d.level - 1];
  Puzzle p;
  p.kind = static_cast<Kind>(d.Pick(0, 2));
  std::vector<Move> way;
  if (p.kind == Kind::kTiles && l.rows == 3) {
    way = PickLargeTiles(d, l, p);
    WriteWay(d, p, way);
  } else {
    way = PickSearched(d, l, p);
  }
  AskPuzzle(d, p);
  WriteGold(d, way);
  d.thought << d.gold;
}

bool ReadPuzzle(const Problem& problem, Puzzle& p) {
  Fields fields(problem.canonical);
  const std::string_view kind = fields.Word();
  const auto digits = [&](char low, char high) {
    const std::string word(fields.Word());
    if (word.empty() || word.size() > 9) fields.Fail();
    for (const char c : word) {
      if (c < low || c > high) fields.Fail();
    }
    return word;
  };
  if (kind == "jugs") {
    p.kind = Kind::kJugs;
    p.capacities = digits('1', '9');
    p.start = digits('0', '9');
    p.goal = digits('0', '9');
    for (size_t i = 0; i < p.start.size() && i < p.capacities.size(); ++i) {
      if (p.start[i] > p.capacities[i]) fields.Fail();
    }
    return fields.ok() && p.start.size() == p.capacities.size() &&
           (p.goal.size() == 1 || p.goal.size() == p.start.size());
  }
  p.kind = kind == "hanoi" ? Kind::kHanoi : Kind::kTiles;
  if (kind == "tiles") fields.Integer(3, 3);  // columns
  p.start = digits(kind == "hanoi" ? '1' : '0', kind == "hanoi" ? '3' : '8');
  p.goal = digits(kind == "hanoi" ? '1' : '0', kind == "hanoi" ? '3' : '8');
  const bool shaped = kind == "hanoi" || (kind == "tiles" && p.start.size() % 3 == 0 &&
                                          std::count(p.start.begin(), p.start.end(), '0') == 1);
  return fields.ok() && shaped && p.start.size() == p.goal.size();
}

Verdict VerifyPuzzle(const Problem& problem, std::string_view answer) {
  Puzzle p;
  if (!ReadPuzzle(problem, p)) return Verdict::kError;
  const auto names = SplitCommas(answer);
  if (names.size() > kLongestAnswer) return Verdict::kWrong;
  std::string state = p.start;
  std::vector<Move> moves;
  for (const auto name : names) {
    MovesFrom(p, state, moves);
    const auto at = std::find_if(moves.begin(), moves.end(),
                                 [&](const Move& move) { return move.name == name; });
    if (at == moves.end()) return Verdict::kWrong;
    state = std::move(at->state);
  }
  return p.Solved(state) ? Verdict::kRight : Verdict::kWrong;
}

}  // namespace

const FamilyEntry kPuzzleFamily = {"puzzle", MakePuzzle, VerifyPuzzle, PuzzleKnobs};

}  // namespace hadal::problems
