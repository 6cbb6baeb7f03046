// This log against itself: more threads, a batch window, compressed values.

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <memory>
#include <string>
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

/// Appends for a time from some threads. Their shares say how evenly they got on.
Measurement appending_round(const Setting& setting, WalOptions options, const Workload& workload,
                            std::size_t threads) {
  const Scratch scratch(setting.directory, "nori");
  options.directory = scratch.path();
  Wal wal = expect(Wal::open(options)).wal;
  const auto append = [&](std::uint64_t i) {
    const BenchRecord& record = workload.record(i);
    expect(wal.append(Record::put(record.key, record.value)));
    return true;
  };
  append(0);
  expect(wal.sync());

  std::vector<std::uint64_t> appended(threads);
  std::latch ready(static_cast<std::ptrdiff_t>(threads) + 1);
  std::vector<std::jthread> running;
  for (std::size_t i = 0; i < threads; ++i) {
    running.emplace_back([&, i] {
      ready.arrive_and_wait();
      appended[i] = repeat_for(setting.seconds, 64, append);
    });
  }
  ready.arrive_and_wait();
  const Stopwatch watch;
  running.clear();  // joins
  const Elapsed elapsed = watch.elapsed();

  std::uint64_t records = 0;
  for (const auto of_thread : appended) {
    records += of_thread;
  }
  Measurement measured;
  measured.values["records_per_s"] = static_cast<double>(records) / elapsed.seconds;
  measured.values["cpu_s_per_million"] = elapsed.cpu_seconds / static_cast<double>(records) * 1e6;
  if (threads > 1) {
    const auto [least, most] = std::ranges::minmax_element(appended);
    measured.values["least_share"] = static_cast<double>(*least) / static_cast<double>(*most);
  }
  return measured;
}

WalOptions os_options() {
  WalOptions options;
  options.fsync = FsyncPolicy::os();
  return options;
}

Subject variant(std::string name, std::string what, const Setting& setting,
                const WalOptions& options, const std::shared_ptr<const Workload>& workload,
                std::size_t threads, bool ours) {
  return {.name = std::move(name),
          .what = std::move(what),
          .ours = ours,
          .compared_by = ours ? "" : "records_per_s",
          .run_round = [=] { return appending_round(setting, options, *workload, threads); }};
}

}  // namespace

Row append_threads_row(const Setting& setting) {
  const auto workload = std::make_shared<const Workload>(100);
  const auto with = [&](std::size_t threads) {
    return variant(fmt::format("nori-{}", threads), fmt::format("{} threads", threads), setting,
                   os_options(), workload, threads, true);
  };
  return {.name = "append-threads",
          .what =
              "Records of 100 bytes that survive the process, from more than one thread. `least "
              "share`: what the slowest thread appended, of what the fastest did.",
          .rounds = setting.rounds,
          .subjects = {with(2), with(8),
                       variant("nori-1", "1 thread", setting, os_options(), workload, 1, false)}};
}

Row append_scaling_row(const Setting& setting) {
  const auto workload = std::make_shared<const Workload>(100);
  Row row{.name = "append-scaling",
          .what = "Records of 100 bytes that survive the process, from 1 to 64 threads.",
          .rounds = std::min(setting.rounds, 3U),
          .x_title = "threads",
          .subjects = {}};
  for (std::size_t threads = 1; threads <= 64; threads *= 2) {
    Subject subject = variant(fmt::format("nori-{}", threads), fmt::format("{} threads", threads),
                              setting, os_options(), workload, threads, true);
    subject.line = "nori";
    subject.x = static_cast<double>(threads);
    row.subjects.push_back(std::move(subject));
  }
  return row;
}

Row append_window_row(const Setting& setting) {
  const auto workload = std::make_shared<const Workload>(100);
  auto options = os_options();
  options.fsync = FsyncPolicy::batch(std::chrono::milliseconds(5));
  return {
      .name = "append-window",
      .what = "Records of 100 bytes; one thread; made durable every 5 ms, or when asked for.",
      .rounds = setting.rounds,
      .subjects = {variant("nori-batch", "policy batch{5ms}", setting, options, workload, 1, true),
                   variant("nori-os", "policy os", setting, os_options(), workload, 1, false)}};
}

Row append_compressed_row(const Setting& setting) {
  const auto workload = std::make_shared<const Workload>(1024, Content::text);
  const auto with = [&](const std::string& name, Compression compression) {
    auto options = os_options();
    options.compression = compression;
    return variant("nori-" + name, "values compressed by " + name, setting, options, workload, 1,
                   true);
  };
  return {.name = "append-compressed",
          .what = "Records of 1 KiB of words, which shrink; one thread; they survive the process.",
          .rounds = setting.rounds,
          .subjects = {with("lz4", Compression::lz4), with("zstd", Compression::zstd),
                       variant("nori-plain", "stored as they are", setting, os_options(), workload,
                               1, false)}};
}

}  // namespace nori::bench
