// The parsed template. Nodes live in the tree's arena and point at each other; chains of binary
// operators are flat, so their length costs no recursion.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/jinja_value.h"

namespace hadal::internal::jinja {

enum class Op : uint8_t {
  kAdd,
  kSub,
  kMul,
  kDiv,
  kFloorDiv,
  kMod,
  kPow,
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kIn,
  kNotIn,
  kNot,
  kNeg,
  kPos,
};

enum class ExprKind : uint8_t {
  kConstant,
  kName,
  kNamespaceSlot,  // target only: ns.attribute
  kTuple,
  kList,
  kDict,        // items: key, value, key, value
  kArithmetic,  // items[0] ops[0] items[1] ...
  kConcat,
  kCompare,
  kAnd,
  kOr,
  kUnary,
  kCondition,  // a if b else c
  kAttribute,  // a.text
  kSubscript,  // a[b]
  kSlice,      // a[items[0]:items[1]:items[2]], absent ones null
  kCall,
  kFilter,  // a null: the text of the enclosing block
  kTest,
};

struct Expr;

struct Arguments {
  std::vector<const Expr*> positional;
  std::vector<std::pair<std::string, const Expr*>> named;
  const Expr* star = nullptr;
  const Expr* double_star = nullptr;
};

struct Expr {
  ExprKind kind = ExprKind::kConstant;
  int line = 0;
  int name = -1;     // index into Tree::names
  std::string text;  // attribute, filter, test
  Value constant;
  const Expr* a = nullptr;
  const Expr* b = nullptr;
  const Expr* c = nullptr;
  std::vector<const Expr*> items;
  std::vector<Op> ops;
  Arguments arguments;
};

enum class StmtKind : uint8_t {
  kText,
  kOutput,
  kIf,
  kFor,
  kSet,
  kSetBlock,
  kMacro,
  kCall,
  kFilter,
  kWith,
  kScope,      // generation, block: a scope of its own
  kRootScope,  // block: sees the template's variables only
  kBreak,
  kContinue,
  kRefuse,  // parsed, but an error when reached
};

struct Stmt;
using Body = std::vector<const Stmt*>;

struct Signature {
  std::string name;
  std::vector<int> parameters;
  std::vector<const Expr*> defaults;  // of the last parameters
  bool takes_varargs = false, takes_kwargs = false, takes_caller = false;
};

struct Stmt {
  StmtKind kind = StmtKind::kText;
  int line = 0;
  Value text;
  const Expr* target = nullptr;
  const Expr* value = nullptr;
  const Expr* filter = nullptr;  // of a set block, or the `if` of a for
  bool recursive = false;
  std::vector<std::pair<const Expr*, Body>> branches;         // if, elif
  std::vector<std::pair<const Expr*, const Expr*>> bindings;  // with
  Body body, otherwise;
  int name = -1;
  Signature signature;
};

struct Tree {
  std::deque<Expr> exprs;
  std::deque<Stmt> stmts;
  std::vector<std::string> names;
  std::map<std::string, int, std::less<>> name_ids;
  std::set<std::string, std::less<>> free_names;  // read before the template sets them
  Body body;
};

}  // namespace hadal::internal::jinja
