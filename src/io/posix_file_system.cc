// The operating system's files: Linux.
//
// What becomes of a log in a child made by fork():
//
//   descriptors  All are in one list, and the child's first act is to close them (pthread_atfork).
//                One left open would keep the lock after the parent's death.
//   mappings     The child never has them (MADV_DONTFORK).
//   handles      Answer `closed`: they know by their descriptor, or by fork_generation(). Their
//                destructors leave alone what may by then be another file or another mapping.
//
// So that no descriptor and no mapping escapes, they are made and given up only under a NoFork, and
// fork() waits until there is none. A child made by a bare clone() runs no handlers: it may call
// nothing here, and is expected to exec(), which closes the descriptors.

#include "io/file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <limits>
#include <mutex>
#include <optional>
#include <system_error>
#include <utility>

#include "base/make_error.h"
#include "base/try.h"

namespace nori::io {
namespace {

static_assert(sizeof(off_t) == 8, "files are larger than 2 GiB");

// --- Errors

ErrorCode code_of(int system_errno) {
  switch (system_errno) {
    case ENOSPC:
    case EDQUOT:
      return ErrorCode::no_space;
    case EACCES:
    case EPERM:
    case EROFS:
      return ErrorCode::permission;
    default:
      return ErrorCode::io;
  }
}

/// What the user can do; empty where nothing is known.
std::string_view advice_for(int system_errno) {
  switch (system_errno) {
    case ENOSPC:
      return "make room on its filesystem";
    case EDQUOT:
      return "make room, or raise the quota";
    case EACCES:
    case EPERM:
      return "check owner and mode of it and of its directory, and who this process runs as";
    case EROFS:
      return "mount its filesystem for writing";
    case EMFILE:
      return "raise this process's limit of open files (ulimit -n)";
    case ENFILE:
      return "raise the system's limit of open files (sysctl fs.file-max)";
    case EFBIG:
      return "raise the limit of file sizes (ulimit -f), if it is not the filesystem's own";
    case ELOOP:
      return "symbolic links are not followed here: put what it leads to in its place";
    case EIO:
      return "the kernel's log (dmesg) may say what is wrong with the disk";
    default:
      return {};
  }
}

/// "PATH: cannot DO: REASON; ADVICE".
template <typename... Args>
std::unexpected<Error> failure(int system_errno, const std::string& path,
                               fmt::format_string<Args...> what, Args&&... args) {
  const auto advice = advice_for(system_errno);
  return std::unexpected(
      Error{.code = code_of(system_errno),
            .message = fmt::format(
                "{}: cannot {}: {}{}{}", path, fmt::format(what, std::forward<Args>(args)...),
                std::generic_category().message(system_errno), advice.empty() ? "" : "; ", advice),
            .system_errno = system_errno});
}

std::unexpected<Error> forked(const std::string& path) {
  return make_error(ErrorCode::closed,
                    "{}: this process is a fork of the one that opened the log; open it again here",
                    path);
}

/// The result of a system call that returns -1 on an error, repeated while signals interrupt it.
template <typename Call>
auto repeat_interrupted(Call call) {
  auto result = call();
  while (result == -1 && errno == EINTR) {
    result = call();
  }
  return result;
}

// --- fork()

class Descriptor;

struct ForkGate {
  std::mutex entry;                      // held across a fork()
  std::atomic<std::uint32_t> inside{0};  // how many NoForks there are
  std::mutex list_mutex;                 // guards the list; taken inside only
  Descriptor* newest = nullptr;
};
// Neither is destroyed: handles may be closed while the process exits.
constinit ForkGate fork_gate;
constinit std::atomic<std::uint64_t> generation{0};

/// While there is one, fork() waits. One per thread: a second one would wait for that fork().
class NoFork {
 public:
  NoFork() {
    const std::lock_guard lock(fork_gate.entry);
    fork_gate.inside.fetch_add(1);
  }
  ~NoFork() {
    if (fork_gate.inside.fetch_sub(1) == 1) {
      fork_gate.inside.notify_all();
    }
  }
  NoFork(const NoFork&) = delete;
  NoFork& operator=(const NoFork&) = delete;
};

/// A descriptor that a child made by fork() does not keep.
class Descriptor {
 public:
  Descriptor() = default;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  ~Descriptor() {
    if (fd_ < 0) {
      return;
    }
    const NoFork no_fork;
    {
      const std::lock_guard lock(fork_gate.list_mutex);
      if (older_ != nullptr) {
        older_->newer_ = newer_;
      }
      (newer_ != nullptr ? newer_->older_ : fork_gate.newest) = older_;
    }
    // Not repeated when interrupted: Linux has closed it by then.
    static_cast<void>(::close(fd_));
  }

  /// Keeps what `open` returns. The answer is an errno, 0 for none.
  template <typename Open>
  [[nodiscard]] int open_with(Open open) {
    const NoFork no_fork;
    fd_ = repeat_interrupted(open);
    if (fd_ < 0) {
      return errno;
    }
    const std::lock_guard lock(fork_gate.list_mutex);
    older_ = fork_gate.newest;
    if (older_ != nullptr) {
      older_->newer_ = this;
    }
    fork_gate.newest = this;
    return 0;
  }

  /// -1 before open_with(), and in a child made by fork() since.
  [[nodiscard]] int get() const noexcept { return fd_; }

  /// Notes that this process holds a lock by it, on that file.
  void set_locked(FileId file) {
    const NoFork no_fork;
    const std::lock_guard lock(fork_gate.list_mutex);
    locked_ = file;
  }

