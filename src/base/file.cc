#include "base/file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "base/check.h"

namespace hadal {
namespace {

// Table of mappings that the SIGBUS handler may patch. The handler may only touch lock-free state,
// so the table has a fixed size; a mapping beyond it is simply read into memory instead.
struct Region {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> damaged{false};
};
constexpr int kMaxRegions = 4096;
std::array<Region, kMaxRegions> g_regions;
std::mutex g_regions_mutex;
struct sigaction g_previous_action;

// Puts a page of zeros under the faulting address when it belongs to a guarded mapping; any other
// SIGBUS goes to whoever was installed before.
void OnBusError(int signal_number, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Region& region : g_regions) {
    const uintptr_t begin = region.begin.load(std::memory_order_acquire);
    if (begin == 0 || address < begin || address >= region.end.load(std::memory_order_acquire)) {
      continue;
    }
    const auto page_size = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    void* page = reinterpret_cast<void*>(address & ~(page_size - 1));
    if (mmap(page, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page) {
      region.damaged.store(true, std::memory_order_release);
      return;
    }
  }
  sigaction(signal_number, &g_previous_action, nullptr);
  if (g_previous_action.sa_flags & SA_SIGINFO) {
    if (g_previous_action.sa_sigaction != nullptr) {
      g_previous_action.sa_sigaction(signal_number, info, context);
    }
  } else {
    raise(signal_number);
  }
}

int ClaimRegion(const void* data, size_t size) {
  const std::lock_guard lock(g_regions_mutex);
  static bool installed = false;
  if (!installed) {
    struct sigaction action = {};
    action.sa_sigaction = OnBusError;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    sigemptyset(&action.sa_mask);
    CHECK(sigaction(SIGBUS, &action, &g_previous_action) == 0);
    installed = true;
  }
  for (int i = 0; i < kMaxRegions; ++i) {
    if (g_regions[i].begin.load() != 0) continue;
    g_regions[i].damaged = false;
    g_regions[i].end = reinterpret_cast<uintptr_t>(data) + size;
    g_regions[i].begin = reinterpret_cast<uintptr_t>(data);
    return i;
  }
  return -1;
}

Error SystemError(const std::string& what, const std::string& path) {
  const Code code = errno == ENOENT ? Code::kNotFound : Code::kIo;
  return {code, path + ": " + what + ": " + std::strerror(errno)};
}

// A descriptor of a regular file. O_NONBLOCK, because opening a pipe would wait for its writer.
Result<int> OpenRegular(const std::string& path, struct stat& info) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return SystemError("cannot open", path);
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return Error{Code::kIo, path + ": not a regular file"};
  }
  return fd;
}

}  // namespace

Result<MappedFile> MappedFile::Open(const std::string& path) {
  struct stat info;
  const int fd = TRY(OpenRegular(path, info));
  MappedFile file;
  file.path_ = path;
  file.size_ = static_cast<size_t>(info.st_size);
  if (file.size_ > 0) {
    void* data = mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
      const Error error = SystemError("cannot map", path);
      close(fd);
      file.size_ = 0;
      return error;
    }
    file.data_ = static_cast<const std::byte*>(data);
    file.slot_ = ClaimRegion(data, file.size_);
    if (file.slot_ < 0) {
      close(fd);
      return Error{Code::kLimit, path + ": over 4096 files mapped at once"};
    }
  }
  close(fd);
  return file;
}

void MappedFile::Close() {
  if (slot_ >= 0) {
    g_regions[slot_].begin = 0;
    g_regions[slot_].end = 0;
  }
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
  data_ = nullptr;
  slot_ = -1;
  size_ = 0;
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this == &other) return *this;
  Close();
  path_ = std::move(other.path_);
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  slot_ = std::exchange(other.slot_, -1);
  return *this;
}

MappedFile::~MappedFile() { Close(); }

bool MappedFile::damaged() const { return slot_ >= 0 && g_regions[slot_].damaged.load(); }

void MappedFile::DropPages(size_t offset, size_t size) const {
  if (offset >= size_) return;
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t begin = (offset + page - 1) / page * page;
  const size_t end = std::min(offset + size, size_) / page * page;
  if (begin < end) madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

void MappedFile::DropPages(std::span<const std::byte> part) const {
  DropPages(static_cast<size_t>(part.data() - data_), part.size());
}

Result<std::string> ReadFile(const std::string& path, uint64_t max_bytes) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return SystemError("cannot open", path);
  std::string text;
  char chunk[1 << 16];
  for (;;) {
    const ssize_t n = read(fd, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const Error error = SystemError("cannot read", path);
      close(fd);
      return error;
    }
    if (n == 0) break;
    text.append(chunk, static_cast<size_t>(n));
    if (text.size() > max_bytes) {
      close(fd);
      return Error{Code::kLimit, path + ": larger than " + std::to_string(max_bytes) +
                                     " bytes, more than a file of this kind may hold"};
    }
  }
  close(fd);
  return text;
}

Result<AtomicFile> AtomicFile::Create(const std::string& path) {
  AtomicFile file;
  file.path_ = path;
  file.temporary_ = path + ".tmp." + std::to_string(getpid());
  file.fd_ = open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file.fd_ < 0) return SystemError("cannot create", file.temporary_);
  file.buffer_.reserve(1 << 20);
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      buffer_(std::move(other.buffer_)),
      position_(other.position_),
      fd_(std::exchange(other.fd_, -1)) {}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temporary_.c_str());
}

Status AtomicFile::Flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t n = write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError("cannot write", temporary_);
    done += static_cast<size_t>(n);
  }
  buffer_.clear();
  return {};
}

Status AtomicFile::Write(const void* data, size_t size) {
  const char* from = static_cast<const char*>(data);
  while (size > 0) {
    const size_t n = std::min(size, buffer_.capacity() - buffer_.size());
    buffer_.insert(buffer_.end(), from, from + n);
    from += n;
    size -= n;
    position_ += n;
    if (buffer_.size() == buffer_.capacity()) TRY(Flush());
  }
  return {};
}

Status AtomicFile::Commit() {
  TRY(Flush());
  if (fsync(fd_) != 0) return SystemError("cannot sync", temporary_);
  if (close(std::exchange(fd_, -1)) != 0) return SystemError("cannot close", temporary_);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const Error error = SystemError("cannot rename to", path_);
    unlink(temporary_.c_str());
    return error;
  }
  return {};
}

Status WriteFileAtomic(const std::string& path, std::string_view text) {
  auto file = TRY(AtomicFile::Create(path));
  TRY(file.Write(text));
  return file.Commit();
}

}  // namespace hadal
