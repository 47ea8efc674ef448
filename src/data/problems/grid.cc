// Shortest paths in a grid with walls: small grids at a glance, with steps astray taken back,
// larger ones breadth first, then back from the goal.
#include <algorithm>
#include <string>
#include <vector>

#include "data/problems/family.h"
#include "data/problems/values.h"

namespace hadal::problems {
namespace {

struct GridLevel {
  int rows, columns, walls_percent, least_moves;
};
constexpr GridLevel kGridLevels[kLevels] = {{3, 3, 25, 2},   {3, 4, 25, 2},   {4, 4, 25, 3},
                                            {4, 5, 30, 3},   {6, 6, 30, 4},   {8, 8, 30, 6},
                                            {12, 12, 32, 8}, {20, 20, 34, 10}};
constexpr std::string_view kMoves = "RDLU", kImpossible = "impossible";
constexpr int kRowStep[] = {0, 1, 0, -1}, kColumnStep[] = {1, 0, -1, 0};
constexpr int64_t kLargestSide = 64;

std::vector<Knob> GridKnobs(int level) {
  const auto& l = kGridLevels[level - 1];
  return {{"rows", l.rows},
          {"columns", l.columns},
          {"walls_percent", l.walls_percent},
          {"least_moves", l.least_moves}};
}

struct Grid {
  int rows = 0, columns = 0, start = 0, goal = 0;
  std::string cells;  // '0' free, '1' wall, row by row

