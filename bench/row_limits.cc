// What the machine itself can do: memory, checksums, the disk in order and at random.

#include <fcntl.h>

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "bench/files.h"
#include "bench/rows.h"
#include "bench/stopwatch.h"

namespace nori::bench {
namespace {

constexpr std::uint64_t kFileBytes = kGiB;
constexpr std::size_t kBlockBytes = 4096;

/// Calls `step(i)`, for so many bytes each, for a time.
template <typename Step>
Measurement rate_of(const Setting& setting, std::size_t bytes_each, std::uint64_t stride,
                    Step&& step) {
  const Stopwatch watch;
  const std::uint64_t steps = repeat_for(setting.seconds, stride, [&](std::uint64_t i) {
    step(i);
    return true;
  });
  const Elapsed elapsed = watch.elapsed();
  const auto bytes = static_cast<double>(steps * bytes_each);
  Measurement measured;
  measured.values["mb_per_s"] = bytes / elapsed.seconds / 1e6;
  measured.values["cpu_s_per_gb"] = elapsed.cpu_seconds / bytes * 1e9;
  return measured;
}

Measurement copy_round(const Setting& setting) {
  const std::vector<char> from(64 * kMiB, 'x');
  std::vector<char> to(from.size(), 'y');
  return rate_of(setting, kMiB, 1, [&](std::uint64_t i) {
    const std::size_t at = i * kMiB % from.size();
    std::memcpy(&to[at], &from[at], kMiB);
  });
}

Measurement checksum_round(const Setting& setting) {
  const std::vector<std::byte> bytes(256 * kKiB, std::byte{7});
  std::uint32_t sum = 0;
  auto measured =
      rate_of(setting, bytes.size(), 4, [&](std::uint64_t) { sum = crc32c(sum, bytes); });
  measured.note = sum == 0 ? "a checksum of 0" : "";  // so that it has to be computed
  return measured;
}

/// A file whose blocks were all written, for direct I/O.
class WrittenFile {
 public:
  explicit WrittenFile(const Setting& setting)
      : scratch_(setting.directory, "limits"),
        file_(scratch_.path() / "file", O_RDWR | O_CREAT | O_DIRECT) {
    const AlignedBytes piece(kMiB);
    for (std::uint64_t offset = 0; offset < kFileBytes; offset += kMiB) {
      file_.write_at(piece.view(), offset);
    }
    file_.sync_data();
  }
  [[nodiscard]] const File& file() const { return file_; }

 private:
  Scratch scratch_;
  File file_;
};

Measurement write_round(const Setting& setting, const File& file, std::size_t bytes_each,
                        bool at_random, bool is_durable) {
  const AlignedBytes piece(bytes_each);
  std::mt19937_64 random(1);
  const std::uint64_t places = kFileBytes / bytes_each;
  return rate_of(setting, bytes_each, 1, [&](std::uint64_t i) {
    const std::uint64_t offset = (at_random ? random() : i) % places * bytes_each;
    is_durable ? file.write_durable_at(piece.view(), offset) : file.write_at(piece.view(), offset);
  });
}

Measurement read_round(const Setting& setting, const File& file) {
  // Aligned, and its bytes may as well be written to.
  const AlignedBytes piece(kMiB);
  const std::span to(reinterpret_cast<std::byte*>(const_cast<char*>(piece.view().data())), kMiB);
  return rate_of(setting, kMiB, 1, [&](std::uint64_t i) {
    static_cast<void>(file.read_at(to, i * kMiB % kFileBytes));
  });
}

}  // namespace

Row limits_row(const Setting& setting) {
  const auto lazy = std::make_shared<std::unique_ptr<WrittenFile>>();
  const auto file = [=]() -> const File& {
    if (!*lazy) {
      *lazy = std::make_unique<WrittenFile>(setting);
    }
    return (*lazy)->file();
  };
  Row row{.name = "limits",
          .what =
              "What this machine can do; one thread. The disk: direct I/O on a file of 1 GiB whose "
              "blocks were all written before.",
          .rounds = setting.rounds,
          .subjects = {}};
  const auto add = [&](const char* name, const char* what, std::function<Measurement()> round) {
    row.subjects.push_back(
        {.name = name, .what = what, .compared_by = "", .run_round = std::move(round)});
  };
  add("memory-copy", "memcpy of 1 MiB at a time, between two areas of 64 MiB",
      [=] { return copy_round(setting); });
  add("crc32c", "CRC32C of 256 KiB again and again", [=] { return checksum_round(setting); });
  add("write-1m", "1 MiB at a time, in order",
      [=] { return write_round(setting, file(), kMiB, false, false); });
  add("write-4k", "4 KiB at a time, in order",
      [=] { return write_round(setting, file(), kBlockBytes, false, false); });
  add("write-4k-random", "4 KiB at a time, in place, at random",
      [=] { return write_round(setting, file(), kBlockBytes, true, false); });
  add("durable-4k", "4 KiB at a time with RWF_DSYNC, in order",
      [=] { return write_round(setting, file(), kBlockBytes, false, true); });
  add("durable-4k-random", "4 KiB at a time with RWF_DSYNC, in place, at random",
      [=] { return write_round(setting, file(), kBlockBytes, true, true); });
  add("read-1m", "1 MiB at a time, in order", [=] { return read_round(setting, file()); });
  return row;
}

}  // namespace nori::bench