  [[nodiscard]] static bool is_locked_here(FileId file) {
    const NoFork no_fork;
    const std::lock_guard lock(fork_gate.list_mutex);
    for (const auto* one = fork_gate.newest; one != nullptr; one = one->older_) {
      if (one->locked_ == file) {
        return true;
      }
    }
    return false;
  }

  static void before_fork() {
    fork_gate.entry.lock();
    for (auto inside = fork_gate.inside.load(); inside != 0; inside = fork_gate.inside.load()) {
      fork_gate.inside.wait(inside);
    }
  }

  static void after_fork_in_parent() { fork_gate.entry.unlock(); }

  static void after_fork_in_child() {
    generation.fetch_add(1);
    for (auto* one = fork_gate.newest; one != nullptr; one = one->older_) {
      static_cast<void>(::close(one->fd_));
      one->fd_ = -1;
    }
    fork_gate.newest = nullptr;
    fork_gate.entry.unlock();
  }

 private:
  int fd_ = -1;
  std::optional<FileId> locked_;
  Descriptor* older_ = nullptr;
  Descriptor* newer_ = nullptr;
};

// --- Files

constexpr int kOpenAlways = O_CLOEXEC | O_NOFOLLOW;
constexpr mode_t kFileMode = 0600;
constexpr mode_t kDirectoryMode = 0700;

// What is asked of a file's status. Never its times: since Linux 6.13 who asks for them has the
// next write begin a transaction for new ones (docs/performance.md: 28 us a commit).
constexpr unsigned kStatusAsked = STATX_TYPE | STATX_INO | STATX_SIZE | STATX_NLINK | STATX_UID;

/// Of the file with that descriptor, or of an entry of that directory. False with errno.
bool read_status(int fd, const char* entry, struct statx& status) {
  const int flags = *entry == '\0' ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW;
  return ::statx(fd, entry, flags, kStatusAsked, &status) == 0;
}

FileId id_from(const struct statx& status) {
  return {makedev(status.stx_dev_major, status.stx_dev_minor), status.stx_ino};
}

/// The status of a file just opened, which must be a plain one.
Result<struct statx> status_of_file(int fd, const std::string& path) {
  struct statx status = {};
  if (!read_status(fd, "", status)) {
    return failure(errno, path, "read its status");
  }
  if (!S_ISREG(status.stx_mode)) {
    return std::unexpected(
        Error{.code = ErrorCode::io,
              .message = fmt::format("{}: cannot open: it is not a plain file; move it away", path),
              .system_errno = S_ISDIR(status.stx_mode) ? EISDIR : EINVAL});
  }
  return status;
}

int open_flags(Access access, Creation creation) {
  const int creating = creation == Creation::replace ? O_CREAT | O_EXCL : 0;
  switch (access) {
    case Access::read:
      // Not to wait for a writer where the name leads to a pipe. Plain files do not care.
      return kOpenAlways | creating | O_RDONLY | O_NONBLOCK;
    case Access::write_buffered:
      return kOpenAlways | creating | O_RDWR;
    case Access::write_direct:
      return kOpenAlways | creating | O_RDWR | O_DIRECT;
  }
  return kOpenAlways | creating | O_RDONLY;
}

class PosixFile final : public File {
 public:
  PosixFile(std::string path, Access access, std::uint64_t direct_alignment)
      : path_(std::move(path)),
        is_direct_(access == Access::write_direct),
        direct_alignment_(direct_alignment) {}

  Result<void> open(int directory, const std::string& name, Access access, Creation creation) {
    const auto open = [&] {
      return descriptor_.open_with([&] {
        return ::openat(directory, name.c_str(), open_flags(access, creation), kFileMode);
      });
    };
    int error = open();
    if (error == EEXIST) {
      NORI_TRY(remove_file(directory, name));
      error = open();
    }
    if (error != 0) {
      return failure(error, path_, "{}{}", creation == Creation::replace ? "create" : "open",
                     is_direct_ ? " for direct I/O" : "");
    }
    id_ = id_from(NORI_TRY(status_of_file(descriptor_.get(), path_)));
    return {};
  }

  // Removed, not emptied: after a power cut another name may lead to it.
  Result<void> remove_file(int directory, const std::string& name) {
    struct statx status = {};
    if (!read_status(directory, name.c_str(), status)) {
      return failure(errno, path_, "read its status");
    }
    if (!S_ISREG(status.stx_mode)) {
      const int error = S_ISLNK(status.stx_mode)   ? ELOOP
                        : S_ISDIR(status.stx_mode) ? EISDIR
                                                   : EINVAL;
      return failure(error, path_, "create");
    }
    if (repeat_interrupted([&] { return ::unlinkat(directory, name.c_str(), 0); }) != 0) {
      return failure(errno, path_, "replace");
    }
    return {};
  }

  Result<std::size_t> read_at(std::uint64_t offset, ByteSpan into) override {
    NORI_TRY(check_open());
    NORI_TRY(check_range("read", offset, into.size()));
    std::size_t done = 0;
    while (done < into.size()) {
      const auto count = repeat_interrupted([&] {
        return ::pread(descriptor_.get(), into.data() + done, into.size() - done,
                       static_cast<off_t>(offset + done));
      });
      if (count < 0) {
        return failure(errno, path_, "read {} bytes at offset {}", into.size() - done,
                       offset + done);
      }
      done += static_cast<std::size_t>(count);
      // Only the end of the file cuts a direct read inside a unit, and the next one would not be
      // aligned.
      if (count == 0 || (is_direct_ && done % direct_alignment_ != 0)) {
        break;
      }
    }
    return done;
  }

