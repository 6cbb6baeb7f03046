// Garbage collection: compaction beside the raw limits, deletion beside raw unlinks, consumers.

#include <fcntl.h>
#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "bench/expect.h"
#include "bench/files.h"
#include "bench/rows.h"
#include "bench/stopwatch.h"
#include "bench/workload.h"
#include "nori/consumer.h"
#include "nori/wal.h"

namespace nori::bench {
namespace {

constexpr std::uint64_t kFewKeys = 1000;

enum class Contents : std::uint8_t { garbage, live };

WalOptions log_options(const Scratch& scratch) {
  WalOptions options;
  options.directory = scratch.path();
  options.fsync = FsyncPolicy::os();
  return options;
}

enum class Cache : std::uint8_t { cold, warm };

/// Records with 1 KiB values until there are setting.scan_bytes of them, in sealed segments that
/// are durable, in the page cache or not: a few keys again and again, or each once.
Wal filled_log(const Scratch& scratch, Contents contents, Cache cache, const Setting& setting) {
  Wal wal = expect(Wal::open(log_options(scratch))).wal;
  const Workload workload(kKiB);
  for (std::uint64_t i = 0; i * kKiB < setting.scan_bytes; ++i) {
    const auto key = fmt::format("{:016}", contents == Contents::garbage ? i % kFewKeys : i);
    expect(wal.append(Record::put(key, workload.record(i).value)));
  }
  expect(wal.rotate());
  expect(wal.sync());
  for (const auto& path : segment_files(scratch.path())) {
    const File file(path, O_RDONLY);
    file.drop_cache();
    std::vector<std::byte> piece(kMiB);
    for (std::uint64_t at = 0; cache == Cache::warm; at += piece.size()) {
      if (file.read_at(piece, at) < piece.size()) {
        break;
      }
    }
  }
  return wal;
}

Measurement bandwidth_of(std::uint64_t bytes, const Elapsed& elapsed) {
  Measurement measured;
  measured.values["mb_per_s"] = static_cast<double>(bytes) / elapsed.seconds / 1e6;
  measured.values["cpu_s_per_gb"] = elapsed.cpu_seconds / static_cast<double>(bytes) * 1e9;
  return measured;
}

Measurement compact_round(Contents contents, Cache cache, const Setting& setting) {
  const Scratch scratch(setting.directory, "compact");
  Wal wal = filled_log(scratch, contents, cache, setting);
  const Stopwatch watch;
  // What would not become smaller is left alone; that it is not is what is measured.
  const CompactionReport report = expect(wal.compact());
  const Elapsed elapsed = watch.elapsed();
  return bandwidth_of(contents == Contents::garbage ? report.bytes_before : report.bytes_after,
                      elapsed);
}

Measurement raw_read_round(const Setting& setting) {
  const Scratch scratch(setting.directory, "raw-read");
  expect(filled_log(scratch, Contents::live, Cache::cold, setting).close());
  const Stopwatch watch;
  const auto bytes = read_segments_directly(scratch.path());
  return bandwidth_of(bytes, watch.elapsed());
}

Measurement raw_write_round(const Setting& setting) {
  const Scratch scratch(setting.directory, "raw-write");
  const File file(scratch.path() / "file", O_RDWR | O_CREAT | O_DIRECT);
  const AlignedBytes piece(kMiB);
  const Stopwatch watch;
  for (std::uint64_t at = 0; at < setting.scan_bytes; at += kMiB) {
    file.write_at(piece.view(), at);
  }
  file.sync_data();
  return bandwidth_of(setting.scan_bytes, watch.elapsed());
}

Row compact_row(std::string name, std::string what, Contents contents, std::string raw_name,
                std::string raw_what, Measurement (*raw)(const Setting&), const Setting& setting) {
  return {.name = std::move(name),
          .what = std::move(what),
          .rounds = setting.rounds,
          .subjects = {{.name = "nori",
                        .what = "Wal::compact, the log not in the page cache",
                        .ours = true,
                        .compared_by = "mb_per_s",
                        .run_round = [=] { return compact_round(contents, Cache::cold, setting); }},
                       {.name = "nori-warm",
                        .what = "the same, in the page cache",
                        .ours = true,
                        .compared_by = "",
                        .run_round = [=] { return compact_round(contents, Cache::warm, setting); }},
                       {.name = std::move(raw_name),
                        .what = std::move(raw_what),
                        .compared_by = "mb_per_s",
                        .run_round = [=] { return raw(setting); }}}};
}

/// Latencies of `write()`, one every `pace` or as fast as it goes, for as long as `other()` takes
/// on another thread; at least for setting.seconds.
template <typename Write, typename Other>
Measurement beside(const Setting& setting, std::chrono::microseconds pace, Write&& write,
                   Other&& other) {
  std::atomic<bool> done = false;
  std::exception_ptr thrown;
  Measurement measured;
  const Stopwatch watch;
  {
    const std::jthread thread([&] {
      try {
        other();
      } catch (...) {
        thrown = std::current_exception();
      }
      done = true;
    });
    const auto end = Clock::now() + as_duration(setting.seconds);
    for (auto due = Clock::now(); !done || due < end; due += pace) {
      measured.latencies_ns.push_back(static_cast<std::uint64_t>(time_at(due, write).count()));
      due = std::max(due, Clock::now() - pace);
    }
  }
  if (thrown) {
    std::rethrow_exception(thrown);
  }
  const auto records = static_cast<double>(measured.latencies_ns.size());
  measured.values["records_per_s"] = records / watch.elapsed().seconds;
  return measured;
}

/// One write in ten microseconds: the writer is not what limits the other.
constexpr std::chrono::microseconds kPace{10};
constexpr std::chrono::microseconds kAsFastAsItGoes{0};

/// Latencies of appends of 100 bytes, as beside() has them.
template <typename Other>
Measurement append_beside(const Setting& setting, std::chrono::microseconds pace, Wal& wal,
                          Other&& other) {
  const Workload workload(100);
  std::uint64_t appended = 0;
  return beside(
      setting, pace,
      [&] {
        const auto& record = workload.record(appended++);
        expect(wal.append(Record::put(record.key, record.value)));
      },
      std::forward<Other>(other));
}

/// Appends while sealed segments of live records are compacted, at so many bytes a second; 0: as
/// fast as it goes.
Measurement append_compacting_round(std::chrono::microseconds pace,
                                    std::optional<std::uint64_t> bytes_per_second,
                                    const Setting& setting) {
  const Scratch scratch(setting.directory, "append-compacting");
  Setting smaller = setting;
  smaller.scan_bytes /= 4;
  Wal wal = filled_log(scratch, Contents::live, Cache::warm, smaller);
  return append_beside(setting, pace, wal, [&] {
    if (bytes_per_second) {
      expect(wal.compact({.to = wal.current_position(), .bytes_per_second = *bytes_per_second}));
    }
  });
}

Measurement delete_round(const Setting& setting) {
  const Scratch scratch(setting.directory, "delete");
  Wal wal = expect(Wal::open(log_options(scratch))).wal;
  for (std::uint64_t i = 0; i < setting.many_segments; ++i) {
    expect(wal.append(Record::put("key", "value")));
    expect(wal.rotate());
  }
  return append_beside(setting, kPace, wal, [&] {
    const auto deleted = expect(wal.delete_segments_before(wal.current_position()));
    if (deleted != setting.many_segments) {
      throw std::runtime_error(fmt::format("{} segments were deleted", deleted));
    }
  });
}

Measurement unlink_round(const Setting& setting) {
  const Scratch scratch(setting.directory, "unlink");
  const auto folder = scratch.path() / "files";
  std::filesystem::create_directory(folder);
  const AlignedBytes block(16 * kKiB);  // as much as such a segment has
  for (std::uint64_t i = 0; i < setting.many_segments; ++i) {
    File(folder / std::to_string(i), O_RDWR | O_CREAT).write_at(block.view(), 0);
  }
  const File directory(folder, O_RDONLY | O_DIRECTORY);
  const File file(scratch.path() / "log", O_RDWR | O_CREAT);
  const Workload workload(100);
  std::uint64_t appended = 0;
  std::uint64_t at = 0;
  return beside(
      setting, kPace,
      [&] {
        const auto& framed = workload.record(appended++).framed;
        file.write_at(framed, at);
        at += framed.size();
      },
      [&] {
        for (std::uint64_t i = 0; i < setting.many_segments; ++i) {
          std::filesystem::remove(folder / std::to_string(i));
          directory.sync_data();
        }
      });
}

/// A log whose records a consumer, or a reader, goes through.
struct Consumed {
  explicit Consumed(const Setting& setting)
      : scratch(setting.directory, "consume"),
        wal(expect(Wal::open(log_options(scratch))).wal),
        records(setting.scan_bytes / 4 / 150) {
    const Workload workload(100);
    for (std::uint64_t i = 0; i < records; ++i) {
      const auto& record = workload.record(i);
      expect(wal.append(Record::put(record.key, record.value)));
    }
    expect(wal.sync());
  }
  Scratch scratch;
  Wal wal;
  std::uint64_t records;
};

template <typename From>
Measurement read_all(From& from, std::uint64_t records) {
  std::uint64_t found = 0;
  const Stopwatch watch;
  while (expect(from.next())) {
    ++found;
  }
  const auto elapsed = watch.elapsed();
  if (found != records) {
    throw std::runtime_error(fmt::format("{} of {} records were read", found, records));
  }
  Measurement measured;
  measured.values["records_per_s"] = static_cast<double>(found) / elapsed.seconds;
  return measured;
}

Measurement consume_round(Consumed& log) {
  auto consumer = expect(log.wal.consumer("bench"));
  auto measured = read_all(consumer, log.records);
  expect(consumer.close());
  expect(log.wal.drop_consumer("bench"));
  return measured;
}

Measurement reader_round(Consumed& log) {
  auto reader = expect(log.wal.read_from(begin_of_log, {.visible = Visible::durable}));
  return read_all(reader, log.records);
}

/// 100,000 commits a second, evenly.
Measurement commit_round(Consumed& log, const Setting& setting) {
  auto consumer = expect(log.wal.consumer("bench"));
  const auto syncs = [&] { return static_cast<double>(log.wal.stats().sync_latency.count); };
  const auto before = syncs();
  const Stopwatch watch;
  const auto end = Clock::now() + as_duration(setting.seconds);
  std::uint64_t commits = 0;
  for (auto due = Clock::now(); due < end; due += std::chrono::microseconds(10), ++commits) {
    if (!expect(consumer.next())) {
      break;
    }
    time_at(due, [&] { expect(consumer.commit(consumer.position())); });
  }
  const auto elapsed = watch.elapsed();
  Measurement measured;
  measured.values["records_per_s"] = static_cast<double>(commits) / elapsed.seconds;
  measured.values["syncs_per_s"] = (syncs() - before) / elapsed.seconds;
  expect(consumer.close());
  expect(log.wal.drop_consumer("bench"));
  return measured;
}

}  // namespace

Row compact_garbage_row(const Setting& setting) {
  return compact_row("compact-garbage",
                     fmt::format("Compacting {} MiB of records of 1 KiB, a thousand keys again and "
                                 "again: bytes read.",
                                 setting.scan_bytes / kMiB),
                     Contents::garbage, "raw-read", "direct reads of 1 MiB, one at a time",
                     raw_read_round, setting);
}

Row compact_live_row(const Setting& setting) {
  return compact_row("compact-live",
                     fmt::format("Compacting {} MiB of records of 1 KiB, each key once: bytes "
                                 "written; they are read twice before.",
                                 setting.scan_bytes / kMiB),
                     Contents::live, "raw-write",
                     "direct writes of 1 MiB, one at a time, and a sync", raw_write_round, setting);
}

Row append_compacting_row(const Setting& setting) {
  Row row{
      .name = "append-compacting",
      .what = fmt::format("Appends of 100 bytes, one every 10 us (paced) or as fast as it goes, "
                          "while {} MiB of live records are compacted.",
                          setting.scan_bytes / 4 / kMiB),
      .rounds = std::min(setting.rounds, 3U),
      .subjects = {}};
  const auto add = [&](std::string name, std::string what, std::chrono::microseconds pace,
                       std::optional<std::uint64_t> bytes_per_second) {
    row.subjects.push_back(
        {.name = std::move(name),
         .what = std::move(what),
         .ours = true,
         .compared_by = "",
         .run_round = [=] { return append_compacting_round(pace, bytes_per_second, setting); }});
  };
  const auto policy = CompactionPolicy{}.bytes_per_second;
  add("paced-alone", "without a compaction", kPace, std::nullopt);
  add("paced-policy", "a compaction at the policy's bytes a second", kPace, policy);
  add("paced-full", "a compaction as fast as it goes", kPace, 0);
  add("fast-alone", "without a compaction", kAsFastAsItGoes, std::nullopt);
  add("fast-policy", "a compaction at the policy's bytes a second", kAsFastAsItGoes, policy);
  add("fast-full", "a compaction as fast as it goes", kAsFastAsItGoes, 0);
  return row;
}

Row delete_10k_row(const Setting& setting) {
  return {.name = "delete-10k",
          .what = fmt::format("An append of 100 bytes every 10 us, while {} segments are deleted, "
                              "each durably.",
                              setting.many_segments),
          .rounds = std::min(setting.rounds, 3U),
          .subjects = {{.name = "nori",
                        .what = "Wal::append beside delete_segments_before",
                        .ours = true,
                        .compared_by = "",
                        .run_round = [=] { return delete_round(setting); }},
                       {.name = "raw",
                        .what = "pwrite beside unlink and a sync of the directory each",
                        .compared_by = "max_us",
                        .run_round = [=] { return unlink_round(setting); }}}};
}

Row consumer_row(const Setting& setting) {
  const auto log = std::make_shared<std::unique_ptr<Consumed>>();
  const auto subject = [&](std::string name, std::string what, bool ours, auto round) {
    return Subject{.name = std::move(name),
                   .what = std::move(what),
                   .ours = ours,
                   .compared_by = "records_per_s",
                   .run_round = [=] {
                     if (!*log) {
                       *log = std::make_unique<Consumed>(setting);
                     }
                     return round(**log);
                   }};
  };
  Row row{.name = "consumer",
          .what = "Records of 100 bytes, durable, in the page cache; one thread.",
          .rounds = setting.rounds,
          .subjects = {
              subject("nori", "Consumer::next", true, consume_round),
              subject("reader", "Reader::next, of durable records", false, reader_round),
              subject("commits", "next and commit, every 10 us", false,
                      [setting](Consumed& consumed) { return commit_round(consumed, setting); })}};
  row.subjects.back().compared_by = "";
  return row;
}

}  // namespace nori::bench
