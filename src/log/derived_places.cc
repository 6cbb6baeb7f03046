#include "log/derived_places.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "base/try.h"
#include "cursor/cursor_files.h"
#include "snapshot/snapshot_files.h"

namespace nori {

Result<std::vector<DerivedPlace>> read_derived_places(io::Directory& directory,
                                                      const std::optional<LogId>& log_id) {
  std::vector<DerivedPlace> places;
  if (const auto cursors = NORI_TRY(find_cursors(directory)); cursors != nullptr) {
    for (auto& [name, value] : NORI_TRY(read_cursors(*cursors))) {
      DerivedPlace place;
      place.what = kCursorWhat;
      place.name = std::move(name);
      if (value) {
        place.log_id = value->log_id;
        place.position = value->position;
        place.since_ms = value->committed_ms;
        place.lag_bytes_max = value->lag_bytes_max;
      } else {
        place.unreadable = std::move(value).error();
      }
      places.push_back(std::move(place));
    }
  }
  for (const auto& file : NORI_TRY(list_snapshots(directory))) {
    if (file.valid && (!log_id || file.log_id == log_id->bytes)) {
      DerivedPlace place;
      place.what = kSnapshotWhat;
      place.name = file.name;
      place.log_id = LogId{*file.log_id};
      place.position.sequence = file.sequence;
      place.since_ms = static_cast<std::uint64_t>(
          std::chrono::duration_cast<std::chrono::milliseconds>(file.created.time_since_epoch())
              .count());
      places.push_back(std::move(place));
    }
  }
  if (log_id) {
    refuse_foreign(places, *log_id);
  }
  return places;
}

void refuse_foreign(std::vector<DerivedPlace>& places, const LogId& log_id) {
  for (auto& place : places) {
    if (!place.unreadable && place.log_id != log_id) {
      place.unreadable =
          Error{.code = ErrorCode::damaged,
                .message = fmt::format("{} {} is of another log; nothing is deleted until it is "
                                       "moved away or dropped",
                                       place.what, place.name)};
    }
  }
}

const DerivedPlace* furthest(const std::vector<DerivedPlace>& places) {
  const DerivedPlace* found = nullptr;
  for (const auto& place : places) {
    if (!place.unreadable && (found == nullptr || place.position > found->position)) {
      found = &place;
    }
  }
  return found;
}

std::string evidence_in(const std::vector<DerivedPlace>& places, Sequence next_sequence) {
  const auto* const place = furthest(places);
  if (place == nullptr || place->position.sequence <= next_sequence) {
    return {};
  }
  return fmt::format("{} {} says that everything before record {} was durable", place->what,
                     place->name, place->position.sequence);
}

}  // namespace nori
