// Escapes are tried, one by one; each must fail inside, and the host must see why.
#include "eval/sandbox.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "base/file.h"
#include "eval/code.h"
#include "eval/rows.h"

namespace hadal::eval {
namespace {

class SandboxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto opened = SharedSandbox();
    if (!opened.ok()) GTEST_SKIP() << opened.error().message;
    sandbox_ = *opened;
  }
  SandboxRun Run(const std::string& program, SandboxLimits limits = {},
                 const std::string& input = {}) {
    auto run = sandbox_->RunPython(program, input, limits);
    EXPECT_TRUE(run.ok()) << (run.ok() ? "" : run.error().message);
    return run.ok() ? *run : SandboxRun();
  }
  // What `expression` raises; "none" when it works.
  std::string Raises(const std::string& statement) {
    const SandboxRun run = Run("try:\n    " + statement +
                               "\n    print('none')\nexcept BaseException as e:\n"
                               "    print(type(e).__name__, getattr(e, 'errno', ''))\n");
    return run.output.substr(0, run.output.find('\n'));
  }
  Verdict Tests(const std::string& program, const std::string& tests) {
    return RunTests(*sandbox_, program, tests).verdict;
  }
  std::shared_ptr<const Sandbox> sandbox_;
};

TEST_F(SandboxTest, ProgramsComputeAndUseTheirScratch) {
  const SandboxRun run =
      Run("import sys, math, re, json, random, decimal\n"
          "open('a.txt', 'w').write('scratch')\n"
          "print(sys.stdin.read(), math.comb(5, 2), open('/tmp/a.txt').read())\nsys.exit(3)",
          {}, "input");
  EXPECT_EQ(run.end, SandboxRun::End::kExited);
  EXPECT_EQ(run.code, 3);
  EXPECT_EQ(run.output, "input 10 scratch\n");
  EXPECT_EQ(run.errors, "");
}

TEST_F(SandboxTest, NothingOfTheHostIsThere) {
  EXPECT_EQ(Raises("open('/etc/shadow')"), "FileNotFoundError 2");
  EXPECT_EQ(Raises("open('/etc/passwd')"), "FileNotFoundError 2");
  EXPECT_EQ(Raises("open('/proc/self/maps')"), "FileNotFoundError 2");
  EXPECT_EQ(Raises("open('" + std::filesystem::current_path().string() + "/README.md')"),
            "FileNotFoundError 2");
  for (const char* folder : {"/home", "/root", "/proc", "/sys", "/dev", "/var", "/run"}) {
    EXPECT_EQ(Raises(std::string("import os; os.listdir('") + folder + "')"),
              "FileNotFoundError 2");
  }
  setenv("HADAL_TEST_SECRET", "do not tell", 1);
  const SandboxRun run = Run("import os; print(sorted(os.environ), os.listdir('/tmp'))");
  EXPECT_EQ(run.output, "['LANG', 'PWD', 'PYTHONHASHSEED'] []\n");
  EXPECT_EQ(Run("import os; print(sorted(os.listdir('/')))").output,
            "['lib', 'lib64', 'tmp', 'usr']\n");
}

TEST_F(SandboxTest, NothingOutsideTheScratchIsWritable) {
  for (const char* path : {"/x", "/usr/x", "/usr/bin/x", "/lib/x", "/usr/lib/python3.11/x"}) {
    EXPECT_NE(Raises(std::string("open('") + path + "', 'w')"), "none") << path;
  }
  EXPECT_EQ(Raises("import os; os.remove('/usr/bin/python3.11')").substr(0, 4), "OSEr");
  EXPECT_EQ(Raises("open('big', 'wb').write(bytes(64 << 20))").substr(0, 7), "OSError");
  EXPECT_EQ(Raises("open('/tmp/small', 'wb').write(bytes(1 << 20))"), "none");
}

TEST_F(SandboxTest, NoNetworkNoProcessesNoSignals) {
  EXPECT_EQ(Raises("import socket; socket.socket()"), "PermissionError 1");
  EXPECT_EQ(Raises("import socket; socket.socket(socket.AF_UNIX)"), "PermissionError 1");
  EXPECT_EQ(Raises("import os; os.fork()"), "PermissionError 1");
  EXPECT_EQ(Raises("import threading; threading.Thread(target=print).start()"), "RuntimeError ");
  EXPECT_NE(Raises("import subprocess; subprocess.run(['/usr/bin/python3.11', '-V'])"), "none");
  EXPECT_EQ(Raises("import os; os.kill(os.getppid(), 9)"), "PermissionError 1");
  EXPECT_EQ(Raises("import os; os.kill(1, 9)"), "PermissionError 1");
  EXPECT_EQ(Raises("import os; os.kill(-1, 9)"), "PermissionError 1");
  EXPECT_NE(Raises("import os; os.execv('/bin/sh', ['sh'])"), "none");
}

