// Appends that survive the machine: durable-1, durable-64, durable-async. 16-byte keys, 100-byte
// values.

#include <fmt/format.h>

#include <atomic>
#include <exception>
#include <latch>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "bench/expect.h"
#include "bench/files.h"
#include "bench/peers/peer.h"
#include "bench/rows.h"
#include "bench/stopwatch.h"
#include "nori/wal.h"

namespace nori::bench {
namespace {

/// A peer that stays open from round to round: what making its files costs is not the question.
class OpenPeer {
 public:
  OpenPeer(const PeerKind& kind, const Setting& setting)
      : scratch_(setting.directory, kind.name),
        peer_(kind.open(scratch_.path(), Survives::machine)) {}

  [[nodiscard]] Peer& peer() { return *peer_; }

 private:
  Scratch scratch_;
  std::unique_ptr<Peer> peer_;
};

/// What one thread does: appends until the time is up, and notes how long each took.
std::vector<std::uint64_t> append_for(Peer& peer, const Workload& workload, double seconds) {
  std::vector<std::uint64_t> latencies_ns;
  latencies_ns.reserve(1 << 14);
  Clock::time_point before = Clock::now();
  const Clock::time_point end = before + as_duration(seconds);
  for (std::uint64_t i = 0; before < end; ++i) {
    peer.append(workload.record(i));
    const Clock::time_point behind = Clock::now();
    latencies_ns.push_back(static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(behind - before).count()));
    before = behind;
  }
  return latencies_ns;
}

Measurement durable_round(Peer& peer, const Workload& workload, std::size_t threads,
                          double seconds) {
  std::vector<std::vector<std::uint64_t>> latencies_ns(threads);
  std::vector<std::exception_ptr> failures(threads);
  std::latch ready(static_cast<std::ptrdiff_t>(threads) + 1);
  std::vector<std::jthread> running;
  for (std::size_t i = 0; i < threads; ++i) {
    running.emplace_back([&, i] {
      ready.arrive_and_wait();
      try {
        latencies_ns[i] = append_for(peer, workload, seconds);
      } catch (...) {
        failures[i] = std::current_exception();
      }
    });
  }
  ready.arrive_and_wait();
  const Stopwatch watch;
  for (std::jthread& thread : running) {
    thread.join();
  }
  const Elapsed elapsed = watch.elapsed();
  for (const auto& failure : failures) {
    if (failure) {
      std::rethrow_exception(failure);
    }
  }

  Measurement measured;
  for (const auto& of_thread : latencies_ns) {
    measured.latencies_ns.insert(measured.latencies_ns.end(), of_thread.begin(), of_thread.end());
  }
  const auto records = static_cast<double>(measured.latencies_ns.size());
  measured.values["records_per_s"] = records / elapsed.seconds;
  measured.values["cpu_s_per_million"] = elapsed.cpu_seconds / records * 1e6;
  return measured;
}

Subject durable_subject(const PeerKind& kind, std::size_t threads, std::string compared_by,
                        const Setting& setting) {
  const auto workload = std::make_shared<const Workload>(100);
  const auto open = std::make_shared<std::unique_ptr<OpenPeer>>();
  return {.name = kind.name,
          .what = kind.what,
          .ours = kind.ours,
          .compared_by = std::move(compared_by),
          .run_round = [=] {
            if (!*open) {
              *open = std::make_unique<OpenPeer>(kind, setting);
            }
            Peer& peer = (*open)->peer();
            Measurement measured = durable_round(peer, *workload, threads, setting.seconds / 2);
            peer.describe(workload->record(0), measured);
            measured.values.erase("overhead_bytes");  // a whole block here
            return measured;
          }};
}

void add_stores(Row& row, std::size_t threads, const std::string& compared_by,
                const Setting& setting) {
  for (const auto& peer : stores()) {
    row.subjects.push_back(durable_subject(peer, threads, compared_by, setting));
  }
}

/// One thread that appends and asks to be called back, with so many under way at most. A latency is
/// from the append to its callback.
class AsyncCommits {
 public:
  AsyncCommits(const Setting& setting, std::uint64_t under_way)
      : under_way_(under_way),
        scratch_(setting.directory, fmt::format("nori-async-{}", under_way)),
        wal_(open(scratch_.path())) {}

