// Reading a closed log: scan-1k, verify, open.

#include <fmt/format.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <utility>

#include "bench/closed_log.h"
#include "bench/expect.h"
#include "bench/rows.h"
#include "bench/stopwatch.h"
#include "nori/verify.h"
#include "nori/wal.h"

namespace nori::bench {
namespace {

/// The log of a row, filled by whoever needs it first.
using LazyLog = std::shared_ptr<std::unique_ptr<ClosedLog>>;

const ClosedLog& filled(const LazyLog& log, const Setting& setting, std::uint64_t bytes) {
  if (!*log) {
    *log = std::make_unique<ClosedLog>(setting, "closed", bytes);
  }
  return **log;
}

/// Kept in the page cache.
const ClosedLog& warm_log(const LazyLog& log, const Setting& setting) {
  if (!*log) {
    filled(log, setting, setting.scan_bytes).warm();
  }
  return **log;
}

/// Out of the page cache each time.
const ClosedLog& cold_log(const LazyLog& log, const Setting& setting) {
  const ClosedLog& closed = filled(log, setting, setting.scan_bytes);
  closed.cool();
  return closed;
}

Measurement read_measurement(const ClosedLog& log, const Elapsed& elapsed) {
  Measurement measured;
  measured.values["mb_per_s"] = static_cast<double>(log.bytes_on_disk()) / elapsed.seconds / 1e6;
  measured.values["cpu_s_per_gb"] =
      elapsed.cpu_seconds / static_cast<double>(log.bytes_on_disk()) * 1e9;
  return measured;
}

void check_records(const ClosedLog& log, std::uint64_t records) {
  if (records != log.records()) {
    throw std::runtime_error(
        fmt::format("{} records were read, {} written", records, log.records()));
  }
}

WalOptions options_for(const ClosedLog& log, OpenMode mode) {
  WalOptions options;
  options.directory = log.path();
  options.mode = mode;
  return options;
}

Measurement scan_round(const ClosedLog& log) {
  const Opened opened = expect(Wal::open(options_for(log, OpenMode::read_only)));
  Reader reader = expect(opened.wal.read_from(begin_of_log));
  std::uint64_t records = 0;
  std::uint64_t sum = 0;
  const Stopwatch watch;
  while (const std::optional<Entry> entry = expect(reader.next())) {
    ++records;
    sum += static_cast<unsigned char>(entry->value.back()) + entry->key.size();
  }
  const Elapsed elapsed = watch.elapsed();
  check_records(log, records);
  Measurement measured = read_measurement(log, elapsed);
  measured.values["records_per_s"] = static_cast<double>(records) / elapsed.seconds;
  static std::atomic<std::uint64_t> kept;  // so that the bytes have to be read
  kept = sum;
  return measured;
}

Measurement verify_round(const ClosedLog& log) {
  const Stopwatch watch;
  const VerifyReport report = expect(verify(log.path()));
  const Elapsed elapsed = watch.elapsed();
  check_records(log, report.records);
  if (!report.damages.empty()) {
    throw std::runtime_error("damage: " + report.damages.front().reason);
  }
  Measurement measured = read_measurement(log, elapsed);
  measured.values["records_per_s"] = static_cast<double>(report.records) / elapsed.seconds;
  return measured;
}

Measurement raw_round(const ClosedLog& log) {
  std::uint64_t bytes_read = 0;
  const Stopwatch watch;
  const std::uint32_t crc = read_and_checksum(log, bytes_read);
  const Elapsed elapsed = watch.elapsed();
  static std::atomic<std::uint32_t> kept;
  kept = crc;
  if (bytes_read != log.bytes_on_disk()) {
    throw std::runtime_error("the files changed");
  }
  return read_measurement(log, elapsed);
}

Row read_row(std::string name, std::string what, std::string nori_what,
             Measurement (*nori_round)(const ClosedLog&), const Setting& setting) {
  const auto log = std::make_shared<std::unique_ptr<ClosedLog>>();
  const std::string by = "mb_per_s";
  return {.name = std::move(name),
          .what = std::move(what),
          .rounds = 2 * setting.rounds,
          .subjects = {{.name = "nori",
                        .what = std::move(nori_what),
                        .ours = true,
                        .compared_by = by,
                        .run_round = [=] { return nori_round(warm_log(log, setting)); }},
                       {.name = "pread-crc",
                        .what = "one thread's pread of the same files in chunks of 256 KiB, and "
                                "their CRC32C by ISA-L",
                        .compared_by = by,
                        .run_round = [=] { return raw_round(warm_log(log, setting)); }}}};
}

Measurement open_round(const ClosedLog& log, OpenMode mode) {
  log.cool();
  const WalOptions options = options_for(log, mode);
  const Stopwatch watch;
  Opened opened = expect(Wal::open(options));
  const Elapsed elapsed = watch.elapsed();
  if (!opened.recovery.closed_cleanly || opened.recovery.next_sequence != log.records()) {
    throw std::runtime_error("the log was not as it had been closed");
  }
  expect(opened.wal.close());
  Measurement measured;
  measured.values["open_ms"] = elapsed.seconds * 1e3;
  return measured;
}

/// A closed log of as many segments, of a record each.
class ManySegments {
 public:
  ManySegments(const Setting& setting, std::uint64_t segments)
      : scratch_(setting.directory, "many-segments") {
    WalOptions options;
    options.directory = scratch_.path();
    options.fsync = FsyncPolicy::os();
    Wal wal = expect(Wal::open(options)).wal;
    for (std::uint64_t i = 0; i < segments; ++i) {
      expect(wal.append(Record::put("key", "value")));
      if (i + 1 < segments) {
        expect(wal.rotate());
      }
    }
    expect(wal.close());
  }

