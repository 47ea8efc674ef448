#include "tokenizer/jinja_parser.h"
#include "tokenizer/jinja_parser_impl.h"
#include "tokenizer/jinja_text.h"

namespace hadal::internal::jinja {

bool Parser::AtTupleEnd(std::string_view end_word) const {
  return Now().kind == TokenKind::kExpressionEnd || Now().kind == TokenKind::kBlockEnd ||
         IsOp(")") || (!end_word.empty() && IsWord(end_word));
}

ExprResult Parser::TupleOf(bool with_condition, std::string_view end_word, bool parenthesised) {
  const int line = Now().line;
  std::vector<const Expr*> items;
  bool tuple = false;
  while (true) {
    if (!items.empty()) TRY(ExpectOp(","));
    if (AtTupleEnd(end_word)) break;
    items.push_back(TRY(Expression(with_condition)));
    if (!IsOp(",")) break;
    tuple = true;
  }
  if (!tuple && !items.empty()) return const_cast<Expr*>(items[0]);
  if (!tuple && !parenthesised) return Fail("expected an expression, got " + Shown());
  Expr* node = NewExpr(ExprKind::kTuple, line);
  node->items = std::move(items);
  return node;
}

ExprResult Parser::Expression(bool with_condition) {
  Level level(&expression_depth_);
  TRY(CheckDepth(expression_depth_, "an expression"));
  const int line = Now().line;
  Expr* node = TRY(Or());
  int chained = 0;
  while (with_condition && SkipWord("if")) {
    TRY(CheckDepth(static_cast<uint64_t>(++chained), "an expression"));
    Expr* condition = NewExpr(ExprKind::kCondition, line);
    // Both arms may stay unevaluated, so filters in them may be unknown.
    condition->a = node;
    const bool soft = std::exchange(soft_, true);
    condition->b = TRY(Or());
    if (SkipWord("else")) condition->c = TRY(Expression());
    soft_ = soft;
    node = condition;
  }
  return node;
}

ExprResult Parser::Or() {
  Expr* node = TRY(And());
  if (!IsWord("or")) return node;
  Expr* chain = NewExpr(ExprKind::kOr, node->line);
  chain->items.push_back(node);
  while (SkipWord("or")) chain->items.push_back(TRY(And()));
  return chain;
}

ExprResult Parser::And() {
  Expr* node = TRY(Not());
  if (!IsWord("and")) return node;
  Expr* chain = NewExpr(ExprKind::kAnd, node->line);
  chain->items.push_back(node);
  while (SkipWord("and")) chain->items.push_back(TRY(Not()));
  return chain;
}

ExprResult Parser::Not() {
  const int line = Now().line;
  if (!SkipWord("not")) return Compare();
  Level level(&expression_depth_);
  TRY(CheckDepth(expression_depth_, "an expression"));
  Expr* node = NewExpr(ExprKind::kUnary, line);
  node->ops.push_back(Op::kNot);
  node->a = TRY(Not());
  return node;
}

ExprResult Parser::Compare() {
  struct Name {
    std::string_view text;
    Op op;
  };
  constexpr Name kNames[] = {{"==", Op::kEq}, {"!=", Op::kNe}, {"<", Op::kLt},
                             {"<=", Op::kLe}, {">", Op::kGt},  {">=", Op::kGe}};
  Expr* node = TRY(Sum());
  Expr* chain = nullptr;
  while (true) {
    Op op = Op::kNot;
    for (const Name& name : kNames) {
      if (IsOp(name.text)) op = name.op;
    }
    if (IsWord("in")) op = Op::kIn;
    if (IsWord("not") && Ahead().kind == TokenKind::kName && Ahead().text == "in") {
      Next();
      op = Op::kNotIn;
    }
    if (op == Op::kNot) return chain ? chain : node;
    Next();
    if (!chain) {
      chain = NewExpr(ExprKind::kCompare, node->line);
      chain->items.push_back(node);
    }
    chain->ops.push_back(op);
    chain->items.push_back(TRY(Sum()));
  }
}

ExprResult Parser::Sum() {
  Expr* node = TRY(Concat());
  if (!IsOp("+") && !IsOp("-")) return node;
  Expr* chain = NewExpr(ExprKind::kArithmetic, node->line);
  chain->items.push_back(node);
  while (IsOp("+") || IsOp("-")) {
    chain->ops.push_back(IsOp("+") ? Op::kAdd : Op::kSub);
    Next();
    chain->items.push_back(TRY(Concat()));
  }
  return chain;
}

ExprResult Parser::Concat() {
  Expr* node = TRY(Product());
  if (!IsOp("~")) return node;
  Expr* chain = NewExpr(ExprKind::kConcat, node->line);
  chain->items.push_back(node);
  while (SkipOp("~")) chain->items.push_back(TRY(Product()));
  return chain;
}

ExprResult Parser::Product() {
  Expr* node = TRY(Power());
  Expr* chain = nullptr;
  while (IsOp("*") || IsOp("/") || IsOp("//") || IsOp("%")) {
    if (!chain) {
      chain = NewExpr(ExprKind::kArithmetic, node->line);
      chain->items.push_back(node);
    }
    chain->ops.push_back(IsOp("*")    ? Op::kMul
                         : IsOp("/")  ? Op::kDiv
                         : IsOp("//") ? Op::kFloorDiv
                                      : Op::kMod);
    Next();
    chain->items.push_back(TRY(Power()));
  }
  return chain ? chain : node;
}

ExprResult Parser::Power() {
  Expr* node = TRY(Unary());
  if (!IsOp("**")) return node;
  Expr* chain = NewExpr(ExprKind::kArithmetic, node->line);
  chain->items.push_back(node);
  while (SkipOp("**")) {  // jinja2 groups from the left, unlike Python
    chain->ops.push_back(Op::kPow);
    chain->items.push_back(TRY(Unary()));
  }
  return chain;
}

ExprResult Parser::Unary(bool with_filter) {
  Expr* node = nullptr;
  if (IsOp("-") || IsOp("+")) {
    Level level(&expression_depth_);
    TRY(CheckDepth(expression_depth_, "an expression"));
    node = NewExpr(ExprKind::kUnary, Now().line);
    node->ops.push_back(IsOp("-") ? Op::kNeg : Op::kPos);
    Next();
    node->a = TRY(Unary(false));
  } else {
    node = TRY(Primary());
  }
  node = TRY(Postfix(node));
  return with_filter ? FilterChain(node) : ExprResult(node);
}

ExprResult Parser::Primary() {
  if (SkipOp("(")) {
    Expr* node = TRY(TupleOf(true, "", true));
    TRY(ExpectOp(")"));
    return node;
  }
  if (IsOp("[")) return ListLiteral();
  if (IsOp("{")) return DictLiteral();
  return NameOrLiteral();
}

ExprResult Parser::NameOrLiteral() {
  const Token& token = Now();
  Expr* node = NewExpr(ExprKind::kConstant, token.line);
  switch (token.kind) {
    case TokenKind::kName:
      if (IsWord({"true", "True", "false", "False"})) {
        node->constant = Value::Bool(token.text[0] == 't' || token.text[0] == 'T');
      } else if (IsWord({"none", "None"})) {
        node->constant = Value::None();
      } else {
        node->kind = ExprKind::kName;
        node->name = NameId(token.text);
        Read(node->name);
      }
      break;
    case TokenKind::kString: {
      std::string text = token.text;
      while (Ahead().kind == TokenKind::kString) {
        Next();
        text += Now().text;
      }
      node->constant = ConstantString(text);
      break;
    }
    case TokenKind::kInteger:
      node->constant = Value::Int(token.integer);
      break;
    case TokenKind::kFloat:
      node->constant = Value::Float(token.real);
      break;
    default:
      return Fail("unexpected " + Shown());
  }
  Next();
  return node;
}

ExprResult Parser::ListLiteral() {
  Expr* node = NewExpr(ExprKind::kList, Now().line);
  Next();
  while (!IsOp("]")) {
    if (!node->items.empty()) TRY(ExpectOp(","));
    if (IsOp("]")) break;
    node->items.push_back(TRY(Expression()));
  }
  TRY(ExpectOp("]"));
  return node;
}

ExprResult Parser::DictLiteral() {
  Expr* node = NewExpr(ExprKind::kDict, Now().line);
  Next();
  while (!IsOp("}")) {
    if (!node->items.empty()) TRY(ExpectOp(","));
    if (IsOp("}")) break;
    node->items.push_back(TRY(Expression()));
    TRY(ExpectOp(":"));
    node->items.push_back(TRY(Expression()));
  }
  TRY(ExpectOp("}"));
  return node;
}

ExprResult Parser::Postfix(Expr* node) {
  uint64_t links = 0;
  while (true) {
    if (IsOp(".")) {
      node = TRY(Attribute(node));
    } else if (IsOp("[")) {
      node = TRY(Subscript(node));
    } else if (IsOp("(")) {
      node = TRY(Call(node));
    } else {
      return node;
    }
    TRY(CheckDepth(++links, "a chain of attributes and calls"));
  }
}

ExprResult Parser::FilterChain(Expr* node) {
  uint64_t links = 0;
  while (true) {
    if (IsOp("|")) {
      node = TRY(Filter(node));
    } else if (IsWord("is")) {
      node = TRY(Test(node));
    } else if (IsOp("(")) {
      node = TRY(Call(node));
    } else {
      return node;
    }
    TRY(CheckDepth(++links, "a chain of filters"));
  }
}

ExprResult Parser::Attribute(Expr* node) {
  Expr* out = NewExpr(ExprKind::kAttribute, Now().line);
  Next();
  out->a = node;
  if (Now().kind == TokenKind::kName) {
    out->text = Now().text;
  } else if (Now().kind == TokenKind::kInteger) {
    out->kind = ExprKind::kSubscript;
    Expr* index = NewExpr(ExprKind::kConstant, Now().line);
    index->constant = Value::Int(Now().integer);
    out->b = index;
  } else {
    return Fail("expected a name or number after '.', got " + Shown());
  }
  Next();
  return out;
}

ExprResult Parser::Subscript(Expr* node) {
  Expr* out = NewExpr(ExprKind::kSubscript, Now().line);
  Next();
  out->a = node;
  const Expr* parts[3] = {};
  int part = 0;
  while (!IsOp("]") && part < 3) {
    if (SkipOp(":")) {
      out->kind = ExprKind::kSlice;
      ++part;
      continue;
    }
    if (parts[part]) break;
    parts[part] = TRY(Expression());
    if (IsOp(",") && out->kind == ExprKind::kSubscript) {
      Expr* tuple = NewExpr(ExprKind::kTuple, out->line);
      tuple->items.push_back(parts[0]);
      while (SkipOp(",")) tuple->items.push_back(TRY(Expression()));
      parts[0] = tuple;
      break;
    }
  }
  TRY(ExpectOp("]"));
  if (out->kind == ExprKind::kSlice) {
    out->items.assign(parts, parts + 3);
  } else if (parts[0]) {
    out->b = parts[0];
  } else {
    out->b = NewExpr(ExprKind::kTuple, out->line);
  }
  return out;
}

Result<std::string> Parser::DottedName() {
  std::string name = TRY(ExpectName());
  while (SkipOp(".")) name += "." + TRY(ExpectName());
  return name;
}

ExprResult Parser::Filters(Expr* node, bool start_inline) {
  uint64_t links = 0;
  while (IsOp("|") || start_inline) {
    if (!start_inline) Next();
    start_inline = false;
    Expr* filter = NewExpr(ExprKind::kFilter, Now().line);
    filter->text = TRY(DottedName());
    if (!soft_ && !IsFilter(filter->text)) {
      return Fail("no filter named '" + Brief(filter->text) + "'");
    }
    if (IsOp("(")) filter->arguments = TRY(CallArguments());
    filter->a = node;
    node = filter;
    TRY(CheckDepth(++links, "a chain of filters"));
  }
  return node;
}

ExprResult Parser::Filter(Expr* node) { return Filters(node, false); }

ExprResult Parser::Test(Expr* node) {
  const int line = Now().line;
  Next();
  const bool negated = SkipWord("not");
  Expr* test = TRY(TestNode(node, line));
  if (!negated) return test;
  Expr* out = NewExpr(ExprKind::kUnary, line);
  out->ops.push_back(Op::kNot);
  out->a = test;
  return out;
}

ExprResult Parser::TestNode(Expr* node, int line) {
  Expr* test = NewExpr(ExprKind::kTest, line);
  test->a = node;
  test->text = TRY(DottedName());
  if (!soft_ && !IsTest(test->text)) return Fail("no test named '" + Brief(test->text) + "'");
  const TokenKind kind = Now().kind;
  if (IsOp("(")) {
    test->arguments = TRY(CallArguments());
  } else if ((kind == TokenKind::kName || kind == TokenKind::kString ||
              kind == TokenKind::kInteger || kind == TokenKind::kFloat || IsOp("[") || IsOp("{")) &&
             !IsWord({"else", "or", "and"})) {
    if (IsWord("is")) return Fail("tests cannot be chained with 'is'");
    test->arguments.positional.push_back(TRY(Postfix(TRY(Primary()))));
  }
  return test;
}

ExprResult Parser::Call(Expr* node) {
  Expr* call = NewExpr(ExprKind::kCall, Now().line);
  call->a = node;
  call->arguments = TRY(CallArguments());
  return call;
}

Status Parser::Argument(Arguments* out) {
  if (SkipOp("*")) {
    if (out->star || out->double_star) return Fail("invalid syntax in a call");
    out->star = TRY(Expression());
    return {};
  }
  if (SkipOp("**")) {
    if (out->double_star) return Fail("invalid syntax in a call");
    out->double_star = TRY(Expression());
    return {};
  }
  const Token& next = Ahead();
  if (Now().kind == TokenKind::kName && next.kind == TokenKind::kOperator && next.text == "=") {
    if (out->double_star) return Fail("invalid syntax in a call");
    std::string name = Now().text;
    for (const auto& [given, value] : out->named) {
      if (given == name) return Fail("argument '" + Brief(name) + "' is given twice");
    }
    Next();
    Next();
    out->named.emplace_back(std::move(name), TRY(Expression()));
    return {};
  }
  if (out->star || out->double_star || !out->named.empty()) {
    return Fail("a positional argument after a named one");
  }
  out->positional.push_back(TRY(Expression()));
  return {};
}

Result<Arguments> Parser::CallArguments() {
  Arguments out;
  TRY(ExpectOp("("));
  for (bool first = true; !IsOp(")"); first = false) {
    if (!first) {
      TRY(ExpectOp(","));
      if (IsOp(")")) break;
    }
    TRY(Argument(&out));
  }
  TRY(ExpectOp(")"));
  return out;
}

ExprResult Parser::TargetItem(bool with_namespace) {
  Level level(&expression_depth_);
  TRY(CheckDepth(expression_depth_, "an assignment"));
  if (SkipOp("(")) {
    Expr* inner = TRY(Target("", with_namespace));
    TRY(ExpectOp(")"));
    return inner;
  }
  const int line = Now().line;
  if (Now().kind != TokenKind::kName ||
      IsWord({"true", "false", "none", "True", "False", "None"})) {
    return Fail("cannot assign to " + Shown());
  }
  const std::string name = TRY(ExpectName());
  Expr* node = NewExpr(ExprKind::kName, line);
  node->name = NameId(name);
  if (with_namespace && SkipOp(".")) {
    node->kind = ExprKind::kNamespaceSlot;
    node->text = TRY(ExpectName());
    Read(node->name);
  }
  return node;
}

ExprResult Parser::Target(std::string_view end_word, bool with_namespace) {
  const int line = Now().line;
  std::vector<const Expr*> items;
  bool tuple = false;
  while (true) {
    if (!items.empty()) TRY(ExpectOp(","));
    if (AtTupleEnd(end_word) || IsOp("=")) break;
    items.push_back(TRY(TargetItem(with_namespace)));
    if (!IsOp(",")) break;
    tuple = true;
  }
  if (items.empty()) return Fail("expected a name to assign to, got " + Shown());
  if (!tuple) return const_cast<Expr*>(items[0]);
  Expr* node = NewExpr(ExprKind::kTuple, line);
  node->items = std::move(items);
  return node;
}

}  // namespace hadal::internal::jinja
