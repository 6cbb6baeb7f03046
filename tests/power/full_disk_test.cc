// Real filesystems, really full: appends answer `no_space` and nothing of them is seen, the log
// reads and deletes, and goes on when there is room. Their accounts of free space differ from the
// simulated disk's: one keeps some back, one gives it back with a later commit, one needs some to
// give some back.

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "nori/verify.h"
#include "nori/wal.h"
#include "tests/power/loop_disk.h"

namespace nori::power_tests {
namespace {

using std::chrono::steady_clock;

constexpr std::uint64_t kRingBytes = 256 * kKiB;
constexpr std::uint64_t kSegmentBytes = kMiB;
constexpr std::size_t kValueBytes = 1000;

// A filesystem, and a way to write a log on it.
struct Case {
  const char* name;
  std::size_t kind;  // of kFileSystemKinds
  std::uint64_t ring_bytes = kRingBytes;
  IoMode io = IoMode::automatic;
  friend void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }
};

constexpr std::array kCasesWithRing = {
    Case{.name = "ext4Direct", .kind = 0, .io = IoMode::direct},
    Case{.name = "ext4Buffered", .kind = 0, .io = IoMode::buffered},
    Case{.name = "xfsDirect", .kind = 1, .io = IoMode::direct},
    Case{.name = "xfsBuffered", .kind = 1, .io = IoMode::buffered},
};
constexpr std::array kCasesWithoutRing = {
    Case{.name = "ext4NoRing", .kind = 0, .ring_bytes = WalOptions::kNoRing},
    Case{.name = "xfsNoRing", .kind = 1, .ring_bytes = WalOptions::kNoRing},
    // Asked for or not: a store into a mapping can fail there.
    Case{.name = "btrfs", .kind = 2},
};

std::string value_of(Sequence sequence) {
  return std::string(kValueBytes, static_cast<char>('a' + sequence % 26));
}

// What takes the space that a test does not leave to the log.
class Ballast {
 public:
  explicit Ballast(const std::filesystem::path& path)
      : file_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    EXPECT_GE(file_, 0);
  }
  Ballast(const Ballast&) = delete;
  Ballast& operator=(const Ballast&) = delete;
  ~Ballast() { ::close(file_); }

  // Takes all that there is, the last block too.
  void fill() {
    for (std::uint64_t step = 64 * kMiB; step >= 4 * kKiB; step /= 2) {
      while (::posix_fallocate(file_, static_cast<off_t>(bytes_), static_cast<off_t>(step)) == 0) {
        bytes_ += step;
      }
    }
    ::syncfs(file_);
  }
  // Fills the disk but for about so much.
  void leave(std::uint64_t bytes) {
    fill();
    give_back(bytes);
  }
  void give_back(std::uint64_t bytes) {
    ASSERT_GT(bytes_, bytes);
    bytes_ -= bytes;
    ASSERT_EQ(::ftruncate(file_, static_cast<off_t>(bytes_)), 0);
    ::syncfs(file_);
  }

 private:
  int file_;
  std::uint64_t bytes_ = 0;
};

