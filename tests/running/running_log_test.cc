// Somebody else's hand in the directory of a running log, on the simulated disk and on a real one:
// a segment cut, removed or replaced, the directory gone or elsewhere, no descriptors left. Nothing
// is acknowledged that is not there, nothing is read that was never written, nobody hangs.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "nori/wal.h"
#include "testing/reference_model.h"
#include "testing/simulated_disk.h"

namespace nori::testing {
namespace {

struct Kind {
  std::string name;
  bool is_simulated;
  bool has_ring;
  friend std::ostream& operator<<(std::ostream& out, const Kind& kind) { return out << kind.name; }
};

class RunningLogTest : public ::testing::TestWithParam<Kind> {
 public:
  ~RunningLogTest() override {
    wal_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(scratch_, ignored);
  }

 protected:
  RunningLogTest() {
    scratch_ = std::filesystem::current_path() / fmt::format("running-{}", ::getpid());
    std::filesystem::remove_all(scratch_);
    options_.directory = scratch_ / "log";
    options_.segment_bytes = kMiB;
    options_.ring_bytes = 64 * kKiB;
    options_.fsync = FsyncPolicy::os();
    options_.background_thread = false;
    if (!GetParam().has_ring) {
      options_.ring_bytes = WalOptions::kNoRing;
      options_.io = IoMode::buffered;
    }
    if (GetParam().is_simulated) {
      disk_ = std::make_unique<SimulatedDisk>();
      options_.directory = "log";
      options_.file_system = disk_.get();
    } else {
      std::filesystem::create_directories(scratch_);
    }
  }

  Result<RecoveryInfo> open() {
    wal_.reset();
    auto opened = Wal::open(options_);
    if (!opened) {
      return std::unexpected(opened.error());
    }
    wal_.emplace(std::move(opened->wal));
    return opened->recovery;
  }

  static std::string value_of(Sequence sequence) { return fmt::format("{:0500}", sequence); }

  // Appends a record, which becomes durable; its value tells its sequence.
  Result<Appended> append() {
    const auto value = value_of(appended_);
    auto appended = wal_->append(Record::put("key", value), Durability::durable);
    if (appended) {
      ++appended_;
    }
    return appended;
  }
  void append(int times) {
    for (int i = 0; i < times; ++i) {
      const auto appended = append();
      ASSERT_TRUE(appended) << appended.error().message;
    }
  }

  // What is read from the first record left on; the error, if that is how it ends.
  [[nodiscard]] std::pair<std::uint64_t, std::optional<Error>> read() const {
    std::uint64_t records = 0;
    auto reader = wal_->read_from(begin_of_log);
    if (!reader) {
      return {records, reader.error()};
    }
    for (;;) {
      const auto next = reader->next();
      if (!next) {
        return {records, next.error()};
      }
      if (!*next) {
        return {records, std::nullopt};
      }
      EXPECT_EQ((*next)->value, value_of((*next)->sequence));
      ++records;
    }
  }

  void expect_read(std::uint64_t records) const {
    const auto [found, error] = read();
    EXPECT_EQ(found, records);
    EXPECT_FALSE(error) << error->message;
  }

  // By another hand.

  void cut(const std::string& name, std::uint64_t bytes) {
    if (disk_ == nullptr) {
      std::filesystem::resize_file(options_.directory / name, bytes);
      return;
    }
    auto contents = disk_->read_file("log/" + name).value();
    contents.resize(bytes);
    ASSERT_TRUE(disk_->write_file("log/" + name, contents));
  }
  void remove(const std::string& name) {
    if (disk_ == nullptr) {
      ASSERT_TRUE(std::filesystem::remove(options_.directory / name));
    } else {
      ASSERT_TRUE(disk_->remove_file("log/" + name));
    }
  }
  // By a copy of itself, as a tool that restores a backup does.
  void replace(const std::string& name) {
    if (disk_ == nullptr) {
      const auto copy = scratch_ / "copy";
      std::filesystem::copy_file(options_.directory / name, copy);
      std::filesystem::rename(copy, options_.directory / name);
      return;
    }
    const auto contents = disk_->read_file("log/" + name).value();
    ASSERT_TRUE(disk_->remove_file("log/" + name));
    ASSERT_TRUE(disk_->write_file("log/" + name, contents));
  }
  std::vector<std::string> files() const {
    if (disk_ != nullptr) {
      return disk_->list_files("log").value();
    }
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(options_.directory)) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

