#include "eval/sandbox.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "eval/internal_sandbox.h"

namespace hadal::eval {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kPython = "/usr/bin/python3";
constexpr size_t kMostProgram = 100'000;  // one argument of a process
// Written before the program begins: without it the sandbox never came up, and no program can fake
// that.
constexpr std::string_view kStarted = "sandbox-started\n";
constexpr int kFilterFd = 3;  // in the child
#if defined(__x86_64__)
constexpr const char* kLibraries = "/usr/lib/x86_64-linux-gnu";
#elif defined(__aarch64__)
constexpr const char* kLibraries = "/usr/lib/aarch64-linux-gnu";
#else
constexpr const char* kLibraries = "/usr/lib";
#endif

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { Close(); }
  int get() const { return fd_; }
  void Reset(int fd) {
    Close();
    fd_ = fd;
  }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

std::string FindInPath(const std::string& name) {
  const char* path = getenv("PATH");
  std::string_view rest = path ? path : "/usr/bin:/bin";
  while (!rest.empty()) {
    const size_t colon = std::min(rest.find(':'), rest.size());
    const std::string candidate = std::string(rest.substr(0, colon)) + '/' + name;
    if (candidate[0] == '/' && access(candidate.c_str(), X_OK) == 0) return candidate;
    rest.remove_prefix(std::min(colon + 1, rest.size()));
  }
  return {};
}

struct Limit {
  __rlimit_resource resource;
  rlim_t value;
};

// Everything the child needs, made before fork: between fork and exec only system calls are safe.
struct Launch {
  std::vector<char*> argv;
  std::array<Limit, 5> limits = {};
  int input = -1, output = -1, errors = -1, filter = -1;
};

[[noreturn]] void Child(const Launch& launch) {
  for (const auto& [resource, value] : launch.limits) {
    // The CPU limit's hard bound lies a second above: first SIGXCPU, then SIGKILL.
    const rlimit limit{value, resource == RLIMIT_CPU ? value + 1 : value};
    setrlimit(resource, &limit);
  }
  // Out of the way first, so that no dup2 closes another's source.
  std::array<int, 4> fds = {launch.input, launch.output, launch.errors, launch.filter};
  for (int& fd : fds) fd = fcntl(fd, F_DUPFD, 16);
  for (int i = 0; i < 4; ++i) {
    if (fds[static_cast<size_t>(i)] < 0 || dup2(fds[static_cast<size_t>(i)], i) < 0) _exit(125);
  }
  if (syscall(SYS_close_range, kFilterFd + 1, ~0u, 0) != 0) {
    for (int fd = kFilterFd + 1; fd < 65536; ++fd) close(fd);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  char* const environment[] = {nullptr};
  execve(launch.argv[0], launch.argv.data(), environment);
  _exit(126);
}

// Reads what is there; false at the end or when the text is full.
bool Drain(Fd& fd, std::string& text, size_t most, bool& full) {
  char block[8192];
  const ssize_t n = read(fd.get(), block, sizeof block);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (n <= 0) return false;
  const size_t room = most - text.size();
  text.append(block, std::min(room, static_cast<size_t>(n)));
  full |= static_cast<size_t>(n) > room;
  return true;
}

// Collects output until both pipes close, a limit is hit or time is up.
SandboxRun::End Collect(Fd& output, Fd& errors, const SandboxLimits& limits, SandboxRun& run) {
  const auto deadline = Clock::now() + std::chrono::seconds(limits.wall_seconds);
  const auto most = static_cast<size_t>(limits.output_bytes) + kStarted.size();
  bool full = false;
  while (output.get() >= 0 || errors.get() >= 0) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return SandboxRun::End::kTimeout;
    pollfd polls[2] = {{output.get(), POLLIN, 0}, {errors.get(), POLLIN, 0}};
    if (poll(polls, 2, static_cast<int>(std::min<int64_t>(left, INT_MAX))) < 0 && errno != EINTR) {
      return SandboxRun::End::kTimeout;
    }
    if (polls[0].revents != 0 && !Drain(output, run.output, most, full)) output.Close();
    if (polls[1].revents != 0 && !Drain(errors, run.errors, most, full)) errors.Close();
    if (full) return SandboxRun::End::kOutput;
  }
  return SandboxRun::End::kExited;
}

}  // namespace

