// A store whose threads come in orders that real threads hardly come to.

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "nori/store.h"
#include "testing/recovered_log.h"
#include "testing/results.h"
#include "testing/schedule/schedule.h"
#include "testing/simulated_disk.h"

namespace nori::crash_tests {
namespace {

using testing::ok;
using testing::Schedule;
using testing::SimulatedDisk;

constexpr std::uint64_t kSeeds = 300;

std::map<std::string, std::string> contents_of(const Store& store) {
  std::map<std::string, std::string> contents;
  auto scan = ok(store.scan());
  while (const auto entry = scan.next()) {
    contents.emplace(entry->key, entry->value);
  }
  return contents;
}

// Opens a store on the schedule of each seed, so that its own threads are on it too. What it holds
// behind `use` it holds again when it was closed and opened.
void on_schedules(const std::function<void(Store& store, std::uint64_t seed)>& use) {
  for (std::uint64_t seed = 0; seed < kSeeds && !::testing::Test::HasFailure(); ++seed) {
    SimulatedDisk disk(seed);
    StoreOptions options{.wal = testing::small_options()};
    options.wal.file_system = &disk;
    options.wal.background_thread = seed % 2 == 0;
    options.checkpoints.log_bytes_min = 20'000;
    options.open_threads = 1;
    Schedule schedule(seed);
    EXPECT_EQ(schedule.run([&] {
      auto opened = ok(Store::open(options));
      use(opened.store, seed);
      const auto before = contents_of(opened.store);
      EXPECT_TRUE(opened.store.close());
      EXPECT_EQ(contents_of(ok(Store::open(options)).store), before);
    }),
              "");
    EXPECT_FALSE(::testing::Test::HasFailure()) << "seed " << seed;
  }
}

TEST(ScheduledStoreNoAsanTest, CompareAndSetLosesNoUpdate) {
  constexpr int kThreads = 3;
  constexpr int kRaises = 3;
  on_schedules([&](Store& store, std::uint64_t) {
    const auto raise = [&] {
      for (;;) {
        const auto found = ok(store.get("counter"));
        const auto value = found ? std::stoi(std::string(found->value())) : 0;
        const auto version = found ? std::optional(found->version()) : std::nullopt;
        if (ok(store.compare_and_set("counter", version, std::to_string(value + 1)))) {
          return;
        }
      }
    };
    {
      std::vector<std::jthread> threads;
      for (int thread = 0; thread < kThreads; ++thread) {
        threads.emplace_back([&] {
          for (int i = 0; i < kRaises; ++i) {
            raise();
          }
        });
      }
    }
    EXPECT_EQ(ok(store.get("counter"))->value(), std::to_string(kThreads * kRaises));
  });
}

TEST(ScheduledStoreNoAsanTest, ABatchIsSeenWhole) {
  constexpr int kBatches = 4;
  on_schedules([&](Store& store, std::uint64_t) {
    const std::jthread writer([&] {
      for (int i = 1; i <= kBatches; ++i) {
        Batch batch;
        batch.put("a", std::to_string(i));
        batch.put("b", std::to_string(i));
        EXPECT_TRUE(store.write(batch));
      }
    });
    for (int seen = 0; seen < kBatches;) {
      const auto view = ok(store.view());
      const auto a = view.get("a");
      const auto b = view.get("b");
      ASSERT_EQ(a.has_value(), b.has_value());
      if (a) {
        ASSERT_EQ(a->value, b->value);
        ASSERT_LE(seen, std::stoi(std::string(a->value)));
        seen = std::stoi(std::string(a->value));
      }
      ASSERT_EQ(view.sequence(), 2 * static_cast<Sequence>(seen));
      std::this_thread::sleep_for(std::chrono::microseconds(1));
    }
  });
}

// Segments and snapshots come and go meanwhile.
TEST(ScheduledStoreNoAsanTest, WritersAndCheckpointsTogether) {
  constexpr int kThreads = 2;
  on_schedules([&](Store& store, std::uint64_t seed) {
    std::map<std::string, std::string> written[kThreads];
    {
      std::vector<std::jthread> threads;
      for (int thread = 0; thread < kThreads; ++thread) {
        threads.emplace_back([&, thread] {
          for (int i = 0; i < 12; ++i) {
            const auto key = std::to_string(thread) + "/" + std::to_string(i % 4);
            if (i % 5 == 4) {
              EXPECT_TRUE(store.remove(key));
              written[thread].erase(key);
            } else {
              const std::string value(4000, static_cast<char>('a' + i));
              EXPECT_TRUE(store.put(key, value));
              written[thread][key] = value;
            }
          }
        });
      }
      threads.emplace_back([&] {
        for (int i = 0; i < 2; ++i) {
          const auto done = (seed + static_cast<std::uint64_t>(i)) % 3 == 0 ? store.compact()
                                                                            : store.checkpoint();
          EXPECT_TRUE(done) << done.error().message;
        }
      });
    }
    auto all = written[0];
    all.merge(written[1]);
    EXPECT_EQ(contents_of(store), all);
  });
}

}  // namespace
}  // namespace nori::crash_tests