  // The log has failed, says why on every call, and can be let go.
  void expect_stopped(std::string_view file, std::string_view what) {
    const auto appended = append();
    ASSERT_FALSE(appended);
    EXPECT_EQ(appended.error().code, ErrorCode::io);
    EXPECT_NE(appended.error().message.find(file), std::string::npos) << appended.error().message;
    EXPECT_NE(appended.error().message.find(what), std::string::npos) << appended.error().message;
    EXPECT_FALSE(append());
    EXPECT_FALSE(wal_->sync());
    EXPECT_FALSE(wal_->rotate());
    EXPECT_TRUE(wal_->stats().failure);
    EXPECT_FALSE(wal_->close());
  }

  std::filesystem::path scratch_;
  std::unique_ptr<SimulatedDisk> disk_;
  WalOptions options_;
  std::optional<Wal> wal_;
  Sequence appended_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Every, RunningLogTest,
                         ::testing::Values(Kind{"SimulatedWithRing", true, true},
                                           Kind{"SimulatedWithoutRing", true, false},
                                           Kind{"RealWithRing", false, true},
                                           Kind{"RealWithoutRing", false, false}),
                         [](const auto& kind) { return kind.param.name; });

TEST_P(RunningLogTest, WhatGoesToARemovedSegmentIsNotAcknowledged) {
  ASSERT_TRUE(open());
  append(10);
  ASSERT_TRUE(wal_->rotate());
  append(10);
  remove("000001.wal");
  expect_stopped("000001.wal", "removed");
  const auto reopened = open();
  ASSERT_FALSE(reopened);
  EXPECT_EQ(reopened.error().code, ErrorCode::damaged);
}

TEST_P(RunningLogTest, NorIsWhatGoesToAReplacedOne) {
  ASSERT_TRUE(open());
  append(10);
  replace("000000.wal");
  expect_stopped("000000.wal", "removed or replaced");
  // The copy has all that was acknowledged. The ring may have what was not.
  const auto reopened = open();
  ASSERT_TRUE(reopened) << reopened.error().message;
  const auto [records, error] = read();
  EXPECT_TRUE(records == 10 || records == 11) << records;
  EXPECT_FALSE(error) << error->message;
}

TEST_P(RunningLogTest, ACutSegmentIsNoticedByTheNextFlushOrByWhoReadsIt) {
  ASSERT_TRUE(open());
  append(20);
  cut("000000.wal", 12 * kKiB);
  if (GetParam().has_ring) {
    expect_stopped("000000.wal", "cut");
  } else {
    append(1);  // behind a hole
    const auto [records, error] = read();
    EXPECT_LT(records, 20U);
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code, ErrorCode::damaged);
    EXPECT_TRUE(wal_->close());
  }
  const auto reopened = open();
  // The ring may still have had them.
  const auto [records, error] =
      reopened ? read() : std::pair(std::uint64_t{0}, std::optional(reopened.error()));
  EXPECT_TRUE(error ? error->code == ErrorCode::damaged : records == 20) << records;
}

TEST_P(RunningLogTest, ASealedSegmentThatIsGoneStopsReadersAndNotTheWriter) {
  ASSERT_TRUE(open());
  for (int segment = 0; segment < 3; ++segment) {
    append(10);
    ASSERT_TRUE(wal_->rotate());
  }
  remove("000001.wal");
  const auto [records, error] = read();
  EXPECT_EQ(records, 10U);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, ErrorCode::damaged);
  append(10);
  EXPECT_TRUE(wal_->close());
  const auto reopened = open();
  ASSERT_FALSE(reopened);
  EXPECT_EQ(reopened.error().code, ErrorCode::damaged);
  EXPECT_NE(reopened.error().message.find("000001.wal"), std::string::npos);
}

TEST_P(RunningLogTest, ASealedSegmentThatIsCutLikewise) {
  ASSERT_TRUE(open());
  for (int segment = 0; segment < 3; ++segment) {
    append(10);
    ASSERT_TRUE(wal_->rotate());
  }
  cut("000001.wal", 9 * kKiB);
  const auto [records, error] = read();
  EXPECT_GE(records, 10U);
  EXPECT_LT(records, 20U);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, ErrorCode::damaged);
  append(10);
  auto behind = wal_->read_from(Sequence{20});
  ASSERT_TRUE(behind);
  const auto next = behind->next();
  ASSERT_TRUE(next && *next);
  EXPECT_EQ((*next)->sequence, 20U);
  EXPECT_TRUE(wal_->close());
}

