#include "tokenizer/jinja_parser.h"

#include "tokenizer/jinja_parser_impl.h"
#include "tokenizer/jinja_text.h"

namespace hadal::internal::jinja {

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

Result<Tree> ParseTemplate(std::string_view source, const TemplateLimits& limits) {
  return Parser(TRY(Tokenize(source)), limits).Run();
}

}  // namespace hadal::internal::jinja
