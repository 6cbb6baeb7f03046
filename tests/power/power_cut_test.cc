// Power cuts under real filesystems: what was acknowledged as durable is there afterwards, on ext4,
// xfs and btrfs, under every policy.
//
// A writer (tests/writer) works on a filesystem in a file. At a random instant the file is cloned
// (FICLONE, milliseconds), after everything that the writer had said by then was heard. The clone
// is mounted later, as the disk would be after the power cut: the filesystem replays its journal,
// the log is opened, and must hold what was heard of.
//
// What the clone is: the disk with every write that had reached it by then, and nothing of what was
// only in memory: dirty pages of the page cache (those of the mapped ring are), allocations and
// names that no journal had yet. The loop device writes past the page cache of the filesystem
// below; that one lets writes on their way end and holds back new ones while it clones, so each
// write to the disk is in the clone whole or not at all.
//
// What it is not: a disk that loses or tears what is in its own cache. A flush of that cache that
// is missing never shows here, nor does a torn sector. The simulated disk has both (tests/crash),
// and it loses names that these filesystems happen to keep.
//
// Bugs put back by hand, 1.5 to 2 s for each of the 24 tests. Red: a flush without fdatasync (14),
// a durable write without O_DSYNC (5), an acknowledgement before the write (21), the mark before
// the write (6), a rotation that does not sync the old segment (3, on btrfs) or the next one's
// header (7), directories that are never synced (3 to 8: a new log is gone, deleted segments come
// back), a deletion that is not synced (3). Green: a rotation that does not sync the new name (the
// sync of the file settles it here), recovery that does not sync what it writes again or cuts, an
// opening frame that is not synced, a deletion before what follows is durable (a later sync covers
// each).
//
// So that not only the newest pages are lost, the test has some of the dirty ones written back, as
// the kernel may at any time.

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "nori/verify.h"
#include "nori/wal.h"
#include "tests/power/loop_disk.h"
#include "tests/power/promises.h"
#include "tests/writer/log_check.h"
#include "tests/writer/writer_process.h"
#include "tests/writer/writer_protocol.h"

namespace nori::power_tests {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using writer_tests::WriterOptions;
using writer_tests::WriterProcess;

constexpr std::chrono::duration<double> kTime{1.7};  // NORI_POWER_SECONDS: more
constexpr std::uint64_t kDiskBytes = 512 * kMiB;
// A new disk and a new log once so much is in it: what is longer takes longer to check, and no
// more.
constexpr std::uint64_t kRecordsMax = 30'000;

std::string environment(const char* name) {
  const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
  return value != nullptr ? value : "";
}

struct Case {
  const char* name;
  WriterOptions options;
  friend void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }
};

constexpr auto kNoRing = WalOptions::kNoRing;
constexpr auto kSmallRing = 64 * kKiB;
constexpr auto kSmallSegments = 64 * kKiB;

const std::array kCases = {
    Case{"AlwaysDirect", {.policy = "always", .batch_records_max = 3}},
    Case{"AlwaysDirectNoPaddingThreads", {.policy = "always", .padding = "none", .threads = 3}},
    Case{"AlwaysRotateAndDeleteThreads",
         {.policy = "always",
          .ring_bytes = kSmallRing,
          .segment_bytes = kSmallSegments,
          .threads = 3,
          .batch_records_max = 20,
          .rotate_every = 15,
          .deletes = 1}},
    Case{"AlwaysBufferedNoRingRotateAndDelete",
         {.policy = "always",
          .io = "buffered",
          .ring_bytes = kNoRing,
          .segment_bytes = kSmallSegments,
          .batch_records_max = 5,
          .rotate_every = 20,
          .deletes = 1}},
    Case{"BatchRotateAndDeleteThreads",
         {.policy = "batch",
          .ring_bytes = kSmallRing,
          .segment_bytes = kSmallSegments,
          .threads = 3,
          .batch_records_max = 20,
          .rotate_every = 40,
          .deletes = 1}},
    Case{"BatchBufferedThreads",
         {.policy = "batch", .io = "buffered", .threads = 3, .batch_records_max = 7}},
    Case{"OsRotateAndDeleteThreads",
         {.policy = "os",
          .ring_bytes = kSmallRing,
          .segment_bytes = kSmallSegments,
          .threads = 2,
          .batch_records_max = 5,
          .rotate_every = 60,
          .deletes = 1}},
    Case{"OsBufferedNoRingThreads",
         {.policy = "os", .io = "buffered", .ring_bytes = kNoRing, .threads = 3}},
};

