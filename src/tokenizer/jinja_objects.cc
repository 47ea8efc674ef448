// Attributes, items, iteration and calls.
#include <algorithm>
#include <ctime>

#include "tokenizer/jinja_interpreter.h"
#include "tokenizer/jinja_text.h"

namespace hadal::internal::jinja {
namespace {

std::string Named(std::string_view name) { return "'" + Brief(name) + "'"; }

Value NoSuch(const Value& object, std::string_view name) {
  return Value::Undefined(std::string("'") + TypeName(object) + "' has no attribute " +
                          Named(name));
}

Value Unsafe(const Value& object, std::string_view name) {
  return Value::Undefined("access to attribute " + Named(name) + " of '" + TypeName(object) +
                          "' is unsafe");
}

// Python gives every object attributes of this shape; they lead out of the sandbox.
bool IsDunder(std::string_view name) {
  return name.size() > 4 && name.starts_with("__") && name.ends_with("__");
}

Value BoundMethod(const Value& self, std::string_view name) {
  auto method = std::make_shared<MethodObject>();
  method->self = self;
  method->name = std::string(name);
  method->depth = self.depth() + 1;
  return Value::Object(Kind::kMethod, std::move(method));
}

Result<Value> CharacterAt(const Value& text, int64_t index) {
  const std::string_view bytes = text.text();
  if (index < 0) index += static_cast<int64_t>(CodePoints(bytes));
  if (index < 0) return Value();
  const size_t begin = ByteOffset(bytes, static_cast<size_t>(index));
  if (begin >= bytes.size()) return Value();
  size_t end = begin;
  NextCodePoint(bytes, &end);
  return text.Part(begin, end - begin);
}

}  // namespace

Result<std::vector<Value>> Bind(std::string_view what, const Args& args,
                                std::initializer_list<std::string_view> names, size_t required) {
  std::vector<Value> out(names.size());
  if (args.positional.size() > names.size()) {
    return TypeError(std::string(what) + " takes at most " + std::to_string(names.size()) +
                     " arguments, got " + std::to_string(args.positional.size()));
  }
  std::copy(args.positional.begin(), args.positional.end(), out.begin());
  for (const auto& [name, value] : args.named) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) {
      return TypeError(std::string(what) + " has no argument " + Named(name));
    }
    Value& slot = out[static_cast<size_t>(found - names.begin())];
    if (!slot.is_missing())
      return TypeError(std::string(what) + ": " + Named(name) + " given twice");
    slot = value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (out[i].is_missing()) {
      return TypeError(std::string(what) + " needs the argument " + Named(names.begin()[i]));
    }
  }
  return out;
}

Result<Value> Interpreter::GetAttribute(const Value& object, std::string_view name) {
  if (object.is_undefined()) return TypeError(std::string(object.undefined_message()));
  if (object.is(Kind::kNamespace)) {
    if (const Value* value = object.as<NamespaceObject>().attributes.Find(name)) return *value;
    return name == "__class__" ? Unsafe(object, name) : NoSuch(object, name);
  }
  if (IsDunder(name)) return Unsafe(object, name);
  switch (FindMethod(object, name)) {
    case MethodState::kAllowed:
      return BoundMethod(object, name);
    case MethodState::kRefused:
      return Unsafe(object, name);
    case MethodState::kNone:
      break;
  }
  switch (object.kind()) {
    case Kind::kDict:
      TRY(budget_->Step(1 + object.as<DictObject>().items.size() % 9));
      if (const Value* value = object.as<DictObject>().Find(name)) return *value;
      break;
    case Kind::kLoop:
      return LoopAttribute(object, name);
    case Kind::kMacro:
      return MacroAttribute(object, name);
    case Kind::kCycler: {
      const auto& cycler = object.as<CyclerObject>();
      if (name == "current") return cycler.items[cycler.position];
      if (name == "next" || name == "reset") return BoundMethod(object, name);
      break;
    }
    case Kind::kRange: {
      const auto& range = object.as<RangeObject>();
      if (name == "start") return Value::Int(range.start);
      if (name == "stop") return Value::Int(range.stop);
      if (name == "step") return Value::Int(range.step);
      break;
    }
    default:
      break;
  }
  return NoSuch(object, name);
}