  Measurement round(const Workload& workload, double seconds) {
    latencies_ns_.clear();
    latencies_ns_.reserve(1 << 22);
    std::uint64_t registered = 0;
    const Stopwatch watch;
    repeat_for(seconds, 64, [&](std::uint64_t i) {
      while (registered - called_.load(std::memory_order_acquire) >= under_way_) {
        std::this_thread::yield();
      }
      const auto begun = Clock::now();
      const BenchRecord& record = workload.record(i);
      const Appended appended = expect(wal_.append(Record::put(record.key, record.value)));
      expect(wal_.when_durable(appended.end, [this, begun](const Result<void>& outcome) {
        failed_ = failed_ || !outcome;
        latencies_ns_.push_back(static_cast<std::uint64_t>((Clock::now() - begun).count()));
        called_.store(called_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
      }));
      ++registered;
      return true;
    });
    while (called_.load(std::memory_order_acquire) != registered) {
      std::this_thread::yield();
    }
    const Elapsed elapsed = watch.elapsed();
    called_ = 0;
    if (failed_) {
      throw std::runtime_error("a commit failed");
    }
    Measurement measured;
    measured.latencies_ns = latencies_ns_;
    const auto records = static_cast<double>(registered);
    measured.values["records_per_s"] = records / elapsed.seconds;
    measured.values["cpu_s_per_million"] = elapsed.cpu_seconds / records * 1e6;
    return measured;
  }

 private:
  static Wal open(const std::filesystem::path& directory) {
    WalOptions options;
    options.directory = directory;
    options.fsync = FsyncPolicy::os();
    return expect(Wal::open(options)).wal;
  }

  std::uint64_t under_way_;
  Scratch scratch_;
  Wal wal_;
  // Of the thread that calls back, while there is one under way.
  std::vector<std::uint64_t> latencies_ns_;
  bool failed_ = false;
  std::atomic<std::uint64_t> called_{0};
};

}  // namespace

Row durable_async_row(const Setting& setting) {
  const auto workload = std::make_shared<const Workload>(100);
  const auto with = [&](std::string name, std::uint64_t under_way) {
    const auto commits = std::make_shared<std::unique_ptr<AsyncCommits>>();
    return Subject{.name = std::move(name),
                   .what = fmt::format(
                       "Wal::append and when_durable; policy `os`; up to {} under way", under_way),
                   .ours = true,
                   .compared_by = "p50_us",
                   .run_round = [=] {
                     if (!*commits) {
                       *commits = std::make_unique<AsyncCommits>(setting, under_way);
                     }
                     return (*commits)->round(*workload, setting.seconds / 2);
                   }};
  };
  return {.name = "durable-async",
          .what =
              "Records of 100 bytes that survive the machine; one thread with many commits "
              "under way. Latency: from the append to the callback.",
          .rounds = 2 * setting.rounds,
          .subjects = {with("nori", 1024), with("nori-2048", 2048),
                       durable_subject(direct_4k_peer(), 1, "p50_us", setting)}};
}

Row durable_1_row(const Setting& setting) {
  const std::string by = "p50_us";
  Row row{.name = "durable-1",
          .what =
              "Records of 100 bytes that survive the machine, one by one; one thread. nori: policy "
              "`always`; stores: sync = true.",
          .rounds = 2 * setting.rounds,
          .subjects = {durable_subject(nori_peer(), 1, by, setting),
                       durable_subject(direct_4k_peer(), 1, by, setting)}};
  add_stores(row, 1, by, setting);
  return row;
}

Row durable_64_row(const Setting& setting) {
  constexpr std::size_t kThreads = 64;
  const std::string by = "records_per_s";
  Row row{.name = "durable-64",
          .what =
              "Records of 100 bytes that survive the machine, one by one; 64 threads. nori: policy "
              "`always`; stores: sync = true.",
          .rounds = 2 * setting.rounds,
          .subjects = {durable_subject(nori_peer(), kThreads, by, setting)}};
  add_stores(row, kThreads, by, setting);
  return row;
}

}  // namespace nori::bench
