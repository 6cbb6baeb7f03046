// A minute at an even rate, while segments begin and old ones are deleted.

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "bench/expect.h"
#include "bench/files.h"
#include "bench/rows.h"
#include "bench/stopwatch.h"
#include "bench/workload.h"
#include "nori/wal.h"

namespace nori::bench {
namespace {

constexpr std::uint64_t kSegmentBytes = 128 * kMiB;
constexpr std::uint64_t kSegmentsKept = 4;
constexpr std::uint64_t kStepBytes = 16 * kMiB;
constexpr std::size_t kLargeValueBytes = 16 * 1024;

/// Calls `write()`, of so many bytes each, at even times for `seconds`. Who comes late catches up.
template <typename Write>
Measurement paced(const Setting& setting, std::uint64_t bytes_each, Write&& write) {
  const auto pause = as_duration(static_cast<double>(bytes_each) / 1e6 / setting.minute_mb_per_s);
  const auto tenth = std::chrono::milliseconds(100);
  Measurement measured;
  std::uint64_t bytes = 0;
  std::uint64_t bytes_before = 0;
  const Stopwatch watch;
  const auto begun = Clock::now();
  const auto end = begun + as_duration(setting.minute_seconds);
  auto next_tenth = begun + tenth;
  for (auto due = begun; due < end; due += pause) {
    measured.latencies_ns.push_back(static_cast<std::uint64_t>(time_at(due, write).count()));
    const auto done = Clock::now();
    bytes += bytes_each;
    for (; done >= next_tenth; next_tenth += tenth) {
      measured.over_time.push_back(static_cast<double>(bytes - bytes_before) / 1e6 * 10);
      bytes_before = bytes;
    }
    if (done >= end) {
      break;
    }
  }
  const Elapsed elapsed = watch.elapsed();
  measured.values["mb_per_s"] = static_cast<double>(bytes) / elapsed.seconds / 1e6;
  measured.values["cpu_s_per_gb"] = elapsed.cpu_seconds / static_cast<double>(bytes) * 1e9;
  return measured;
}

/// Calls `work()` every 50 ms from another thread, until it goes.
template <typename Work>
std::jthread every_50_ms(Work work) {
  return std::jthread([work = std::move(work)](const std::stop_token& stop) mutable {
    while (!stop.stop_requested()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      work();
    }
  });
}

Measurement nori_round(const Setting& setting, const Workload& workload, std::uint64_t ring_bytes) {
  const Scratch scratch(setting.directory, "minute");
  WalOptions options;
  options.directory = scratch.path();
  options.fsync = FsyncPolicy::os();
  options.segment_bytes = kSegmentBytes;
  options.ring_bytes = ring_bytes;
  Wal wal = expect(Wal::open(options)).wal;
  const std::uint64_t records_kept = kSegmentsKept * kSegmentBytes / workload.record_bytes();
  const auto deleter = every_50_ms([&] {
    const Sequence end = wal.current_position().sequence;
    if (end > records_kept) {
      expect(wal.delete_segments_before({.sequence = end - records_kept}));
    }
  });
  std::uint64_t appends = 0;
  Measurement measured = paced(setting, workload.record_bytes(), [&] {
    const BenchRecord& record = workload.record(appends++);
    expect(wal.append(Record::put(record.key, record.value)));
  });
  measured.note = fmt::format("{} segments begun", wal.stats().rotations);
  return measured;
}

/// Files of the same size, made, synced and removed in the same way.
Measurement raw_round(const Setting& setting) {
  const Scratch scratch(setting.directory, "minute-raw");
  const AlignedBytes piece(kMiB);
  const auto path_of = [&](std::uint64_t id) { return scratch.path() / fmt::format("{:06}", id); };
  std::atomic<std::uint64_t> id{0};
  std::uint64_t removed = 0;
  const auto deleter = every_50_ms([&] {
    for (; removed + kSegmentsKept < id.load(); ++removed) {
      std::filesystem::remove(path_of(removed));
    }
  });
  std::optional<File> file;
  std::uint64_t offset = kSegmentBytes;
  Measurement measured = paced(setting, kMiB, [&] {
    if (offset == kSegmentBytes) {
      if (file) {
        file->sync_data();
      }
      file.reset();
      file.emplace(path_of(id.fetch_add(1)), O_RDWR | O_CREAT | O_DIRECT);
      offset = 0;
    }
    if (offset % kStepBytes == 0) {
      file->allocate(offset + kStepBytes);
    }
    file->write_at(piece.view(), offset);
    offset += kMiB;
  });
  measured.note = fmt::format("{} files begun", id.load());
  return measured;
}

}  // namespace

Row append_minute_row(const Setting& setting) {
  const auto workload = std::make_shared<const Workload>(kLargeValueBytes);
  const auto with = [&](const char* name, const char* what, std::uint64_t ring_bytes) {
    return Subject{.name = name, .what = what, .ours = true, .compared_by = "", .run_round = [=] {
                     return nori_round(setting, *workload, ring_bytes);
                   }};
  };
  return {
      .name = "append-minute",
      .what = fmt::format(
          "Records of 16 KiB at {} MB/s for {} s; segments of 128 MiB, of which a thread beside it "
          "deletes all but the last {}. Latency: of an append, and of a raw write of 1 MiB.",
          setting.minute_mb_per_s, setting.minute_seconds, kSegmentsKept),
      .rounds = 1,
      .subjects = {with("nori", "Wal::append; policy `os`", WalOptions{}.ring_bytes),
                   with("nori-64m", "with a ring of 64 MiB", 64 * kMiB),
                   {.name = "direct-1m",
                    .what = "direct writes of 1 MiB into files that are allocated in steps of 16 "
                            "MiB, synced at their end and removed",
                    .compared_by = "max_us",
                    .run_round = [=] { return raw_round(setting); }}}};
}

}  // namespace nori::bench