Result<Value> Interpreter::MacroAttribute(const Value& macro, std::string_view name) {
  const Signature& signature = macro.as<MacroObject>().stmt->signature;
  if (name == "name") return MakeString(budget_, signature.name, true);
  if (name == "catch_kwargs") return Value::Bool(signature.takes_kwargs);
  if (name == "catch_varargs") return Value::Bool(signature.takes_varargs);
  if (name == "caller") return Value::Bool(signature.takes_caller);
  if (name != "arguments") return NoSuch(macro, name);
  std::vector<Value> names;
  for (const int id : signature.parameters) {
    names.push_back(ConstantString(tree_.names[static_cast<size_t>(id)]));
  }
  return MakeList(budget_, std::move(names), Kind::kTuple);
}

Result<Value> Interpreter::LoopAttribute(const Value& value, std::string_view name) {
  LoopObject& loop = value.as<LoopObject>();
  const int64_t index0 = loop.index0;
  if (name == "index0") return Value::Int(index0);
  if (name == "index") return Value::Int(index0 + 1);
  if (name == "first") return Value::Bool(index0 == 0);
  if (name == "depth0") return Value::Int(loop.depth0);
  if (name == "depth") return Value::Int(loop.depth0 + 1);
  if (name == "previtem") {
    return index0 == 0 ? Value::Undefined("there is no previous item") : loop.before;
  }
  if (name == "cycle" || name == "changed") return BoundMethod(value, name);
  if (name == "last") return Value::Bool(!TRY(Peek(&loop)));
  if (name == "nextitem") {
    if (!TRY(Peek(&loop))) return Value::Undefined("there is no next item");
    return loop.ahead.front();
  }
  const int64_t length = TRY(LoopLength(&loop));
  if (name == "length") return Value::Int(length);
  if (name == "revindex") return Value::Int(length - index0);
  if (name == "revindex0") return Value::Int(length - index0 - 1);
  return NoSuch(value, name);
}

Result<Value> Interpreter::GetItem(const Value& object, const Value& key) {
  TRY(budget_->Step());
  if (object.is_undefined()) return TypeError(std::string(object.undefined_message()));
  if (object.is(Kind::kDict) && Hashable(key)) {
    if (const Value* value = object.as<DictObject>().Find(key)) return *value;
  }
  if (key.is_integer()) {
    const int64_t index = key.integer();
    if (object.is_sequence()) {
      const auto& items = object.as<ListObject>().items;
      const int64_t at = index < 0 ? index + static_cast<int64_t>(items.size()) : index;
      if (at >= 0 && at < static_cast<int64_t>(items.size())) return items[static_cast<size_t>(at)];
    } else if (object.is_string()) {
      TRY(budget_->Work(object.text().size()));
      const Value character = TRY(CharacterAt(object, index));
      if (!character.is_missing()) return character;
    } else if (object.is(Kind::kRange)) {
      const auto& range = object.as<RangeObject>();
      const int64_t at = index < 0 ? index + range.size() : index;
      if (at >= 0 && at < range.size()) return Value::Int(range.start + at * range.step);
    }
    return Value::Undefined(std::string("'") + TypeName(object) + "' has no element " +
                            std::to_string(index));
  }
  if (!key.is_string())
    return Value::Undefined(std::string("'") + TypeName(object) + "' has no such element");
  if (object.is(Kind::kDict)) {  // the key is not there; a method of that name may be
    const std::string name(key.text());
    if (IsDunder(name)) return Unsafe(object, name);
    const MethodState state = FindMethod(object, name);
    if (state == MethodState::kAllowed) return BoundMethod(object, name);
    return state == MethodState::kRefused ? Unsafe(object, name) : NoSuch(object, name);
  }
  return GetAttribute(object, key.text());
}

Result<Value> Interpreter::GetPath(const Value& object, const Value& path, const Value& otherwise) {
  const bool replaces = !otherwise.is_missing() && !otherwise.is(Kind::kNone);
  if (!path.is_string()) {
    const Value value = path.is(Kind::kNone) ? object : TRY(GetItem(object, path));
    return value.is_undefined() && replaces ? otherwise : value;
  }
  Value value = object;
  const std::string_view text = path.text();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('.', begin), text.size());
    const std::string_view part = text.substr(begin, end - begin);
    const auto number = TextIs(part, "digit") ? ParseInt(part, 10) : std::nullopt;
    value = TRY(GetItem(value, number ? Value::Int(*number) : path.Part(begin, part.size())));
    if (value.is_undefined() && replaces) value = otherwise;
    begin = end + 1;
  }
  return value;
}