class PowerCutNoAsanTest : public ::testing::TestWithParam<std::tuple<FileSystemKind, Case>> {
 protected:
  PowerCutNoAsanTest() : kind_(std::get<0>(GetParam())), options_(std::get<1>(GetParam()).options) {
    const auto given = environment("NORI_POWER_SEED");
    seed_ = given.empty() ? std::random_device{}() : std::strtoull(given.c_str(), nullptr, 10);
    random_.seed(seed_);
    options_.seed = seed_;
  }

  // A filesystem as it was at some moment.
  struct Cut {
    std::string file;
    Moment moment;
  };

  std::uint64_t between(std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(random_);
  }
  bool one_in(std::uint64_t n) { return between(1, n) == 1; }

  void new_disk() {
    const auto made = shelf_->make_file_system(kind_, "disk", kDiskBytes);
    ASSERT_TRUE(made) << made.error();
    options_.life = 0;
    promises_.emplace(options_.workload(), options_.policy == "always");
    disks_ += 1;
  }

  // Takes down what the writer has said since.
  void hear(WriterProcess& writer) {
    writer.hear_all();
    for (; heard_ < writer.messages().size(); ++heard_) {
      promises_->hear(options_.life, writer.messages()[heard_]);
    }
  }

  void cut_power(WriterProcess& writer) {
    hear(writer);
    Cut cut{.file = fmt::format("cut-{}", cuts_.size()), .moment = promises_->now(options_.life)};
    const auto began = steady_clock::now();
    const auto cloned = shelf_->clone("disk", cut.file);
    ASSERT_TRUE(cloned) << cloned.error();
    clone_time_ += steady_clock::now() - began;
    while_opening_ += writer.has_said(Message::Kind::opened) ? 0 : 1;
    cuts_.push_back(std::move(cut));
    clones_ += 1;
  }

  // Has the kernel write some dirty pages of one of the log's files, as it may at any time.
  void write_something_back() {
    std::vector<std::filesystem::path> files;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(options_.directory, ignored)) {
      files.push_back(entry.path());
    }
    if (files.empty()) {
      return;
    }
    const auto& path = files[between(0, files.size() - 1)];
    const auto file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    const auto bytes = std::filesystem::file_size(path, ignored);
    if (file >= 0 && bytes > 0 && bytes <= kDiskBytes) {
      const auto from = between(0, bytes - 1);
      ::sync_file_range(file, static_cast<off_t>(from),
                        static_cast<off_t>(between(1, bytes - from)),
                        SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
      if (one_in(16)) {
        ::syncfs(file);
      }
    }
    if (file >= 0) {
      ::close(file);
    }
  }

  // A writer's life, and power cuts in it; at its end the process is killed.
  void live() {
    ++options_.life;
    heard_ = 0;
    WriterProcess writer(options_);
    ASSERT_TRUE(writer.wait_for(Message::Kind::starting));
    const auto started = steady_clock::now();
    if (one_in(2)) {
      // While it opens the log and recovers what the last life left.
      writer.listen(microseconds(between(0, static_cast<std::uint64_t>(opening_.count()))),
                    [] { return false; });
      ASSERT_NO_FATAL_FAILURE(cut_power(writer));
    }
    ASSERT_TRUE(writer.wait_for(Message::Kind::opened));
    opening_ = std::chrono::duration_cast<microseconds>(steady_clock::now() - started);
    for (auto cuts = between(0, 3); cuts > 0; --cuts) {
      for (auto pauses = between(1, 3); pauses > 0; --pauses) {
        const auto enough = writer.appends() + between(1, 600);
        writer.listen(milliseconds(between(0, 30)), [&] { return writer.appends() >= enough; });
        for (auto ranges = between(0, 3); ranges > 0; --ranges) {
          write_something_back();
        }
      }
      ASSERT_NO_FATAL_FAILURE(cut_power(writer));
    }
    ASSERT_TRUE(writer.kill()) << "the writer ended by itself";
    hear(writer);
  }

