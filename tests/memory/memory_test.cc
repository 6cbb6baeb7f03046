// Memory: what happens when there is none, and that a log takes no more of it the longer it runs.
// Counts, and refuses, what this process asks of operator new.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "nori/wal.h"
#include "testing/reference_model.h"
#include "testing/simulated_disk.h"

namespace {

constexpr std::uint64_t kNever = ~std::uint64_t{0};
// Of this thread: how many allocations succeed until they fail.
thread_local std::uint64_t allocations_left = kNever;
// Of all threads.
std::atomic<std::int64_t> bytes_in_use{0};

constexpr std::size_t kHeaderBytes = 16;

void* allocate(std::size_t bytes) {
  if (allocations_left == 0) {
    throw std::bad_alloc();
  }
  if (allocations_left != kNever) {
    --allocations_left;
  }
  auto* const memory = static_cast<std::size_t*>(std::malloc(bytes + kHeaderBytes));
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  *memory = bytes;
  bytes_in_use += static_cast<std::int64_t>(bytes);
  return reinterpret_cast<char*>(memory) + kHeaderBytes;
}

void release(void* pointer) noexcept {
  if (pointer == nullptr) {
    return;
  }
  auto* const memory = reinterpret_cast<std::size_t*>(static_cast<char*>(pointer) - kHeaderBytes);
  bytes_in_use -= static_cast<std::int64_t>(*memory);
  std::free(memory);
}

}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes); }
void operator delete(void* pointer) noexcept { release(pointer); }
void operator delete(void* pointer, std::size_t) noexcept { release(pointer); }

namespace nori::testing {
namespace {

WalOptions options_on(SimulatedDisk& disk) {
  WalOptions options;
  options.directory = "log";
  options.file_system = &disk;
  options.segment_bytes = 256 * kKiB;
  options.ring_bytes = 64 * kKiB;
  options.background_thread = false;
  return options;
}

// A directory of a real filesystem: the simulated disk would run out of memory itself.
class MemoryTest : public ::testing::Test {
 public:
  ~MemoryTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }

 protected:
  MemoryTest()
      : directory_(std::filesystem::current_path() / fmt::format("memory-{}", ::getpid())) {
    std::filesystem::remove_all(directory_);
  }

  WalOptions options() {
    SimulatedDisk unused;
    auto options = options_on(unused);
    options.directory = directory_;
    options.file_system = nullptr;
    return options;
  }

  // Files as they are on the simulated disk.
  void fill(const SimulatedDisk& disk) {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
    const auto names = disk.list_files("log").value();
    for (const auto& name : names) {
      const auto bytes = disk.read_file("log/" + name).value();
      std::ofstream(directory_ / name, std::ios::binary)
          .write(reinterpret_cast<const char*>(bytes.data()),
                 static_cast<std::streamsize>(bytes.size()));
    }
  }

