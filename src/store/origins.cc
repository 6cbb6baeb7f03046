#include "store/origins.h"

#include <utility>

#include "base/make_error.h"
#include "base/try.h"

namespace nori {
namespace {

constexpr int kAttemptsMax = 10;

}  // namespace

Result<Origin> Origins::next() {
  SnapshotReadOptions reading{.file_system = options_.file_system};
  if (!skipped_.empty()) {
    reading.before = skipped_.back().sequence;
  }
  auto found = NORI_TRY(SnapshotReader::open(options_.directory, reading));
  skipped_.insert(skipped_.end(), found.skipped.begin(), found.skipped.end());
  Origin origin;
  if (found.reader) {
    origin.name = found.reader->file().name;
    origin.from = found.reader->file().sequence;
    origin.snapshot = std::move(found.reader);
  }
  return origin;
}

Result<void> Origins::go_on_after(const Origin& origin, Part part, Error error) {
  if (part == Part::snapshot && error.code == ErrorCode::damaged) {
    skipped_.push_back(
        {.name = origin.name, .sequence = origin.from, .reason = std::move(error).message});
    return {};
  }
  if (part != Part::log || error.code != ErrorCode::gone) {
    return std::unexpected(std::move(error));
  }
  if (options_.mode == OpenMode::read_only && attempts_++ < kAttemptsMax) {
    skipped_.clear();
    return {};
  }
  return make_error(
      ErrorCode::damaged, "{}: a store's log has to go back to {}, and begins at record {}{}",
      options_.directory.string(),
      origin.name.empty()
          ? std::string("record 0, without a snapshot")
          : fmt::format("record {}, where snapshot {} ends", origin.from, origin.name),
      wal_.stats().first_sequence,
      skipped_.empty() ? "" : fmt::format("; not valid: {}", skipped_.front().reason));
}

}  // namespace nori