// ptrace, process_vm_readv, mount, unshare, setns, bpf, perf_event_open, io_uring_setup, keyctl,
// memfd_create, execveat, clone, personality, chroot, setuid, pivot_root, userfaultfd, kexec_load,
// init_module, open_by_handle_at, name_to_handle_at, process_madvise, pidfd_open, seccomp, tgkill.
TEST_F(SandboxTest, DangerousSystemCallsAreRefused) {
#if defined(__x86_64__)
  const std::string calls =
      "101,310,165,272,308,321,298,425,250,319,322,56,135,161,105,155,323,246,175,304,303,440,434,"
      "317,234";
  const SandboxRun run =
      Run("import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
          "for n in (" +
          calls +
          "):\n"
          "    r = libc.syscall(n, 0, 0, 0, 0, 0)\n"
          "    if r != -1 or ctypes.get_errno() != 1: print(n, r, ctypes.get_errno())\n"
          "print('end')\n");
  EXPECT_EQ(run.output, "end\n");
  // The 32-bit entry has another table of calls; using it is death.
  const SandboxRun old =
      Run("import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\n"
          "m.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]))\n"
          "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()\n"
          "print('alive')\n");
  EXPECT_EQ(old.end, SandboxRun::End::kSignal);
  EXPECT_EQ(old.output, "");
#endif
}

