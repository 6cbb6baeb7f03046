// Many threads and the log's own, on a disk that takes its time: crashes and failures find somebody
// waiting.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "nori/wal.h"
#include "testing/random.h"
#include "testing/recovered_log.h"
#include "testing/reference_model.h"
#include "testing/simulated_disk.h"

namespace nori::crash_tests {
namespace {

using namespace nori::testing;  // NOLINT
using Operation = nori::testing::Operation;
using std::chrono::microseconds;

// What one thread was told.
struct Told {
  std::uint64_t appended = 0;  ///< Its appends that returned.
  std::uint64_t durable = 0;   ///< And those that were called durable.
  /// The same, as callbacks say.
  std::atomic<std::uint64_t> called_durable{0};
  std::atomic<std::uint64_t> callbacks{0};
  std::uint64_t registered = 0;
  std::optional<Error> error;
};

struct ThreadsCase {
  std::string name;
  std::uint64_t ring_bytes;
  IoMode io;
  FsyncPolicy fsync;
  friend void PrintTo(const ThreadsCase& test, std::ostream* to) { *to << test.name; }
};

const ThreadsCase kThreadsCases[] = {
    {"OsDirect", 64 * kKiB, IoMode::direct, FsyncPolicy::os()},
    {"BatchBuffered", 64 * kKiB, IoMode::buffered,
     FsyncPolicy::batch(std::chrono::milliseconds(1))},
    {"BatchNoRing", WalOptions::kNoRing, IoMode::buffered,
     FsyncPolicy::batch(std::chrono::milliseconds(1))},
    {"AlwaysDirect", 64 * kKiB, IoMode::direct, FsyncPolicy::always()},
};

constexpr int kThreads = 6;

class WaitersThreadsTest : public ::testing::TestWithParam<ThreadsCase> {
 protected:
  static WalOptions options() {
    auto options = small_options();
    options.background_thread = true;
    options.ring_bytes = GetParam().ring_bytes;
    options.io = GetParam().io;
    options.fsync = GetParam().fsync;
    return options;
  }

  // Opens a log on a slow disk and lets all threads at it until each has got an error, or has
  // appended `appends` times. Whoever hangs hangs the test.
  void run(std::uint64_t appends, const std::function<void()>& begin) {
    auto opened = options();
    opened.file_system = &disk_;
    auto log = Wal::open(opened);
    ASSERT_TRUE(log) << log.error().message;
    wal_.emplace(std::move(log->wal));
    ASSERT_TRUE(wal_->append(Record::put("first", "")));
    ASSERT_TRUE(wal_->sync());
    disk_.set_latency([](Operation operation) {
      return operation == Operation::sync || operation == Operation::durable_write
                 ? microseconds(300)
                 : microseconds(changes_the_disk(operation) ? 30 : 0);
    });
    begin();
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([this, thread, appends] { work(thread, appends); });
    }
    for (auto& thread : threads) {
      thread.join();
    }
  }

  void work(int thread, std::uint64_t appends) {
    auto& told = told_[static_cast<std::size_t>(thread)];
    Random random(static_cast<std::uint64_t>(thread));
    Batch batch;
    while (told.appended < appends) {
      const bool durable = thread % 3 == 0;
      const auto number = told.appended;
      const auto level = durable ? Durability::durable : Durability::policy;
      const auto value = std::string(random.below(10) == 0 ? 3000 : 100, 'v');
      const auto key = fmt::format("{}/{}", thread, number);
      auto appended = [&] {
        if (random.below(4) != 0) {
          return wal_->append(Record::put(key, value), level);
        }
        batch.clear();
        batch.put("part of", key);
        batch.put(key, value);
        return wal_->append(batch, level);
      }();
      if (!appended) {
        told.error = appended.error();
        return;
      }
      ++told.appended;
      Result<void> made_durable;
      if (thread % 3 == 1 && random.coin()) {
        made_durable = wal_->sync();
      } else if (thread % 3 == 2 && random.coin()) {
        made_durable = wal_->wait_durable(appended->end);
      } else if (thread % 3 == 1) {
        const auto registered = wal_->when_durable(
            appended->end, [&told, appends_before = told.appended](const Result<void>& outcome) {
              ++told.callbacks;
              if (outcome) {
                told.called_durable = appends_before;
              }
            });
        if (!registered) {
          told.error = registered.error();
          return;
        }
        ++told.registered;
        if (GetParam().fsync.kind() != FsyncPolicy::Kind::always) {
          continue;
        }
      } else if (!durable && GetParam().fsync.kind() != FsyncPolicy::Kind::always) {
        continue;
      }
      if (!made_durable) {
        told.error = made_durable.error();
        return;
      }
      told.durable = told.appended;
    }
  }

