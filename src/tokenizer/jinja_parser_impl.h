// The recursive-descent parser: expressions in jinja_expressions.cc, statements in jinja_parser.cc.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_lexer.h"

namespace hadal::internal::jinja {

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

}  // namespace hadal::internal::jinja
