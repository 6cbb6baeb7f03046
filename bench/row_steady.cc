// What a log does beside appending as fast as it can: a trickle, a reader that follows, many logs
// in one process.

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bench/expect.h"
#include "bench/files.h"
#include "bench/process.h"
#include "bench/rows.h"
#include "bench/stopwatch.h"
#include "bench/workload.h"
#include "nori/wal.h"

namespace nori::bench {
namespace {

WalOptions options_in(const Scratch& scratch, FsyncPolicy fsync) {
  WalOptions options;
  options.directory = scratch.path();
  options.fsync = fsync;
  return options;
}

Wal open_log(const WalOptions& options, const Workload& workload) {
  Wal wal = expect(Wal::open(options)).wal;
  const BenchRecord& record = workload.record(0);
  expect(wal.append(Record::put(record.key, record.value)));
  expect(wal.sync());
  return wal;
}

/// Calls `append(i)` at even times, so often a second, for some seconds; returns how long each
/// took.
template <typename Append>
std::vector<std::uint64_t> paced(double per_second, double seconds, Append&& append) {
  const auto count = static_cast<std::uint64_t>(per_second * seconds) + 1;
  const auto pause = as_duration(1 / per_second);
  std::vector<std::uint64_t> latencies_ns;
  latencies_ns.reserve(count);
  auto due = Clock::now();
  for (std::uint64_t i = 0; i < count; ++i, due += pause) {
    latencies_ns.push_back(static_cast<std::uint64_t>(time_at(due, [&] { append(i); }).count()));
  }
  return latencies_ns;
}

Measurement trickle_round(const Setting& setting, FsyncPolicy fsync, const Workload& workload) {
  constexpr double kPerSecond = 100;
  const double seconds = std::max(setting.seconds, 0.5) * 2;
  const Scratch scratch(setting.directory, "trickle");
  Wal wal = open_log(options_in(scratch, fsync), workload);
  const double slept = sleeps();
  const double written = device_bytes();
  const Stopwatch watch;
  Measurement measured;
  measured.latencies_ns = paced(kPerSecond, seconds, [&](std::uint64_t i) {
    const BenchRecord& record = workload.record(i);
    expect(wal.append(Record::put(record.key, record.value)));
  });
  const Elapsed elapsed = watch.elapsed();
  const auto records = static_cast<double>(measured.latencies_ns.size());
  measured.values["cpu_ms_per_s"] = elapsed.cpu_seconds * 1e3 / elapsed.seconds;
  // The appender's own sleep between two records is not the log's.
  measured.values["sleeps_per_record"] = (sleeps() - slept) / records - 1;
  measured.values["device_bytes_per_record"] = (device_bytes() - written) / records;
  const WalStats stats = wal.stats();
  measured.values["log_bytes_per_record"] =
      static_cast<double>(stats.bytes_appended + stats.bytes_padding) /
      static_cast<double>(stats.records_appended);
  return measured;
}

/// Appends at an even rate; `is_followed`: while a reader in this process follows.
Measurement follow_round(const Setting& setting, const Workload& workload, bool is_followed) {
  constexpr double kPerSecond = 200'000;
  const Scratch scratch(setting.directory, "follow");
  WalOptions options = options_in(scratch, FsyncPolicy::os());
  options.segment_bytes = 8 * kMiB;
  Wal wal = open_log(options, workload);

  std::atomic<bool> done{false};
  std::uint64_t followed = 0;
  std::jthread follower;
  if (is_followed) {
    follower = std::jthread([&] {
      Reader reader = expect(wal.read_from(Begin{}));
      while (!done.load(std::memory_order_relaxed)) {
        if (expect(reader.follow(std::chrono::milliseconds(10)))) {
          followed += expect(reader.next()) ? 1 : 0;
        }
      }
    });
  }
  Measurement measured;
  measured.latencies_ns = paced(kPerSecond, setting.seconds, [&](std::uint64_t i) {
    const BenchRecord& record = workload.record(i);
    expect(wal.append(Record::put(record.key, record.value)));
  });
  done.store(true);
  if (is_followed) {
    follower.join();
    measured.values["records_followed"] =
        static_cast<double>(followed) / static_cast<double>(measured.latencies_ns.size() + 1);
  }
  measured.note = fmt::format("{} segments begun", wal.stats().rotations);
  return measured;
}

/// Many logs that each get a record every now and then, flushed by `threads`; nullptr: by one each.
Measurement many_logs_round(const Setting& setting, const Workload& workload,
                            const std::shared_ptr<BackgroundThreads>& threads) {
  const Scratch scratch(setting.directory, "many");
  const double resident = resident_bytes();
  std::vector<Wal> logs;
  logs.reserve(setting.many_logs);
  const Stopwatch opening;
  for (std::uint64_t i = 0; i < setting.many_logs; ++i) {
    WalOptions options = options_in(scratch, FsyncPolicy::batch(std::chrono::milliseconds(50)));
    options.directory /= fmt::format("{:04}", i);
    options.ring_bytes = 64 * kKiB;
    options.segment_bytes = kMiB;
    options.background = threads;
    logs.push_back(expect(Wal::open(options)).wal);
  }
  Measurement measured;
  measured.values["open_ms"] = opening.elapsed().seconds * 1e3;
  const auto append = [&](std::uint64_t i) {
    const BenchRecord& record = workload.record(i);
    expect(logs[i % logs.size()].append(Record::put(record.key, record.value)));
    return true;
  };
  for (std::uint64_t i = 0; i < logs.size(); ++i) {
    append(i);
  }
  const Stopwatch watch;
  const std::uint64_t records = repeat_for(setting.seconds, 16, append);
  const Elapsed elapsed = watch.elapsed();
  measured.values["records_per_s"] = static_cast<double>(records) / elapsed.seconds;
  measured.values["cpu_s_per_million"] = elapsed.cpu_seconds / static_cast<double>(records) * 1e6;
  measured.values["threads"] = proc_number("/proc/self/status", "Threads:");
  measured.values["resident_mb"] = (resident_bytes() - resident) / 1e6;
  logs.clear();
  malloc_trim(0);  // so that the next round does not begin with this one's memory
  return measured;
}

}  // namespace

Row trickle_row(const Setting& setting) {
  const auto workload = std::make_shared<const Workload>(100);
  const auto with = [&](const char* name, const char* what, FsyncPolicy fsync) {
    return Subject{.name = name, .what = what, .ours = true, .compared_by = "", .run_round = [=] {
                     return trickle_round(setting, fsync, *workload);
                   }};
  };
  return {
      .name = "trickle",
      .what =
          "100 records of 100 bytes a second; one thread. `wakeups`: of all threads, without "
          "the appender's own pauses.",
      .rounds = setting.rounds,
      .subjects = {
          with("nori-always", "policy always", FsyncPolicy::always()),
          with("nori-batch", "policy batch{5ms}", FsyncPolicy::batch(std::chrono::milliseconds(5))),
          with("nori-batch-1s", "policy batch{1s}", FsyncPolicy::batch(std::chrono::seconds(1))),
          with("nori-os", "policy os", FsyncPolicy::os())}};
}

Row append_follow_row(const Setting& setting) {
  const auto workload = std::make_shared<const Workload>(100);
  const auto with = [&](const char* name, const char* what, bool is_followed) {
    return Subject{.name = name,
                   .what = what,
                   .ours = is_followed,
                   .compared_by = is_followed ? "" : "p50_us",
                   .run_round = [=] { return follow_round(setting, *workload, is_followed); }};
  };
  return {.name = "append-follow",
          .what =
              "200,000 records of 100 bytes a second; one thread; segments of 8 MiB. `followed`: "
              "what the reader had seen when the last append returned.",
          .rounds = setting.rounds,
          .subjects = {with("nori-followed", "a reader in the same process follows", true),
                       with("nori-alone", "nobody reads", false)}};
}

Row many_logs_row(const Setting& setting) {
  const auto workload = std::make_shared<const Workload>(100);
  const auto with = [&](const char* name, const char* what, bool ours, unsigned threads) {
    return Subject{.name = name,
                   .what = what,
                   .ours = ours,
                   .compared_by = ours ? "" : "records_per_s",
                   .run_round = [=] {
                     return many_logs_round(
                         setting, *workload,
                         threads == 0 ? nullptr : std::make_shared<BackgroundThreads>(threads));
                   }};
  };
  return {.name = "many-logs",
          .what = fmt::format("{} logs open in one process, appended to in turn; policy "
                              "batch{{50ms}}, rings of 64 KiB. `ms`: opening all of them.",
                              setting.many_logs),
          .rounds = setting.rounds,
          .subjects = {with("nori-shared", "two threads flush them all", true, 2),
                       with("nori-own", "each log has a thread of its own", false, 0)}};
}

}  // namespace nori::bench