Result<std::vector<Value>> Interpreter::Iterate(const Value& value) {
  std::vector<Value> out;
  switch (value.kind()) {
    case Kind::kUndefined:
      return out;
    case Kind::kList:
    case Kind::kTuple:
      TRY(budget_->Step(value.as<ListObject>().items.size() / 8));
      return value.as<ListObject>().items;
    case Kind::kString: {
      const std::string_view text = value.text();
      TRY(budget_->CheckElements(CodePoints(text)));
      TRY(budget_->Step(text.size() / 4));
      for (size_t at = 0; at < text.size();) {
        const size_t begin = at;
        NextCodePoint(text, &at);
        out.push_back(value.Part(begin, at - begin));
        out.back().set_markup(false);
      }
      return out;
    }
    case Kind::kDict:
      for (const auto& item : value.as<DictObject>().items) out.push_back(item.first);
      break;
    case Kind::kView: {
      const auto& view = value.as<ViewObject>();
      for (const auto& [key, item] : view.dict.as<DictObject>().items) {
        if (view.which == 'k') out.push_back(key);
        if (view.which == 'v') out.push_back(item);
        if (view.which == 'i') out.push_back(TRY(MakeList(budget_, {key, item}, Kind::kTuple)));
      }
      break;
    }
    case Kind::kRange: {
      const auto& range = value.as<RangeObject>();
      TRY(budget_->CheckElements(static_cast<uint64_t>(range.size())));
      for (int64_t i = 0; i < range.size(); ++i)
        out.push_back(Value::Int(range.start + i * range.step));
      break;
    }
    case Kind::kGenerator: {
      auto& generator = value.as<GeneratorObject>();
      if (generator.failed) return generator.error;
      if (generator.next == 0) out = generator.items;
      generator.next = 1;  // walked: a second walk finds nothing
      break;
    }
    default:
      return TypeError(std::string("'") + TypeName(value) + "' object is not iterable");
  }
  TRY(budget_->Step(out.size() / 8));
  return out;
}

Result<int64_t> Interpreter::Length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kList:
    case Kind::kTuple:
      return static_cast<int64_t>(value.as<ListObject>().items.size());
    case Kind::kString:
      TRY(budget_->Work(value.text().size()));
      return static_cast<int64_t>(CodePoints(value.text()));
    case Kind::kDict:
      return static_cast<int64_t>(value.as<DictObject>().items.size());
    case Kind::kView:
      return Length(value.as<ViewObject>().dict);
    case Kind::kRange:
      return value.as<RangeObject>().size();
    case Kind::kLoop:
      return LoopLength(&value.as<LoopObject>());
    default:
      return TypeError(std::string("object of type '") + TypeName(value) + "' has no len()");
  }
}

Result<bool> Interpreter::Contains(const Value& container, const Value& item) {
  if (container.is_string()) {
    if (item.is_undefined()) return TypeError(std::string(item.undefined_message()));
    if (!item.is_string()) {
      return TypeError(std::string("'in <string>' requires string as left operand, not ") +
                       TypeName(item));
    }
    TRY(budget_->Work(container.text().size()));
    return container.text().find(item.text()) != std::string_view::npos;
  }
  if (container.is(Kind::kDict)) {
    if (!Hashable(item)) return TypeError(std::string("unhashable type: '") + TypeName(item) + "'");
    TRY(budget_->Step());
    return container.as<DictObject>().Find(item) != nullptr;
  }
  if (container.is_sequence()) {
    for (const Value& other : container.as<ListObject>().items) {
      if (TRY(Equal(budget_, other, item))) return true;
    }
    return false;
  }
  for (const Value& other : TRY(Iterate(container))) {
    if (TRY(Equal(budget_, other, item))) return true;
  }
  return false;
}

