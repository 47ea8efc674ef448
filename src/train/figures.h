// How figures read for people: the same in the terminal, the ledger's text and the report.
#pragma once

#include <cstdint>
#include <string>

namespace hadal {

// "0", "999", "12.3 k", "4.56 M", "14.8 T": three digits; "–" for NaN, "∞" for infinity.
std::string HumanCount(double value);
// "850 ms", "12.3 s", "4:05", "1:02:03", "12 d 3 h"; "–" for NaN and negative values.
std::string HumanTime(double seconds);
// "$0.0042", "$12.34", "$5.576M" with currency USD; "12.34 EUR" with others.
std::string HumanMoney(double amount, const std::string& currency = "USD");
// A number with `digits` significant digits and no exponent between 1e-4 and 1e7; "–" for NaN.
std::string HumanNumber(double value, int digits = 4);
// "39.1 %"; "–" for NaN.
std::string HumanShare(double share);
// 671026404352 as "671 026 404 352".
std::string Grouped(int64_t value);

}  // namespace hadal