TEST_P(RunningLogTest, WithoutItsDirectoryNothingIsAcknowledged) {
  ASSERT_TRUE(open());
  append(10);
  if (disk_ == nullptr) {
    std::filesystem::remove_all(options_.directory);
  } else {
    for (const auto& name : files()) {
      remove(name);
    }
  }
  expect_stopped("000000.wal", "removed");
}

TEST_P(RunningLogTest, NorDoesARotationMakeItAgain) {
  ASSERT_TRUE(open());
  append(10);
  if (disk_ == nullptr) {
    std::filesystem::remove_all(options_.directory);
  } else {
    disk_->fail_nth(Operation::create, 0, ENOENT, Repeat::forever);
  }
  EXPECT_FALSE(wal_->rotate());
  expect_stopped("", "");
  EXPECT_EQ(disk_ == nullptr && std::filesystem::exists(options_.directory), false);
}

TEST_P(RunningLogTest, ItGoesOnInADirectoryThatWasMoved) {
  if (disk_ != nullptr) {
    GTEST_SKIP() << "the simulated disk moves no directories";
  }
  ASSERT_TRUE(open());
  append(10);
  std::filesystem::rename(options_.directory, scratch_ / "moved");
  append(10);
  ASSERT_TRUE(wal_->rotate());
  append(10);
  expect_read(30);
  ASSERT_TRUE(wal_->close());
  EXPECT_FALSE(std::filesystem::exists(options_.directory));
  options_.directory = scratch_ / "moved";
  const auto reopened = open();
  ASSERT_TRUE(reopened) << reopened.error().message;
  EXPECT_EQ(read().first, 30U);
}

// No file can be opened while there is one of these.
class NoDescriptors {
 public:
  explicit NoDescriptors(SimulatedDisk* disk) : disk_(disk) {
    if (disk_ != nullptr) {
      disk_->fail_nth({Operation::create, Operation::open}, 0, EMFILE, Repeat::forever);
      return;
    }
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const int next = ::dup(0);
    ::close(next);
    struct rlimit none = before_;
    none.rlim_cur = static_cast<rlim_t>(next);
    ::setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoDescriptors() {
    if (disk_ != nullptr) {
      disk_->clear_faults();
    } else {
      ::setrlimit(RLIMIT_NOFILE, &before_);
    }
  }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

 private:
  SimulatedDisk* disk_;
  struct rlimit before_ = {};
};

TEST_P(RunningLogTest, WithoutDescriptorsItAppendsAsLongAsItNeedsNone) {
  ASSERT_TRUE(open());
  append(10);
  expect_read(10);  // a sanitizer looks at types it has not met yet through a pipe
  {
    const NoDescriptors none(disk_.get());
    append(10);
    const auto read_through = wal_->read_from(begin_of_log);
    if (!read_through) {
      EXPECT_EQ(read_through.error().system_errno, EMFILE);
    }
    const auto rotated = wal_->rotate();
    ASSERT_FALSE(rotated);
    EXPECT_EQ(rotated.error().system_errno, EMFILE) << rotated.error().message;
    EXPECT_FALSE(append());
  }
  EXPECT_FALSE(wal_->close());
  const auto reopened = open();
  ASSERT_TRUE(reopened) << reopened.error().message;
  expect_read(20);
  append(10);
}

TEST_P(RunningLogTest, WithoutDescriptorsOpeningIsRefusedAndChangesNothing) {
  ASSERT_TRUE(open());
  append(10);
  ASSERT_TRUE(wal_->close());
  wal_.reset();
  const auto before = files();
  {
    const NoDescriptors none(disk_.get());
    const auto refused = open();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::io) << refused.error().message;
    EXPECT_EQ(refused.error().system_errno, EMFILE) << refused.error().message;
  }
  EXPECT_EQ(files(), before);
  const auto reopened = open();
  ASSERT_TRUE(reopened) << reopened.error().message;
  EXPECT_TRUE(reopened->closed_cleanly);
  EXPECT_EQ(read().first, 10U);
}

}  // namespace
}  // namespace nori::testing
