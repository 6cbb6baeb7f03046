#include "log/log_listing.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/try.h"

namespace nori {
namespace {

// Leaves out what lies within the range of another one.
void sort_out_covered(LogListing& listing) {
  std::ranges::sort(listing.segments, {}, [](const SegmentFile& file) {
    return std::tuple(file.first, ~file.last, !file.is_compacted);
  });
  std::vector<SegmentFile> left;
  for (const auto& file : listing.segments) {
    if (!left.empty() && file.last <= left.back().last) {
      listing.void_segments.push_back(file.name());
    } else {
      left.push_back(file);
    }
  }
  listing.segments = std::move(left);
}

}  // namespace

std::optional<SegmentFile> LogListing::file_of(std::uint64_t segment_id) const {
  const auto found = std::ranges::lower_bound(segments, segment_id, {}, &SegmentFile::last);
  return found != segments.end() && found->covers(segment_id) ? std::optional(*found)
                                                              : std::nullopt;
}

std::vector<SegmentFile> LogListing::behind(std::uint64_t segment_id) const {
  return {std::ranges::upper_bound(segments, segment_id, {}, &SegmentFile::first), segments.end()};
}

Result<LogListing> list_log(io::Directory& directory) {
  LogListing listing;
  for (auto& name : NORI_TRY(directory.list())) {
    if (const auto file = parse_segment_name(name); file) {
      listing.segments.push_back(*file);
    } else if (name.ends_with(kSegmentSuffix)) {
      listing.foreign_segments.push_back(std::move(name));
    } else if (name == kRingName) {
      listing.has_ring = true;
    } else if (name == kNextSegmentName || name == kCompactionName || name == kNewRingName ||
               name == kProbeName) {
      listing.void_files.push_back(std::move(name));
    } else if (!is_log_file_name(name) && name != "lost+found") {
      listing.foreign_files.push_back(std::move(name));
    }
  }
  sort_out_covered(listing);
  std::ranges::sort(listing.foreign_files);
  return listing;
}

}  // namespace nori