  Result<void> write_at(std::uint64_t offset, ByteView first, ByteView second,
                        bool durable) override {
    NORI_TRY(check_open());
    NORI_TRY(check_range("write", offset, first.size() + second.size()));
    std::array<ByteView, 2> left = {first, second};
    bool by_flag = durable && !lacks_dsync_.load(std::memory_order_relaxed);
    while (!left[0].empty() || !left[1].empty()) {
      const auto count = repeat_interrupted([&] { return write_some(offset, left, by_flag); });
      if (count < 0 && by_flag && is_refusal_of_dsync(errno)) {
        by_flag = false;
        continue;
      }
      if (count <= 0) {
        return failure(count < 0 ? errno : EIO, path_, "write {} bytes at offset {}",
                       left[0].size() + left[1].size(), offset);
      }
      auto written = static_cast<std::size_t>(count);
      offset += written;
      for (auto& piece : left) {
        const auto of_piece = std::min(written, piece.size());
        piece = piece.subspan(of_piece);
        written -= of_piece;
      }
    }
    if (durable && !by_flag) {
      lacks_dsync_.store(true, std::memory_order_relaxed);
      return sync();
    }
    return {};
  }

  Result<void> sync() override {
    NORI_TRY(check_open());
    if (repeat_interrupted([&] { return ::fdatasync(descriptor_.get()); }) != 0) {
      return failure(errno, path_, "sync");
    }
    if (const int error = writeback_errno_.exchange(0); error != 0) {
      return failure(error, path_, "write back");
    }
    return {};
  }

  void begin_writeback(std::uint64_t offset, std::uint64_t bytes) noexcept override {
    // Where it is not to be had, sync() does it all.
    if (::sync_file_range(descriptor_.get(), static_cast<off_t>(offset), static_cast<off_t>(bytes),
                          SYNC_FILE_RANGE_WRITE) != 0 &&
        (errno == EIO || errno == ENOSPC || errno == EDQUOT)) {
      writeback_errno_.store(errno);
    }
  }

  Result<void> allocate(std::uint64_t offset, std::uint64_t bytes) override {
    const auto size_before = NORI_TRY(size());
    NORI_TRY(check_range("allocate", offset, bytes));
    if (repeat_interrupted([&] {
          return ::fallocate(descriptor_.get(), 0, static_cast<off_t>(offset),
                             static_cast<off_t>(bytes));
        }) == 0) {
      return {};
    }
    const int error = errno;
    if (error == EOPNOTSUPP || error == ENOSYS) {
      // posix_fallocate would write to every block instead, which is slow and races with writes.
      return size_before < offset + bytes ? truncate(offset + bytes) : Result<void>{};
    }
    // ext4 keeps what it found room for. Nobody writes behind the size meanwhile: room there is
    // what the caller is asking for.
    if (const auto size_now = size(); size_now && *size_now > size_before) {
      static_cast<void>(truncate(size_before));
    }
    return failure(error, path_, "allocate {} bytes at offset {}", bytes, offset);
  }

  Result<void> truncate(std::uint64_t bytes) override {
    NORI_TRY(check_open());
    NORI_TRY(check_range("resize", bytes, 0));
    if (repeat_interrupted(
            [&] { return ::ftruncate(descriptor_.get(), static_cast<off_t>(bytes)); }) != 0) {
      return failure(errno, path_, "set its size to {} bytes", bytes);
    }
    return {};
  }

  Result<FileStatus> status() override {
    NORI_TRY(check_open());
    struct statx status = {};
    if (!read_status(descriptor_.get(), "", status)) {
      return failure(errno, path_, "read its status");
    }
    return FileStatus{.bytes = status.stx_size, .has_name = status.stx_nlink != 0};
  }

  FileId id() const override { return id_; }

 private:
  [[nodiscard]] Result<void> check_open() const {
    if (descriptor_.get() < 0) {
      return forked(path_);
    }
    return {};
  }

  /// As off_t these would be negative; to pwritev2, -1 means the file's own position.
  [[nodiscard]] Result<void> check_range(std::string_view what, std::uint64_t offset,
                                         std::uint64_t bytes) const {
    constexpr auto kEndMax = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
    if (offset > kEndMax || bytes > kEndMax - offset) {
      return failure(EFBIG, path_, "{} {} bytes at offset {}", what, bytes, offset);
    }
    return {};
  }

  [[nodiscard]] ssize_t write_some(std::uint64_t offset, const std::array<ByteView, 2>& pieces,
                                   bool durable) const {
    // Without the empty ones: direct I/O looks at their addresses too.
    std::array<iovec, 2> vectors = {};
    int count = 0;
    for (const auto piece : pieces) {
      if (!piece.empty()) {
        vectors.at(static_cast<std::size_t>(count++)) = {const_cast<std::byte*>(piece.data()),
                                                         piece.size()};
      }
    }
    return ::pwritev2(descriptor_.get(), vectors.data(), count, static_cast<off_t>(offset),
                      durable ? RWF_DSYNC : 0);
  }

  /// Whether a write may have failed for its RWF_DSYNC alone. EINVAL says so too on some
  /// filesystems; of a direct write it says that direct I/O is refused, or not aligned.
  [[nodiscard]] bool is_refusal_of_dsync(int error) const {
    return error == EOPNOTSUPP || error == ENOSYS || (error == EINVAL && !is_direct_);
  }

  const std::string path_;
  const bool is_direct_;
  const std::uint64_t direct_alignment_;
  Descriptor descriptor_;
  FileId id_;
  std::atomic<bool> lacks_dsync_{false};
  std::atomic<int> writeback_errno_{0};  ///< For the next sync() to tell.
};

// --- Mappings

class PosixMapping final : public Mapping {
 public:
  PosixMapping() = default;
  ~PosixMapping() override {
    // In a child the address may be another mapping's by now.
    if (is_of_this_process()) {
      static_cast<void>(::munmap(bytes_.data(), bytes_.size()));
    }
  }

