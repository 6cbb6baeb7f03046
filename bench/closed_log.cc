#include "bench/closed_log.h"

#include <fcntl.h>

#include <span>
#include <vector>

#include "base/crc32c.h"
#include "bench/expect.h"
#include "bench/workload.h"
#include "nori/wal.h"

namespace nori::bench {
namespace {

constexpr std::size_t kChunkBytes = 256 * kKiB;

/// Calls `use` with each chunk of each segment.
template <typename Use>
void for_each_chunk(const std::filesystem::path& directory, Use&& use) {
  std::vector<std::byte> chunk(kChunkBytes);
  for (const auto& path : segment_files(directory)) {
    const File file(path, O_RDONLY);
    std::uint64_t offset = 0;
    while (const std::size_t bytes = file.read_at(chunk, offset)) {
      use(std::span<const std::byte>(chunk).first(bytes));
      offset += bytes;
    }
  }
}

}  // namespace

ClosedLog::ClosedLog(const Setting& setting, std::string_view name, std::uint64_t bytes)
    : scratch_(setting.directory, name) {
  const Workload workload(1024);
  WalOptions options;
  options.directory = path();
  options.fsync = FsyncPolicy::os();
  Wal wal = expect(Wal::open(options)).wal;
  for (; records_ * workload.record_bytes() < bytes; ++records_) {
    const BenchRecord& record = workload.record(records_);
    expect(wal.append(Record::put(record.key, record.value)));
  }
  expect(wal.close());
  for (const auto& file : segment_files(path())) {
    bytes_on_disk_ += std::filesystem::file_size(file);
  }
}

void ClosedLog::warm() const {
  for_each_chunk(path(), [](std::span<const std::byte> /*chunk*/) {});
}

void ClosedLog::cool() const {
  for (const auto& file : segment_files(path())) {
    File(file, O_RDONLY).drop_cache();
  }
}

std::uint32_t read_and_checksum(const ClosedLog& log, std::uint64_t& bytes_read) {
  std::uint32_t crc = 0;
  for_each_chunk(log.path(), [&](std::span<const std::byte> chunk) {
    crc = crc32c(crc, chunk);
    bytes_read += chunk.size();
  });
  return crc;
}

}  // namespace nori::bench
