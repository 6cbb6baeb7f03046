// A log as a list of lines, "sequence key=value", for tests of compaction.

#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "log/compaction.h"
#include "log/log_listing.h"
#include "nori/compaction.h"
#include "nori/verify.h"
#include "nori/wal.h"
#include "segment/segment_reader.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"

namespace nori::gc_tests {

using testing::SimulatedDisk;
using Lines = std::vector<std::string>;

// Values are filled up, so that a record that goes makes a file smaller.
inline std::string filled(std::string_view value) { return fmt::format("{:.<3000}", value); }

inline std::string line_of(const Entry& entry) {
  return entry.op == Operation::put ? fmt::format("{} {}={}", entry.sequence, entry.key,
                                                  entry.value.substr(0, entry.value.find('.')))
                                    : fmt::format("{} {}=(deleted)", entry.sequence, entry.key);
}

// All records of a log, or what reading it said.
inline Lines lines_of(const Wal& wal, const ReadFrom& from = begin_of_log) {
  Lines lines;
  auto reader = wal.read_from(from);
  if (!reader) {
    return {reader.error().message};
  }
  for (const auto& entry : *reader) {
    lines.push_back(entry ? line_of(*entry) : entry.error().message);
  }
  return lines;
}

// What the records make of a map.
inline std::map<std::string, std::string> state_of(const Wal& wal) {
  std::map<std::string, std::string> state;
  auto reader = wal.read_from(begin_of_log);
  EXPECT_TRUE(reader);
  for (const auto& entry : *reader) {
    EXPECT_TRUE(entry) << entry.error().message;
    if (!entry) {
      break;
    }
    if (entry->op == Operation::put) {
      state[std::string(entry->key)] = entry->value;
    } else {
      state.erase(std::string(entry->key));
    }
  }
  return state;
}

class CompactionTest : public ::testing::Test {
 protected:
  CompactionTest() { options_.file_system = &disk_; }

  Wal& open() {
    wal_.reset();
    auto opened = Wal::open(options_);
    if (!opened) {
      throw std::runtime_error(opened.error().message);
    }
    wal_.emplace(std::move(opened->wal));
    return *wal_;
  }

  // A segment: "k1=v1 k2=v2 -k3".
  void segment(std::initializer_list<std::string_view> records) {
    for (const auto record : records) {
      const auto equals = record.find('=');
      const auto appended = record.starts_with('-')
                                ? wal_->append(Record::remove(record.substr(1)))
                                : wal_->append(Record::put(record.substr(0, equals),
                                                           filled(record.substr(equals + 1))));
      ASSERT_TRUE(appended) << appended.error().message;
    }
    ASSERT_TRUE(wal_->rotate());
  }

  CompactionReport compact(const CompactionOptions& options = {}) {
    const auto report = wal_->compact(options);
    EXPECT_TRUE(report) << report.error().message;
    return report.value_or(CompactionReport{});
  }

  void expect_sound() {
    const auto report = verify("log", &disk_);
    ASSERT_TRUE(report) << report.error().message;
    for (const auto& damage : report->damages) {
      ADD_FAILURE() << damage.segment_id << ":" << damage.offset << ": " << damage.reason;
    }
  }

  [[nodiscard]] std::vector<std::string> files() {
    auto names = *disk_.list_files("log");
    std::erase_if(names, [](const std::string& name) { return !name.ends_with(".wal"); });
    return names;
  }

  SimulatedDisk disk_{1};
  WalOptions options_ = testing::small_options();
  std::optional<Wal> wal_;
};

// What a log gives its compaction, with a step of the test's own.
inline Result<CompactionReport> compact_with(SimulatedDisk& disk, std::uint64_t active,
                                             const CompactionStep& step,
                                             const std::function<CompactionLimits()>& limits,
                                             std::uint64_t target_bytes = 64 * kKiB) {
  const auto directory = *disk.open_directory("log", false);
  const auto log_id =
      (*SegmentReader::open(*directory, list_log(*directory)->segments.front()))->header()->log_id;
  std::mutex delete_mutex;
  const CompactionContext context{.directory = *directory,
                                  .log_id = log_id,
                                  .mode = {.access = io::Access::write_direct, .block_bytes = 4096},
                                  .delete_mutex = delete_mutex,
                                  .active_segment_id = [&] { return active; },
                                  .limits = [&]() -> Result<CompactionLimits> { return limits(); },
                                  .step = step,
                                  .seed = 1,
                                  .target_bytes = target_bytes};
  return compact_segments(context, {});
}

inline CompactionLimits no_limits() { return {}; }
inline Result<void> go_on(std::uint64_t /*bytes*/) { return {}; }

}  // namespace nori::gc_tests
