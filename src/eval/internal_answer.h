// The typed value of an answer, and its parser.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "eval/internal_expression.h"
#include "eval/internal_latex.h"
#include "eval/internal_units.h"

namespace hadal::eval::internal {

struct Value {
  enum class Type : uint8_t {
    kExpression,  // node, minus, unit
    kSequence,    // items between open and close: tuples and intervals
    kList,        // items, order free: "3, 5"
    kSet,         // items, order free, in braces
    kUnion,       // items, order free: intervals
    kMatrix,      // items row by row, rows
    kEquation,    // node - right = 0
    kBase,        // digits (text) in base
    kText,        // text
  };
  Type type = Type::kExpression;
  std::string label = {};  // what stood before "=" or "\in"
  NodePtr node = {}, right = {};
  bool expanded = false;  // one of the two values of an expression with \pm
  bool minus = false;     // which: the lower sign of every \pm
  Unit unit = {};
  std::vector<Value> items = {};
  std::vector<Value> claims = {};  // "a = b = value": each must equal the value
  std::string open = {}, close = {}, text = {};
  size_t rows = 0;
  int base = 0;
};

// Errors say what the text cannot be read as.
Result<Value> ParseAnswer(const std::vector<Token>& tokens);

// The expression of tokens [begin, end), whole.
class ExpressionParser {
 public:
  ExpressionParser(const std::vector<Token>& tokens, size_t begin, size_t end)
      : tokens_(tokens), at_(begin), end_(end) {}
  NodePtr Parse();  // null where it is none; `error` says why
  const std::string& error() const { return error_; }

 private:
  NodePtr Sum();
  NodePtr Product();
  NodePtr Signed();
  NodePtr Power();
  NodePtr Postfix();
  NodePtr Primary();
  NodePtr Number();
  NodePtr Bracketed(std::string_view close);
  NodePtr Group();  // {...}
  NodePtr Command();
  NodePtr OpenCommand();
  NodePtr Function(const std::string& name);
  NodePtr FunctionArgument();
  NodePtr Exponent();
  NodePtr Fail(std::string what);
  bool StartsFactor() const;
  bool At(std::string_view sign) const;
  bool AtCommand(std::string_view name) const;

  const std::vector<Token>& tokens_;
  size_t at_, end_;
  int depth_ = 0, commands_ = 0, bars_ = 0, functions_ = 0;
  std::string error_;
};

}  // namespace hadal::eval::internal
