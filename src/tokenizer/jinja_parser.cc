#include "tokenizer/jinja_parser.h"

#include <algorithm>
#include <initializer_list>

#include "tokenizer/jinja_lexer.h"
#include "tokenizer/jinja_text.h"

namespace hadal::internal::jinja {
namespace {

using ExprResult = Result<Expr*>;

class Parser {
 public:
  Parser(std::vector<Token> tokens, const TemplateLimits& limits)
      : tokens_(std::move(tokens)), limits_(limits), bound_(1) {}
  Result<Tree> Run();

 private:
  // Counts a level of nesting while alive.
  struct Level {
    explicit Level(uint64_t* depth) : depth_(depth) { ++*depth_; }
    ~Level() { --*depth_; }
    Level(const Level&) = delete;
    uint64_t* depth_;
  };
  Status CheckDepth(uint64_t depth, const char* what) {
    if (depth <= limits_.max_depth) return {};
    return Error{Code::kLimit, Here() + what + " nested deeper than " +
                                   std::to_string(limits_.max_depth) + " levels"};
  }

  const Token& Now() const { return tokens_[at_]; }
  const Token& Ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  void Next() {
    if (at_ + 1 < tokens_.size()) ++at_;
  }
  bool IsOp(std::string_view op) const {
    return Now().kind == TokenKind::kOperator && Now().text == op;
  }
  bool IsWord(std::string_view word) const {
    return Now().kind == TokenKind::kName && Now().text == word;
  }
  bool IsWord(std::initializer_list<std::string_view> words) const {
    return std::any_of(words.begin(), words.end(), [&](auto word) { return IsWord(word); });
  }
  bool SkipOp(std::string_view op) {
    if (!IsOp(op)) return false;
    Next();
    return true;
  }
  bool SkipWord(std::string_view word) {
    if (!IsWord(word)) return false;
    Next();
    return true;
  }
  std::string Here() const { return "line " + std::to_string(Now().line) + ": "; }
  Error Fail(const std::string& what) const { return {Code::kInvalid, Here() + what}; }
  std::string Shown() const;
  Status ExpectOp(std::string_view op);
  Status ExpectWord(std::string_view word);
  Status ExpectBlockEnd();
  Result<std::string> ExpectName();

  int NameId(const std::string& name);
  Expr* NewExpr(ExprKind kind, int line);
  Stmt* NewStmt(StmtKind kind);
  void Bind(int name) { bound_.back().insert(name); }
  void BindTarget(const Expr* target);
  void Read(int name);

  ExprResult Expression(bool with_condition = true);
  ExprResult TupleOf(bool with_condition, std::string_view end_word, bool parenthesised);
  bool AtTupleEnd(std::string_view end_word) const;
  ExprResult Or();
  ExprResult And();
  ExprResult Not();
  ExprResult Compare();
  ExprResult Sum();
  ExprResult Concat();
  ExprResult Product();
  ExprResult Power();
  ExprResult Unary(bool with_filter = true);
  ExprResult Primary();
  ExprResult NameOrLiteral();
  ExprResult ListLiteral();
  ExprResult DictLiteral();
  ExprResult Postfix(Expr* node);
  ExprResult FilterChain(Expr* node);
  ExprResult Subscript(Expr* node);
  ExprResult Attribute(Expr* node);
  ExprResult Filter(Expr* node);
  ExprResult Filters(Expr* node, bool start_inline);
  ExprResult Test(Expr* node);
  ExprResult TestNode(Expr* node, int line);
  ExprResult Call(Expr* node);
  Result<Arguments> CallArguments();
  Status Argument(Arguments* out);
  Result<std::string> DottedName();
  ExprResult Target(std::string_view end_word, bool with_namespace);
  ExprResult TargetItem(bool with_namespace);

