// The acts that make and finish a segment's file, each whole or repeatable after a crash.

#pragma once

#include <cstdint>
#include <memory>

#include "format/segment_footer.h"
#include "format/segment_header.h"
#include "io/file_system.h"
#include "nori/error.h"

namespace nori {

/// How a log writes its segments.
struct WriteMode {
  io::Access access = io::Access::write_buffered;
  std::uint64_t block_bytes = 4096;
};

/// Writes the header and the zeros behind it, up to first_offset. Not synced.
[[nodiscard]] Result<void> write_segment_header(io::File& file, const SegmentHeader& header);

/// Makes a segment that holds a header and nothing else, durable on return.
[[nodiscard]] Result<void> create_segment(io::Directory& directory, const SegmentHeader& header,
                                          const WriteMode& mode);

/// Ends the file of a segment, whose frames and whose successor's header and name are durable, in
/// its footer. Nothing happens where the frames do not end at a block's end.
[[nodiscard]] Result<void> write_footer(io::File& file, const SegmentSummary& summary,
                                        std::uint32_t segment_seed, const WriteMode& mode);

}  // namespace nori
