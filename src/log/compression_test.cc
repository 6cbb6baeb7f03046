// Goal: a compressed value comes back as it was, and what compression does not shrink, or was told
// to leave alone, is stored as it is.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "nori/verify.h"
#include "nori/wal.h"
#include "testing/random.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

class CompressedLogTest : public ::testing::TestWithParam<Compression> {
 protected:
  CompressedLogTest() {
    options_.file_system = &disk_;
    options_.fsync = FsyncPolicy::os();
    options_.segment_bytes = options_.ring_bytes = kMiB;
    options_.compression = GetParam();
  }

  Wal& open() {
    wal_.reset();
    auto opened = Wal::open(options_);
    if (!opened) {
      throw std::runtime_error(opened.error().message);
    }
    wal_.emplace(std::move(opened->wal));
    return *wal_;
  }

  // Bytes that an append took.
  template <typename What>
  std::uint64_t append(const What& what) {
    const auto appended = wal_->append(what);
    EXPECT_TRUE(appended) << appended.error().message;
    return appended->end.offset - appended->position.offset;
  }

  std::vector<OwnedEntry> read() {
    std::vector<OwnedEntry> entries;
    auto reader = wal_->read_from(begin_of_log);
    EXPECT_TRUE(reader) << reader.error().message;
    for (const auto& entry : *reader) {
      EXPECT_TRUE(entry) << entry.error().message;
      entries.push_back(entry->copy());
    }
    return entries;
  }

  static std::string noise(std::size_t bytes) {
    testing::Random random(bytes);
    std::string text;
    while (text.size() < bytes) {
      text.push_back(static_cast<char>(random.next()));
    }
    return text;
  }

  testing::SimulatedDisk disk_{1};
  WalOptions options_ = testing::small_options();
  std::optional<Wal> wal_;
};

TEST_P(CompressedLogTest, ValuesComeBackFromRingAndSegmentAndAfterAKill) {
  const std::string large(100'000, 'v');
  const auto plain = noise(5000);
  open();
  EXPECT_LT(append(Record::put("large", large)), 5000);
  EXPECT_GT(append(Record::put("noise", plain)), 5000);
  append(Record::put("expiring", large, TimePoint{std::chrono::milliseconds{77}}));
  append(Record::remove("large"));
  const auto check = [&] {
    const auto entries = read();
    ASSERT_EQ(entries.size(), 4);
    EXPECT_TRUE(entries[0].value == large);
    EXPECT_TRUE(entries[1].value == plain);
    EXPECT_TRUE(entries[2].value == large);
    EXPECT_EQ(entries[2].expires_at, TimePoint{std::chrono::milliseconds{77}});
    EXPECT_EQ(entries[3].op, Operation::remove);
  };
  check();
  ASSERT_TRUE(wal_->sync());
  check();
  disk_.crash_process();
  open();
  check();
  ASSERT_TRUE(wal_->close());
  const auto report = verify("log", &disk_);
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->damages.empty());
  EXPECT_EQ(report->records, 4);
  options_.compression = Compression::none;  // a log of another time
  open();
  check();
}

TEST_P(CompressedLogTest, SmallValuesAreLeftAlone) {
  options_.compress_from_bytes = 1000;
  open();
  EXPECT_GT(append(Record::put("key", std::string(999, 'v'))), 999);
  EXPECT_LT(append(Record::put("key", std::string(1000, 'v'))), 200);
  Batch batch;
  for (int i = 0; i < 3; ++i) {
    batch.put("key", std::string(999, 'v'));
  }
  EXPECT_GT(append(batch), 3 * 999);
}

// A tombstone has no value: what it asks for its value changes nothing.
TEST_P(CompressedLogTest, ATombstoneIsOneWhateverItAsksFor) {
  open();
  auto record = Record::remove("key");
  record.compression = GetParam();
  Batch batch;
  batch.add(record);
  batch.put("other", std::string(1000, 'v'));
  append(batch);
  append(record);
  const auto entries = read();
  ASSERT_EQ(entries.size(), 3);
  EXPECT_EQ(entries[0].op, Operation::remove);
  EXPECT_EQ(entries[0].key, "key");
  EXPECT_EQ(entries[2].op, Operation::remove);
}

TEST_P(CompressedLogTest, ARecordMayDecideForItself) {
  open();
  const std::string value(100, 'v');
  auto record = Record::put("key", value);
  record.compression = GetParam();
  EXPECT_LT(append(record), 100) << "below the threshold";
  const std::string large(10'000, 'v');
  record = Record::put("key", large);
  record.compression = Compression::none;
  EXPECT_GT(append(record), 10'000);
  options_.compression = Compression::none;
  open();
  record.compression = GetParam();
  EXPECT_LT(append(record), 1000);
  EXPECT_GT(append(Record::put("key", large)), 10'000);
  const auto entries = read();
  ASSERT_EQ(entries.size(), 4);
  EXPECT_EQ(entries[0].value, value);
  for (std::size_t i = 1; i < 4; ++i) {
    EXPECT_TRUE(entries[i].value == large);
  }
}

TEST_P(CompressedLogTest, ABatchIsCompressedRecordByRecord) {
  const std::string large(10'000, 'v');
  const auto plain = noise(1000);
  auto kept = Record::put("kept", large);
  kept.compression = Compression::none;
  auto chosen = Record::put("chosen", std::string_view(large).substr(0, 100));
  chosen.compression = GetParam();
  Batch batch;
  for (int round = 0; round < 2; ++round) {
    batch.clear();
    batch.put("large", large);
    batch.add(kept);
    batch.add(chosen);
    batch.put("noise", plain);
    batch.put("small", "v");
    batch.remove("large");
    open();
    const auto bytes = append(batch);
    EXPECT_GT(bytes, 11'000);
    EXPECT_LT(bytes, 12'500);
    const auto entries = read();
    ASSERT_EQ(entries.size(), 6 * (round + 1));
    const auto* const first = &entries[entries.size() - 6];
    EXPECT_TRUE(first[0].value == large);
    EXPECT_TRUE(first[1].value == large);
    EXPECT_EQ(first[2].value, std::string(100, 'v'));
    EXPECT_TRUE(first[3].value == plain);
    EXPECT_EQ(first[4].value, "v");
    EXPECT_EQ(first[5].op, Operation::remove);
    EXPECT_TRUE(first[5].ends_batch);
  }
}

TEST_P(CompressedLogTest, ThreadsCompressOnTheirOwn) {
  open();
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 200; ++i) {
        const auto value =
            std::string(300 + static_cast<std::size_t>(i), static_cast<char>('a' + thread));
        EXPECT_TRUE(wal_->append(Record::put(std::string(1, value[0]), value)));
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  const auto entries = read();
  EXPECT_EQ(entries.size(), 800);
  for (const auto& entry : entries) {
    EXPECT_EQ(entry.value, std::string(entry.value.size(), entry.key[0]));
  }
}

INSTANTIATE_TEST_SUITE_P(Both, CompressedLogTest,
                         ::testing::Values(Compression::lz4, Compression::zstd),
                         [](const auto& test) {
                           return test.param == Compression::lz4 ? "Lz4" : "Zstd";
                         });

}  // namespace
}  // namespace nori
