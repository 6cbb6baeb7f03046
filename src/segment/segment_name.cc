#include "segment/segment_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace nori {

std::string segment_name(std::uint64_t segment_id) {
  return fmt::format("{:06}{}", segment_id, kSegmentSuffix);
}

std::string SegmentFile::name() const {
  return is_compacted ? fmt::format("{:06}-{:06}{}", first, last, kSegmentSuffix)
                      : segment_name(first);
}

std::optional<SegmentFile> parse_segment_name(std::string_view name) {
  if (!name.ends_with(kSegmentSuffix)) {
    return std::nullopt;
  }
  const auto stem = name.substr(0, name.size() - kSegmentSuffix.size());
  const auto* const stem_end = stem.data() + stem.size();
  SegmentFile file;
  auto read = std::from_chars(stem.data(), stem_end, file.first);
  file.last = file.first;
  if (read.ec == std::errc{} && read.ptr != stem_end && *read.ptr == '-') {
    file.is_compacted = true;
    read = std::from_chars(read.ptr + 1, stem_end, file.last);
  }
  if (read.ec != std::errc{} || read.ptr != stem_end || file.last < file.first ||
      file.name() != name) {
    return std::nullopt;
  }
  return file;
}

bool is_log_file_name(std::string_view name) {
  constexpr std::array kNames{kNextSegmentName, kCompactionName, kRingName,
                              kNewRingName,     kProbeName,      kLockName,
                              kQuarantineName,  kCursorsName,    kCursorsLockName};
  return std::ranges::find(kNames, name) != kNames.end() || parse_segment_name(name).has_value();
}

}  // namespace nori
