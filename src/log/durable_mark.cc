#include "log/durable_mark.h"

#include <cerrno>

#include "base/try.h"
#include "log/log_scan.h"
#include "segment/segment_reader.h"

namespace nori {

Result<Sequence> durable_mark_on_disk(io::Directory& directory, const LogId& log_id,
                                      RingView* ring) {
  if (ring != nullptr) {
    const auto mark = NORI_TRY(ring->mark());
    return mark ? mark->durable_mark : 0;
  }
  const auto segments = NORI_TRY(list_log(directory)).segments;
  if (segments.empty()) {
    return 0;
  }
  const auto segment = NORI_TRY(SegmentReader::open_if_there(directory, segments.back()));
  if (segment == nullptr || !segment->header_fits() || segment->header()->log_id != log_id) {
    return 0;
  }
  const auto close = NORI_TRY(segment->close_frame());
  return close ? close->header.durable_mark : segment->header()->durable_mark;
}

}  // namespace nori
