// What SECURITY.md says of files, links, owners and readers, with real files and real users.

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "io/file_system.h"
#include "nori/snapshot.h"
#include "nori/verify.h"
#include "nori/wal.h"

namespace nori {
namespace {

namespace fs = std::filesystem;

constexpr uid_t kAda = 65'534;
constexpr uid_t kBob = 65'533;
constexpr int kRecordsSynced = 3;
constexpr int kRecordsInRing = 2;

// What a directory holds, to the last nanosecond: bytes, inode, mode, owner, times.
using Snapshot =
    std::map<std::string,
             std::tuple<std::string, std::uint64_t, mode_t, uid_t, std::int64_t, std::int64_t>>;

class SecurityTest : public ::testing::Test {
 protected:
  SecurityTest() {
    std::string name = "/tmp/nori-security-XXXXXX";
    root_ = ::mkdtemp(name.data());
    fs::permissions(root_, fs::perms(0777));
    log_ = root_ / "log";
  }
  ~SecurityTest() override {
    for (const auto& entry : fs::recursive_directory_iterator(root_)) {
      if (entry.is_directory() && !entry.is_symlink()) {
        fs::permissions(entry.path(), fs::perms::owner_all);
      }
    }
    fs::remove_all(root_);
  }

  [[nodiscard]] static bool is_root() { return ::geteuid() == 0; }