  std::filesystem::path directory_;
};

// Goal: an opening that runs out of memory leaves the log as it was, and is whole the next time.
// Method: a killed log of several segments, so that there is something to do; the Nth allocation
// fails, for every N until none does.
TEST_F(MemoryTest, AnOpeningWithoutMemoryLosesNothingAndLeaksNothing) {
  SimulatedDisk killed(7);
  {
    auto opened = Wal::open(options_on(killed));
    ASSERT_TRUE(opened) << opened.error().message;
    for (int i = 0; i < 700; ++i) {
      ASSERT_TRUE(opened->wal.append(Record::put("key", std::string(1000, 'v'))));
    }
    ASSERT_TRUE(opened->wal.sync());
    ASSERT_TRUE(opened->wal.append(Record::put("key", "not durable")));
    killed.crash_process();
  }
  std::uint64_t failures = 0;
  for (;; ++failures) {
    fill(killed);
    const auto open_options = options();
    const auto bytes_before = bytes_in_use.load();
    bool out_of_memory = false;
    try {
      allocations_left = failures;
      const auto opened = Wal::open(open_options);
      allocations_left = kNever;
      ASSERT_TRUE(opened) << opened.error().message;
    } catch (const std::bad_alloc&) {
      allocations_left = kNever;
      out_of_memory = true;
    }
    if (!out_of_memory) {
      break;
    }
    ASSERT_EQ(bytes_in_use.load(), bytes_before) << "allocation " << failures;
    auto opened = Wal::open(open_options);
    ASSERT_TRUE(opened) << "allocation " << failures << ": " << opened.error().message;
    const auto contents = read_all(opened->wal);
    ASSERT_TRUE(contents) << contents.error().message;
    ASSERT_EQ(contents->entries.size(), 701U) << failures;
    EXPECT_EQ(contents->entries.back().value, "not durable");
  }
  EXPECT_GT(failures, 20U);
}

// The same for the first append of an opening, which writes an opening frame and a ring, and its
// commit.
TEST_F(MemoryTest, AnAppendWithoutMemoryIsThereInFullOrNotAtAll) {
  bool out_of_memory = true;
  for (std::uint64_t n = 0; out_of_memory; ++n) {
    std::filesystem::remove_all(directory_);
    out_of_memory = false;
    bool goes_on = false;
    {
      auto opened = Wal::open(options());
      ASSERT_TRUE(opened) << opened.error().message;
      try {
        allocations_left = n;
        const auto appended = opened->wal.append(Record::put("key", "one"), Durability::durable);
        allocations_left = kNever;
        ASSERT_TRUE(appended) << appended.error().message;
      } catch (const std::bad_alloc&) {
        allocations_left = kNever;
        out_of_memory = true;
      }
      const auto next = opened->wal.append(Record::put("key", "two"), Durability::durable);
      goes_on = next.has_value();
      EXPECT_EQ(goes_on, !opened->wal.stats().failure) << n;
    }
    auto opened = Wal::open(options());
    ASSERT_TRUE(opened) << n << ": " << opened.error().message;
    const auto contents = read_all(opened->wal);
    ASSERT_TRUE(contents) << n << ": " << contents.error().message;
    if (goes_on) {
      ASSERT_FALSE(contents->entries.empty()) << n;
      EXPECT_EQ(contents->entries.back().value, "two") << n;
    }
    if (!out_of_memory) {
      EXPECT_EQ(contents->entries.size(), 2U);
      EXPECT_GT(n, 5U);
    }
  }
}

TEST_F(MemoryTest, AClosingWithoutMemoryLosesNothingAndReleasesTheLog) {
  bool out_of_memory = true;
  for (std::uint64_t n = 0; out_of_memory; ++n) {
    std::filesystem::remove_all(directory_);
    out_of_memory = false;
    auto closing = Wal::open(options());
    ASSERT_TRUE(closing) << closing.error().message;
    ASSERT_TRUE(closing->wal.append(Record::put("key", "durable"), Durability::durable));
    ASSERT_TRUE(closing->wal.append(Record::put("key", "appended")));
    try {
      allocations_left = n;
      const auto closed = closing->wal.close();
      allocations_left = kNever;
      ASSERT_TRUE(closed) << closed.error().message;
    } catch (const std::bad_alloc&) {
      allocations_left = kNever;
      out_of_memory = true;
    }
    auto opened = Wal::open(options());
    ASSERT_TRUE(opened) << n << ": " << opened.error().message;
    const auto contents = read_all(opened->wal);
    ASSERT_TRUE(contents) << n << ": " << contents.error().message;
    EXPECT_EQ(contents->entries.size(), 2U) << n;
  }
}

// Goal: a slow disk makes appenders wait, and takes no memory.
// Method: two threads append a hundred rings full to a disk that takes its time; what is in use is
// looked at all the while, without the disk's own copy of the files: it keeps them in memory too,
// so what was written is subtracted.
TEST(MemoryThreadsTest, ASlowDiskMakesAppendersWaitAndMemoryDoesNotGrow) {
  SimulatedDisk disk(7);
  disk.set_latency([](Operation operation) {
    return std::chrono::microseconds(operation == Operation::write ? 300 : 0);
  });
  auto options = options_on(disk);
  options.segment_bytes = 64 * kMiB;
  options.background_thread = true;
  auto opened = Wal::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  auto& wal = opened->wal;
  ASSERT_TRUE(wal.append(Record::put("key", "first")));

  constexpr int kRecords = 3000;
  std::atomic<int> running = 2;
  std::vector<std::thread> appenders;
  for (int thread = 0; thread < 2; ++thread) {
    appenders.emplace_back([&] {
      const std::string value(1000, 'v');
      for (int i = 0; i < kRecords; ++i) {
        EXPECT_TRUE(wal.append(Record::put("key", value)));
      }
      --running;
    });
  }
  std::int64_t bytes_max = 0;
  const auto bytes_before = bytes_in_use.load();
  while (running != 0) {
    const auto stats = wal.stats();
    EXPECT_LE(stats.ring_bytes_used, options.ring_bytes);
    const auto on_disk = static_cast<std::int64_t>(stats.bytes_on_disk);
    bytes_max = std::max(bytes_max, bytes_in_use.load() - bytes_before - on_disk);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  for (auto& appender : appenders) {
    appender.join();
  }
  EXPECT_GT(wal.stats().ring_waits, 10U);
  // A few buffers, of the 6 MB that went through.
  EXPECT_LT(bytes_max, 1 << 20);
}

// Goal: an append allocates nothing once the log runs, and a reader nothing by record.
TEST_F(MemoryTest, AppendingAndReadingAllocateNothingByRecord) {
  auto log_options = options();
  log_options.ring_bytes = 4 * kMiB;
  log_options.segment_bytes = 64 * kMiB;
  auto opened = Wal::open(log_options);
  ASSERT_TRUE(opened) << opened.error().message;
  auto& wal = opened->wal;
  const std::string value(100, 'v');
  ASSERT_TRUE(wal.append(Record::put("key", value)));
  allocations_left = 4;  // the index of the segment grows now and then
  for (int i = 0; i < 10'000; ++i) {
    const auto appended = wal.append(Record::put("key", value));
    if (!appended) {
      allocations_left = kNever;
      FAIL() << appended.error().message;
    }
  }
  allocations_left = kNever;
  auto reader = wal.read_from(begin_of_log);
  ASSERT_TRUE(reader);
  ASSERT_TRUE(reader->next());
  allocations_left = 400;  // some for each chunk read
  std::uint64_t records = 1;
  for (;;) {
    const auto next = reader->next();
    if (!next || !*next) {
      break;
    }
    ++records;
  }
  allocations_left = kNever;
  EXPECT_EQ(records, 10'001U);
}

}  // namespace
}  // namespace nori::testing