  /// The answer is an errno, 0 for none.
  [[nodiscard]] int map(int fd, std::size_t bytes) {
    const NoFork no_fork;  // until the child is kept from having it
    void* const address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address == MAP_FAILED) {
      return errno;
    }
    if (::madvise(address, bytes, MADV_DONTFORK) != 0) {
      const int error = errno;
      static_cast<void>(::munmap(address, bytes));
      return error;
    }
    bytes_ = {static_cast<std::byte*>(address), bytes};
    generation_ = fork_generation();
    return 0;
  }

  /// Empty in a child made by fork().
  ByteSpan bytes() const override { return is_of_this_process() ? bytes_ : ByteSpan{}; }

  void populate() override {
    if (!is_of_this_process() ||
        ::madvise(bytes_.data(), bytes_.size(), kMadvisePopulateWrite) == 0 || errno != EINVAL) {
      // Where it fails for more than being unknown, a store would be killed: leave that to stores.
      return;
    }
    // Before Linux 5.14. A byte is exchanged for itself, and only if nobody stores to it meanwhile.
    // (A compiler may turn adding 0 into a load.)
    const auto page_bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    for (std::size_t at = 0; at < bytes_.size(); at += page_bytes) {
      const std::atomic_ref byte(bytes_[at]);
      auto value = byte.load(std::memory_order_relaxed);
      byte.compare_exchange_strong(value, value, std::memory_order_relaxed);
    }
  }

 private:
  static constexpr int kMadvisePopulateWrite = 23;

  [[nodiscard]] bool is_of_this_process() const noexcept {
    return !bytes_.empty() && generation_ == fork_generation();
  }

  ByteSpan bytes_;
  std::uint64_t generation_ = 0;
};

// --- The lock
//
// flock, not fcntl's locks: those by process vanish when any descriptor of the file is closed, and
// do not keep two handles of one process apart. Of the two that belong to a descriptor, flock is
// what `lslocks` names the holder of, and what flock(1) can hold in a script.

class PosixLock final : public Lock {
 public:
  PosixLock() = default;
  ~PosixLock() override {
    // Said aloud: a child that is between vfork() and exec() has the descriptor too, and closing
    // ours would leave the lock to it.
    if (descriptor_.get() >= 0) {
      static_cast<void>(::flock(descriptor_.get(), LOCK_UN));
    }
  }

