// Linear, quadratic and cubic equations with integer roots.
#include <algorithm>
#include <set>
#include <vector>

#include "data/problems/family.h"
#include "data/problems/steps.h"
#include "data/problems/values.h"

namespace hadal::problems {
namespace {

struct EquationLevel {
  int degree;
  int64_t size;
  int negatives, sides;
};
constexpr EquationLevel kEquationLevels[kLevels] = {{1, 10, 0, 1}, {1, 12, 0, 1}, {1, 12, 1, 1},
                                                    {1, 12, 1, 2}, {2, 12, 1, 2}, {2, 20, 1, 2},
                                                    {3, 20, 1, 2}, {3, 30, 1, 2}};

std::vector<Knob> EquationKnobs(int level) {
  const auto& l = kEquationLevels[level - 1];
  return {{"degree", l.degree}, {"size", l.size}, {"negatives", l.negatives}, {"sides", l.sides}};
}

// ax^k + ... with signs and without zero terms; coefficients from the highest power down.
void WritePolynomial(Text& text, const std::vector<int64_t>& coefficients) {
  bool first = true;
  for (size_t i = 0; i < coefficients.size(); ++i) {
    const size_t power = coefficients.size() - 1 - i;
    const int64_t c = coefficients[i], size = c < 0 ? -c : c;
    if (c == 0) continue;
    if (c < 0) text << '-';
    if (c > 0 && !first) text << '+';
    first = false;
    if (size != 1 || power == 0) text << size;
    if (size != 1 && power > 0) text << '*';
    if (power > 0) text << 'x';
    if (power > 1) text << '^' << power;
  }
  if (first) text << 0;
}

void Ask(Draft& d, const Text& equation, bool several) {
  d.prompt << d.Say("Solve ", "解方程 ") << equation;
  if (several) {
    d.prompt << d.Say(". Give every root once, like 2, -3.", "。每个根写一次, 例如 2, -3。");
  } else {
    d.prompt << d.Say(" for x.", ", 求 x。");
  }
}

// ---- linear ----

void WriteLinear(Text& text, int64_t slope, int64_t constant, int64_t right) {
  // slope*x + constant = right
  if (constant != 0) {
    text << slope << "*x=" << right << (constant < 0 ? '+' : '-')
         << (constant < 0 ? -constant : constant);
    text.EndLine();
    right = WriteSignedAdd(text, right, -constant);
    text.EndLine();
  }
  text << slope << "*x=" << right;
  text.EndLine();
  const int64_t size = right < 0 ? -right : right;
  text << size << '/' << slope << '=' << size / slope;
  text.EndLine();
  text << "x=" << right / slope;
  text.EndLine();
}

void MakeLinear(Draft& d, const EquationLevel& l) {
  int64_t x = d.Pick(1, l.size), slope = d.Pick(2, l.size), constant = d.Pick(1, 2 * l.size);
  if (l.negatives && d.Chance(50)) x = -x;
  if (l.negatives && d.Chance(50)) constant = -constant;
  const int64_t right = slope * x + constant;
  Text equation;
  if (l.sides == 1) {
    WritePolynomial(equation, {slope, constant});
    equation << '=' << right;
    d.canonical << "linear 0 " << slope << ' ' << constant << ' ' << right;
    WriteLinear(d.thought, slope, constant, right);
  } else {
    const int64_t other = d.Pick(1, l.size);  // the same multiple of x on both sides
    Text left_side, right_side;
    WritePolynomial(left_side, {slope + other, constant});
    WritePolynomial(right_side, {other, right});
    const bool swapped = d.Chance(50);
    equation << (swapped ? right_side : left_side) << '=' << (swapped ? left_side : right_side);
    d.canonical << "linear " << other << ' ' << slope + other << ' ' << constant << ' ' << right;
    d.thought << left_side << '=' << right_side;
    d.thought.EndLine();
    WriteSubtract(d.thought, slope + other, other);
    d.thought.EndLine();
    Text single;
    WritePolynomial(single, {slope, constant});
    d.thought << single << '=' << right;
    d.thought.EndLine();
    WriteLinear(d.thought, slope, constant, right);
  }
  Ask(d, equation, false);
  d.gold << x;
}

// ---- polynomials ----

int64_t ValueAt(const std::vector<int64_t>& coefficients, int64_t x, bool& fits) {
  __int128 value = 0;
  for (const int64_t c : coefficients) {
    value = value * x + c;
    if (value > INT64_MAX || value < INT64_MIN) fits = false;
    if (!fits) return 0;
  }
  return static_cast<int64_t>(value);
}

// x^2+b*x+c=0 by the divisors of c: two numbers with product |c| whose sum or difference is |b|.
void WriteQuadratic(Text& text, int64_t b, int64_t c) {
  Text shown;
  WritePolynomial(shown, {1, b, c});
  text << shown << "=0";
  text.EndLine();
  if (c == 0) {
    text << "x=0 x=" << -b;
    text.EndLine();
    return;
  }
  const int64_t product = c < 0 ? -c : c, target = b < 0 ? -b : b;
  for (int64_t p = 1; p <= product; ++p) {
    if (product % p != 0) continue;
    const int64_t q = product / p;
    const int64_t sum = c > 0 ? p + q : q - p;
    text << p << '*' << q << '=' << product << ' ' << q << (c > 0 ? '+' : '-') << p << '=' << sum;
    text << (sum == target ? " yes" : " no");
    text.EndLine();
    if (sum != target) continue;
    // The larger number q has the sign against b; p has it too where c is positive.
    const int64_t large = b > 0 ? -q : q;
    const int64_t small = (c > 0) == (b > 0) ? -p : p;
    text << "x=" << large << " x=" << small;
    text.EndLine();
    return;
  }
}

// Divides by x-r where r is a root, trying 0, 1, -1, 2, -2, ...; Horner's scheme.
std::vector<int64_t> WriteRootSearch(Text& text, const std::vector<int64_t>& coefficients) {
  for (int64_t i = 0;; ++i) {
    const int64_t r = i % 2 == 1 ? (i + 1) / 2 : -i / 2;
    text << "x=" << r << ": ";
    std::vector<int64_t> row = {coefficients[0]};
    for (size_t k = 1; k < coefficients.size(); ++k) {
      const int64_t product = row.back() * r, sum = coefficients[k] + product;
      text << row.back() << '*' << r << '=' << product << ' ' << coefficients[k]
           << (product < 0 ? "" : "+") << product << '=' << sum << ' ';
      row.push_back(sum);
    }
    text << (row.back() == 0 ? "yes" : "no");
    text.EndLine();
    if (row.back() == 0) {
      row.pop_back();
      return row;
    }
  }
}

void MakePolynomial(Draft& d, const EquationLevel& l) {
  std::vector<int64_t> roots, coefficients = {1};
  for (int i = 0; i < l.degree; ++i) {
    roots.push_back(d.Pick(-l.size, l.size));
    coefficients.push_back(0);
    for (size_t k = coefficients.size() - 1; k > 0; --k) {
      coefficients[k] -= coefficients[k - 1] * roots.back();
    }
  }
  const int64_t scale = l.degree == 2 && l.size > 12 ? d.Pick(1, 4) : 1;
  std::vector<int64_t> shown = coefficients;
  for (auto& c : shown) c *= scale;
  Text equation;
  WritePolynomial(equation, shown);
  equation << "=0";
  d.canonical << "roots " << shown.size() - 1;
  for (const int64_t c : shown) d.canonical << ' ' << c;
  Ask(d, equation, true);
  if (scale > 1) {
    d.thought << equation << ' ' << scale;
    d.thought.EndLine();
  }
  if (l.degree == 3) coefficients = WriteRootSearch(d.thought, coefficients);
  WriteQuadratic(d.thought, coefficients[1], coefficients[2]);
  std::sort(roots.begin(), roots.end());
  roots.erase(std::unique(roots.begin(), roots.end()), roots.end());
  for (size_t i = 0; i < roots.size(); ++i) d.gold << (i > 0 ? ", " : "") << roots[i];
}

void MakeEquation(Draft& d) {
  const auto& l = kEquationLevels[d.level - 1];
  if (l.degree == 1) return MakeLinear(d, l);
  MakePolynomial(d, l);
}

// "2, x=-3": integers, each with or without "x=".
std::optional<std::vector<int64_t>> ParseRoots(std::string_view answer) {
  std::vector<int64_t> values;
  for (auto part : SplitCommas(answer)) {
    if (part.starts_with('x')) {
      part = Trim(part.substr(1));
      if (!part.starts_with('=')) return std::nullopt;
      part.remove_prefix(1);
    }
    const auto value = ParseInteger(part);
    if (!value || values.size() >= 8) return std::nullopt;
    values.push_back(*value);
  }
  return values;
}

Verdict VerifyEquation(const Problem& problem, std::string_view answer) {
  Fields fields(problem.canonical);
  const bool linear = fields.Word() == "linear";
  constexpr int64_t kLargest = 1'000'000'000;
  std::vector<int64_t> coefficients;
  const int64_t degree = linear ? 1 : fields.Integer(2, 3);
  if (linear) {
    const int64_t other = fields.Integer(-kLargest, kLargest);
    const int64_t slope = fields.Integer(-kLargest, kLargest) - other;
    const int64_t constant = fields.Integer(-kLargest, kLargest);
    coefficients = {slope, constant - fields.Integer(-kLargest, kLargest)};
  } else {
    for (int64_t i = 0; i <= degree; ++i) {
      coefficients.push_back(fields.Integer(-kLargest, kLargest));
    }
  }
  const auto gold = ParseRoots(problem.gold);
  if (!fields.ok() || coefficients[0] == 0 || !gold) return Verdict::kError;
  const std::set<int64_t> wanted(gold->begin(), gold->end());
  const auto values = ParseRoots(answer);
  if (!values) return Verdict::kWrong;
  const std::set<int64_t> found(values->begin(), values->end());
  if (found.size() != values->size() || found.size() != wanted.size()) return Verdict::kWrong;
  for (const int64_t x : found) {
    bool fits = true;
    if (ValueAt(coefficients, x, fits) != 0 || !fits) return Verdict::kWrong;
  }
  return Verdict::kRight;
}

}  // namespace

const FamilyEntry kEquationFamily = {"equation", MakeEquation, VerifyEquation, EquationKnobs};

}  // namespace hadal::problems
