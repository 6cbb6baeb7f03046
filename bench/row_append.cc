// Appends that survive the process: append-100, append-1k, batch-100. One thread, 16-byte keys.

#include <fcntl.h>
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "bench/files.h"
#include "bench/peers/peer.h"
#include "bench/process.h"
#include "bench/rows.h"
#include "bench/stopwatch.h"
#include "format/frame.h"

namespace nori::bench {
namespace {

/// What a round of such a row does.
struct AppendWork {
  std::shared_ptr<const Workload> workload;
  std::uint64_t records_per_append = 1;
  /// Appends come in bursts of as many records, each drained behind it by a sync that is not timed;
  /// 0: without a pause.
  std::uint64_t records_per_burst = 0;
  /// Whether the round is also timed up to where all of it survives the machine.
  bool until_durable = false;
};

bool append_once(Peer& peer, const AppendWork& work, std::uint64_t index) {
  return work.records_per_append == 1
             ? peer.append(work.workload->record(index))
             : peer.append_batch(work.workload->batch(index, work.records_per_append));
}

Measurement append_measurement(std::uint64_t records, const Elapsed& elapsed) {
  const auto count = static_cast<double>(records);
  Measurement measured;
  measured.values["records_per_s"] = count / elapsed.seconds;
  measured.values["cpu_s_per_million"] = elapsed.cpu_seconds / count * 1e6;
  return measured;
}

/// Open, and with a first append behind it: what beginning costs is not the question.
std::unique_ptr<Peer> open_peer(const PeerKind& kind, const AppendWork& work,
                                const Scratch& scratch) {
  auto peer = kind.open(scratch.path(), Survives::process);
  append_once(*peer, work, 0);
  peer->sync();
  return peer;
}

/// What appending takes while there is room in the ring.
Measurement burst_round(const PeerKind& kind, const AppendWork& work, const Setting& setting) {
  const Scratch scratch(setting.directory, kind.name);
  const auto peer = open_peer(kind, work, scratch);
  const std::uint64_t each = work.records_per_append;
  const std::uint64_t appends_per_burst = work.records_per_burst / each;
  std::uint64_t appends = 0;
  Elapsed appended;
  repeat_for(setting.seconds, 1, [&](std::uint64_t) {
    const Stopwatch watch;
    for (const std::uint64_t end = appends + appends_per_burst; appends < end; ++appends) {
      append_once(*peer, work, appends);
    }
    const Elapsed burst = watch.elapsed();
    appended.seconds += burst.seconds;
    appended.cpu_seconds += burst.cpu_seconds;
    peer->sync();
    return true;
  });
  return append_measurement(appends * each, appended);
}

Measurement append_round(const PeerKind& kind, const AppendWork& work, const Setting& setting) {
  const Scratch scratch(setting.directory, kind.name);
  malloc_trim(0);  // what an earlier subject has given back
  const double resident = resident_bytes();
  const auto peer = open_peer(kind, work, scratch);
  const double to_device = device_bytes();
  // A batch takes long enough for the clock to be looked at behind each few.
  const std::uint64_t stride = work.records_per_append == 1 ? 64 : 4;

  const Stopwatch watch;
  const std::uint64_t appends = repeat_for(
      setting.seconds, stride, [&](std::uint64_t i) { return append_once(*peer, work, i); });
  const Elapsed appended = watch.elapsed();

  const std::uint64_t records = appends * work.records_per_append;
  Measurement measured = append_measurement(records, appended);
  if (work.until_durable) {
    peer->sync();
    const auto bytes = static_cast<double>(records * work.workload->record_bytes());
    measured.values["durable_mb_per_s"] = bytes / watch.elapsed().seconds / 1e6;
  }
  peer->sync();
  measured.values["device_bytes_per_byte"] =
      (device_bytes() - to_device) / static_cast<double>(records * work.workload->record_bytes());
  measured.values["resident_mb"] = (resident_bytes() - resident) / 1e6;
  peer->describe(work.workload->record(0), measured);
  return measured;
}

/// What a record takes in the log.
double bytes_per_record(const AppendWork& work) {
  const auto records = static_cast<double>(work.records_per_append);
  const auto alone = static_cast<double>(work.workload->record(0).framed.size());
  const auto header = static_cast<double>(kFrameHeaderBytes);
  return alone - header + header / records;
}

/// Direct writes of 1 MiB, so many at a time, and a sync at the end: the disk's own rate, also as
/// records of so many bytes.
Measurement direct_1m_round(const Setting& setting, double record_bytes, std::uint64_t in_flight) {
  constexpr std::uint64_t kFileBytes = 4 * kGiB;
  const Scratch scratch(setting.directory, "direct-1m");
  const File file(scratch.path() / "log", O_RDWR | O_CREAT | O_DIRECT);
  file.allocate(kFileBytes);
  file.sync_data();
  const AlignedBytes piece(kMiB);
  std::atomic<std::uint64_t> next{0};
  const auto write = [&] {
    repeat_for(setting.seconds, 1, [&](std::uint64_t) {
      const std::uint64_t offset = next.fetch_add(1) * kMiB;
      if (offset + kMiB > kFileBytes) {
        return false;
      }
      file.write_at(piece.view(), offset);
      return true;
    });
  };

  const Stopwatch watch;
  {
    std::vector<std::jthread> others;
    for (std::uint64_t other = 1; other < in_flight; ++other) {
      others.emplace_back(write);
    }
    write();
  }
  file.sync_data();
  const Elapsed elapsed = watch.elapsed();
  const auto bytes = static_cast<double>(std::min(next.load() * kMiB, kFileBytes));
  Measurement measured;
  measured.values["durable_mb_per_s"] = bytes / elapsed.seconds / 1e6;
  measured.values["records_per_s"] = bytes / record_bytes / elapsed.seconds;
  return measured;
}

Subject append_subject(const PeerKind& kind, const AppendWork& work, const Setting& setting) {
  return {.name = kind.name,
          .what = kind.what,
          .ours = kind.ours,
          .compared_by = "records_per_s",
          .run_round = [kind, work, setting] { return append_round(kind, work, setting); }};
}

Subject burst_subject(AppendWork work, const Setting& setting) {
  // Half of the ring, whole batches.
  const std::uint64_t records =
      WalOptions{}.ring_bytes / 2 / work.workload->record(0).framed.size();
  work.records_per_burst = records / work.records_per_append * work.records_per_append;
  const PeerKind kind = nori_peer();
  return {.name = "nori-burst",
          .what = fmt::format("bursts of {} records, which fit the ring; between them it is "
                              "drained, with the clock stopped",
                              work.records_per_burst),
          .ours = true,
          .compared_by = "",
          .run_round = [kind, work, setting] { return burst_round(kind, work, setting); }};
}

Row append_row(std::string name, std::string what, const AppendWork& work, const Setting& setting) {
  Row row{.name = std::move(name),
          .what = std::move(what),
          .rounds = setting.rounds,
          .subjects = {append_subject(nori_peer(), work, setting),
                       append_subject(nori_peer(IoMode::buffered), work, setting),
                       burst_subject(work, setting), append_subject(pwrite_peer(), work, setting)}};
  if (work.records_per_append > 1) {
    row.subjects.push_back(append_subject(pwrite_batch_peer(), work, setting));
  }
  for (const auto& peer : stores()) {
    row.subjects.push_back(append_subject(peer, work, setting));
  }
  for (const std::uint64_t in_flight : {1, 2}) {
    row.subjects.push_back(
        {.name = in_flight == 1 ? "direct-1m" : "direct-1m-two",
         .what = fmt::format("the disk: direct writes of 1 MiB, {}, into a preallocated file, and "
                             "a sync at the end; as if they were records",
                             in_flight == 1 ? "one at a time" : "two at a time"),
         .compared_by = work.until_durable ? "durable_mb_per_s" : "records_per_s",
         .run_round = [setting, record_bytes = bytes_per_record(work), in_flight] {
           return direct_1m_round(setting, record_bytes, in_flight);
         }});
  }
  return row;
}

}  // namespace

Row append_100_row(const Setting& setting) {
  return append_row("append-100",
                    "Records of 100 bytes, one by one; one thread; they survive the process. nori: "
                    "policy `os`; stores: sync = false.",
                    {.workload = std::make_shared<Workload>(100)}, setting);
}

Row append_1k_row(const Setting& setting) {
  return append_row("append-1k",
                    "Records of 1 KiB, one by one; one thread; they survive the process. `durable "
                    "MB/s`: keys and values, from the first append to the end of one sync behind "
                    "the last.",
                    {.workload = std::make_shared<Workload>(1024), .until_durable = true}, setting);
}

Row append_sizes_row(const Setting& setting) {
  Row row{.name = "append-sizes",
          .what = "Records of different sizes, one by one; one thread; they survive the process.",
          .rounds = std::min(setting.rounds, 3U),
          .x_title = "bytes of a value",
          .subjects = {}};
  for (std::size_t bytes = 16; bytes <= kMiB; bytes *= 4) {
    const AppendWork work{.workload = std::make_shared<Workload>(bytes)};
    for (const PeerKind& kind : {nori_peer(), pwrite_peer()}) {
      Subject subject = append_subject(kind, work, setting);
      subject.line = kind.name;
      subject.x = static_cast<double>(bytes);
      subject.name = fmt::format("{}-{}", kind.name, bytes);
      // Only with its own size.
      subject.ours = false;
      subject.compared_by = "";
      row.subjects.push_back(std::move(subject));
    }
  }
  return row;
}

Row batch_100_row(const Setting& setting) {
  return append_row("batch-100",
                    "Atomic batches of 100 records of 100 bytes; one thread; they survive the "
                    "process. Filling the batch is part of it.",
                    {.workload = std::make_shared<Workload>(100), .records_per_append = 100},
                    setting);
}

}  // namespace nori::bench