  // One or two lives on the disk as it is, the later ones after a kill.
  void live_until_power_cuts() {
    auto mounted = shelf_->mount(kind_, "disk", "mounted");
    ASSERT_TRUE(mounted) << mounted.error();
    options_.directory = ((*mounted)->path() / "log").string();
    for (auto lives = between(1, 2); lives > 0 && !HasFailure(); --lives) {
      live();
    }
  }

  // The log on a disk as it was at some moment, and what recovery makes of it.
  std::optional<Dump> look_at(const Cut& cut) {
    SCOPED_TRACE(
        fmt::format("{}, message {} (NORI_POWER_SEED={})", cut.file, cut.moment.messages, seed_));
    auto mounted = shelf_->mount(kind_, cut.file, "mounted");
    if (!mounted) {
      ADD_FAILURE() << mounted.error();
      return std::nullopt;
    }
    options_.directory = ((*mounted)->path() / "log").string();
    const auto left = what_is_left(cut.moment);
    if (left) {
      recover(*left, cut.moment);
      recovered_ += 1;
    }
    return left;
  }

  std::optional<Dump> what_is_left(const Moment& moment) {
    auto options = options_.wal_options();
    options.mode = OpenMode::read_only;
    const auto before = writer_tests::listing(options_.directory);
    auto opened = Wal::open(options);
    if (!opened && !promises_->log_exists(moment) &&
        (before.empty() || opened.error().code == ErrorCode::not_a_log)) {
      return Dump{};  // it was just being created
    }
    if (!opened) {
      ADD_FAILURE() << opened.error().message;
      return std::nullopt;
    }
    EXPECT_FALSE(opened->recovery.corruption_detected) << opened->recovery.reason;
    const auto dump = promises_->check(opened->wal, moment);
    if (dump) {
      EXPECT_EQ(opened->recovery.next_sequence, dump->end());
      torn_ += opened->recovery.torn_tail ? 1 : 0;
    }
    EXPECT_EQ(writer_tests::listing(options_.directory), before) << "reading changed the directory";
    return dump;
  }

  // Opens it for writing, appends, closes, and reads all of it again.
  void recover(const Dump& left, const Moment& moment) {
    auto opened = Wal::open(options_.wal_options());
    ASSERT_TRUE(opened) << opened.error().message;
    auto& [wal, recovery] = *opened;
    EXPECT_EQ(recovery.next_sequence, left.end());
    EXPECT_EQ(wal.durable_position().sequence, left.end()) << "what open() keeps is durable";
    from_ring_ += recovery.records_from_ring > 0 ? 1 : 0;
    const auto dump = promises_->check(wal, moment);
    ASSERT_TRUE(dump);
    EXPECT_EQ(dump->records, left.records) << "recovery has changed the log";

    RecordId id{.life = moment.life + 1000};
    std::string key;
    std::string value;
    for (; id.append < 3; ++id.append) {
      id.count = promises_->workload().records_in(id.life, id.thread, id.append);
      Batch batch;
      for (id.index = 0; id.index < id.count; ++id.index) {
        batch.add(promises_->workload().record(id, key, value));
      }
      const auto appended = wal.append(batch);
      ASSERT_TRUE(appended) << appended.error().message;
    }
    const auto end = wal.current_position().sequence;
    const auto closed = wal.close();
    ASSERT_TRUE(closed) << closed.error().message;
    const auto report = nori::verify(options_.directory);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_EQ(report->next_sequence, end);
    EXPECT_EQ(report->bytes_torn, 0U);
    for (const auto& damage : report->damages) {
      ADD_FAILURE() << "damage at " << damage.segment_id << ":" << damage.offset << ": "
                    << damage.reason;
    }
  }

