#include <fcntl.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "eval/internal_sandbox.h"

namespace hadal::eval::internal {
namespace {

// What CPython needs to start, compute, and work with files in its scratch folder. Not here, on
// purpose: clone, fork, execveat, kill, tkill, tgkill, ptrace, process_vm_*, socket and all of
// the network, mount, unshare, setns, bpf, perf_event_open, io_uring_*, keyctl, userfaultfd, shm*,
// memfd_create, personality, chroot, setuid and kin.
constexpr std::array kAllowed = std::to_array<const char*>({
    "access",
    "arch_prctl",
    "brk",
    "chdir",
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "execve",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fchdir",
    "fcntl",
    "fdatasync",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "futex",
    "getcwd",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getpgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getrandom",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getrusage",
    "getsid",
    "gettid",
    "gettimeofday",
    "getuid",
    "lseek",
    "lstat",
    "madvise",
    "membarrier",
    "mkdir",
    "mkdirat",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "nanosleep",
    "newfstatat",
    "open",
    "openat",
    "pipe",
    "pipe2",
    "poll",
    "ppoll",
    "pread64",
    "preadv",
    "pselect6",
    "pwrite64",
    "pwritev",
    "read",
    "readlink",
    "readlinkat",
    "readv",
    "rename",
    "renameat",
    "renameat2",
    "restart_syscall",
    "rmdir",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigtimedwait",
    "sched_getaffinity",
    "sched_yield",
    "select",
    "set_robust_list",
    "set_tid_address",
    "setitimer",
    "sigaltstack",
    "stat",
    "statfs",
    "statx",
    "sysinfo",
    "time",
    "times",
    "umask",
    "uname",
    "unlink",
    "unlinkat",
    "utimensat",
    "wait4",
    "write",
    "writev",
});

Status AddRules(scmp_filter_ctx filter) {
  const auto failed = [](int code) { return code != 0 && code != -EEXIST; };
  for (const char* name : kAllowed) {
    const int number = seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR || number < 0) continue;  // not on this architecture
    if (const int code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0); failed(code)) {
      return Error{Code::kUnsupported, std::string("seccomp: ") + name + ": " + strerror(-code)};
    }
  }
  // Questions about a descriptor; nothing that pushes input into a terminal.
  for (const uint64_t request : {uint64_t{TCGETS}, uint64_t{FIOCLEX}, uint64_t{FIONCLEX},
                                 uint64_t{FIONREAD}, uint64_t{TIOCGWINSZ}}) {
    const int code =
        seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, request));
    if (failed(code)) return Error{Code::kUnsupported, "seccomp: ioctl refused"};
  }
  // Limits may be asked for, of this process.
  const int code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2,
                                    SCMP_A0(SCMP_CMP_EQ, 0), SCMP_A2(SCMP_CMP_EQ, 0));
  if (failed(code)) return Error{Code::kUnsupported, "seccomp: prlimit64 refused"};
  // ENOSYS lets libraries take the older call, which is then refused.
  seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
  return {};
}

}  // namespace

int SealedFile(std::string_view bytes) {
  const int fd = memfd_create("hadal-sandbox", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return -1;
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t n = write(fd, bytes.data() + at, bytes.size() - at);
    if (n <= 0) {
      close(fd);
      return -1;
    }
    at += static_cast<size_t>(n);
  }
  fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
  lseek(fd, 0, SEEK_SET);
  return fd;
}

Result<std::string> SandboxFilter() {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
  if (filter == nullptr) return Error{Code::kMemory, "seccomp: no filter"};
  Status status = AddRules(filter);
  std::string program;
  const int fd = memfd_create("hadal-filter", MFD_CLOEXEC);
  if (status.ok() && (fd < 0 || seccomp_export_bpf(filter, fd) != 0)) {
    status = Error{Code::kUnsupported, "seccomp: the filter cannot be written"};
  }
  seccomp_release(filter);
  if (status.ok()) {
    program.resize(static_cast<size_t>(lseek(fd, 0, SEEK_END)));
    if (pread(fd, program.data(), program.size(), 0) != static_cast<ssize_t>(program.size())) {
      status = Error{Code::kIo, "seccomp: the filter cannot be read back"};
    }
  }
  if (fd >= 0) close(fd);
  if (!status.ok()) return status.error();
  return program;
}

}  // namespace hadal::eval::internal