TEST_F(SandboxTest, LimitsHold) {
  SandboxLimits limits;
  limits.cpu_seconds = 1;
  limits.wall_seconds = 300;
  const SandboxRun loop = Run("while True: pass", limits);
  EXPECT_EQ(loop.end, SandboxRun::End::kSignal);
  EXPECT_EQ(loop.code, SIGXCPU);
  const SandboxRun stubborn =
      Run("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", limits);
  EXPECT_EQ(stubborn.end, SandboxRun::End::kSignal);
  EXPECT_EQ(stubborn.code, SIGKILL);

  limits.wall_seconds = 1;
  const SandboxRun sleeper = Run("import time\ntime.sleep(600)", limits);
  EXPECT_EQ(sleeper.end, SandboxRun::End::kTimeout);
  EXPECT_LT(sleeper.seconds, 300);
  const SandboxRun closed =
      Run("import os, time\nos.close(1); os.close(2)\ntime.sleep(600)", limits);
  EXPECT_EQ(closed.end, SandboxRun::End::kTimeout);

  EXPECT_EQ(Raises("bytearray(1 << 30)"), "MemoryError ");
  const SandboxRun bomb = Run("a = [0]\nwhile True: a += a");
  EXPECT_NE(bomb.errors.find("MemoryError"), std::string::npos);

  const SandboxRun talker = Run("while True: print('x' * 1000)");
  EXPECT_EQ(talker.end, SandboxRun::End::kOutput);
  EXPECT_LE(talker.output.size(), (64u << 10) + 64);
  EXPECT_EQ(Run("import sys\nwhile True: sys.stderr.write('x' * 1000)").end,
            SandboxRun::End::kOutput);

  const SandboxRun deep = Run("def f(): return f()\nimport sys\nsys.setrecursionlimit(10**9)\nf()");
  EXPECT_TRUE(deep.end != SandboxRun::End::kExited || deep.code != 0);
  EXPECT_FALSE(sandbox_->RunPython(std::string(200'000, ' '), {}, {}).ok());
}

TEST_F(SandboxTest, NoDescriptorOfTheHostLeaks) {
  FILE* open = fopen("README.md", "r");
  ASSERT_NE(open, nullptr);
  ASSERT_EQ(dup2(fileno(open), 20), 20);  // not closed on exec
  const SandboxRun run =
      Run("import os\nfor fd in range(3, 60):\n"
          "    try: os.fstat(fd); print(fd)\n    except OSError: pass\n");
  close(20);
  fclose(open);
  EXPECT_EQ(run.output, "");
}

TEST_F(SandboxTest, RunsBesideEachOther) {
  std::vector<std::thread> threads;
  std::vector<std::string> outputs(6);
  for (size_t i = 0; i < outputs.size(); ++i) {
    threads.emplace_back([&, i] {
      const auto run = sandbox_->RunPython("print(" + std::to_string(i) + " * 2)", {}, {});
      if (run.ok()) outputs[i] = run->output;
    });
  }
  for (auto& thread : threads) thread.join();
  for (size_t i = 0; i < outputs.size(); ++i) EXPECT_EQ(outputs[i], std::to_string(2 * i) + "\n");
}

TEST_F(SandboxTest, TestsJudgePrograms) {
  const std::string add = "def add(a, b):\n    return a + b\n", check = "assert add(2, 3) == 5\n";
  EXPECT_EQ(Tests(add, check), Verdict::kRight);
  EXPECT_EQ(Tests("def add(a, b):\n    return a - b\n", check), Verdict::kWrong);
  EXPECT_EQ(Tests("def add(a, b: return\n", check), Verdict::kWrong);
  EXPECT_EQ(Tests("", check), Verdict::kWrong);
  EXPECT_EQ(Tests("from fractions import Fraction\ndef add(a, b): return Fraction(a + b)", check),
            Verdict::kRight);
  const Grade grade = RunTests(*sandbox_, "def add(a, b): return 6", check);
  EXPECT_EQ(grade.trace.substr(0, 21), "tests AssertionError:");
}

TEST_F(SandboxTest, AProgramCannotDeclareItselfRight) {
  const std::string check = "assert add(2, 3) == 5\n";
  EXPECT_EQ(Tests("import sys\nsys.exit(0)", check), Verdict::kWrong);
  EXPECT_EQ(Tests("import os\nos._exit(0)", check), Verdict::kWrong);
  EXPECT_EQ(Tests("print('pass')\nprint('\\n0-0-0-0- pass')\nraise SystemExit(0)", check),
            Verdict::kWrong);
  EXPECT_EQ(
      Tests("class A:\n    def __eq__(self, o): return True\ndef add(a, b): return A()", check),
      Verdict::kWrong);
  EXPECT_EQ(Tests("class A(int):\n    def __eq__(self, o): return True\n"
                  "A.__module__ = 'builtins'; A.__name__ = 'int'\ndef add(a, b): return A(1)",
                  check),
            Verdict::kWrong);
  EXPECT_EQ(Tests("class A:\n    def __eq__(self, o): return True\ndef add(a, b): return [A()]",
                  "assert add(2, 3) == [5]\n"),
            Verdict::kWrong);
  EXPECT_EQ(Tests("import sys\nprint('bwrap: no', file=sys.stderr)\nsys.exit(1)", check),
            Verdict::kWrong);
  EXPECT_EQ(Tests("import os\nos.close(1)\ndef add(a, b): return 5", check), Verdict::kWrong);
  EXPECT_EQ(Tests("import os, sys\nsys.stdin.close()\ndef add(a, b): return 4", check),
            Verdict::kWrong);
}

TEST(SandboxMissing, SaysSoAndRunsNothing) {
  const char* path = getenv("PATH");
  const std::string kept = path ? path : "";
  setenv("PATH", "/nowhere", 1);
  const auto opened = Sandbox::Open();
  setenv("PATH", kept.c_str(), 1);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code, Code::kUnsupported);
  EXPECT_NE(opened.error().message.find("bubblewrap"), std::string::npos);
}

TEST(SandboxMissing, ARefusalIsNoVerdictOnTheProgram) {
  // A bwrap that fails as one does where user name spaces are forbidden.
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("hadal_bwrap_" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  ASSERT_TRUE(WriteFileAtomic(folder / "bwrap",
                              "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' "
                              ">&2\nexit 1\n")
                  .ok());
  std::filesystem::permissions(folder / "bwrap", std::filesystem::perms::owner_all);
  const char* path = getenv("PATH");
  const std::string kept = path ? path : "";
  setenv("PATH", (folder.string() + ":" + kept).c_str(), 1);
  const auto opened = Sandbox::Open();
  setenv("PATH", kept.c_str(), 1);
  std::filesystem::remove_all(folder);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code, Code::kUnsupported);
  EXPECT_NE(opened.error().message.find("No permissions"), std::string::npos);
}

}  // namespace
}  // namespace hadal::eval
