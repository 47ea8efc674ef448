#include "eval/code.h"

#include <random>

namespace hadal::eval {
namespace {

// Sections on standard input: a secret word, the program, the tests. Only a line that begins with
// the word is believed, so that neither output nor an early exit counts as a pass.
constexpr const char* kDriver = R"PY(
import os, sys, types
def drive(write, leave, modules, heap):
    data = sys.stdin.buffer.read()
    parts = []
    while data:
        size, _, data = data.partition(b'\n')
        parts.append(data[:int(size)].decode('utf-8', 'replace'))
        data = data[int(size):]
    word, program, tests = parts
    os.close(0)
    def report(verdict, error):
        text = verdict
        if error is not None:
            text += ' ' + type(error).__name__ + ': ' + str(error)[:200].replace('\n', ' ')
        write(1, ('\n' + word + ' ' + text + '\n').encode('utf-8', 'replace'))
        leave(0)
    def plain(value, depth):
        kind = type(value)
        if kind.__flags__ & heap:
            home = modules.get(kind.__module__)
            if getattr(home, kind.__name__, None) is not kind:
                raise TypeError('the program returns an object of its own class')
        if depth < 20:
            if kind in (list, tuple, set, frozenset):
                for item in value: plain(item, depth + 1)
            elif kind is dict:
                for key, item in value.items():
                    plain(key, depth + 1)
                    plain(item, depth + 1)
        return value
    def guard(function):
        return lambda *a, **k: plain(function(*a, **k), 0)
    names = {'__name__': 'answer'}
    try:
        exec(compile(program, '<answer>', 'exec'), names)
    except BaseException as error:
        report('program', error)
    function = types.FunctionType
    guarded = {n: guard(v) if type(v) is function else v for n, v in names.items()}
    try:
        exec(compile(tests, '<tests>', 'exec'), guarded)
    except BaseException as error:
        report('tests', error)
    report('pass', None)
import collections, decimal, fractions, datetime, re, itertools, functools, random, math, heapq
drive(os.write, os._exit, dict(sys.modules), 1 << 9)
)PY";

std::string Section(const std::string& text) { return std::to_string(text.size()) + '\n' + text; }

std::string SecretWord() {
  std::random_device device;
  std::string word;
  for (int i = 0; i < 4; ++i) word += std::to_string(device()) + '-';
  return word;
}

std::string Ending(const SandboxRun& run, const SandboxLimits& limits) {
  switch (run.end) {
    case SandboxRun::End::kTimeout:
      return "over " + std::to_string(limits.wall_seconds) + " s";
    case SandboxRun::End::kOutput:
      return "over " + std::to_string(limits.output_bytes) + " bytes of output";
    case SandboxRun::End::kSignal:
      if (run.code == 24 || run.code == 9) {
        return "over " + std::to_string(limits.cpu_seconds) + " s of CPU time";
      }
      return "killed by signal " + std::to_string(run.code);
    case SandboxRun::End::kExited:
      break;
  }
  return "ended by itself with status " + std::to_string(run.code);
}

}  // namespace

Grade RunTests(const Sandbox& sandbox, const std::string& program, const std::string& tests,
               const SandboxLimits& limits) {
  const std::string word = SecretWord();
  const auto run =
      sandbox.RunPython(kDriver, Section(word) + Section(program) + Section(tests), limits);
  if (!run.ok()) return {Verdict::kError, program, {}, run.error().message};
  const size_t at = run->output.rfind('\n' + word + ' ');
  if (at == std::string::npos) return {Verdict::kWrong, program, {}, Ending(*run, limits)};
  std::string text = run->output.substr(at + word.size() + 2);
  text.resize(std::min(text.find('\n'), text.size()));
  const bool pass = text == "pass" && run->end == SandboxRun::End::kExited;
  return {pass ? Verdict::kRight : Verdict::kWrong, program, {}, text};
}

Result<std::shared_ptr<const Sandbox>> SharedSandbox() {
  return std::shared_ptr<const Sandbox>(std::make_shared<Sandbox>(TRY(Sandbox::Open())));
}

}  // namespace hadal::eval