  // Runs `work` as that user, if this one is root, in a process of its own, which then dies as a
  // killed one does. Its failures are this test's.
  static void run_as(uid_t user, const std::function<void()>& work) {
    const auto child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      if (is_root() && user != 0 &&
          (::setgroups(0, nullptr) != 0 || ::setresgid(user, user, user) != 0 ||
           ::setresuid(user, user, user) != 0)) {
        ::_exit(2);
      }
      try {
        work();
      } catch (const std::exception& thrown) {
        ADD_FAILURE() << thrown.what();
      }
      ::_exit(::testing::Test::HasFailure() ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << "see above; 512 is: cannot become user " << user;
  }

  [[nodiscard]] WalOptions options(OpenMode mode = OpenMode::create) const {
    return {.directory = log_,
            .mode = mode,
            .fsync = FsyncPolicy::os(),
            .ring_bytes = 64 * kKiB,
            .background_thread = false};
  }

  // A log of kRecordsSynced records, and kRecordsInRing that only the ring has: its writer died.
  void leave_killed_log(uid_t owner) const {
    run_as(owner, [this] {
      auto opened = Wal::open(options());
      ASSERT_TRUE(opened) << opened.error().message;
      for (int i = 0; i < kRecordsSynced + kRecordsInRing; ++i) {
        ASSERT_TRUE(opened->wal.append(Record::put("key", std::to_string(i))));
        if (i == kRecordsSynced - 1) {
          ASSERT_TRUE(opened->wal.sync());
        }
      }
      ASSERT_TRUE(fs::exists(log_ / "ring")) << opened->wal.stats().ring_reason;
      ::_exit(::testing::Test::HasFailure() ? 1 : 0);
    });
  }

  // Leaves what recovery has to cut.
  void tear() const {
    std::fstream file(log_ / "000000.wal", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(20'480);
    file << "torn";
  }

  static std::string contents_of(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  static int records_in(const Wal& wal) {
    int records = 0;
    auto reader = wal.read_from(begin_of_log);
    EXPECT_TRUE(reader);
    for (const auto& entry : *reader) {
      EXPECT_TRUE(entry) << entry.error().message;
      ++records;
    }
    return records;
  }

  [[nodiscard]] Snapshot snapshot() const {
    Snapshot snapshot;
    std::vector<fs::path> paths{log_};
    for (const auto& entry : fs::recursive_directory_iterator(log_)) {
      paths.push_back(entry.path());
    }
    for (const auto& path : paths) {
      struct stat status = {};
      EXPECT_EQ(::lstat(path.c_str(), &status), 0);
      snapshot[path.filename()] = {fs::is_regular_file(path) ? contents_of(path) : "",
                                   status.st_ino,
                                   status.st_mode,
                                   status.st_uid,
                                   status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec,
                                   status.st_ctim.tv_sec * 1'000'000'000 + status.st_ctim.tv_nsec};
    }
    return snapshot;
  }

  void expect_refused(std::string_view file, uid_t owner) const {
    const auto before = snapshot();
    const auto opened = Wal::open(options());
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, ErrorCode::permission);
    const auto& message = opened.error().message;
    EXPECT_TRUE(message.starts_with((root_ / file).native() + ": ")) << message;
    EXPECT_NE(message.find(fmt::format("belongs to user {}", owner)), std::string::npos) << message;
    EXPECT_NE(message.find("chown"), std::string::npos) << message;
    EXPECT_EQ(snapshot(), before) << "not even a lock";
  }

  fs::path root_;
  fs::path log_;
};

TEST_F(SecurityTest, FilesAreTheirOwnersAlone) {
  for (const mode_t mask : {0, 022, 077}) {
    run_as(::geteuid(), [&] {
      ::umask(mask);
      log_ = root_ / fmt::format("parent-{:o}", mask) / "log";
      leave_killed_log(::geteuid());
      tear();
      auto opened = Wal::open(options());
      ASSERT_TRUE(opened) << opened.error().message;
      EXPECT_FALSE(opened->recovery.quarantined.empty()) << "nothing was quarantined";
      ASSERT_TRUE(opened->wal.append(Record::put("key", "")));
      ASSERT_TRUE(opened->wal.rotate());
      int files = 0;
      for (const auto& entry : fs::recursive_directory_iterator(log_.parent_path())) {
        struct stat status = {};
        ASSERT_EQ(::lstat(entry.path().c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 07777, entry.is_directory() ? 0700U : 0600U) << entry.path();
        ++files;
      }
      EXPECT_GE(files, 7) << "log, lock, ring, two segments, quarantine and what is in it";
    });
  }
}

TEST_F(SecurityTest, AUmaskTakesBitsAwayAndIsNotUndone) {
  run_as(::geteuid(), [&] {
    ::umask(0277);
    fs::create_directory(root_ / "d");
    fs::permissions(root_ / "d", fs::perms::owner_all);
    const auto directory = io::posix_file_system().open_directory(root_ / "d", false);
    ASSERT_TRUE(directory);
    ASSERT_TRUE((*directory)->open("file", io::Access::write_buffered, io::Creation::replace));
    struct stat status = {};
    ASSERT_EQ(::stat((root_ / "d" / "file").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0400U);
  });
}

// Goal: whatever name of a log leads elsewhere, nothing there is read, written, cut or removed.
TEST_F(SecurityTest, SymbolicLinksAreNotFollowed) {
  for (const auto* const name : {"000000.wal", "000001.wal", "ring", "ring.tmp", "next.tmp",
                                 "probe.tmp", "lock", "quarantine"}) {
    SCOPED_TRACE(name);
    log_ = root_ / fmt::format("log-{}", name);
    leave_killed_log(::geteuid());
    tear();
    const bool is_directory = std::string_view(name) == "quarantine";
    const auto victim = root_ / fmt::format("victim-{}", name);
    if (is_directory) {
      fs::create_directory(victim);
    } else if (fs::exists(log_ / name)) {
      fs::rename(log_ / name, victim);  // the most tempting: the very file that belongs there
    } else {
      std::ofstream(victim) << "precious";
    }
    fs::create_symlink(victim, log_ / name);
    const auto before = is_directory ? std::string() : contents_of(victim);
    {
      auto opened = Wal::open(options());
      if (opened) {
        static_cast<void>(opened->wal.append(Record::put("key", std::string(1000, 'v'))));
        static_cast<void>(opened->wal.rotate());
        static_cast<void>(opened->wal.sync());
      }
      // Recovery goes on without a quarantine, and a void file is removed; the rest is refused.
      const std::string_view kind(name);
      EXPECT_EQ(opened.has_value(), kind == "quarantine" || kind.ends_with(".tmp"));
    }
    EXPECT_TRUE(is_directory ? fs::is_empty(victim) : contents_of(victim) == before);
  }
}

TEST_F(SecurityTest, ADirectoryThatWasReplacedIsNotWrittenTo) {
  auto opened = Wal::open(options());
  ASSERT_TRUE(opened) << opened.error().message;
  fs::rename(log_, root_ / "renamed");
  fs::create_directory(log_);
  ASSERT_TRUE(opened->wal.append(Record::put("key", "")));
  ASSERT_TRUE(opened->wal.rotate());
  ASSERT_TRUE(opened->wal.close());
  EXPECT_TRUE(fs::is_empty(log_));
  EXPECT_TRUE(fs::exists(root_ / "renamed" / "000001.wal"));
}

TEST_F(SecurityTest, ExecutedProgramsInheritNothing) {
  auto opened = Wal::open(options());
  ASSERT_TRUE(opened) << opened.error().message;
  ASSERT_TRUE(opened->wal.append(Record::put("key", "")));
  const auto reader = opened->wal.read_from(begin_of_log);
  ASSERT_TRUE(reader);
  int descriptors = 0;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code ignored;
    const auto target = fs::read_symlink(entry.path(), ignored).native();
    if (target.starts_with(root_.native())) {
      EXPECT_NE(::fcntl(std::stoi(entry.path().filename()), F_GETFD) & FD_CLOEXEC, 0) << target;
      ++descriptors;
    }
  }
  EXPECT_GE(descriptors, 3) << "directory, lock, segment";
}

// The same bytes, times, inodes and names, also where nothing may be written.
TEST_F(SecurityTest, ReadingChangesNothing) {
  leave_killed_log(kAda);
  for (const bool is_writable : {true, false}) {
    run_as(kAda, [&] {
      if (is_writable) {
        tear();
      } else {
        for (const auto& entry : fs::directory_iterator(log_)) {
          fs::permissions(entry.path(), fs::perms::owner_read);
        }
        fs::permissions(log_, fs::perms::owner_read | fs::perms::owner_exec);
      }
      const auto before = snapshot();
      {
        auto opened = Wal::open(options(OpenMode::read_only));
        ASSERT_TRUE(opened) << opened.error().message;
        EXPECT_EQ(opened->recovery.ring_note, "");
        EXPECT_EQ(records_in(opened->wal), kRecordsSynced + kRecordsInRing);
        EXPECT_EQ(opened->wal.stats().next_sequence, 5U);
        EXPECT_TRUE(opened->wal.position_at(TimePoint{}));
        auto reader = opened->wal.read_from(opened->wal.current_position());
        ASSERT_TRUE(reader);
        EXPECT_EQ(reader->follow(std::chrono::milliseconds(1)), false);
        EXPECT_TRUE(verify(log_));
        EXPECT_TRUE(opened->wal.close());
      }
      EXPECT_EQ(snapshot(), before);
    });
  }
}

TEST_F(SecurityTest, ALogOfAnotherUserIsNotWritten) {
  if (!is_root()) {
    GTEST_SKIP() << "only root can be several users";
  }
  leave_killed_log(kAda);
  // Root may do anything, and would leave files that Ada cannot open.
  expect_refused("log", kAda);
  // Bob may, where Ada's log is open to everyone.
  for (const auto& entry : fs::recursive_directory_iterator(log_)) {
    fs::permissions(entry.path(), fs::perms(0666));
  }
  fs::permissions(log_, fs::perms(0777));
  run_as(kBob, [&] { expect_refused("log", kAda); });
  run_as(kBob, [&] {
    const auto opened = Wal::open(options(OpenMode::read_only));
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ(records_in(opened->wal), kRecordsSynced + kRecordsInRing);
  });
  // An empty directory of hers is no place for him either.
  log_ = root_ / "empty";
  fs::create_directory(log_);
  ASSERT_EQ(::chown(log_.c_str(), kAda, kAda), 0);
  fs::permissions(log_, fs::perms(0777));
  run_as(kBob, [&] { expect_refused("empty", kAda); });
}

TEST_F(SecurityTest, AnotherUsersFileInALogIsNotWritten) {
  if (!is_root()) {
    GTEST_SKIP() << "only root can give files away";
  }
  for (const auto* const name : {"000000.wal", "ring", "lock"}) {
    SCOPED_TRACE(name);
    log_ = root_ / fmt::format("log-{}", name);
    leave_killed_log(kAda);
    ASSERT_EQ(::chown((log_ / name).c_str(), kBob, kBob), 0);
    fs::permissions(log_ / name, fs::perms(0666));
    run_as(kAda, [&] { expect_refused(log_.filename().native() + "/" + name, kBob); });
  }
}

TEST_F(SecurityTest, AnotherUsersSnapshotsAreNotWritten) {
  if (!is_root()) {
    GTEST_SKIP() << "only root can give files away";
  }
  for (const auto* const name : {"snapshots", "snapshots/next.tmp"}) {
    SCOPED_TRACE(name);
    log_ = root_ / fmt::format("log-{}", fs::path(name).filename().native());
    leave_killed_log(kAda);
    fs::create_directory(log_ / "snapshots");
    ASSERT_EQ(::chown((log_ / "snapshots").c_str(), kAda, kAda), 0);
    if (!fs::exists(log_ / name)) {
      std::ofstream(log_ / name) << "his";
    }
    ASSERT_EQ(::chown((log_ / name).c_str(), kBob, kBob), 0);
    fs::permissions(log_ / name, fs::is_directory(log_ / name) ? fs::perms(0777) : fs::perms(0666));
    run_as(kAda, [&] {
      auto opened = Wal::open(options());
      ASSERT_TRUE(opened) << opened.error().message;
      const auto begun = SnapshotWriter::begin(opened->wal, opened->wal.current_position());
      ASSERT_FALSE(begun);
      EXPECT_EQ(begun.error().code, ErrorCode::permission);
      const auto& message = begun.error().message;
      EXPECT_TRUE(message.starts_with((log_ / name).native() + ": ")) << message;
    });
  }
}

TEST_F(SecurityTest, RootMayHaveGivenAServiceItsPlace) {
  if (!is_root()) {
    GTEST_SKIP() << "only root can be several users";
  }
  fs::create_directory(log_);
  ASSERT_EQ(::chown(log_.c_str(), 0, kAda), 0);
  fs::permissions(log_, fs::perms(0770));
  leave_killed_log(kAda);
  run_as(kAda, [&] { EXPECT_TRUE(Wal::open(options())); });
  expect_refused("log/lock", kAda);
}

TEST_F(SecurityTest, WhoMayNotReadTheRingReadsTheSegments) {
  if (!is_root()) {
    GTEST_SKIP() << "only root can be several users";
  }
  leave_killed_log(kAda);
  fs::permissions(log_, fs::perms(0755));
  fs::permissions(log_ / "000000.wal", fs::perms(0644));
  run_as(kBob, [&] {
    const auto opened = Wal::open(options(OpenMode::read_only));
    ASSERT_TRUE(opened) << opened.error().message;
    const auto ring = (log_ / "ring").native();
    EXPECT_TRUE(opened->recovery.ring_note.starts_with(ring)) << opened->recovery.ring_note;
    EXPECT_FALSE(opened->recovery.corruption_detected);
    EXPECT_TRUE(opened->wal.stats().ring_reason.starts_with(ring));
    EXPECT_EQ(records_in(opened->wal), kRecordsSynced);
    const auto report = verify(log_);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->records, std::uint64_t{kRecordsSynced});
    EXPECT_TRUE(report->ring_note.starts_with(ring));
    EXPECT_TRUE(report->damages.empty());
  });
}

// A writer that took the log for what is in its segments would give sequences twice.
TEST_F(SecurityTest, WhoMayNotReadTheRingDoesNotWrite) {
  leave_killed_log(kAda);
  fs::permissions(log_ / "ring", fs::perms::none);
  run_as(kAda, [&] {
    const auto opened = Wal::open(options());
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, ErrorCode::permission);
  });
  fs::permissions(log_ / "ring", fs::perms::owner_read | fs::perms::owner_write);
  run_as(kAda, [&] {
    const auto opened = Wal::open(options());
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ(opened->recovery.next_sequence, std::uint64_t{kRecordsSynced + kRecordsInRing});
  });
}

}  // namespace
}  // namespace nori
