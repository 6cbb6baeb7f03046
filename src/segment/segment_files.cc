#include "segment/segment_files.h"

#include <cstring>

#include "base/try.h"
#include "segment/aligned_buffer.h"
#include "segment/segment_name.h"

namespace nori {

Result<void> write_segment_header(io::File& file, const SegmentHeader& header) {
  AlignedBuffer block(header.first_offset);
  std::memset(block.data(), 0, block.size());
  encode_segment_header(header, block.data());
  return file.write_at(0, block.span(), {}, false);
}

Result<void> create_segment(io::Directory& directory, const SegmentHeader& header,
                            const WriteMode& mode) {
  const auto file = NORI_TRY(directory.open(kNextSegmentName, mode.access, io::Creation::replace));
  NORI_TRY(write_segment_header(*file, header));
  NORI_TRY(file->sync());
  NORI_TRY(directory.rename(kNextSegmentName, segment_name(header.first_segment)));
  return directory.sync();
}

Result<void> write_footer(io::File& file, const SegmentSummary& summary, std::uint32_t segment_seed,
                          const WriteMode& mode) {
  if (summary.end_offset % mode.block_bytes != 0) {
    return {};
  }
  const auto footer = encode_footer(summary, segment_seed, mode.block_bytes);
  AlignedBuffer bytes(footer.size());
  std::memcpy(bytes.data(), footer.data(), footer.size());
  NORI_TRY(file.truncate(summary.end_offset + footer.size()));
  NORI_TRY(file.write_at(summary.end_offset, bytes.span(), {}, false));
  return file.sync();
}

}  // namespace nori