  // What a log holds of each thread is a prefix, and all it was promised.
  void check(Crash crash) {
    auto read_only = options();
    read_only.file_system = &disk_;
    read_only.mode = OpenMode::read_only;
    read_only.verification = Verification::all;
    const auto opened = Wal::open(read_only);
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_FALSE(opened->recovery.corruption_detected) << opened->recovery.reason;
    const auto found = read_all(opened->wal);
    ASSERT_TRUE(found) << found.error().message;
    std::map<int, std::uint64_t> next;
    std::string part_of;
    Sequence sequence = 0;
    for (const auto& entry : found->entries) {
      ASSERT_EQ(entry.sequence, sequence++);
      ASSERT_TRUE(part_of.empty() || part_of == entry.key) << "a batch was split";
      if (entry.key == "part of") {
        ASSERT_FALSE(entry.ends_batch);
        part_of = entry.value;
        continue;
      }
      part_of.clear();
      const auto slash = entry.key.find('/');
      if (slash == std::string::npos) {
        continue;
      }
      const int thread = std::stoi(entry.key);
      ASSERT_EQ(std::stoull(entry.key.substr(slash + 1)), next[thread]++) << "thread " << thread;
    }
    ASSERT_TRUE(part_of.empty()) << "a batch was split";
    for (int thread = 0; thread < kThreads; ++thread) {
      const auto& told = told_[static_cast<std::size_t>(thread)];
      EXPECT_GE(next[thread], crash == Crash::power
                                  ? std::max(told.durable, told.called_durable.load())
                                  : told.appended)
          << "thread " << thread;
      EXPECT_EQ(told.callbacks, told.registered) << "thread " << thread;
      // One more may have been on its way.
      EXPECT_LE(next[thread], told.appended + 1) << "thread " << thread;
    }
    EXPECT_EQ(watched(disk_, options()), "");
  }

  // Kills the process, and looks at what both kinds of crash leave.
  void crash_and_check(std::uint64_t seed) {
    disk_.set_latency({});
    disk_.crash_process();
    wal_.reset();
    disk_.clear_faults();
    check(Crash::process);
    disk_.power_cut(seed);
    check(Crash::power);
    auto reopened = options();
    reopened.file_system = &disk_;
    const auto opened = Wal::open(reopened);
    ASSERT_TRUE(opened) << opened.error().message;
  }

  void start_anew() {
    wal_.reset();
    told_ = std::vector<Told>(kThreads);
    const auto names = disk_.list_files("log");
    ASSERT_TRUE(names) << names.error().message;
    for (const auto& name : *names) {
      if (!name.ends_with('/')) {
        EXPECT_TRUE(disk_.remove_file("log/" + name));
      }
    }
  }

  SimulatedDisk disk_{7};
  std::optional<Wal> wal_;
  std::vector<Told> told_ = std::vector<Told>(kThreads);
};

// Goal: whoever waits for a flush that fails is woken and told, and so is whoever comes later.
TEST_P(WaitersThreadsTest, AreToldOfAFailedSync) {
  for (std::uint64_t after = 0; after < 6; ++after) {
    run(1'000'000, [&] {
      disk_.fail_nth({Operation::sync, Operation::durable_write}, 3 * after, EIO, Repeat::once,
                     true);
    });
    for (const auto& told : told_) {
      ASSERT_TRUE(told.error);
      EXPECT_EQ(told.error->code, ErrorCode::io) << told.error->message;
    }
    EXPECT_TRUE(wal_->stats().failure);
    EXPECT_FALSE(wal_->sync());
    EXPECT_FALSE(wal_->append(Record::put("behind", "a failure")));
    EXPECT_FALSE(wal_->close());
    crash_and_check(after);
    start_anew();
  }
}

// The same of a write.
TEST_P(WaitersThreadsTest, AreToldOfAFailedWrite) {
  for (std::uint64_t after = 0; after < 4; ++after) {
    run(1'000'000, [&] { disk_.fail_nth(Operation::write, 5 * after, EIO); });
    for (const auto& told : told_) {
      ASSERT_TRUE(told.error);
      EXPECT_EQ(told.error->code, ErrorCode::io) << told.error->message;
    }
    EXPECT_FALSE(wal_->sync());
    crash_and_check(after);
    start_anew();
  }
}

TEST_P(WaitersThreadsTest, FindWhatTheyWerePromisedAfterACrash) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    run(1'000'000, [&] { disk_.crash_after(seed * seed * 5); });
    crash_and_check(seed);
    start_anew();
  }
}

TEST_P(WaitersThreadsTest, GoOnWithoutFailures) {
  run(300, [] {});
  for (const auto& told : told_) {
    EXPECT_FALSE(told.error) << told.error->message;
  }
  EXPECT_GT(wal_->stats().rotations, 0);
  crash_and_check(1);
}

INSTANTIATE_TEST_SUITE_P(Every, WaitersThreadsTest, ::testing::ValuesIn(kThreadsCases),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace nori::crash_tests
