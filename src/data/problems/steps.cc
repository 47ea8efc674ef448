#include "data/problems/steps.h"

#include <utility>

namespace hadal::problems {
namespace {

// a times one digit, columns with carries.
int64_t WriteMultiplyDigit(Text& text, int64_t a, int64_t digit) {
  if (a >= 10 && digit > 1) {
    text << a << '*' << digit << ": ";
    int64_t carry = 0;
    for (int64_t rest = a; rest > 0; rest /= 10) {
      const int64_t product = rest % 10 * digit;
      text << rest % 10 << '*' << digit << '=' << product << ' ';
      if (carry > 0) text << product << '+' << carry << '=' << product + carry << ' ';
      carry = (product + carry) / 10;
    }
  }
  text << a << '*' << digit << '=' << a * digit << ' ';
  return a * digit;
}

int Digits(int64_t value) {
  int digits = 1;
  while (value >= 10) value /= 10, ++digits;
  return digits;
}

constexpr int64_t kDividedByHeart = 5;  // quotients of one digit by numbers up to this

// A digit of a quotient by its product and the difference.
void WriteQuotientDigit(Text& text, int64_t rest, int64_t b, int64_t digit) {
  if (b <= 15 || digit == 1) {
    text << b << '*' << digit << '=' << b * digit << ' ';
  } else {
    WriteMultiplyDigit(text, b, digit);
  }
  if (b < 20) {
    text << rest << '-' << b * digit << '=' << rest - b * digit << ' ';
  } else {
    WriteSubtract(text, rest, b * digit);
  }
}

}  // namespace

int64_t WriteAdd(Text& text, int64_t a, int64_t b) {
  if (a >= 10 || b >= 10) {
    text << a << '+' << b << ": ";
    int64_t x = a, y = b, carry = 0;
    // Digits above the shorter number are copied once nothing is carried.
    while ((x > 0 && y > 0) || (carry > 0 && (x > 0 || y > 0))) {
      if (x > 0 && y > 0) {
        text << x % 10 << '+' << y % 10;
      } else {
        text << (x > 0 ? x : y) % 10;
      }
      if (carry > 0) text << '+' << carry;
      const int64_t sum = x % 10 + y % 10 + carry;
      text << '=' << sum << ' ';
      carry = sum / 10;
      x /= 10;
      y /= 10;
    }
  }
  text << a << '+' << b << '=' << a + b << ' ';
  return a + b;
}

int64_t WriteSubtract(Text& text, int64_t a, int64_t b) {
  if (a >= 10) {
    text << a << '-' << b << ": ";
    int64_t borrow = 0;
    for (int64_t x = a, y = b; y > 0 || borrow > 0; x /= 10, y /= 10) {
      const int64_t take = y % 10 + borrow;
      const int64_t have = x % 10 < take ? x % 10 + 10 : x % 10;
      text << have;
      if (y > 0) text << '-' << y % 10;
      if (borrow > 0) text << "-1";
      text << '=' << have - take << ' ';
      borrow = have >= 10;
    }
  }
  text << a << '-' << b << '=' << a - b << ' ';
  return a - b;
}

int64_t WriteMultiply(Text& text, int64_t a, int64_t b) {
  if (Digits(a) < Digits(b)) std::swap(a, b);
  if (b < 10) return WriteMultiplyDigit(text, a, b);
  text << a << '*' << b;
  text.EndLine();
  int64_t total = 0;
  for (int64_t rest = b, power = 1; rest > 0; rest /= 10, power *= 10) {
    const int64_t digit = rest % 10;
    if (digit == 0) continue;
    const int64_t part = WriteMultiplyDigit(text, a, digit) * power;
    if (power > 1) text << a << '*' << digit * power << '=' << part << ' ';
    text.EndLine();
    if (total > 0) {
      total = WriteAdd(text, total, part);
      text.EndLine();
    } else {
      total = part;
    }
  }
  text << a << '*' << b << '=' << total << ' ';
  return total;
}

int64_t WriteProduct(Text& text, int64_t a, int64_t b) {
  if (a > 15 || b > 15) return WriteMultiply(text, a, b);
  text << a << '*' << b << '=' << a * b << ' ';
  return a * b;
}

std::pair<int64_t, int64_t> WriteDivide(Text& text, int64_t a, int64_t b, bool with_rest) {
  const bool by_heart = b <= kDividedByHeart;
  const bool written = b > 1 && a >= b && (!by_heart || a >= 10 * b);
  if (written) {
    text << a << '/' << b << ": ";
    int64_t power = 1;
    while (a / power >= 10) power *= 10;
    int64_t rest = 0;
    for (; power > 0; power /= 10) {
      rest = rest * 10 + a / power % 10;
      if (rest < b && a / power < b) continue;  // no digit of the quotient yet
      if (by_heart) {
        text << rest << '=' << b << '*' << rest / b << '+' << rest % b << ' ';
      } else {
        WriteQuotientDigit(text, rest, b, rest / b);
      }
      rest %= b;
    }
  }
  if (with_rest || a % b == 0 || !written) {
    text << a << '=' << b << '*' << a / b << '+' << a % b << ' ';
  }
  return {a / b, a % b};
}

int64_t WriteSignedAdd(Text& text, int64_t a, int64_t b) {
  const int64_t x = a < 0 ? -a : a, y = b < 0 ? -b : b;
  if (a >= 0 && b >= 0) return WriteAdd(text, a, b);
  if (a >= 0 && x >= y) return WriteSubtract(text, a, y);
  if (a < 0 && b < 0) {
    WriteAdd(text, x, y);
  } else {
    WriteSubtract(text, x > y ? x : y, x > y ? y : x);
  }
  text << a << (b < 0 ? '-' : '+') << y << '=' << a + b << ' ';
  return a + b;
}

int64_t WriteGcd(Text& text, int64_t a, int64_t b) {
  if (a < b) std::swap(a, b);
  while (b > 0) {
    const int64_t rest = WriteDivide(text, a, b).second;
    a = b;
    b = rest;
  }
  return a;
}

}  // namespace hadal::problems