  Descriptor descriptor_;
};

/// What the holder of a lock file wrote into it, as far as it is fit to be shown.
std::string holder_in(int fd) {
  constexpr std::size_t kBytesMax = 256;
  std::string holder(kBytesMax, '\0');
  std::size_t done = 0;
  while (done < holder.size()) {
    const auto count = repeat_interrupted([&] {
      return ::pread(fd, holder.data() + done, holder.size() - done, static_cast<off_t>(done));
    });
    if (count <= 0) {
      break;
    }
    done += static_cast<std::size_t>(count);
  }
  holder.resize(done);
  std::ranges::replace_if(holder, [](char c) { return c < ' ' || c > '~'; }, '?');
  return holder.empty() ? "holder unknown" : holder;
}

Result<void> write_holder(int fd, const std::string& path, std::string_view holder) {
  // In place, then cut: on a full disk the block it has is all it can get.
  std::size_t done = 0;
  while (done < holder.size()) {
    const auto count = repeat_interrupted([&] {
      return ::pwrite(fd, holder.data() + done, holder.size() - done, static_cast<off_t>(done));
    });
    if (count <= 0) {
      return failure(count < 0 ? errno : EIO, path, "write who holds the lock");
    }
    done += static_cast<std::size_t>(count);
  }
  if (repeat_interrupted([&] { return ::ftruncate(fd, static_cast<off_t>(holder.size())); }) != 0) {
    return failure(errno, path, "write who holds the lock");
  }
  return {};
}

// --- What is true of a filesystem

struct FileSystemKind {
  std::uint32_t magic;
  std::string_view name;
  bool direct_allowed;
  bool mapping_allowed;
};

// Not mapped: where a store to a block that has been written may need a new one (copy-on-write) or
// a server, and its failure is a SIGBUS. Not written to directly: where a server, or a program, is
// free to keep the write in memory, or wants other alignments than it tells.
constexpr std::array kFileSystemKinds = {
    FileSystemKind{0xEF53, "ext4", true, true},  // ext2 and ext3 too, which ext4's code serves
    FileSystemKind{0x58465342, "xfs", true, true},
    FileSystemKind{0xF2F52010, "f2fs", true, true},
    FileSystemKind{0x3153464A, "jfs", true, true},
    FileSystemKind{0x52654973, "reiserfs", true, true},
    FileSystemKind{0x4D44, "vfat", true, true},
    FileSystemKind{0x2011BAB0, "exfat", true, true},
    FileSystemKind{0x01021994, "tmpfs", true, true},
    FileSystemKind{0x858458F6, "ramfs", true, true},
    FileSystemKind{0x794C7630, "overlay", true, true},  // but see traits_of()
    FileSystemKind{0x9123683E, "btrfs", true, false},
    FileSystemKind{0x2FC12FC1, "zfs", true, false},
    FileSystemKind{0xCA451A4E, "bcachefs", true, false},
    FileSystemKind{0x3434, "nilfs2", true, false},
    FileSystemKind{0x24051905, "ubifs", true, false},
    FileSystemKind{0x7366746E, "ntfs3", true, false},
    FileSystemKind{0x01161970, "gfs2", true, false},
    FileSystemKind{0x7461636F, "ocfs2", true, false},
    FileSystemKind{0x65735546, "fuse", false, false},
    FileSystemKind{0x6969, "nfs", false, false},
    FileSystemKind{0xFF534D42, "cifs", false, false},
    FileSystemKind{0xFE534D42, "smb2", false, false},
    FileSystemKind{0x517B, "smb", false, false},
    FileSystemKind{0x01021997, "9p", false, false},
    FileSystemKind{0x00C36400, "ceph", false, false},
    FileSystemKind{0x5346414F, "afs", false, false},
    FileSystemKind{0x0BD00BD0, "lustre", false, false},
    FileSystemKind{0x47504653, "gpfs", false, false},
    FileSystemKind{0x786F4256, "vboxsf", false, false},
    FileSystemKind{0xBACBACBC, "vmhgfs", false, false},
};

constexpr std::uint32_t kOverlayMagic = 0x794C7630;

// No disk asks for more; more is what a filesystem likes to be given, not what it needs.
constexpr std::uint64_t kBlockBytesMax = 64 * 1024;

bool is_block_size(std::uint64_t bytes) {
  return std::has_single_bit(bytes) && bytes <= kBlockBytesMax;
}

/// Calls `visit(entry)` for the entries of a directory, until it returns false. The answer is an
/// errno, 0 for none.
template <typename Visit>
int for_each_entry(int directory, Visit visit) {
  // A descriptor of its own: its position is not shared with other threads.
  Descriptor stream;
  if (const int error = stream.open_with(
          [&] { return ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
      error != 0) {
    return error;
  }
  constexpr std::size_t kBufferBytes = 32 * 1024;
  const std::unique_ptr<std::byte[]> buffer(new std::byte[kBufferBytes]);  // aligned for an entry
  while (true) {
    const auto filled =
        repeat_interrupted([&] { return ::getdents64(stream.get(), buffer.get(), kBufferBytes); });
    if (filled <= 0) {
      return filled < 0 ? errno : 0;
    }
    for (std::size_t at = 0; at < static_cast<std::size_t>(filled);) {
      const auto& entry = *reinterpret_cast<const dirent64*>(buffer.get() + at);
      if (!visit(entry)) {
        return 0;
      }
      at += entry.d_reclen;
    }
  }
}

/// What direct writes to that file must be aligned to; 0 if the kernel does not say (before Linux
/// 6.1, or if the file takes none).
std::uint64_t direct_alignment_of(int directory, const char* name, int flags) {
  // Where the kernel puts them, whatever its headers here know of it.
  constexpr unsigned kStatxDirectAlignment = 0x2000;
  constexpr std::size_t kMemoryAlignmentAt = 0x98;
  constexpr std::size_t kOffsetAlignmentAt = 0x9c;
  struct statx status = {};
  static_assert(sizeof(status) == 256);
  if (::statx(directory, name, flags, kStatxDirectAlignment, &status) != 0 ||
      (status.stx_mask & kStatxDirectAlignment) == 0) {
    return 0;
  }
  const auto load = [&](std::size_t at) {
    std::uint32_t value = 0;
    std::memcpy(&value, reinterpret_cast<const std::byte*>(&status) + at, sizeof(value));
    return value;
  };
  return std::max(load(kMemoryAlignmentAt), load(kOffsetAlignmentAt));
}

/// Of the directory's files; 0 if nothing is known.
std::uint64_t direct_alignment_in(int directory) {
  // Only plain files tell. If there is one, nothing need be written to learn it.
  std::uint64_t alignment = 0;
  bool is_empty = true;
  static_cast<void>(for_each_entry(directory, [&](const dirent64& entry) {
    if (entry.d_type == DT_REG) {
      is_empty = false;
      alignment = direct_alignment_of(directory, entry.d_name, AT_SYMLINK_NOFOLLOW);
    }
    return alignment == 0;
  }));
  if (!is_empty) {
    return alignment;
  }
  Descriptor nameless;
  if (nameless.open_with([&] {
        return ::openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, kFileMode);
      }) != 0) {
    return 0;
  }
  return direct_alignment_of(nameless.get(), "", AT_EMPTY_PATH);
}

/// What the device writes as one, in bytes; 0 if that is not known: no device, or no sysfs.
std::uint64_t physical_sector_bytes(dev_t device) {
  // A partition has its queue one above.
  for (const auto* const place : {"queue", "../queue"}) {
    const auto path = fmt::format("/sys/dev/block/{}:{}/{}/physical_block_size", major(device),
                                  minor(device), place);
    Descriptor file;
    if (file.open_with([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); }) != 0) {
      continue;
    }
    std::array<char, 32> text = {};
    const auto count =
        repeat_interrupted([&] { return ::read(file.get(), text.data(), text.size()); });
    std::uint64_t bytes = 0;
    std::from_chars(text.data(), text.data() + std::max<ssize_t>(count, 0), bytes);
    return bytes;
  }
  return 0;
}

DirectoryTraits traits_of(int directory) {
  DirectoryTraits traits;
  struct statfs about = {};
  const bool is_known = repeat_interrupted([&] { return ::fstatfs(directory, &about); }) == 0;
  const auto magic = static_cast<std::uint32_t>(about.f_type);
  const auto block_bytes = static_cast<std::uint64_t>(about.f_bsize);
  if (const auto kind = std::ranges::find(kFileSystemKinds, magic, &FileSystemKind::magic);
      is_known && kind != kFileSystemKinds.end()) {
    traits.file_system_name = kind->name;
    traits.direct_allowed = kind->direct_allowed;
    traits.mapping_allowed = kind->mapping_allowed;
  } else {
    // Without a ring a log is slower; with one on the wrong filesystem its process can be killed.
    traits.file_system_name = is_known ? fmt::format("{:#x}", magic) : "unknown";
    traits.mapping_allowed = false;
  }
  if (magic == kOverlayMagic) {
    // All but the magic is that of the filesystem beneath, which must not be copy-on-write either:
    // btrfs counts no inodes, and zfs has blocks larger than a page can be.
    traits.mapping_allowed = about.f_files != 0 && block_bytes <= kBlockBytesMax;
  }

  if (traits.direct_allowed) {
    if (const auto alignment = direct_alignment_in(directory); is_block_size(alignment)) {
      traits.direct_alignment = alignment;
    } else if (alignment != 0) {
      traits.direct_allowed = false;
    }
    // A network filesystem's block size is no block: how much it likes to send at once.
    traits.block_bytes =
        std::max(traits.block_bytes,
                 std::min(std::bit_floor(std::max<std::uint64_t>(block_bytes, 1)), kBlockBytesMax));
  }
  struct stat status = {};
  if (::fstat(directory, &status) == 0) {
    if (const auto sector = physical_sector_bytes(status.st_dev); is_block_size(sector)) {
      traits.block_bytes = std::max(traits.block_bytes, sector);
    }
  }
  traits.block_bytes = std::max(traits.block_bytes, traits.direct_alignment);
  return traits;
}

/// "1000 (ada)", as far as the name is known.
std::string user_text(uid_t user) {
  passwd entry = {};
  passwd* found = nullptr;
  std::array<char, 4096> buffer = {};
  if (::getpwuid_r(user, &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) {
    return fmt::format("{}", user);
  }
  return fmt::format("{} ({})", user, found->pw_name);
}

/// What this process wrote there, its owner might not be able to open any more.
std::unexpected<Error> foreign(const std::string& path, uid_t owner, uid_t user) {
  return make_error(
      ErrorCode::permission,
      "{}: belongs to user {}, and this process runs as user {}: a log is written by "
      "its owner alone; run as that user, give all of the log to this one (chown -R), "
      "or open it read-only",
      path, user_text(owner), user_text(user));
}

// --- Directories

class PosixDirectory final : public Directory {
 public:
  explicit PosixDirectory(std::filesystem::path path) : path_(std::move(path)) {}

  /// The answer is an errno, 0 for none.
  [[nodiscard]] int open_as(int parent, const char* name, int flags) {
    const int error = descriptor_.open_with(
        [&] { return ::openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags); });
    if (error == 0) {
      traits_ = traits_of(descriptor_.get());
    }
    return error;
  }

  Result<std::vector<std::string>> list() override {
    NORI_TRY(check_open());
    std::vector<std::string> names;
    const int error = for_each_entry(descriptor_.get(), [&](const dirent64& entry) {
      const std::string_view name(entry.d_name);
      if (name != "." && name != "..") {
        names.emplace_back(name);
      }
      return true;
    });
    if (error != 0) {
      return failure(error, path_.native(), "list");
    }
    return names;
  }

  Result<std::unique_ptr<File>> open(std::string_view name, Access access,
                                     Creation creation) override {
    const auto entry = NORI_TRY(check_name(name));
    auto file = std::make_unique<PosixFile>(path_of(name), access, traits_.direct_alignment);
    NORI_TRY(file->open(descriptor_.get(), entry, access, creation));
    return file;
  }

  Result<FileId> id_of(std::string_view name) override {
    const auto entry = NORI_TRY(check_name(name));
    struct statx status = {};
    if (!read_status(descriptor_.get(), entry.c_str(), status)) {
      const int error = errno;
      return failure(error, path_of(name), "read its status");
    }
    return id_from(status);
  }

  Result<void> rename(std::string_view from, std::string_view to) override {
    return rename_into(from, *this, to);
  }

  Result<void> move_to(std::string_view name, Directory& into, std::string_view new_name) override {
    auto* const target = dynamic_cast<PosixDirectory*>(&into);
    if (target == nullptr) {
      return make_error(ErrorCode::invalid_argument,
                        "{}: cannot move to {}: that is not a directory of the operating system's",
                        path_of(name), into.path().native());
    }
    return rename_into(name, *target, new_name);
  }

  Result<void> remove(std::string_view name) override {
    const auto entry = NORI_TRY(check_name(name));
    if (repeat_interrupted([&] { return ::unlinkat(descriptor_.get(), entry.c_str(), 0); }) != 0) {
      const int error = errno;
      return failure(error, path_of(name), "remove");
    }
    return {};
  }

  Result<void> sync() override {
    NORI_TRY(check_open());
    // Some network filesystems have no such thing as the sync of a directory, and say EINVAL.
    if (repeat_interrupted([&] { return ::fsync(descriptor_.get()); }) != 0 && errno != EINVAL) {
      return failure(errno, path_.native(), "sync the directory");
    }
    return {};
  }

  Result<std::unique_ptr<Directory>> subdirectory(std::string_view name) override {
    const auto entry = NORI_TRY(check_name(name));
    auto opened = std::make_unique<PosixDirectory>(path_ / name);
    int error = opened->open_as(descriptor_.get(), entry.c_str(), O_NOFOLLOW);
    if (error == ENOENT) {
      if (::mkdirat(descriptor_.get(), entry.c_str(), kDirectoryMode) != 0 && errno != EEXIST) {
        error = errno;
        return failure(error, path_of(name), "make the directory");
      }
      error = opened->open_as(descriptor_.get(), entry.c_str(), O_NOFOLLOW);
    }
    if (error != 0) {
      return failure(error, path_of(name), "open the directory");
    }
    return opened;
  }

  Result<std::unique_ptr<Directory>> open_subdirectory(std::string_view name) override {
    const auto entry = NORI_TRY(check_name(name));
    auto opened = std::make_unique<PosixDirectory>(path_ / name);
    if (const int error = opened->open_as(descriptor_.get(), entry.c_str(), O_NOFOLLOW);
        error != 0) {
      return failure(error, path_of(name), "open the directory");
    }
    return opened;
  }

  Result<std::unique_ptr<Mapping>> map(std::string_view name) override {
    const auto entry = NORI_TRY(check_name(name));
    const auto path = path_of(name);
    Descriptor file;
    if (const int error = file.open_with(
            [&] { return ::openat(descriptor_.get(), entry.c_str(), kOpenAlways | O_RDWR); });
        error != 0) {
      return failure(error, path, "open to map it");
    }
    const auto status = NORI_TRY(status_of_file(file.get(), path));
    auto mapping = std::make_unique<PosixMapping>();
    if (const int error = mapping->map(file.get(), status.stx_size); error != 0) {
      return failure(error, path, "map {} bytes", status.stx_size);
    }
    return mapping;
  }

  Result<std::unique_ptr<Lock>> lock(std::string_view name, std::string_view holder) override {
    const auto entry = NORI_TRY(check_name(name));
    const auto path = path_of(name);
    for (int attempt = 0; attempt < kLockAttemptsMax; ++attempt) {
      auto lock = std::make_unique<PosixLock>();
      if (const int error = lock->descriptor_.open_with([&] {
            return ::openat(descriptor_.get(), entry.c_str(), kOpenAlways | O_RDWR | O_CREAT,
                            kFileMode);
          });
          error != 0) {
        return failure(error, path, "open the lock file");
      }
      const int fd = lock->descriptor_.get();
      const auto id = id_from(NORI_TRY(status_of_file(fd, path)));
      if (repeat_interrupted([&] { return ::flock(fd, LOCK_EX | LOCK_NB); }) != 0) {
        if (errno != EWOULDBLOCK) {
          return failure(errno, path, "lock");
        }
        if (Descriptor::is_locked_here(id)) {
          return make_error(ErrorCode::locked,
                            "{}: this process already uses it ({}); use "
                            "that handle, or close it first",
                            path_.native(), holder_in(fd));
        }
        return make_error(ErrorCode::locked,
                          "{}: another process uses it ({}); close it there "
                          "first",
                          path_.native(), holder_in(fd));
      }
      // We never remove the file, but somebody else may have since we opened it. Then the next one
      // to come would lock another.
      if (const auto now = id_of(name); !now || *now != id) {
        if (now || now.error().system_errno == ENOENT) {
          continue;
        }
        return std::unexpected(now.error());
      }
      lock->descriptor_.set_locked(id);
      // Without room for its name it is locked all the same, and the log can be read.
      if (auto written = write_holder(fd, path, holder);
          !written && written.error().code != ErrorCode::no_space) {
        return std::unexpected(std::move(written).error());
      }
      return lock;
    }
    return failure(ESTALE, path, "lock: whenever it is, another file has its name");
  }

  Result<void> check_owner(const std::vector<std::string>& names) override {
    NORI_TRY(check_open());
    const auto user = ::geteuid();
    struct statx status = {};
    if (!read_status(descriptor_.get(), "", status)) {
      return failure(errno, path_.native(), "read its status");
    }
    // In a directory of root's a service may have been given a place.
    if (status.stx_uid != user && status.stx_uid != 0) {
      return foreign(path_.native(), status.stx_uid, user);
    }
    for (const auto& name : names) {
      const auto entry = NORI_TRY(check_name(name));
      if (!read_status(descriptor_.get(), entry.c_str(), status)) {
        if (errno != ENOENT) {
          const int error = errno;
          return failure(error, path_of(name), "read its status");
        }
      } else if (status.stx_uid != user) {
        return foreign(path_of(name), status.stx_uid, user);
      }
    }
    return {};
  }

  std::uint64_t free_bytes() override {
    struct statvfs about = {};
    if (!check_open() ||
        repeat_interrupted([&] { return ::fstatvfs(descriptor_.get(), &about); }) != 0) {
      return 0;
    }
    return std::uint64_t{about.f_bavail} * about.f_frsize;
  }
  const DirectoryTraits& traits() const override { return traits_; }
  const std::filesystem::path& path() const override { return path_; }

 private:
  [[nodiscard]] std::string path_of(std::string_view name) const { return (path_ / name).native(); }

  [[nodiscard]] Result<void> check_open() const {
    if (descriptor_.get() < 0) {
      return forked(path_.native());
    }
    return {};
  }

  /// The name as a string that ends, if it names an entry of this very directory.
  [[nodiscard]] Result<std::string> check_name(std::string_view name) const {
    NORI_TRY(check_open());
    if (name.empty() || name == "." || name == ".." ||
        name.find_first_of(std::string_view("/\0", 2)) != name.npos) {
      return make_error(ErrorCode::invalid_argument, "{}: \"{}\" cannot be a name in it",
                        path_.native(), name);
    }
    return std::string(name);
  }

  [[nodiscard]] Result<void> rename_into(std::string_view from, const PosixDirectory& into,
                                         std::string_view to) {
    const auto old_entry = NORI_TRY(check_name(from));
    const auto new_entry = NORI_TRY(into.check_name(to));
    if (repeat_interrupted([&] {
          return ::renameat(descriptor_.get(), old_entry.c_str(), into.descriptor_.get(),
                            new_entry.c_str());
        }) != 0) {
      const int error = errno;
      return failure(error, path_of(from), "rename it to {}", into.path_of(to));
    }
    return {};
  }

  static constexpr int kLockAttemptsMax = 100;

  const std::filesystem::path path_;
  Descriptor descriptor_;
  DirectoryTraits traits_;
};

Result<void> sync_directory(const std::filesystem::path& path) {
  Descriptor directory;
  if (const int error = directory.open_with(
          [&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
      error != 0) {
    return failure(error, path.native(), "open the directory to sync it");
  }
  if (repeat_interrupted([&] { return ::fsync(directory.get()); }) != 0 && errno != EINVAL) {
    return failure(errno, path.native(), "sync the directory");
  }
  return {};
}

/// Makes the directory and what is missing on the way to it, each name durable.
Result<void> make_directory(const std::filesystem::path& path) {
  const auto parent = path.parent_path();
  if (!path.has_filename() && parent != path) {
    return make_directory(parent);  // "a/" is "a"
  }
  const auto make = [&] { return ::mkdir(path.c_str(), kDirectoryMode) == 0 ? 0 : errno; };
  int error = make();
  if (error == ENOENT && !parent.empty() && parent != path) {
    NORI_TRY(make_directory(parent));
    error = make();
  }
  if (error == EEXIST) {
    return {};
  }
  if (error != 0) {
    return failure(error, path.native(), "make the directory");
  }
  auto synced = sync_directory(parent.empty() ? "." : parent);
  if (!synced) {
    // The next attempt is to make and sync it, not to find it there.
    static_cast<void>(::rmdir(path.c_str()));
  }
  return synced;
}

// --- The whole

class PosixFileSystem final : public FileSystem {
 public:
  PosixFileSystem()
      : atfork_error_(::pthread_atfork(&Descriptor::before_fork, &Descriptor::after_fork_in_parent,
                                       &Descriptor::after_fork_in_child)) {}

  Result<std::unique_ptr<Directory>> open_directory(const std::filesystem::path& path,
                                                    bool create) override {
    if (atfork_error_ != 0) {
      return failure(atfork_error_, path.native(), "prepare for forks");
    }
    if (path.empty() || path.native().find('\0') != std::string::npos) {
      return make_error(ErrorCode::invalid_argument, "\"{}\": not a path", path.native());
    }
    auto directory = std::make_unique<PosixDirectory>(path);
    int error = directory->open_as(AT_FDCWD, path.c_str(), 0);
    if (error == ENOENT && create) {
      NORI_TRY(make_directory(path));
      error = directory->open_as(AT_FDCWD, path.c_str(), 0);
    } else if (error == 0 && create && NORI_TRY(directory->list()).empty()) {
      // Perhaps made by a process that was killed before it had synced the name.
      if (auto synced = sync_directory(path / "..");
          !synced && synced.error().code != ErrorCode::permission) {
        return std::unexpected(std::move(synced).error());
      }
    }
    if (error == ENOENT || error == ENOTDIR) {
      return std::unexpected(Error{
          .code = ErrorCode::not_a_log,
          .message = fmt::format("{}: {}; check the path", path.native(),
                                 error == ENOENT ? "there is no such directory"
                                                 : "it, or what leads to it, is no directory"),
          .system_errno = error});
    }
    if (error != 0) {
      return failure(error, path.native(), "open the directory");
    }
    return directory;
  }

  std::uint64_t now_ms() override {
    timespec now = {};
    static_cast<void>(::clock_gettime(CLOCK_REALTIME_COARSE, &now));
    return static_cast<std::uint64_t>(now.tv_sec) * 1000 +
           static_cast<std::uint64_t>(now.tv_nsec) / 1'000'000;
  }

  std::uint64_t random_bits() override {
    std::uint64_t bits = 0;
    constexpr ssize_t kBytes = sizeof(bits);
    if (repeat_interrupted([&] { return ::getrandom(&bits, kBytes, 0); }) == kBytes) {
      return bits;
    }
    // Where a sandbox forbids it: what differs between any two calls, mixed (splitmix64).
    static std::atomic<std::uint64_t> calls{0};
    timespec now = {};
    static_cast<void>(::clock_gettime(CLOCK_REALTIME, &now));
    bits = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
    for (const auto more : {static_cast<std::uint64_t>(::getpid()), calls.fetch_add(1)}) {
      bits = (bits ^ more) + 0x9E3779B97F4A7C15;
      bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9;
      bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB;
      bits ^= bits >> 31;
    }
    return bits;
  }

  std::string holder_description() override {
    std::array<char, 256> host = {};
    if (::gethostname(host.data(), host.size() - 1) != 0 || host[0] == '\0') {
      host = {'?'};
    }
    using std::chrono::floor;
    const auto now = floor<std::chrono::seconds>(std::chrono::system_clock::now());
    const auto today = floor<std::chrono::days>(now);
    const std::chrono::year_month_day date(today);
    const std::chrono::hh_mm_ss time(now - today);
    return fmt::format("host {}, process {}, since {:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
                       host.data(), ::getpid(), static_cast<int>(date.year()),
                       static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                       time.hours().count(), time.minutes().count(), time.seconds().count());
  }

 private:
  const int atfork_error_;
};

}  // namespace

FileSystem& posix_file_system() {
  static auto& file_system = *new PosixFileSystem;  // never destroyed
  return file_system;
}

std::uint64_t fork_generation() noexcept { return generation.load(std::memory_order_relaxed); }

}  // namespace nori::io