  Result<Body> Statements(std::initializer_list<std::string_view> ends);
  Result<const Stmt*> Statement();
  Result<const Stmt*> Block(const std::string& tag);
  Result<const Stmt*> If();
  Result<const Stmt*> For();
  Result<const Stmt*> Set();
  Result<const Stmt*> Macro();
  Result<const Stmt*> CallBlock();
  Result<const Stmt*> FilterBlock();
  Result<const Stmt*> With();
  Result<const Stmt*> Scope(StmtKind kind, std::string_view end);
  Result<const Stmt*> LoopControl(StmtKind kind);
  Result<const Stmt*> Refuse(const std::string& tag);
  Status ParseSignature(Stmt* stmt);
  Result<Body> MacroBody(Stmt* stmt, std::string_view end);
  Result<Body> Subparse(std::initializer_list<std::string_view> ends);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  const TemplateLimits& limits_;
  Tree tree_;
  uint64_t expression_depth_ = 0, block_depth_ = 0;
  int loops_ = 0;
  bool soft_ = false;  // inside an `if`: unknown filters are errors only when reached
  std::vector<std::set<int>> bound_;
  Signature* signature_ = nullptr;  // of the macro being parsed
};

std::string Parser::Shown() const {
  switch (Now().kind) {
    case TokenKind::kEnd:
      return "the end of the template";
    case TokenKind::kBlockEnd:
      return "'%}'";
    case TokenKind::kExpressionEnd:
      return "'}}'";
    case TokenKind::kBlockBegin:
      return "'{%'";
    case TokenKind::kExpressionBegin:
      return "'{{'";
    default:
      return "'" + Brief(Now().text) + "'";
  }
}

Status Parser::ExpectOp(std::string_view op) {
  if (SkipOp(op)) return {};
  return Fail("expected '" + std::string(op) + "', got " + Shown());
}

Status Parser::ExpectWord(std::string_view word) {
  if (SkipWord(word)) return {};
  return Fail("expected '" + std::string(word) + "', got " + Shown());
}

Status Parser::ExpectBlockEnd() {
  if (Now().kind != TokenKind::kBlockEnd) return Fail("expected '%}', got " + Shown());
  Next();
  return {};
}

Result<std::string> Parser::ExpectName() {
  if (Now().kind != TokenKind::kName) return Fail("expected a name, got " + Shown());
  std::string name = Now().text;
  Next();
  return name;
}

int Parser::NameId(const std::string& name) {
  const auto [found, added] =
      tree_.name_ids.try_emplace(name, static_cast<int>(tree_.names.size()));
  if (added) tree_.names.push_back(name);
  return found->second;
}

Expr* Parser::NewExpr(ExprKind kind, int line) {
  Expr& expr = tree_.exprs.emplace_back();
  expr.kind = kind;
  expr.line = line;
  return &expr;
}

Stmt* Parser::NewStmt(StmtKind kind) {
  Stmt& stmt = tree_.stmts.emplace_back();
  stmt.kind = kind;
  stmt.line = Now().line;
  return &stmt;
}

void Parser::BindTarget(const Expr* target) {
  if (target->kind == ExprKind::kName) Bind(target->name);
  for (const Expr* item : target->items) BindTarget(item);
}

void Parser::Read(int name) {
  const std::string& text = tree_.names[static_cast<size_t>(name)];
  if (signature_) {
    signature_->takes_varargs |= text == "varargs";
    signature_->takes_kwargs |= text == "kwargs";
    signature_->takes_caller |= text == "caller";
  }
  const bool bound = std::any_of(bound_.begin(), bound_.end(),
                                 [&](const auto& scope) { return scope.count(name) != 0; });
  if (!bound) tree_.free_names.insert(text);
}

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

Result<Body> Parser::Statements(std::initializer_list<std::string_view> ends) {
  Level level(&block_depth_);
  TRY(CheckDepth(block_depth_, "a block"));
  SkipOp(":");
  TRY(ExpectBlockEnd());
  Body body = TRY(Subparse(ends));
  if (Now().kind == TokenKind::kEnd) {
    std::string wanted;
    for (const std::string_view end : ends)
      wanted += (wanted.empty() ? "" : " or ") + std::string(end);
    return Fail("the template ends where " + wanted + " was expected");
  }
  return body;
}

// Statements up to one of `ends`, whose name is then the current token.
Result<Body> Parser::Subparse(std::initializer_list<std::string_view> ends) {
  Body body;
  while (Now().kind != TokenKind::kEnd) {
    if (Now().kind == TokenKind::kData) {
      Stmt* text = NewStmt(StmtKind::kText);
      text->text = ConstantString(Now().text);
      body.push_back(text);
      Next();
    } else if (Now().kind == TokenKind::kExpressionBegin) {
      Stmt* output = NewStmt(StmtKind::kOutput);
      Next();
      output->value = TRY(TupleOf(true, "", false));
      if (Now().kind != TokenKind::kExpressionEnd) return Fail("expected '}}', got " + Shown());
      Next();
      body.push_back(output);
    } else {
      Next();
      if (IsWord(ends)) return body;
      if (const Stmt* stmt = TRY(Statement())) body.push_back(stmt);
      TRY(ExpectBlockEnd());
    }
  }
  return body;
}

Result<const Stmt*> Parser::Statement() {
  if (Now().kind != TokenKind::kName) return Fail("expected a tag name, got " + Shown());
  return Block(Now().text);
}

Result<const Stmt*> Parser::Block(const std::string& tag) {
  if (tag == "if") return If();
  if (tag == "for") return For();
  if (tag == "set") return Set();
  if (tag == "macro") return Macro();
  if (tag == "call") return CallBlock();
  if (tag == "filter") return FilterBlock();
  if (tag == "with") return With();
  if (tag == "generation") return Scope(StmtKind::kScope, "endgeneration");
  if (tag == "block") return Scope(StmtKind::kRootScope, "endblock");
  if (tag == "break") return LoopControl(StmtKind::kBreak);
  if (tag == "continue") return LoopControl(StmtKind::kContinue);
  if (tag == "print") {
    Stmt* output = NewStmt(StmtKind::kOutput);
    Next();
    output->value = TRY(Expression());
    return output;
  }
  if (tag == "include" || tag == "import" || tag == "from" || tag == "extends") return Refuse(tag);
  return Fail("unknown tag '" + Brief(tag) + "'");
}

Result<const Stmt*> Parser::If() {
  Stmt* stmt = NewStmt(StmtKind::kIf);
  const bool soft = std::exchange(soft_, true);
  while (true) {
    Next();  // if, elif
    const Expr* test = TRY(TupleOf(false, "", false));
    stmt->branches.emplace_back(test, TRY(Statements({"elif", "else", "endif"})));
    if (!IsWord("elif")) break;
  }
  if (SkipWord("else")) stmt->otherwise = TRY(Statements({"endif"}));
  Next();
  soft_ = soft;
  return stmt;
}

Result<const Stmt*> Parser::For() {
  Stmt* stmt = NewStmt(StmtKind::kFor);
  Next();
  Expr* target = TRY(Target("in", false));
  stmt->target = target;
  TRY(ExpectWord("in"));
  stmt->value = TRY(TupleOf(false, "recursive", false));
  const bool soft = std::exchange(soft_, false);
  bound_.emplace_back();
  BindTarget(target);
  if (SkipWord("if")) stmt->filter = TRY(Expression());
  stmt->recursive = SkipWord("recursive");
  Bind(NameId("loop"));
  ++loops_;
  stmt->body = TRY(Statements({"endfor", "else"}));
  --loops_;
  bound_.pop_back();
  bound_.emplace_back();
  if (SkipWord("else")) stmt->otherwise = TRY(Statements({"endfor"}));
  bound_.pop_back();
  soft_ = soft;
  Next();
  return stmt;
}

Result<const Stmt*> Parser::Set() {
  Stmt* stmt = NewStmt(StmtKind::kSet);
  Next();
  Expr* target = TRY(Target("", true));
  stmt->target = target;
  if (SkipOp("=")) {
    stmt->value = TRY(TupleOf(true, "", false));
    BindTarget(target);
    return stmt;
  }
  stmt->kind = StmtKind::kSetBlock;
  if (IsOp("|")) stmt->filter = TRY(Filters(nullptr, false));
  bound_.emplace_back();
  stmt->body = TRY(Statements({"endset"}));
  bound_.pop_back();
  BindTarget(target);
  Next();
  return stmt;
}

Status Parser::ParseSignature(Stmt* stmt) {
  TRY(ExpectOp("("));
  while (!IsOp(")")) {
    if (!stmt->signature.parameters.empty()) TRY(ExpectOp(","));
    const int name = NameId(TRY(ExpectName()));
    Bind(name);
    if (SkipOp("=")) {
      stmt->signature.defaults.push_back(TRY(Expression()));
    } else if (!stmt->signature.defaults.empty()) {
      return Fail("a parameter without default after one with");
    } else if (tree_.names[static_cast<size_t>(name)] == "caller") {
      return Fail("the parameter 'caller' needs a default");
    }
    auto& parameters = stmt->signature.parameters;
    if (std::find(parameters.begin(), parameters.end(), name) != parameters.end()) {
      return Fail("a parameter named twice");
    }
    parameters.push_back(name);
  }
  return ExpectOp(")");
}

Result<Body> Parser::MacroBody(Stmt* stmt, std::string_view end) {
  const int loops = std::exchange(loops_, 0);
  const bool soft = std::exchange(soft_, false);
  for (const char* name : {"varargs", "kwargs", "caller"}) Bind(NameId(name));
  Signature* outer = std::exchange(signature_, &stmt->signature);
  Body body = TRY(Statements({end}));
  signature_ = outer;
  if (outer) {
    outer->takes_varargs |= stmt->signature.takes_varargs;
    outer->takes_kwargs |= stmt->signature.takes_kwargs;
    outer->takes_caller |= stmt->signature.takes_caller;
  }
  loops_ = loops;
  soft_ = soft;
  Next();
  return body;
}

Result<const Stmt*> Parser::Macro() {
  Stmt* stmt = NewStmt(StmtKind::kMacro);
  Next();
  stmt->signature.name = TRY(ExpectName());
  stmt->name = NameId(stmt->signature.name);
  Bind(stmt->name);
  bound_.emplace_back();
  TRY(ParseSignature(stmt));
  stmt->body = TRY(MacroBody(stmt, "endmacro"));
  bound_.pop_back();
  return stmt;
}

Result<const Stmt*> Parser::CallBlock() {
  Stmt* stmt = NewStmt(StmtKind::kCall);
  stmt->signature.name = "caller";
  Next();
  bound_.emplace_back();
  if (IsOp("(")) TRY(ParseSignature(stmt));
  Expr* call = TRY(Expression());
  if (call->kind != ExprKind::kCall) return Fail("expected a call after 'call'");
  stmt->value = call;
  stmt->body = TRY(MacroBody(stmt, "endcall"));
  bound_.pop_back();
  return stmt;
}

Result<const Stmt*> Parser::FilterBlock() {
  Stmt* stmt = NewStmt(StmtKind::kFilter);
  Next();
  stmt->filter = TRY(Filters(nullptr, true));
  bound_.emplace_back();
  stmt->body = TRY(Statements({"endfilter"}));
  bound_.pop_back();
  Next();
  return stmt;
}

Result<const Stmt*> Parser::With() {
  Stmt* stmt = NewStmt(StmtKind::kWith);
  Next();
  std::vector<const Expr*> targets;
  while (Now().kind != TokenKind::kBlockEnd) {
    if (!stmt->bindings.empty()) TRY(ExpectOp(","));
    Expr* target = TRY(TargetItem(false));
    TRY(ExpectOp("="));
    stmt->bindings.emplace_back(target, TRY(Expression()));
    targets.push_back(target);
  }
  bound_.emplace_back();
  for (const Expr* target : targets) BindTarget(target);
  stmt->body = TRY(Statements({"endwith"}));
  bound_.pop_back();
  Next();
  return stmt;
}

Result<const Stmt*> Parser::Scope(StmtKind kind, std::string_view end) {
  Stmt* stmt = NewStmt(kind);
  Next();
  if (kind == StmtKind::kRootScope) {
    TRY(ExpectName());
    if (SkipWord("scoped")) stmt->kind = StmtKind::kScope;
    SkipWord("required");
  }
  const int loops = std::exchange(loops_, 0);
  bound_.emplace_back();
  stmt->body = TRY(Statements({end}));
  bound_.pop_back();
  loops_ = loops;
  Next();
  if (kind == StmtKind::kRootScope && Now().kind == TokenKind::kName) Next();
  return stmt;
}

Result<const Stmt*> Parser::LoopControl(StmtKind kind) {
  if (loops_ == 0) return Fail(Shown() + " outside a loop");
  Stmt* stmt = NewStmt(kind);
  Next();
  return stmt;
}

Result<const Stmt*> Parser::Refuse(const std::string& tag) {
  Stmt* stmt = NewStmt(StmtKind::kRefuse);
  stmt->text = ConstantString("'" + tag + "' reaches outside the template, which is not allowed");
  while (Now().kind != TokenKind::kBlockEnd && Now().kind != TokenKind::kEnd) Next();
  return stmt;
}

Result<Tree> Parser::Run() {
  tree_.body = TRY(Subparse({}));
  return std::move(tree_);
}

}  // namespace

Result<Tree> ParseTemplate(std::string_view source, const TemplateLimits& limits) {
  return Parser(TRY(Tokenize(source)), limits).Run();
}

}  // namespace hadal::internal::jinja
