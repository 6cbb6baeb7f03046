// System calls that a signal interrupts, and those that do less than they were asked for, are
// nobody's business but the library's.
//
// The linker leads the library's calls here (tests/CMakeLists.txt: --wrap).

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "io/file_system.h"
#include "nori/wal.h"
#include "testing/reference_model.h"
#include "testing/workload.h"

namespace {

// What direct I/O takes.
constexpr std::size_t kUnitBytes = 4096;

std::atomic<bool> interrupts = false;
std::atomic<bool> shortens = false;
std::atomic<std::uint64_t> interrupted{0};
std::atomic<std::uint64_t> shortened{0};
std::atomic<std::uint64_t> calls{0};
std::atomic<int> writeback_errno{0};

// Every other call is interrupted before it does anything.
bool is_interrupted() {
  if (!interrupts || calls++ % 2 != 0) {
    return false;
  }
  ++interrupted;
  errno = EINTR;
  return true;
}

// As much as a call does, of what it was asked for.
std::size_t share_of(std::size_t bytes) {
  if (!shortens || bytes <= kUnitBytes) {
    return bytes;
  }
  ++shortened;
  return std::max(kUnitBytes, bytes / 2 / kUnitBytes * kUnitBytes);
}

}  // namespace

// NOLINTBEGIN(bugprone-reserved-identifier): the linker's names.
extern "C" {
ssize_t __real_pread(int fd, void* into, std::size_t bytes, off_t offset);
ssize_t __wrap_pread(int fd, void* into, std::size_t bytes, off_t offset) {
  return is_interrupted() ? -1 : __real_pread(fd, into, share_of(bytes), offset);
}

ssize_t __real_pwritev2(int fd, const iovec* pieces, int count, off_t offset, int flags);
ssize_t __wrap_pwritev2(int fd, const iovec* pieces, int count, off_t offset, int flags) {
  if (is_interrupted()) {
    return -1;
  }
  std::array<iovec, 2> fewer = {};
  std::size_t bytes = 0;
  for (int i = 0; i < count; ++i) {
    fewer.at(static_cast<std::size_t>(i)) = pieces[i];
    bytes += pieces[i].iov_len;
  }
  auto left = share_of(bytes);
  int fewer_count = 0;
  for (; left != 0; ++fewer_count) {
    auto& piece = fewer.at(static_cast<std::size_t>(fewer_count));
    piece.iov_len = std::min(piece.iov_len, left);
    left -= piece.iov_len;
  }
  return __real_pwritev2(fd, fewer.data(), fewer_count, offset, flags);
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd) { return is_interrupted() ? -1 : __real_fdatasync(fd); }

int __real_fsync(int fd);
int __wrap_fsync(int fd) { return is_interrupted() ? -1 : __real_fsync(fd); }

int __real_fallocate(int fd, int mode, off_t offset, off_t bytes);
int __wrap_fallocate(int fd, int mode, off_t offset, off_t bytes) {
  return is_interrupted() ? -1 : __real_fallocate(fd, mode, offset, bytes);
}

int __real_ftruncate(int fd, off_t bytes);
int __wrap_ftruncate(int fd, off_t bytes) {
  return is_interrupted() ? -1 : __real_ftruncate(fd, bytes);
}

int __real_openat(int directory, const char* name, int flags, ...);
int __wrap_openat(int directory, const char* name, int flags, ...) {
  if (is_interrupted()) {
    return -1;
  }
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return __real_openat(directory, name, flags, mode);
}

int __real_sync_file_range(int fd, off_t offset, off_t bytes, unsigned flags);
int __wrap_sync_file_range(int fd, off_t offset, off_t bytes, unsigned flags) {
  if (writeback_errno != 0) {
    errno = writeback_errno;
    return -1;
  }
  return __real_sync_file_range(fd, offset, bytes, flags);
}

int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation) {
  return is_interrupted() ? -1 : __real_flock(fd, operation);
}
}
// NOLINTEND(bugprone-reserved-identifier)

namespace nori::testing {
namespace {

class SystemCallsTest : public ::testing::TestWithParam<IoMode> {
 public:
  ~SystemCallsTest() override {
    interrupts = shortens = false;
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

 protected:
  SystemCallsTest()
      : directory_(std::filesystem::current_path() / fmt::format("calls-{}", ::getpid())) {
    std::filesystem::remove_all(directory_);
  }

  // Everything there is to a log's life, with records of all sizes; then all of it is there.
  void live() {
    WalOptions options;
    options.directory = directory_;
    options.segment_bytes = 256 * kKiB;
    options.ring_bytes = 64 * kKiB;
    options.io = GetParam();
    ReferenceLog reference;
    for (int life = 0; life < 2; ++life) {
      auto opened = Wal::open(options);
      ASSERT_TRUE(opened) << opened.error().message;
      auto& wal = opened->wal;
      for (const std::uint64_t bytes : {0, 100, 5000, 14'000, 70'000, 300'000}) {
        for (const auto durability : {Durability::policy, Durability::durable}) {
          auto records = make_records(reference.appends_begun(), 1, bytes);
          reference.begin_append(records);
          const auto appended = wal.append(records.front().view(), durability);
          ASSERT_TRUE(appended) << appended.error().message;
          EXPECT_EQ(reference.end_append(appended), "");
        }
        ASSERT_TRUE(wal.rotate());
      }
      const auto contents = read_all(wal);
      ASSERT_TRUE(contents) << contents.error().message;
      EXPECT_EQ(reference.compare(*contents, Crash::none), "");
      if (life == 1) {
        const auto deleted = wal.delete_segments_before(wal.current_position());
        ASSERT_TRUE(deleted) << deleted.error().message;
        EXPECT_GT(*deleted, 3U);
      }
      ASSERT_TRUE(wal.close());
    }
  }

  std::filesystem::path directory_;
};

INSTANTIATE_TEST_SUITE_P(Every, SystemCallsTest,
                         ::testing::Values(IoMode::automatic, IoMode::buffered),
                         [](const auto& mode) {
                           return std::string(mode.param == IoMode::buffered ? "Buffered"
                                                                             : "Automatic");
                         });

TEST_P(SystemCallsTest, ThatAreInterruptedAreRepeated) {
  interrupts = true;
  live();
  EXPECT_GT(interrupted, 100U);
}

TEST_P(SystemCallsTest, ThatDoLessThanAskedForGoOn) {
  shortens = true;
  live();
  EXPECT_GT(shortened, 20U);
}

// What fails when the device is told to begin is told by the sync behind it, once.
TEST(WritebackTest, ThatFailsIsToldByTheNextSync) {
  const auto path = std::filesystem::current_path() / fmt::format("writeback-{}", ::getpid());
  const auto directory = io::posix_file_system().open_directory(path, true);
  ASSERT_TRUE(directory) << directory.error().message;
  const auto file = (*directory)->open("file", io::Access::write_buffered, io::Creation::replace);
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_TRUE((*file)->write_at(0, as_byte_view("hello"), {}, false));
  for (const auto& [error, is_told] : {std::pair(EIO, true), std::pair(ENOSPC, true),
                                       std::pair(ENOSYS, false), std::pair(EINVAL, false)}) {
    writeback_errno = error;
    (*file)->begin_writeback(0, 5);
    writeback_errno = 0;
    (*file)->begin_writeback(0, 5);
    const auto synced = (*file)->sync();
    EXPECT_EQ(synced ? 0 : synced.error().system_errno, is_told ? error : 0);
    EXPECT_TRUE((*file)->sync());
  }
  std::filesystem::remove_all(path);
}

}  // namespace
}  // namespace nori::testing
