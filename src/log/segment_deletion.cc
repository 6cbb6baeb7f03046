#include "log/segment_deletion.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/try.h"
#include "cursor/cursor_files.h"
#include "segment/segment_reader.h"
#include "snapshot/snapshot_files.h"

namespace nori {
namespace {

TimePoint time_of(std::uint64_t ms) {
  return TimePoint{std::chrono::milliseconds{static_cast<std::int64_t>(ms)}};
}

}  // namespace

std::shared_ptr<std::atomic<bool>> DropNotices::add(const std::string& name) {
  auto notice = std::make_shared<std::atomic<bool>>(false);
  const std::lock_guard lock(mutex_);
  std::erase_if(notices_, [](const auto& one) { return one.second.expired(); });
  notices_[name] = notice;
  return notice;
}

void DropNotices::dropped(const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (const auto found = notices_.find(name); found != notices_.end()) {
    if (const auto notice = found->second.lock(); notice != nullptr) {
      notice->store(true);
    }
  }
}

// What the request would have, were there nobody who needs it. With mutex_.
Result<SegmentDeletion::Candidates> SegmentDeletion::candidates(const Request& request) {
  const auto files = NORI_TRY(list_log(directory_)).segments;
  const auto& policy = request.policy;
  std::uint64_t bytes_left = 0;
  std::vector<std::uint64_t> sizes;
  for (const auto& file : files) {
    const auto segment = NORI_TRY(SegmentReader::open(directory_, file));
    sizes.push_back(NORI_TRY(segment->size()));
    bytes_left += sizes.back();
  }
  const auto now_ms = this->now_ms();
  const auto age_ms = static_cast<std::uint64_t>(policy.max_age.count());
  Candidates found;
  for (std::size_t i = 0; i + 1 < files.size() && files[i].last < request.active_segment_id; ++i) {
    const auto next = NORI_TRY(SegmentReader::open(directory_, files[i + 1]));
    if (!next->header_fits() || next->header()->log_id != log_id_) {
      break;
    }
    // A segment is made at the time of the last frame before it.
    const auto last_ms = next->header()->created_ms;
    const bool is_old =
        policy.max_age > policy.max_age.zero() && last_ms < now_ms && now_ms - last_ms > age_ms;
    const bool is_too_much = policy.max_bytes != 0 && bytes_left > policy.max_bytes;
    const auto end_sequence = next->header()->first_sequence;
    if (request.before ? end_sequence > *request.before : !is_old && !is_too_much) {
      break;
    }
    if (request.not_durable) {
      const auto segment = NORI_TRY(SegmentReader::open(directory_, files[i]));
      if (!segment->header_fits() || !NORI_TRY(segment->footer())) {
        found.unsealed_follows = true;
        break;
      }
    }
    bytes_left -= sizes[i];
    found.wanted.push_back({.file = files[i], .bytes = sizes[i], .end_sequence = end_sequence});
  }
  return found;
}

namespace {

// Whether the place is unknown, or in front of where the segment's records end.
bool needs(const DerivedPlace& place, Sequence end_sequence) {
  return place.unreadable || place.position.sequence < end_sequence;
}

}  // namespace

// Cursors that hold back more than they may. With cursors.lock, so that none of them moves.
Result<void> SegmentDeletion::drop_laggards(std::vector<DerivedPlace>& places,
                                            const std::vector<Candidate>& candidates,
                                            io::Directory& cursors) {
  for (auto place = places.begin(); place != places.end();) {
    std::uint64_t bytes_held = 0;
    for (const auto& candidate : candidates) {
      bytes_held += needs(*place, candidate.end_sequence) ? candidate.bytes : 0;
    }
    if (place->unreadable || place->lag_bytes_max == 0 || bytes_held <= place->lag_bytes_max) {
      ++place;
      continue;
    }
    NORI_TRY(cursors.remove(cursor_file_name(place->name)));
    drops->dropped(place->name);
    observer_->events.post(ConsumerDropped{.name = place->name,
                                           .position = place->position,
                                           .bytes_held = bytes_held,
                                           .lag_bytes_max = place->lag_bytes_max});
    place = places.erase(place);
  }
  return {};
}

Result<SegmentDeletion::Done> SegmentDeletion::plan(const Request& request) {
  const std::lock_guard lock(mutex_);
  const auto places = NORI_TRY(read_derived_places(directory_, log_id_));
  Done done;
  const auto wanted = NORI_TRY(candidates(request)).wanted;
  for (const auto& candidate : wanted) {
    if (snapshot->at() < candidate.end_sequence ||
        std::ranges::any_of(places, [&](const DerivedPlace& place) {
          std::uint64_t held = 0;
          for (const auto& one : wanted) {
            held += needs(place, one.end_sequence) ? one.bytes : 0;
          }
          const bool is_dropped =
              !place.unreadable && place.lag_bytes_max != 0 && held > place.lag_bytes_max;
          return needs(place, candidate.end_sequence) && !is_dropped;
        })) {
      break;
    }
    ++done.segments;
    done.bytes += candidate.bytes;
    done.end_sequence = candidate.end_sequence;
  }
  return done;
}

Result<SegmentDeletion::Done> SegmentDeletion::run(const Request& request) {
  const std::lock_guard lock(mutex_);
  Done done;
  const auto [wanted, unsealed_follows] = NORI_TRY(candidates(request));
  // A deletion that a crash or an error cut short may yet be undone: were it then missing before
  // one that was not, the rest would be no suffix.
  if (!deletions_are_durable_) {
    NORI_TRY(directory_.sync());
    deletions_are_durable_ = true;
  }
  if (!wanted.empty()) {
    const auto listing = NORI_TRY(list_log(directory_));
    NORI_TRY(remove_void_segments(directory_, listing));
    NORI_TRY(remove_unneeded(request, wanted, done));
  }
  if (unsealed_follows) {
    return std::unexpected(*request.not_durable);
  }
  return done;
}

Result<void> SegmentDeletion::remove_unneeded(const Request& request,
                                              const std::vector<Candidate>& wanted, Done& done) {
  const auto guard = lock_cursors(file_system_, directory_, request.lock_timeout);
  // A disk without room for a lock's name has none for a cursor's either.
  if (!guard && guard.error().code != ErrorCode::no_space) {
    return std::unexpected(guard.error());
  }
  auto places = NORI_TRY(read_derived_places(directory_, log_id_));
  report_unreadable(places);
  if (const auto cursors = NORI_TRY(find_cursors(directory_)); cursors != nullptr) {
    NORI_TRY(drop_laggards(places, wanted, *cursors));
    // What was read may be newer than what a power cut leaves.
    NORI_TRY(cursors->sync());
  }
  NORI_TRY(settle_snapshots(directory_));
  const auto reader = request.before ? nullptr : readers->last();
  for (const auto& candidate : wanted) {
    if ((reader != nullptr && reader->segment_id() <= candidate.file.last) ||
        snapshot->at() < candidate.end_sequence ||
        std::ranges::any_of(
            places, [&](const auto& place) { return needs(place, candidate.end_sequence); })) {
      break;
    }
    if (request.segments_max != 0 && done.segments == request.segments_max) {
      done.there_is_more = true;
      break;
    }
    NORI_TRY(remove(candidate, done));
  }
  return {};
}

Result<void> SegmentDeletion::remove(const Candidate& candidate, Done& done) {
  deletions_are_durable_ = false;
  NORI_TRY(directory_.remove(candidate.file.name()));
  deleted_before_.store(candidate.end_sequence);
  NORI_TRY(directory_.sync());
  deletions_are_durable_ = true;
  ++count_;
  ++done.segments;
  done.bytes += candidate.bytes;
  done.end_sequence = candidate.end_sequence;
  return {};
}

Result<CompactionLimits> SegmentDeletion::compaction_limits() {
  CompactionLimits limits;
  for (const auto& place : NORI_TRY(read_derived_places(directory_, log_id_))) {
    auto& limit = place.what == kSnapshotWhat ? limits.drop_before : limits.compact_before;
    limit = place.unreadable ? 0 : std::min(limit, place.position.sequence);
  }
  // What was read may be newer than what a power cut leaves.
  if (const auto cursors = NORI_TRY(find_cursors(directory_)); cursors != nullptr) {
    NORI_TRY(cursors->sync());
  }
  NORI_TRY(settle_snapshots(directory_));
  return limits;
}

bool SegmentDeletion::take_snapshot_turn(Sequence at) {
  const std::lock_guard lock(mutex_);
  return snapshot->take(at);
}

std::uint64_t SegmentDeletion::now_ms() {
  const std::lock_guard lock(clock_mutex_);
  return clock_.now_ms(file_system_.now_ms(), GuardedClock::Running::now());
}

void SegmentDeletion::report_unreadable(const std::vector<DerivedPlace>& places) {
  for (const auto& place : places) {
    if (place.unreadable) {
      const std::lock_guard lock(told_mutex_);
      if (told_unreadable_.insert(place.name).second) {
        observer_->events.post(CursorUnreadable{.name = place.name, .error = *place.unreadable});
      }
    }
  }
}

std::vector<Hold> SegmentDeletion::holds(std::uint64_t active_segment_id) {
  struct Sealed {
    SegmentFile file;
    std::uint64_t bytes = 0;
    Sequence first_sequence = 0;
    Sequence end_sequence = 0;
  };
  std::vector<Sealed> sealed;
  const auto listing = list_log(directory_);
  if (!listing) {
    return {};
  }
  for (const auto& file : listing->segments) {
    const auto segment = SegmentReader::open(directory_, file);
    if (!segment || !(*segment)->header_fits()) {
      continue;
    }
    const auto first = (*segment)->header()->first_sequence;
    if (!sealed.empty()) {
      sealed.back().end_sequence = first;
    }
    if (file.last >= active_segment_id) {
      break;
    }
    sealed.push_back({.file = file,
                      .bytes = (*segment)->size().value_or(0),
                      .first_sequence = first,
                      .end_sequence = first});
  }
  std::vector<Hold> holds;
  if (const auto places = read_derived_places(directory_, log_id_); places) {
    for (const auto& place : *places) {
      Hold hold{.what = std::string(place.what),
                .name = place.name,
                .since = time_of(place.since_ms),
                .position = place.position,
                .bytes_held = 0,
                .unreadable = place.unreadable};
      for (const auto& one : sealed) {
        hold.bytes_held += needs(place, one.end_sequence) ? one.bytes : 0;
      }
      holds.push_back(std::move(hold));
    }
  }
  if (const auto reader = readers->last(); reader != nullptr) {
    Hold hold{.what = "reader",
              .name = {},
              .since = time_of(reader->since_ms()),
              .position = {.segment_id = reader->segment_id()},
              .bytes_held = 0,
              .unreadable = std::nullopt};
    for (const auto& one : sealed) {
      if (one.file.last >= reader->segment_id()) {
        hold.position.sequence = hold.bytes_held == 0 ? one.first_sequence : hold.position.sequence;
        hold.bytes_held += one.bytes;
      }
    }
    holds.push_back(std::move(hold));
  }
  std::erase_if(holds, [](const Hold& hold) { return hold.bytes_held == 0 && !hold.unreadable; });
  return holds;
}

}  // namespace nori
