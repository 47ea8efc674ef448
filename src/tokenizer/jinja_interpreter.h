// Runs a parsed template over its inputs.
#pragma once

#include <deque>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_value.h"

namespace hadal::internal::jinja {

struct Scope {
  std::shared_ptr<Scope> parent;  // null: the template's own variables
  std::vector<std::pair<int, Value>> variables;
};

// A macro does not keep the scope that defined it alive (that scope holds the macro).
struct MacroObject : Object {
  const Stmt* stmt = nullptr;
  bool at_root = false;
  std::weak_ptr<Scope> scope;
};

struct LoopObject : Object {
  const Stmt* stmt = nullptr;
  std::shared_ptr<Scope> scope;
  std::shared_ptr<ListObject> source;
  size_t next = 0;          // in source
  std::deque<Value> ahead;  // past the filter, not yet current
  bool sized = false;       // the length needs no look ahead
  bool running = true;
  int64_t index0 = -1, depth0 = 0;
  Value current, before, changed;
};

struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// The arguments in the order of `names`; absent ones are kMissing. The first `required` must be
// there.
Result<std::vector<Value>> Bind(std::string_view what, const Args& args,
                                std::initializer_list<std::string_view> names, size_t required = 0);

class Interpreter {
 public:
  Interpreter(const Tree& tree, Budget* budget, Value inputs);
  ~Interpreter();
  Result<Value> Run();  // a string
  int line() const { return line_; }

  Budget* budget() { return budget_; }
  Result<Value> GetAttribute(const Value& object, std::string_view name);
  Result<Value> GetItem(const Value& object, const Value& key);
  // "a.b.0": items of items. int: one item. `otherwise` replaces each that is undefined.
  Result<Value> GetPath(const Value& object, const Value& path, const Value& otherwise = {});
  Result<std::vector<Value>> Iterate(const Value& value);
  Result<int64_t> Length(const Value& value);
  Result<bool> Contains(const Value& container, const Value& item);
  Result<Value> Call(const Value& function, const Args& args);
  Result<Value> CallFilter(std::string_view name, const Value& input, const Args& args);
  Result<bool> CallTest(std::string_view name, const Value& input, const Args& args);
  Result<Value> NewNamespace(std::vector<std::pair<Value, Value>> attributes);

 private:
  enum class Flow : uint8_t { kNormal, kBreak, kContinue };

  Result<Value> Eval(const Expr* e);
  Result<Value> EvalNode(const Expr* e);
  Result<Value> EvalName(const Expr* e);
  Result<Value> EvalArithmetic(const Expr* e);
  Result<Value> EvalConcat(const Expr* e);
  Result<Value> EvalCompare(const Expr* e);
  Result<bool> Compare(Op op, const Value& a, const Value& b);
  Result<Value> EvalLogic(const Expr* e);
  Result<Value> EvalUnary(const Expr* e);
  Result<Value> EvalSlice(const Expr* e);
  Result<Value> EvalCall(const Expr* e, const Value* caller);
  Result<Value> EvalFilter(const Expr* e);
  Result<Value> EvalDict(const Expr* e);
  Result<std::vector<Value>> EvalAll(const std::vector<const Expr*>& items);
  Result<Args> EvalArguments(const Arguments& arguments);

  Result<Flow> ExecBody(const Body& body);
  Result<Flow> Exec(const Stmt* s);
  Result<Flow> ExecIf(const Stmt* s);
  Result<Flow> ExecFor(const Stmt* s, const Value& iterable, int64_t depth0);
  Result<Flow> ExecForBody(const Stmt* s, const Value& loop_value);
  Status ExecCallBlock(const Stmt* s);
  Status ExecSetBlock(const Stmt* s);
  Result<Flow> ExecWith(const Stmt* s);
  Status ExecFilterBlock(const Stmt* s);
  Result<Flow> ExecScoped(const Stmt* s);
  Status Write(const Value& value);
  Status Assign(const Expr* target, const Value& value);
  void SetVariable(int name, Value value);
  // The output of `body`, run in a scope of its own, as a string.
  Result<Value> Capture(const Body& body, Flow* flow);

  Value MakeMacro(const Stmt* s);
  Result<Value> CallMacro(const Value& macro, const Args& args);
  Status BindParameters(const Value& macro, const Args& args);
  Result<Value> CallLoop(const Value& loop, const Args& args);
  Result<Value> CallFunction(int id, const Args& args);
  Result<Value> CallRange(const Args& args);
  Result<Value> CallDict(const Args& args);
  Result<std::vector<std::pair<Value, Value>>> Pairs(const Args& args);
  Result<Value> CallStrftime(const Args& args);
  Result<Value> LoopAttribute(const Value& loop, std::string_view name);
  Result<Value> MacroAttribute(const Value& macro, std::string_view name);
  Result<Value> CallLoopMethod(const Value& loop, const std::string& name, const Args& args);
  Result<bool> Fetch(LoopObject* loop, Value* item);
  Result<bool> Peek(LoopObject* loop);
  Result<int64_t> LoopLength(LoopObject* loop);

  const Tree& tree_;
  Budget* budget_;
  Value inputs_;
  std::vector<Value> root_;                                   // the template's variables, by name
  std::shared_ptr<Scope> scope_;                              // null at the root
  std::vector<std::shared_ptr<NamespaceObject>> namespaces_;  // may hold each other
  Builder* out_ = nullptr;
  Value block_text_;  // input of the filter of a block
  uint64_t depth_ = 0, macro_depth_ = 0;
  int line_ = 0;
};

// Global functions, by the id in Value::Function.
enum FunctionId : int {
  kRangeFunction,
  kNamespaceFunction,
  kDictFunction,
  kRaiseFunction,
  kStrftimeFunction,
  kCyclerFunction,
  kJoinerFunction,
  kFunctionCount
};
inline constexpr std::string_view kFunctionNames[] = {
    "range", "namespace", "dict", "raise_exception", "strftime_now", "cycler", "joiner"};

Result<Value> Arithmetic(Budget* budget, Op op, const Value& a, const Value& b);
Result<Value> SliceOf(Budget* budget, const Value& value, const Value (&bounds)[3]);
// The method `name` of a string, list or dict: whether there is one, and calling it.
enum class MethodState : uint8_t { kNone, kAllowed, kRefused };
MethodState FindMethod(const Value& self, std::string_view name);
Result<Value> CallMethod(Interpreter* in, const Value& self, std::string_view name,
                         const Args& args);
Result<Value> StrFormat(Interpreter* in, const Value& format, const Args& args);
Value Escaped(Budget* budget, const Value& string);  // HTML; kMissing when over the limit
Result<Value> ReplaceText(Budget* budget, const Value& text, const Value& from, const Value& to,
                          int64_t count);
Result<Value> JoinText(Interpreter* in, const Value& separator, const std::vector<Value>& items);
Result<Value> StripText(const Value& text, const Value& characters, bool left, bool right);
Result<std::vector<Value>> SplitLines(Budget* budget, const Value& text, bool keep_ends);

}  // namespace hadal::internal::jinja