std::vector<std::string> Sandbox::Arguments(const std::string& program,
                                            const SandboxLimits& limits) const {
  std::vector<std::string> a = {bwrap_};
  const auto add = [&](std::initializer_list<const char*> list) {
    a.insert(a.end(), list.begin(), list.end());
  };
  add({"--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"});
  add({"--unshare-cgroup-try", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"});
  add({"--die-with-parent", "--new-session", "--hostname", "sandbox", "--clearenv"});
  add({"--setenv", "LANG", "C.UTF-8", "--setenv", "PYTHONHASHSEED", "0"});
  for (const std::string& path : {python_, library_}) {
    a.insert(a.end(), {"--ro-bind", path, path});
  }
  add({"--ro-bind", kLibraries, kLibraries, "--ro-bind-try", "/usr/lib64", "/usr/lib64"});
  add({"--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"});
  a.insert(a.end(), {"--size", std::to_string(limits.scratch_bytes), "--tmpfs", "/tmp"});
  add({"--chdir", "/tmp", "--remount-ro", "/", "--seccomp", "3", "--"});
  // No site packages, nothing from the environment or the current folder, no .pyc files.
  a.insert(a.end(), {python_, "-S", "-s", "-P", "-B", "-X", "utf8", "-c",
                     "import os; os.write(2, b'sandbox-started\\n'); del os\n" + program});
  return a;
}

Result<SandboxRun> Sandbox::RunPython(const std::string& program, std::string_view input,
                                      const SandboxLimits& limits) const {
  if (program.size() > kMostProgram) {
    return Error{Code::kLimit, "sandbox: a program of " + std::to_string(program.size()) +
                                   " bytes; at most " + std::to_string(kMostProgram)};
  }
  std::vector<std::string> arguments = Arguments(program, limits);
  Launch launch;
  for (std::string& argument : arguments) launch.argv.push_back(argument.data());
  launch.argv.push_back(nullptr);
  launch.limits = {{{RLIMIT_CPU, static_cast<rlim_t>(limits.cpu_seconds)},
                    {RLIMIT_AS, static_cast<rlim_t>(limits.memory_bytes)},
                    {RLIMIT_FSIZE, static_cast<rlim_t>(limits.scratch_bytes)},
                    {RLIMIT_NOFILE, 64},
                    {RLIMIT_CORE, 0}}};
  int out[2], err[2];
  if (pipe2(out, O_CLOEXEC) != 0) return Error{Code::kIo, "sandbox: no pipe"};
  Fd output(out[0]), output_end(out[1]);
  if (pipe2(err, O_CLOEXEC) != 0) return Error{Code::kIo, "sandbox: no pipe"};
  Fd errors(err[0]), errors_end(err[1]);
  const Fd stdin_file(internal::SealedFile(input)), filter(internal::SealedFile(filter_));
  if (stdin_file.get() < 0 || filter.get() < 0) return Error{Code::kIo, "sandbox: no memory file"};
  fcntl(output.get(), F_SETFL, O_NONBLOCK);
  fcntl(errors.get(), F_SETFL, O_NONBLOCK);
  launch.input = stdin_file.get();
  launch.output = output_end.get();
  launch.errors = errors_end.get();
  launch.filter = filter.get();

  const auto start = Clock::now();
  const pid_t child = fork();
  if (child < 0)
    return Error{Code::kMemory, "sandbox: no process: " + std::string(strerror(errno))};
  if (child == 0) Child(launch);
  output_end.Close();
  errors_end.Close();
  SandboxRun run;
  run.end = Collect(output, errors, limits, run);
  // Killing bubblewrap kills its process name space, all of the program.
  if (run.end != SandboxRun::End::kExited) kill(child, SIGKILL);
  int status = 0;
  while (true) {
    const pid_t got = waitpid(child, &status, WNOHANG);
    if (got == child || (got < 0 && errno != EINTR)) break;
    // The program may have closed its output and gone on.
    if (Clock::now() - start > std::chrono::seconds(limits.wall_seconds)) {
      kill(child, SIGKILL);
      if (run.end == SandboxRun::End::kExited) run.end = SandboxRun::End::kTimeout;
    }
    poll(nullptr, 0, 1);
  }
  run.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (run.end == SandboxRun::End::kExited) {
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    run.end = code > 128 ? SandboxRun::End::kSignal : SandboxRun::End::kExited;
    run.code = code > 128 ? code - 128 : code;
  }
  if (!run.errors.starts_with(kStarted)) {
    return Error{Code::kUnsupported, "sandbox: the program did not start: " +
                                         run.errors.substr(0, run.errors.find('\n')) +
                                         " (does this system allow user name spaces?)"};
  }
  run.errors.erase(0, kStarted.size());
  return run;
}

Result<Sandbox> Sandbox::Open() {
  Sandbox sandbox;
  sandbox.bwrap_ = FindInPath("bwrap");
  if (sandbox.bwrap_.empty()) {
    return Error{Code::kUnsupported,
                 "generated code only runs in a sandbox, and bwrap is not in PATH: install "
                 "the package bubblewrap"};
  }
  char path[PATH_MAX];
  if (realpath(kPython, path) == nullptr) {
    return Error{Code::kUnsupported, std::string(kPython) + " is not there: install python3"};
  }
  sandbox.python_ = path;
  sandbox.library_ = "/usr/lib" + sandbox.python_.substr(sandbox.python_.rfind('/'));
  sandbox.filter_ = TRY(internal::SandboxFilter());
  const SandboxRun run = TRY(sandbox.RunPython("print(6 * 7)", {}, {}));
  if (run.end != SandboxRun::End::kExited || run.output != "42\n") {
    return Error{Code::kUnsupported, "the sandbox cannot run Python: " + run.errors.substr(0, 300)};
  }
  return sandbox;
}

}  // namespace hadal::eval
