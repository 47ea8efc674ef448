#include "tokenizer/jinja_interpreter.h"

#include <algorithm>
#include <utility>

#include "tokenizer/jinja_text.h"

namespace hadal::internal::jinja {
namespace {

// Frames of Eval and Exec on the native stack, in units of the limit on nesting: enough for
// recursive macros, far from the end of an 8 MiB stack.
constexpr uint64_t kStackFactor = 12;

struct Counter {
  explicit Counter(uint64_t* value) : value_(value) { ++*value_; }
  ~Counter() { --*value_; }
  Counter(const Counter&) = delete;
  uint64_t* value_;
};

// Restores a variable at the end of a scope.
template <typename T>
struct Restore {
  explicit Restore(T* place) : place_(place), old_(std::move(*place)) {}
  Restore(T* place, T now) : Restore(place) { *place = std::move(now); }
  ~Restore() { *place_ = std::move(old_); }
  Restore(const Restore&) = delete;
  T* place_;
  T old_;
};

}  // namespace

Interpreter::Interpreter(const Tree& tree, Budget* budget, Value inputs)
    : tree_(tree), budget_(budget), inputs_(std::move(inputs)), root_(tree.names.size()) {
  for (size_t i = 0; i < root_.size(); ++i) {
    if (const Value* input = inputs_.as<DictObject>().Find(tree.names[i])) {
      root_[i] = *input;
      continue;
    }
    for (int f = 0; f < kFunctionCount; ++f) {
      if (kFunctionNames[f] == tree.names[i]) root_[i] = Value::Function(f);
    }
  }
}

// Namespaces may hold themselves or each other: emptying them breaks every cycle.
Interpreter::~Interpreter() {
  for (const auto& space : namespaces_) {
    auto items = std::move(space->attributes.items);
    space->attributes.items.clear();
    space->attributes.slots.clear();
  }
}

Result<Value> Interpreter::Run() {
  Builder out(budget_);
  out_ = &out;
  TRY(ExecBody(tree_.body));
  return out.Finish();
}

Result<Value> Interpreter::Eval(const Expr* e) {
  Counter depth(&depth_);
  if (depth_ > kStackFactor * budget_->limits().max_depth) {
    return Error{Code::kLimit, "nested too deeply (recursive macro?)"};
  }
  TRY(budget_->Step());
  line_ = e->line;
  return EvalNode(e);
}

Result<Value> Interpreter::EvalNode(const Expr* e) {
  switch (e->kind) {
    case ExprKind::kConstant:
      return e->constant;
    case ExprKind::kName:
      return EvalName(e);
    case ExprKind::kNamespaceSlot:
      return Error{Code::kInvalid, "not a value"};
    case ExprKind::kTuple:
      return MakeList(budget_, TRY(EvalAll(e->items)), Kind::kTuple);
    case ExprKind::kList:
      return MakeList(budget_, TRY(EvalAll(e->items)));
    case ExprKind::kDict:
      return EvalDict(e);
    case ExprKind::kArithmetic:
      return EvalArithmetic(e);
    case ExprKind::kConcat:
      return EvalConcat(e);
    case ExprKind::kCompare:
      return EvalCompare(e);
    case ExprKind::kAnd:
    case ExprKind::kOr:
      return EvalLogic(e);
    case ExprKind::kUnary:
      return EvalUnary(e);
    case ExprKind::kCondition:
      if (Truthy(TRY(Eval(e->b)))) return Eval(e->a);
      if (e->c) return Eval(e->c);
      return Value::Undefined("the inline if was false and has no else");
    case ExprKind::kAttribute:
      return GetAttribute(TRY(Eval(e->a)), e->text);
    case ExprKind::kSubscript: {
      const Value object = TRY(Eval(e->a));
      return GetItem(object, TRY(Eval(e->b)));
    }
    case ExprKind::kSlice:
      return EvalSlice(e);
    case ExprKind::kCall:
      return EvalCall(e, nullptr);
    case ExprKind::kFilter:
      return EvalFilter(e);
    case ExprKind::kTest: {
      const Value input = TRY(Eval(e->a));
      return Value::Bool(TRY(CallTest(e->text, input, TRY(EvalArguments(e->arguments)))));
    }
  }
  return Error{Code::kInvalid, "not an expression"};
}

Result<Value> Interpreter::EvalName(const Expr* e) {
  for (const Scope* scope = scope_.get(); scope; scope = scope->parent.get()) {
    for (const auto& [name, value] : scope->variables) {
      if (name == e->name) return value;
    }
  }
  const Value& value = root_[static_cast<size_t>(e->name)];
  if (!value.is_missing()) return value;
  return Value::Undefined("'" + tree_.names[static_cast<size_t>(e->name)] + "' is undefined");
}

Result<std::vector<Value>> Interpreter::EvalAll(const std::vector<const Expr*>& items) {
  std::vector<Value> values;
  values.reserve(items.size());
  for (const Expr* item : items) values.push_back(TRY(Eval(item)));
  return values;
}

Result<Value> Interpreter::EvalDict(const Expr* e) {
  std::vector<std::pair<Value, Value>> items;
  for (size_t i = 0; i + 1 < e->items.size(); i += 2) {
    Value key = TRY(Eval(e->items[i]));
    items.emplace_back(std::move(key), TRY(Eval(e->items[i + 1])));
  }
  return MakeDict(budget_, std::move(items));
}

Result<Value> Interpreter::EvalArithmetic(const Expr* e) {
  Value left = TRY(Eval(e->items[0]));
  for (size_t i = 0; i < e->ops.size(); ++i) {
    const Value right = TRY(Eval(e->items[i + 1]));
    left = TRY(Arithmetic(budget_, e->ops[i], left, right));
  }
  return left;
}

Result<Value> Interpreter::EvalConcat(const Expr* e) {
  std::vector<Value> values = TRY(EvalAll(e->items));
  Value out = TRY(ToString(budget_, values[0]));
  for (size_t i = 1; i < values.size(); ++i) {
    out = TRY(Concatenate(budget_, out, TRY(ToString(budget_, values[i]))));
  }
  return out;
}

Result<bool> Interpreter::Compare(Op op, const Value& a, const Value& b) {
  switch (op) {
    case Op::kEq:
      return Equal(budget_, a, b);
    case Op::kNe:
      return !TRY(Equal(budget_, a, b));
    case Op::kIn:
      return Contains(b, a);
    case Op::kNotIn:
      return !TRY(Contains(b, a));
    default:
      break;
  }
  const int order = TRY(Order(budget_, a, b));  // 2: unordered (NaN)
  switch (op) {
    case Op::kLt:
      return order == -1;
    case Op::kLe:
      return order == -1 || order == 0;
    case Op::kGt:
      return order == 1;
    default:
      return order == 1 || order == 0;
  }
}

Result<Value> Interpreter::EvalCompare(const Expr* e) {
  Value left = TRY(Eval(e->items[0]));
  for (size_t i = 0; i < e->ops.size(); ++i) {
    Value right = TRY(Eval(e->items[i + 1]));
    if (!TRY(Compare(e->ops[i], left, right))) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

Result<Value> Interpreter::EvalLogic(const Expr* e) {
  Value value;
  for (const Expr* item : e->items) {
    value = TRY(Eval(item));
    if (Truthy(value) == (e->kind == ExprKind::kOr)) break;
  }
  return value;
}

Result<Value> Interpreter::EvalUnary(const Expr* e) {
  const Value value = TRY(Eval(e->a));
  if (e->ops[0] == Op::kNot) return Value::Bool(!Truthy(value));
  const bool negate = e->ops[0] == Op::kNeg;
  if (value.is(Kind::kFloat)) return Value::Float(negate ? -value.real() : value.real());
  if (value.is_integer()) {
    if (!negate) return Value::Int(value.integer());
    return Arithmetic(budget_, Op::kSub, Value::Int(0), Value::Int(value.integer()));
  }
  if (value.is_undefined()) return TypeError(std::string(value.undefined_message()));
  return TypeError(std::string("bad operand type for unary ") + (negate ? "-" : "+") + ": " +
                   TypeName(value));
}

Result<Value> Interpreter::EvalSlice(const Expr* e) {
  const Value object = TRY(Eval(e->a));
  Value bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    bounds[i] = e->items[i] ? TRY(Eval(e->items[i])) : Value::None();
  }
  return SliceOf(budget_, object, bounds);
}

Result<Args> Interpreter::EvalArguments(const Arguments& arguments) {
  Args out;
  out.positional = TRY(EvalAll(arguments.positional));
  for (const auto& [name, expr] : arguments.named) out.named.emplace_back(name, TRY(Eval(expr)));
  if (arguments.star) {
    for (Value& value : TRY(Iterate(TRY(Eval(arguments.star))))) {
      out.positional.push_back(std::move(value));
    }
    TRY(budget_->CheckElements(out.positional.size()));
  }
  if (!arguments.double_star) return out;
  const Value named = TRY(Eval(arguments.double_star));
  if (!named.is(Kind::kDict)) return TypeError("the argument after ** must be a mapping");
  for (const auto& item : named.as<DictObject>().items) {
    const Value& key = item.first;
    if (!key.is_string()) return TypeError("keywords must be strings");
    const bool twice = std::any_of(out.named.begin(), out.named.end(),
                                   [&](const auto& other) { return other.first == key.text(); });
    if (twice) return TypeError("argument '" + Brief(key.text()) + "' is given twice");
    TRY(budget_->Step(1 + out.named.size() / 8));
    out.named.emplace_back(key.text(), item.second);
  }
  return out;
}

Result<Value> Interpreter::EvalCall(const Expr* e, const Value* caller) {
  const Value function = TRY(Eval(e->a));
  Args args = TRY(EvalArguments(e->arguments));
  if (caller) args.named.emplace_back("caller", *caller);
  line_ = e->line;
  return Call(function, args);
}

Result<Value> Interpreter::EvalFilter(const Expr* e) {
  const Value input = e->a ? TRY(Eval(e->a)) : block_text_;
  const Args args = TRY(EvalArguments(e->arguments));
  line_ = e->line;
  return CallFilter(e->text, input, args);
}

void Interpreter::SetVariable(int name, Value value) {
  if (!scope_) {
    root_[static_cast<size_t>(name)] = std::move(value);
    return;
  }
  for (auto& [other, old] : scope_->variables) {
    if (other != name) continue;
    old = std::move(value);
    return;
  }
  scope_->variables.emplace_back(name, std::move(value));
}

Status Interpreter::Assign(const Expr* target, const Value& value) {
  if (target->kind == ExprKind::kName) {
    SetVariable(target->name, value);
    return {};
  }
  if (target->kind == ExprKind::kNamespaceSlot) {
    const Value space = TRY(EvalName(target));
    if (!space.is(Kind::kNamespace)) {
      return TypeError("cannot assign attribute '" + Brief(target->text) +
                       "': not a namespace object");
    }
    if (target->text[0] == '_') {
      return TypeError("a namespace cannot hold '" + Brief(target->text) + "'");
    }
    space.as<NamespaceObject>().attributes.Set(ConstantString(target->text), value);
    return {};
  }
  const std::vector<Value> items = TRY(Iterate(value));
  if (items.size() != target->items.size()) {
    return TypeError("cannot unpack " + std::to_string(items.size()) + " values into " +
                     std::to_string(target->items.size()) + " names");
  }
  for (size_t i = 0; i < items.size(); ++i) TRY(Assign(target->items[i], items[i]));
  return {};
}

Status Interpreter::Write(const Value& value) {
  const Value text = TRY(ToString(budget_, value));
  TRY(budget_->Work(text.text().size()));
  out_->Add(text);
  if (out_->full()) return budget_->CheckBytes(budget_->limits().max_output_bytes + 1);
  return {};
}

Result<Interpreter::Flow> Interpreter::ExecBody(const Body& body) {
  for (const Stmt* stmt : body) {
    const Flow flow = TRY(Exec(stmt));
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Result<Interpreter::Flow> Interpreter::Exec(const Stmt* s) {
  Counter depth(&depth_);
  if (depth_ > kStackFactor * budget_->limits().max_depth) {
    return Error{Code::kLimit, "nested too deeply (recursive macro?)"};
  }
  TRY(budget_->Step());
  line_ = s->line;
  switch (s->kind) {
    case StmtKind::kText:
      TRY(Write(s->text));
      break;
    case StmtKind::kOutput:
      TRY(Write(TRY(Eval(s->value))));
      break;
    case StmtKind::kIf:
      return ExecIf(s);
    case StmtKind::kFor:
      return ExecFor(s, TRY(Eval(s->value)), 0);
    case StmtKind::kSet:
      TRY(Assign(s->target, TRY(Eval(s->value))));
      break;
    case StmtKind::kSetBlock:
      TRY(ExecSetBlock(s));
      break;
    case StmtKind::kMacro:
      SetVariable(s->name, MakeMacro(s));
      break;
    case StmtKind::kCall:
      TRY(ExecCallBlock(s));
      break;
    case StmtKind::kFilter:
      TRY(ExecFilterBlock(s));
      break;
    case StmtKind::kWith:
      return ExecWith(s);
    case StmtKind::kScope:
    case StmtKind::kRootScope:
      return ExecScoped(s);
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
    case StmtKind::kRefuse:
      return Error{Code::kUnsupported, std::string(s->text.text())};
  }
  return Flow::kNormal;
}

Result<Interpreter::Flow> Interpreter::ExecIf(const Stmt* s) {
  for (const auto& [test, body] : s->branches) {
    if (Truthy(TRY(Eval(test)))) return ExecBody(body);
  }
  return ExecBody(s->otherwise);
}

Result<Interpreter::Flow> Interpreter::ExecWith(const Stmt* s) {
  auto scope = std::make_shared<Scope>();
  scope->parent = scope_;
  for (const auto& [target, expr] : s->bindings) {
    const Value value = TRY(Eval(expr));
    Restore<std::shared_ptr<Scope>> inner(&scope_, scope);
    TRY(Assign(target, value));
  }
  Restore<std::shared_ptr<Scope>> inner(&scope_, scope);
  return ExecBody(s->body);
}

Result<Interpreter::Flow> Interpreter::ExecScoped(const Stmt* s) {
  auto scope = std::make_shared<Scope>();
  if (s->kind == StmtKind::kScope) scope->parent = scope_;
  Restore<std::shared_ptr<Scope>> inner(&scope_, scope);
  return ExecBody(s->body);
}

Result<Value> Interpreter::Capture(const Body& body, Flow* flow) {
  Builder builder(budget_);
  auto scope = std::make_shared<Scope>();
  scope->parent = scope_;
  Restore<std::shared_ptr<Scope>> inner(&scope_, scope);
  Restore<Builder*> out(&out_, &builder);
  *flow = TRY(ExecBody(body));
  return builder.Finish();
}

Status Interpreter::ExecSetBlock(const Stmt* s) {
  Flow flow = Flow::kNormal;
  Value text = TRY(Capture(s->body, &flow));
  if (s->filter) {
    Restore<Value> block(&block_text_, text);
    text = TRY(Eval(s->filter));
  }
  return Assign(s->target, text);
}

Status Interpreter::ExecFilterBlock(const Stmt* s) {
  Flow flow = Flow::kNormal;
  Restore<Value> block(&block_text_, TRY(Capture(s->body, &flow)));
  return Write(TRY(Eval(s->filter)));
}

Value Interpreter::MakeMacro(const Stmt* s) {
  auto macro = std::make_shared<MacroObject>();
  macro->stmt = s;
  macro->scope = scope_;
  macro->at_root = scope_ == nullptr;
  return Value::Object(Kind::kMacro, std::move(macro));
}

Status Interpreter::ExecCallBlock(const Stmt* s) {
  const Value caller = MakeMacro(s);
  return Write(TRY(EvalCall(s->value, &caller)));
}

// The next item that passes the filter.
Result<bool> Interpreter::Fetch(LoopObject* loop, Value* item) {
  while (loop->next < loop->source->items.size()) {
    *item = loop->source->items[loop->next++];
    if (!loop->stmt->filter) return true;
    auto scope = std::make_shared<Scope>();
    scope->parent = loop->scope;
    Restore<std::shared_ptr<Scope>> inner(&scope_, scope);
    TRY(Assign(loop->stmt->target, *item));
    if (Truthy(TRY(Eval(loop->stmt->filter)))) return true;
  }
  return false;
}

Result<bool> Interpreter::Peek(LoopObject* loop) {
  if (!loop->ahead.empty()) return true;
  Value item;
  if (!TRY(Fetch(loop, &item))) return false;
  loop->ahead.push_back(std::move(item));
  return true;
}

Result<int64_t> Interpreter::LoopLength(LoopObject* loop) {
  if (loop->sized) return static_cast<int64_t>(loop->source->items.size());
  Value item;
  while (TRY(Fetch(loop, &item))) loop->ahead.push_back(item);
  return loop->index0 + 1 + static_cast<int64_t>(loop->ahead.size());
}

Result<Interpreter::Flow> Interpreter::ExecFor(const Stmt* s, const Value& iterable,
                                               int64_t depth0) {
  auto loop = std::make_shared<LoopObject>();
  loop->stmt = s;
  loop->scope = scope_;
  loop->depth0 = depth0;
  loop->sized = !s->filter;
  if (iterable.is_sequence()) {
    loop->source = std::static_pointer_cast<ListObject>(iterable.object());
  } else {
    const Value list = TRY(MakeList(budget_, TRY(Iterate(iterable))));
    loop->source = std::static_pointer_cast<ListObject>(list.object());
  }
  const Value value = Value::Object(Kind::kLoop, loop);
  auto flow = ExecForBody(s, value);
  // A loop that outlives itself must not keep scopes or itself alive.
  loop->running = false;
  loop->scope.reset();
  loop->changed = Value();
  return flow;
}

Result<Interpreter::Flow> Interpreter::ExecForBody(const Stmt* s, const Value& loop_value) {
  LoopObject& loop = loop_value.as<LoopObject>();
  const auto loop_name = tree_.name_ids.find("loop");
  bool finished_one = false;
  while (TRY(Peek(&loop))) {
    TRY(budget_->Step());
    loop.before = std::move(loop.current);
    loop.current = std::move(loop.ahead.front());
    loop.ahead.pop_front();
    ++loop.index0;
    auto scope = std::make_shared<Scope>();
    scope->parent = loop.scope;
    Restore<std::shared_ptr<Scope>> inner(&scope_, scope);
    SetVariable(loop_name->second, loop_value);
    TRY(Assign(s->target, loop.current));
    const Flow flow = TRY(ExecBody(s->body));
    if (flow == Flow::kBreak) break;
    // jinja2 marks an iteration as done at its end, so one that was cut short does not count.
    finished_one |= flow == Flow::kNormal;
  }
  if (finished_one || s->otherwise.empty()) return Flow::kNormal;
  auto scope = std::make_shared<Scope>();
  scope->parent = loop.scope;
  Restore<std::shared_ptr<Scope>> inner(&scope_, scope);
  return ExecBody(s->otherwise);
}

Result<Value> Interpreter::CallLoop(const Value& value, const Args& args) {
  LoopObject& loop = value.as<LoopObject>();
  if (!loop.stmt->recursive || !loop.running) {
    return TypeError("the loop must have the 'recursive' marker to be called");
  }
  if (args.positional.size() != 1 || !args.named.empty()) {
    return TypeError("loop() takes one list");
  }
  Builder builder(budget_);
  Restore<Builder*> out(&out_, &builder);
  Restore<std::shared_ptr<Scope>> outer(&scope_, loop.scope);
  TRY(ExecFor(loop.stmt, args.positional[0], loop.depth0 + 1));
  return builder.Finish();
}

Status Interpreter::BindParameters(const Value& macro, const Args& args) {
  const Signature& signature = macro.as<MacroObject>().stmt->signature;
  const size_t count = signature.parameters.size();
  std::vector<std::pair<std::string, Value>> named = args.named;
  const auto take = [&](std::string_view name) {
    for (size_t i = 0; i < named.size(); ++i) {
      if (named[i].first != name) continue;
      Value value = std::move(named[i].second);
      named.erase(named.begin() + static_cast<long>(i));
      return value;
    }
    return Value();
  };
  bool explicit_caller = false;
  for (size_t i = 0; i < count; ++i) {
    const int id = signature.parameters[i];
    const std::string& name = tree_.names[static_cast<size_t>(id)];
    explicit_caller |= name == "caller";
    Value value = i < args.positional.size() ? args.positional[i] : take(name);
    const size_t first_default = count - signature.defaults.size();
    if (value.is_missing() && i >= first_default) {
      value = TRY(Eval(signature.defaults[i - first_default]));
    } else if (value.is_missing()) {
      value = Value::Undefined("parameter '" + name + "' was not provided");
    }
    SetVariable(id, std::move(value));
  }
  const auto set = [&](const char* name, Value value) {
    SetVariable(tree_.name_ids.find(name)->second, std::move(value));
  };
  if (signature.takes_caller && !explicit_caller) {
    Value caller = take("caller");
    if (caller.is_missing() || caller.is(Kind::kNone)) {
      caller = Value::Undefined("No caller defined");
    }
    set("caller", std::move(caller));
  }
  if (signature.takes_kwargs) {
    std::vector<std::pair<Value, Value>> items;
    for (auto& [name, value] : named) items.emplace_back(ConstantString(name), std::move(value));
    set("kwargs", TRY(MakeDict(budget_, std::move(items))));
  } else if (!named.empty()) {
    return TypeError("macro '" + signature.name + "' takes no keyword argument '" +
                     Brief(named[0].first) + "'");
  }
  if (signature.takes_varargs) {
    std::vector<Value> rest;
    for (size_t i = count; i < args.positional.size(); ++i) rest.push_back(args.positional[i]);
    set("varargs", TRY(MakeList(budget_, std::move(rest), Kind::kTuple)));
  } else if (args.positional.size() > count) {
    return TypeError("macro '" + signature.name + "' takes not more than " + std::to_string(count) +
                     " arguments");
  }
  return {};
}

Result<Value> Interpreter::CallMacro(const Value& value, const Args& args) {
  const MacroObject& macro = value.as<MacroObject>();
  Counter depth(&macro_depth_);
  if (macro_depth_ > budget_->limits().max_depth) {
    return Error{Code::kLimit, "macro '" + macro.stmt->signature.name + "' called deeper than " +
                                   std::to_string(budget_->limits().max_depth) + " levels"};
  }
  auto scope = std::make_shared<Scope>();
  scope->parent = macro.scope.lock();
  if (!macro.at_root && !scope->parent) {
    return TypeError("macro '" + macro.stmt->signature.name + "' outlived the block that made it");
  }
  Builder builder(budget_);
  Restore<std::shared_ptr<Scope>> inner(&scope_, scope);
  Restore<Builder*> out(&out_, &builder);
  TRY(BindParameters(value, args));
  TRY(ExecBody(macro.stmt->body));
  return builder.Finish();
}

}  // namespace hadal::internal::jinja