// Not with the sanitizers: the same is done on the simulated disk (src/log/wal_test.cc).
class FullDiskNoAsanTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    auto shelf = Shelf::make();
    if (!shelf) {
      GTEST_SKIP() << "cannot make a disk to fill: " << shelf.error();
    }
    shelf_ = *std::move(shelf);
    if (const auto missing = shelf_->missing_for(kind_); !missing.empty()) {
      GTEST_SKIP() << missing;
    }
    const auto made = shelf_->make_file_system(kind_, "disk", std::max(kind_.bytes_min, 64 * kMiB));
    ASSERT_TRUE(made) << made.error();
    mount("disk");
    options_.ring_bytes = GetParam().ring_bytes;
    options_.io = GetParam().io;
    options_.segment_bytes = kSegmentBytes;
    options_.fsync = FsyncPolicy::os();
  }
  void TearDown() override {
    log_.reset();
    ballast_.reset();
    mount_.reset();
  }

  void mount(const std::string& file) {
    ballast_.reset();
    mount_.reset();
    auto mounted = shelf_->mount(kind_, file, "mounted");
    ASSERT_TRUE(mounted) << mounted.error();
    mount_ = *std::move(mounted);
    ballast_ = std::make_unique<Ballast>(mount_->path() / "ballast");
    options_.directory = mount_->path() / "log";
  }

  [[nodiscard]] bool has_ring() const {
    return options_.ring_bytes != WalOptions::kNoRing && std::string_view(kind_.name) != "btrfs";
  }

  void open() {
    log_.reset();
    auto opened = Wal::open(options_);
    ASSERT_TRUE(opened) << opened.error().message;
    log_ = std::move(opened->wal);
    recovery_ = std::move(opened->recovery);
    EXPECT_FALSE(recovery_.corruption_detected) << recovery_.reason;
  }

  Result<Appended> append() {
    const auto sequence = log_->current_position().sequence;
    return log_->append(Record::put(std::to_string(sequence), value_of(sequence)));
  }
  void append(int records) {
    for (int i = 0; i < records; ++i) {
      const auto appended = append();
      ASSERT_TRUE(appended) << appended.error().message;
    }
  }

  void sync() {
    const auto synced = log_->sync();
    // Padding the last block is a write without a ring, and one that copies on write needs space.
    if (!synced && !has_ring()) {
      ASSERT_EQ(synced.error().code, ErrorCode::no_space) << synced.error().message;
      return;
    }
    ASSERT_TRUE(synced) << synced.error().message;
    EXPECT_EQ(log_->durable_position(), log_->current_position());
  }

  // Nothing but `no_space`, again and again; and nothing that anybody sees.
  void expect_no_space() {
    const auto end = log_->current_position().sequence;
    for (int i = 0; i < 20; ++i) {
      const auto appended = append();
      ASSERT_FALSE(appended) << "there was room again";
      ASSERT_EQ(appended.error().code, ErrorCode::no_space) << appended.error().message;
      ASSERT_FALSE(appended.error().position) << "nothing was appended";
    }
    EXPECT_EQ(log_->current_position().sequence, end);
    EXPECT_FALSE(log_->stats().failure);
  }

  // Until it is refused time and again: what a refused append gives back may be room for another,
  // where a filesystem copies on write. And again once the filesystem has settled: only then is
  // deleted space back.
  void append_until_no_space() {
    int refused = 0;
    bool is_settled = false;
    for (int records = 0; records < 1'000'000 && refused < 20; ++records) {
      const auto end = log_->current_position().sequence;
      const auto appended = append();
      if (!appended) {
        ASSERT_EQ(appended.error().code, ErrorCode::no_space) << appended.error().message;
        ASSERT_FALSE(appended.error().position) << "nothing was appended";
        ASSERT_EQ(log_->current_position().sequence, end);
      }
      if (appended) {
        refused = 0;
        is_settled = false;
      } else if (++refused == 20 && !is_settled) {
        settle();
        refused = 0;
        is_settled = true;
      }
    }
    ASSERT_EQ(refused, 20) << "the disk is never full";
  }

  void settle() const {
    // The log's own thread may have the unused end of a segment to give back yet.
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const int directory = ::open(options_.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ASSERT_GE(directory, 0);
    EXPECT_EQ(::syncfs(directory), 0);
    ::close(directory);
  }

  // A filesystem may give deleted space back a little later.
  void append_as_soon_as_there_is_room() {
    const auto until = steady_clock::now() + std::chrono::seconds(10);
    for (;;) {
      const auto appended = append();
      if (appended) {
        return;
      }
      ASSERT_EQ(appended.error().code, ErrorCode::no_space) << appended.error().message;
      ASSERT_TRUE(steady_clock::now() < until) << "no room after all: " << appended.error().message;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  // Everything from the first record left on, as this log sees it and as another process does.
  void expect_all_records() {
    const auto end = log_->current_position().sequence;
    expect_records(*log_, end);
    auto options = options_;
    options.mode = OpenMode::read_only;
    const auto other = Wal::open(options);
    ASSERT_TRUE(other) << other.error().message;
    EXPECT_FALSE(other->recovery.corruption_detected) << other->recovery.reason;
    expect_records(other->wal, end);
  }
  static void expect_records(const Wal& wal, Sequence end) {
    auto reader = wal.read_from(begin_of_log);
    ASSERT_TRUE(reader) << reader.error().message;
    auto sequence = reader->position().sequence;
    for (const auto& entry : *reader) {
      ASSERT_TRUE(entry) << entry.error().message;
      ASSERT_EQ(entry->sequence, sequence);
      ASSERT_EQ(entry->key, std::to_string(sequence));
      ASSERT_EQ(entry->value, value_of(sequence));
      ++sequence;
    }
    EXPECT_EQ(sequence, end);
  }

  // All but the active segment.
  void delete_old_segments() {
    const auto deleted = log_->delete_segments_before(log_->current_position());
    ASSERT_TRUE(deleted) << deleted.error().message;
    EXPECT_GT(*deleted, 0U);
  }

  void close() {
    const auto closed = log_->close();
    ASSERT_TRUE(closed) << closed.error().message;
    log_.reset();
    const auto report = nori::verify(options_.directory);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_TRUE(report->damages.empty()) << report->damages.front().reason;
  }

  const FileSystemKind kind_ = kFileSystemKinds.at(GetParam().kind);
  std::unique_ptr<Shelf> shelf_;
  std::unique_ptr<Mount> mount_;
  std::unique_ptr<Ballast> ballast_;
  WalOptions options_;
  std::optional<Wal> log_;
  RecoveryInfo recovery_;
};

TEST_P(FullDiskNoAsanTest, AppendsEndInNoSpaceAndComeBackWithDeletions) {
  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_NO_FATAL_FAILURE(append(10));
  EXPECT_EQ(log_->stats().ring_bytes, has_ring() ? kRingBytes : 0);
  ballast_->leave(6 * kMiB);
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(round);
    ASSERT_NO_FATAL_FAILURE(append_until_no_space());
    EXPECT_GE(log_->stats().segments, 3U);
    ASSERT_NO_FATAL_FAILURE(expect_no_space());
    ASSERT_NO_FATAL_FAILURE(expect_all_records());
    ASSERT_NO_FATAL_FAILURE(sync());
    ASSERT_NO_FATAL_FAILURE(delete_old_segments());
    ASSERT_NO_FATAL_FAILURE(append_as_soon_as_there_is_room());
    ASSERT_NO_FATAL_FAILURE(append(100));
    ASSERT_NO_FATAL_FAILURE(expect_all_records());
  }
  close();
}

// Closed while there was no room, opened while there is none.
TEST_P(FullDiskNoAsanTest, AClosedLogOpensReadsAndDeletes) {
  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_NO_FATAL_FAILURE(append(5000));
  const auto end = log_->current_position().sequence;
  ASSERT_NO_FATAL_FAILURE(close());
  for (int round = 0; round < 2; ++round) {
    SCOPED_TRACE(round);
    ballast_->fill();
    ASSERT_NO_FATAL_FAILURE(open());
    EXPECT_TRUE(recovery_.closed_cleanly);
    EXPECT_EQ(recovery_.next_sequence, end);
    ASSERT_NO_FATAL_FAILURE(expect_all_records());
    ASSERT_NO_FATAL_FAILURE(append_until_no_space());  // there may be a block left
    ASSERT_NO_FATAL_FAILURE(expect_no_space());
    if (round == 0) {
      ASSERT_EQ(log_->current_position().sequence, end);
      ASSERT_NO_FATAL_FAILURE(close());
    }
  }
  ASSERT_NO_FATAL_FAILURE(delete_old_segments());
  ASSERT_NO_FATAL_FAILURE(append_as_soon_as_there_is_room());
  ASSERT_NO_FATAL_FAILURE(append(100));
  ASSERT_NO_FATAL_FAILURE(expect_all_records());
  ASSERT_NO_FATAL_FAILURE(close());
  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_NO_FATAL_FAILURE(expect_all_records());
}

TEST_P(FullDiskNoAsanTest, ItSurvivesAPowerCutAndOpensFull) {
  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_NO_FATAL_FAILURE(append(100));
  ballast_->leave(6 * kMiB);
  ASSERT_NO_FATAL_FAILURE(append_until_no_space());
  ASSERT_NO_FATAL_FAILURE(sync());
  const auto durable = log_->durable_position().sequence;
  ASSERT_NO_FATAL_FAILURE(append_until_no_space());
  const auto cloned = shelf_->clone("disk", "cut");
  ASSERT_TRUE(cloned) << cloned.error();
  log_.reset();

  ASSERT_NO_FATAL_FAILURE(mount("cut"));
  ASSERT_NO_FATAL_FAILURE(open());
  EXPECT_GE(recovery_.next_sequence, durable);
  ASSERT_NO_FATAL_FAILURE(expect_all_records());
  // What the log had reserved ahead may be free again.
  ASSERT_NO_FATAL_FAILURE(append_until_no_space());
  ASSERT_NO_FATAL_FAILURE(expect_no_space());
  ASSERT_NO_FATAL_FAILURE(delete_old_segments());
  ASSERT_NO_FATAL_FAILURE(append_as_soon_as_there_is_room());
  ASSERT_NO_FATAL_FAILURE(append(100));
  ASSERT_NO_FATAL_FAILURE(expect_all_records());
  close();
}

class FullDiskForRingNoAsanTest : public FullDiskNoAsanTest {};

// There is room for a log, and none for its ring: created so, and opened so.
TEST_P(FullDiskForRingNoAsanTest, IsCreatedAndOpenedWithoutOne) {
  options_.ring_bytes = 8 * kMiB;
  options_.segment_bytes = 8 * kMiB;
  ballast_->leave(4 * kMiB);
  ASSERT_NO_FATAL_FAILURE(open());
  EXPECT_TRUE(recovery_.created);
  ASSERT_NO_FATAL_FAILURE(expect_no_space());
  ASSERT_NO_FATAL_FAILURE(expect_all_records());
  // There is no room for a close frame's epoch.
  const auto closed = log_->close();
  EXPECT_TRUE(closed || closed.error().code == ErrorCode::no_space) << closed.error().message;
  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_NO_FATAL_FAILURE(expect_no_space());
  ballast_->give_back(40 * kMiB);
  ASSERT_NO_FATAL_FAILURE(append_as_soon_as_there_is_room());
  ASSERT_NO_FATAL_FAILURE(append(5000));
  const auto rotated = log_->rotate();
  ASSERT_TRUE(rotated) << rotated.error().message;
  ASSERT_NO_FATAL_FAILURE(append(5000));
  ASSERT_NO_FATAL_FAILURE(close());

  ballast_->leave(4 * kMiB);
  ASSERT_NO_FATAL_FAILURE(open());
  EXPECT_EQ(recovery_.next_sequence, 10'001U);
  ASSERT_NO_FATAL_FAILURE(expect_no_space());
  ASSERT_NO_FATAL_FAILURE(expect_all_records());
  ASSERT_NO_FATAL_FAILURE(delete_old_segments());
  ASSERT_NO_FATAL_FAILURE(append_as_soon_as_there_is_room());
  ASSERT_NO_FATAL_FAILURE(expect_all_records());
  close();
}

constexpr auto kCaseName = [](const auto& one) { return std::string(one.param.name); };
INSTANTIATE_TEST_SUITE_P(Ring, FullDiskNoAsanTest, ::testing::ValuesIn(kCasesWithRing), kCaseName);
INSTANTIATE_TEST_SUITE_P(NoRing, FullDiskNoAsanTest, ::testing::ValuesIn(kCasesWithoutRing),
                         kCaseName);
INSTANTIATE_TEST_SUITE_P(Ring, FullDiskForRingNoAsanTest, ::testing::ValuesIn(kCasesWithRing),
                         kCaseName);

}  // namespace
}  // namespace nori::power_tests