Result<Value> Interpreter::Call(const Value& function, const Args& args) {
  switch (function.kind()) {
    case Kind::kUndefined:
      return TypeError(std::string(function.undefined_message()));
    case Kind::kMacro:
      return CallMacro(function, args);
    case Kind::kLoop:
      return CallLoop(function, args);
    case Kind::kFunction:
      return CallFunction(static_cast<int>(function.integer()), args);
    case Kind::kJoiner: {
      auto& joiner = function.as<JoinerObject>();
      if (!joiner.used) {
        joiner.used = true;
        return ConstantString("");
      }
      return joiner.separator;
    }
    case Kind::kMethod: {
      const auto& method = function.as<MethodObject>();
      if (method.self.is(Kind::kLoop)) return CallLoopMethod(method.self, method.name, args);
      if (!method.self.is(Kind::kCycler)) return CallMethod(this, method.self, method.name, args);
      TRY(Bind(method.name, args, {}));
      auto& cycler = method.self.as<CyclerObject>();
      const Value now = cycler.items[cycler.position];
      cycler.position = method.name == "reset" ? 0 : (cycler.position + 1) % cycler.items.size();
      return method.name == "reset" ? Value::None() : now;
    }
    default:
      return TypeError(std::string("'") + TypeName(function) + "' object is not callable");
  }
}

Result<Value> Interpreter::CallLoopMethod(const Value& value, const std::string& name,
                                          const Args& args) {
  LoopObject& loop = value.as<LoopObject>();
  if (!args.named.empty()) return TypeError("loop." + name + " takes no keyword arguments");
  if (name == "cycle") {
    if (args.positional.empty()) return TypeError("loop.cycle needs items");
    return args.positional[static_cast<size_t>(loop.index0) % args.positional.size()];
  }
  const Value now = TRY(MakeList(budget_, args.positional, Kind::kTuple));
  if (!loop.changed.is_missing() && TRY(Equal(budget_, loop.changed, now))) {
    return Value::Bool(false);
  }
  // What it keeps may hold the loop itself; a finished loop keeps nothing.
  if (loop.running) loop.changed = now;
  return Value::Bool(true);
}

Result<Value> Interpreter::NewNamespace(std::vector<std::pair<Value, Value>> attributes) {
  TRY(budget_->Step(16));
  auto space = std::make_shared<NamespaceObject>();
  for (auto& [key, value] : attributes) {
    if (!Hashable(key)) return TypeError(std::string("unhashable type: '") + TypeName(key) + "'");
    if (key.is_string() && key.text().starts_with("_")) {
      return TypeError("a namespace cannot hold " + Named(key.text()));
    }
    space->attributes.Set(key, std::move(value));
  }
  namespaces_.push_back(space);
  // Held until the end of the rendering; values only point at it.
  return Value::Object(Kind::kNamespace,
                       std::shared_ptr<Object>(std::shared_ptr<Object>(), space.get()));
}

// What dict(...) makes of its arguments: a mapping or pairs, then keywords.
Result<std::vector<std::pair<Value, Value>>> Interpreter::Pairs(const Args& args) {
  std::vector<std::pair<Value, Value>> out;
  if (args.positional.size() > 1) return TypeError("expected at most 1 positional argument");
  if (!args.positional.empty()) {
    const Value& from = args.positional[0];
    if (from.is(Kind::kDict)) {
      out = from.as<DictObject>().items;
    } else {
      for (const Value& item : TRY(Iterate(from))) {
        const std::vector<Value> pair = TRY(Iterate(item));
        if (pair.size() != 2) return TypeError("a dict is made of pairs");
        out.emplace_back(pair[0], pair[1]);
      }
    }
  }
  for (const auto& [name, value] : args.named) out.emplace_back(ConstantString(name), value);
  return out;
}