  // Power goes and comes back, again and again. What one life leaves is where the next one begins.
  void cut_again_and_again() {
    const auto seconds = environment("NORI_POWER_SECONDS");
    const auto until =
        steady_clock::now() +
        (seconds.empty() ? kTime
                         : std::chrono::duration<double>(std::strtod(seconds.c_str(), nullptr)));
    new_disk();
    do {
      cuts_.clear();
      live_until_power_cuts();
      if (HasFailure() || cuts_.empty()) {
        continue;
      }
      const auto& next = cuts_[between(0, cuts_.size() - 1)];
      // As it was at the cut, before anybody looks at it: a filesystem that was never mounted
      // since.
      ASSERT_TRUE(shelf_->clone(next.file, "disk"));
      std::optional<Dump> left;
      for (const auto& cut : cuts_) {
        // Should it fail, this is what it looked like.
        ASSERT_TRUE(shelf_->clone(cut.file, "before"));
        auto found = look_at(cut);
        if (HasFailure()) {
          fmt::print("the disk is left in {}\n",
                     shelf_->keep("before", fmt::format("power-{}.img", seed_)).string());
          return;
        }
        if (&cut == &next) {
          left = std::move(found);
        }
        shelf_->remove(cut.file);
      }
      if (left->end() > kRecordsMax) {
        new_disk();
      } else {
        promises_->go_on_from(*std::move(left), next.moment);
      }
    } while (steady_clock::now() < until && !HasFailure());
  }

  const FileSystemKind kind_;
  WriterOptions options_;
  std::uint64_t seed_ = 0;
  std::mt19937_64 random_;
  std::unique_ptr<Shelf> shelf_;
  std::optional<Promises> promises_;
  std::vector<Cut> cuts_;
  std::size_t heard_ = 0;
  microseconds opening_{3000};
  // What was done, for the last line.
  std::uint64_t disks_ = 0;
  std::uint64_t clones_ = 0;
  std::uint64_t while_opening_ = 0;
  std::uint64_t recovered_ = 0;
  std::uint64_t torn_ = 0;
  std::uint64_t from_ring_ = 0;
  steady_clock::duration clone_time_{};
};

TEST_P(PowerCutNoAsanTest, LosesNothingThatWasDurable) {
  auto shelf = Shelf::make();
  if (!shelf) {
    GTEST_SKIP() << "cannot make a disk to cut the power of: " << shelf.error();
  }
  shelf_ = *std::move(shelf);
  if (const auto missing = shelf_->missing_for(kind_); !missing.empty()) {
    GTEST_SKIP() << missing;
  }
  cut_again_and_again();
  fmt::print(
      "{} power cuts ({} while opening), {} recovered ({} torn tails, {} with records from the "
      "ring), {} disks, {:.1f} ms a clone\n",
      clones_, while_opening_, recovered_, torn_, from_ring_, disks_,
      std::chrono::duration<double, std::milli>(clone_time_).count() /
          static_cast<double>(std::max<std::uint64_t>(1, clones_)));
  EXPECT_GT(recovered_, 0U);
}

INSTANTIATE_TEST_SUITE_P(Power, PowerCutNoAsanTest,
                         ::testing::Combine(::testing::ValuesIn(kFileSystemKinds),
                                            ::testing::ValuesIn(kCases)),
                         [](const auto& one) {
                           return fmt::format("{}{}", std::get<0>(one.param).name,
                                              std::get<1>(one.param).name);
                         });

}  // namespace
}  // namespace nori::power_tests