  Measurement open_round(OpenMode mode) const {
    WalOptions options;
    options.directory = scratch_.path();
    options.mode = mode;
    const Stopwatch watch;
    Opened opened = expect(Wal::open(options));
    const Elapsed elapsed = watch.elapsed();
    expect(opened.wal.close());
    Measurement measured;
    measured.values["open_ms"] = elapsed.seconds * 1e3;
    return measured;
  }

 private:
  Scratch scratch_;
};

}  // namespace

Row open_10k_row(const Setting& setting) {
  const auto log = std::make_shared<std::unique_ptr<ManySegments>>();
  const auto subject = [&](std::string name, std::string what, OpenMode mode) {
    return Subject{
        .name = std::move(name), .what = std::move(what), .compared_by = "", .run_round = [=] {
          if (!*log) {
            *log = std::make_unique<ManySegments>(setting, setting.many_segments);
          }
          return (*log)->open_round(mode);
        }};
  };
  return {
      .name = "open-10k",
      .what = fmt::format("Opening a cleanly closed log of {} segments.", setting.many_segments),
      .rounds = 2 * setting.rounds,
      .subjects = {subject("nori", "Wal::open for writing", OpenMode::existing),
                   subject("nori-read-only", "Wal::open read-only", OpenMode::read_only)}};
}

Row scan_1k_row(const Setting& setting) {
  return read_row("scan-1k",
                  fmt::format("Reading {} MiB of records of 1 KiB from the page cache, checksums "
                              "checked; one thread.",
                              setting.scan_bytes / kMiB),
                  "Reader::next from the first record to the last", scan_round, setting);
}

Row verify_row(const Setting& setting) {
  return read_row("verify",
                  fmt::format("Verifying {} MiB of records of 1 KiB, in the page cache.",
                              setting.scan_bytes / kMiB),
                  "nori::verify", verify_round, setting);
}

Row verify_cold_row(const Setting& setting) {
  const auto log = std::make_shared<std::unique_ptr<ClosedLog>>();
  return {
      .name = "verify-cold",
      .what = fmt::format("Verifying {} MiB of records of 1 KiB that are not in the page cache.",
                          setting.scan_bytes / kMiB),
      .rounds = 2 * setting.rounds,
      .subjects = {{.name = "nori",
                    .what = "nori::verify",
                    .ours = true,
                    .compared_by = "mb_per_s",
                    .run_round = [=] { return verify_round(cold_log(log, setting)); }},
                   {.name = "direct-1m",
                    .what = "direct reads of 1 MiB of the same files, one at a time",
                    .compared_by = "mb_per_s",
                    .run_round = [=] {
                      const ClosedLog& closed = cold_log(log, setting);
                      const Stopwatch watch;
                      read_segments_directly(closed.path());
                      return read_measurement(closed, watch.elapsed());
                    }}}};
}

Row open_row(const Setting& setting) {
  const auto log = std::make_shared<std::unique_ptr<ClosedLog>>();
  const auto subject = [&](std::string name, std::string what, OpenMode mode) {
    return Subject{
        .name = std::move(name), .what = std::move(what), .compared_by = "", .run_round = [=] {
          return open_round(filled(log, setting, setting.open_bytes), mode);
        }};
  };
  return {.name = "open",
          .what = fmt::format("Opening a cleanly closed log of {} MiB that is not in the page "
                              "cache.",
                              setting.open_bytes / kMiB),
          .rounds = 2 * setting.rounds,
          .subjects = {subject("nori", "Wal::open for writing", OpenMode::existing),
                       subject("nori-read-only", "Wal::open read-only", OpenMode::read_only)}};
}

}  // namespace nori::bench