Result<Value> Interpreter::CallRange(const Args& args) {
  if (args.positional.empty() || args.positional.size() > 3 || !args.named.empty()) {
    return TypeError("range() takes 1 to 3 integers");
  }
  for (const Value& value : args.positional) {
    if (value.is_undefined()) return TypeError(std::string(value.undefined_message()));
    if (!value.is_integer()) {
      return TypeError(std::string("range() takes integers, not ") + TypeName(value));
    }
  }
  auto range = std::make_shared<RangeObject>();
  if (args.positional.size() > 1) range->start = args.positional[0].integer();
  range->stop = args.positional[args.positional.size() > 1 ? 1 : 0].integer();
  if (args.positional.size() > 2) range->step = args.positional[2].integer();
  if (range->step == 0) return TypeError("range() arg 3 must not be zero");
  // jinja2's sandbox has a bound of its own, below ours.
  constexpr uint64_t kMaxRange = 100000;
  const uint64_t size = static_cast<uint64_t>(range->size());
  TRY(budget_->CheckElements(size));
  if (size > kMaxRange) {
    return Error{Code::kLimit, "range() of " + std::to_string(size) + " items; the bound is " +
                                   std::to_string(kMaxRange)};
  }
  return Value::Object(Kind::kRange, std::move(range));
}

Result<Value> Interpreter::CallFunction(int id, const Args& args) {
  switch (id) {
    case kRangeFunction:
      return CallRange(args);
    case kNamespaceFunction:
      return NewNamespace(TRY(Pairs(args)));
    case kDictFunction:
      return MakeDict(budget_, TRY(Pairs(args)));
    case kRaiseFunction: {
      const auto bound = TRY(Bind("raise_exception", args, {"message"}, 1));
      const Value text = TRY(ToString(budget_, bound[0]));
      return Error{Code::kInvalid, "the template refuses: " + Brief(text.text())};
    }
    case kStrftimeFunction:
      return CallStrftime(args);
    case kCyclerFunction: {
      if (args.positional.empty() || !args.named.empty()) return TypeError("cycler() needs items");
      auto cycler = std::make_shared<CyclerObject>();
      cycler->items = args.positional;
      for (const Value& item : cycler->items)
        cycler->depth = std::max(cycler->depth, item.depth() + 1);
      if (cycler->depth > kMaxValueDepth) return Error{Code::kLimit, "a value nested too deeply"};
      return Value::Object(Kind::kCycler, std::move(cycler));
    }
    default: {
      const auto bound = TRY(Bind("joiner", args, {"sep"}));
      auto joiner = std::make_shared<JoinerObject>();
      joiner->separator = bound[0].is_missing() ? ConstantString(", ") : bound[0];
      joiner->depth = joiner->separator.depth() + 1;
      if (joiner->depth > kMaxValueDepth) return Error{Code::kLimit, "a value nested too deeply"};
      return Value::Object(Kind::kJoiner, std::move(joiner));
    }
  }
}

Result<Value> Interpreter::CallStrftime(const Args& args) {
  const auto bound = TRY(Bind("strftime_now", args, {"format"}, 1));
  if (!bound[0].is_string()) return TypeError("strftime_now takes a format string");
  std::tm when{};
  const Value* now = inputs_.as<DictObject>().Find("now");
  if (now && now->is_string()) {
    const std::string text(now->text());
    const char* formats[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M",
                             "%Y-%m-%d"};
    const bool read = std::any_of(std::begin(formats), std::end(formats), [&](const char* format) {
      when = std::tm{};
      return strptime(text.c_str(), format, &when) != nullptr;
    });
    if (!read)
      return TypeError("the input 'now' is not a date like 2025-01-31T12:00:00: " + Brief(text));
  } else {
    const std::time_t seconds = std::time(nullptr);
    localtime_r(&seconds, &when);
  }
  std::string format(bound[0].text());
  if (format.size() > 1024) return Error{Code::kLimit, "strftime_now: the format is too long"};
  for (size_t at = 0; (at = format.find('%', at)) != std::string::npos; at += 2) {
    if (format.compare(at, 2, "%f") == 0) format.replace(at, 2, "000000");
  }
  std::string out(16384, '\0');
  // strftime's 0 is ambiguous between an empty result and no room: one more byte tells.
  format += ' ';
  const size_t size = std::strftime(out.data(), out.size(), format.c_str(), &when);
  if (size == 0) return Error{Code::kLimit, "strftime_now: the date is too long"};
  out.resize(size - 1);
  if (!ValidUtf8(out)) return TypeError("strftime_now: the format makes text that is not UTF-8");
  return MakeString(budget_, out, bound[0].trusted());
}

}  // namespace hadal::internal::jinja
