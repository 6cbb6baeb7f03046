#include "nori/garbage.h"

#include <cerrno>
#include <limits>

#include "base/make_error.h"
#include "base/try.h"
#include "io/file_system.h"
#include "log/live_records.h"
#include "segment/segment_reader.h"

namespace nori {
namespace {

constexpr int kAttemptsMax = 20;

// The log's files, sealed or not.
Result<std::vector<SealedFile>> read_files(io::Directory& directory) {
  std::vector<SealedFile> files;
  for (const auto& name : NORI_TRY(list_log(directory)).segments) {
    const auto segment = NORI_TRY(SegmentReader::open(directory, name));
    if (!segment->header_fits()) {
      return make_error(ErrorCode::damaged, "{} at offset 0: bad segment header; verify the log",
                        (directory.path() / name.name()).string());
    }
    files.push_back({.name = name,
                     .header = *segment->header(),
                     .summary = {},
                     .bytes = NORI_TRY(segment->size())});
  }
  if (files.empty()) {
    return make_error(ErrorCode::not_a_log, "{}: there is no log here", directory.path().string());
  }
  return files;
}

Result<std::vector<SegmentGarbage>> find_once(io::FileSystem& file_system, io::Directory& directory,
                                              std::uint64_t memory_bytes) {
  const auto files = NORI_TRY(read_files(directory));
  // A tombstone that nothing is left for to hide is garbage too.
  const DropRule rule{.before = std::numeric_limits<Sequence>::max(),
                      .now_ms = file_system.now_ms()};
  const auto live = NORI_TRY(find_live_records(
      directory, files.front().header.log_id, files, rule, memory_bytes, file_system.random_bits(),
      [](std::uint64_t) -> Result<void> { return {}; }, RangeEnd::log_end));
  std::vector<SegmentGarbage> garbage;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto& found = live.files[i];
    garbage.push_back({.segment_id = files[i].name.first,
                       .file = files[i].name.name(),
                       .records = found.records_all,
                       .records_live = found.records,
                       .bytes = found.bytes_all,
                       .bytes_live = found.bytes,
                       .tombstones = found.tombstones_all});
  }
  return garbage;
}

}  // namespace

Result<std::vector<SegmentGarbage>> find_garbage(const std::filesystem::path& path,
                                                 io::FileSystem* file_system,
                                                 std::uint64_t memory_bytes) {
  auto& files = file_system != nullptr ? *file_system : io::posix_file_system();
  const auto directory = NORI_TRY(files.open_directory(path, false));
  for (int attempt = 0;; ++attempt) {
    auto found = find_once(files, *directory, memory_bytes);
    // Beside a live writer a segment may go between its listing and its reading.
    if (found || found.error().system_errno != ENOENT || attempt == kAttemptsMax) {
      return found;
    }
  }
}

}  // namespace nori