  // The cell that a move leads to, -1 for a wall or the outside.
  int Step(int cell, size_t move) const {
    const int row = cell / columns + kRowStep[move], column = cell % columns + kColumnStep[move];
    if (row < 0 || row >= rows || column < 0 || column >= columns) return -1;
    const int next = row * columns + column;
    return cells[static_cast<size_t>(next)] == '0' ? next : -1;
  }
};

struct Search {
  std::vector<int> order;     // cells as they were found
  std::vector<int> parent;    // per cell, -1 where not found
  std::vector<int> distance;  // per cell, -1 where not found
  std::string move;           // per cell, the move that found it
};

// From the start until the goal is found; with `whole`, all cells that can be reached.
Search BreadthFirst(const Grid& grid, bool whole = false) {
  Search s;
  const size_t size = grid.cells.size();
  s.parent.assign(size, -1);
  s.distance.assign(size, -1);
  s.move.assign(size, ' ');
  s.order = {grid.start};
  s.distance[static_cast<size_t>(grid.start)] = 0;
  for (size_t head = 0; head < s.order.size(); ++head) {
    const int cell = s.order[head];
    if (!whole && s.distance[static_cast<size_t>(grid.goal)] >= 0) break;
    for (size_t m = 0; m < kMoves.size(); ++m) {
      const int next = grid.Step(cell, m);
      if (next < 0 || s.distance[static_cast<size_t>(next)] >= 0) continue;
      s.distance[static_cast<size_t>(next)] = s.distance[static_cast<size_t>(cell)] + 1;
      s.parent[static_cast<size_t>(next)] = cell;
      s.move[static_cast<size_t>(next)] = kMoves[m];
      s.order.push_back(next);
    }
  }
  return s;
}

// Row and column from 1: two digits where both fit one, with a point between them otherwise.
void WriteCell(Text& text, const Grid& grid, int cell) {
  text << cell / grid.columns + 1;
  if (grid.rows > 9 || grid.columns > 9) text << '.';
  text << cell % grid.columns + 1;
}

void WriteFreeCells(Text& text, const Grid& grid) {
  text << "0:";
  for (int cell = 0; cell < static_cast<int>(grid.cells.size()); ++cell) {
    if (grid.cells[static_cast<size_t>(cell)] != '0') continue;
    text << ' ';
    WriteCell(text, grid, cell);
  }
  text.EndLine();
}

// Along the path, a line each: where it stands and where it goes, the move and the cell it leads
// to, the moves so far; now and then a step that brings the goal no nearer.
void WriteWay(Draft& d, const Grid& grid, const std::vector<size_t>& path) {
  Grid back = grid;
  std::swap(back.start, back.goal);
  const Search from_goal = BreadthFirst(back, true);
  int cell = grid.start;
  Text done;
  for (const size_t move : path) {
    WriteCell(d.thought, grid, cell);
    d.thought << ' ';
    WriteCell(d.thought, grid, grid.goal);
    d.thought << ": ";
    for (size_t m = 0; m < kMoves.size(); ++m) {
      const int next = grid.Step(cell, m);
      if (next < 0 || !d.Chance(15) ||
          from_goal.distance[static_cast<size_t>(next)] <
              from_goal.distance[static_cast<size_t>(cell)]) {
        continue;
      }
      d.thought << kMoves[m] << ' ';
      WriteCell(d.thought, grid, next);
      d.thought << " no ";
    }
    cell = grid.Step(cell, move);
    d.thought << kMoves[move] << ' ';
    WriteCell(d.thought, grid, cell);
    done << (done.str().empty() ? "" : ", ") << kMoves[move];
    d.thought << (cell == grid.goal ? " yes: " : ": ") << done;
    d.thought.EndLine();
  }
}

void WriteSearch(Text& text, const Grid& grid, const Search& s) {
  size_t found = 1;
  for (const int cell : s.order) {
    if (found == s.order.size() && s.distance[static_cast<size_t>(grid.goal)] >= 0) break;
    WriteCell(text, grid, cell);
    text << ": ";
    for (; found < s.order.size() && s.parent[static_cast<size_t>(s.order[found])] == cell;
         ++found) {
      text << s.move[static_cast<size_t>(s.order[found])];
      WriteCell(text, grid, s.order[found]);
      text << ' ';
    }
    text.EndLine();
  }
  if (s.distance[static_cast<size_t>(grid.goal)] < 0) return;
  for (int cell = grid.goal; cell != grid.start; cell = s.parent[static_cast<size_t>(cell)]) {
    WriteCell(text, grid, cell);
    text << ' ' << s.move[static_cast<size_t>(cell)] << ' ';
  }
  WriteCell(text, grid, grid.start);
  text.EndLine();
}

Grid PickGrid(Draft& d, const GridLevel& l) {
  Grid grid{l.rows, l.columns, 0, 0, {}};
  const int64_t size = int64_t{l.rows} * l.columns;
  for (int64_t i = 0; i < size; ++i) grid.cells += d.Chance(l.walls_percent) ? '1' : '0';
  grid.start = static_cast<int>(d.Pick(0, size - 1));
  grid.goal = static_cast<int>(d.Pick(0, size - 1));
  grid.cells[static_cast<size_t>(grid.start)] = '0';
  grid.cells[static_cast<size_t>(grid.goal)] = '0';
  return grid;
}

void AskGrid(Draft& d, const Grid& grid) {
  d.prompt << d.Say("Grid, 0 is free, 1 is a wall:\n", "网格, 0 可走, 1 是墙:\n");
  for (int row = 0; row < grid.rows; ++row) {
    d.prompt << row + 1 << ": "
             << std::string_view(grid.cells)
                    .substr(static_cast<size_t>(row * grid.columns),
                            static_cast<size_t>(grid.columns))
             << '\n';
  }
  d.prompt << d.Say("Shortest way from ", "求最短路, 从 ");
  WriteCell(d.prompt, grid, grid.start);
  d.prompt << d.Say(" to ", " 到 ");
  WriteCell(d.prompt, grid, grid.goal);
  d.prompt << d.Say(" (row and column), as moves U, D, L, R with commas, or impossible.",
                    " (行和列), 写出移动 U, D, L, R, 用逗号分开; 走不到就写 impossible。");
}

void MakeGrid(Draft& d) {
  const auto& l = kGridLevels[d.level - 1];
  const bool reachable = !d.Chance(8);
  Grid grid;
  Search s;
  for (;;) {
    grid = PickGrid(d, l);
    if (grid.start == grid.goal) continue;
    s = BreadthFirst(grid);
    const int distance = s.distance[static_cast<size_t>(grid.goal)];
    if (reachable ? distance >= l.least_moves : distance < 0) break;
  }
  std::vector<size_t> path;
  if (reachable) {
    for (int cell = grid.goal; cell != grid.start; cell = s.parent[static_cast<size_t>(cell)]) {
      path.push_back(kMoves.find(s.move[static_cast<size_t>(cell)]));
    }
    std::reverse(path.begin(), path.end());
    for (size_t i = 0; i < path.size(); ++i) d.gold << (i > 0 ? ", " : "") << kMoves[path[i]];
  } else {
    d.gold << kImpossible;
  }
  d.canonical << grid.rows << ' ' << grid.columns << ' ' << grid.start << ' ' << grid.goal << ' '
              << grid.cells;
  AskGrid(d, grid);
  WriteFreeCells(d.thought, grid);
  if (reachable && d.level <= 4) {
    WriteWay(d, grid, path);
  } else {
    WriteSearch(d.thought, grid, s);
  }
  d.thought << d.gold;
}

Verdict VerifyGrid(const Problem& problem, std::string_view answer) {
  Fields fields(problem.canonical);
  Grid grid;
  grid.rows = static_cast<int>(fields.Integer(1, kLargestSide));
  grid.columns = static_cast<int>(fields.Integer(1, kLargestSide));
  const int size = grid.rows * grid.columns;
  grid.start = static_cast<int>(fields.Integer(0, size - 1));
  grid.goal = static_cast<int>(fields.Integer(0, size - 1));
  grid.cells = std::string(fields.Word());
  if (!fields.ok() || grid.cells.size() != static_cast<size_t>(size)) return Verdict::kError;
  answer = Trim(answer);
  const int distance = BreadthFirst(grid).distance[static_cast<size_t>(grid.goal)];
  if (distance < 0) return answer == kImpossible ? Verdict::kRight : Verdict::kWrong;
  std::vector<std::string_view> moves = SplitCommas(answer);
  if (moves.size() == 1) {  // "RD" as "R, D"
    moves.clear();
    for (size_t i = 0; i < answer.size(); ++i) moves.push_back(answer.substr(i, 1));
  }
  if (moves.size() != static_cast<size_t>(distance)) return Verdict::kWrong;
  int cell = grid.start;
  for (const std::string_view name : moves) {
    const size_t move = kMoves.find(name);
    if (name.size() != 1 || move == std::string_view::npos) return Verdict::kWrong;
    cell = grid.Step(cell, move);
    if (cell < 0) return Verdict::kWrong;
  }
  return cell == grid.goal ? Verdict::kRight : Verdict::kWrong;
}

}  // namespace

const FamilyEntry kGridFamily = {"grid", MakeGrid, VerifyGrid, GridKnobs};

}  // namespace hadal::problems
