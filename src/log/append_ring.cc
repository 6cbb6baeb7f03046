#include "log/append_ring.h"

#include <algorithm>

#include "base/try.h"
#include "segment/block_writer.h"
#include "segment/segment_name.h"

namespace nori {

Result<std::unique_ptr<AppendRing>> AppendRing::create(io::Directory& directory,
                                                       const LogId& log_id,
                                                       std::uint64_t ring_bytes,
                                                       const RingMark& mark) {
  auto prepared = [&]() -> Result<void> {
    const auto file =
        NORI_TRY(directory.open(kNewRingName, io::Access::write_buffered, io::Creation::replace));
    NORI_TRY(file->allocate(0, kRingDataOffset + ring_bytes));
    // Written, not only allocated: else every first store would begin a journal entry.
    BlockWriter writer(*file, 0, kRingDataOffset);
    NORI_TRY(writer.write_zeros(kRingDataOffset + ring_bytes));
    return writer.finish();
  }();
  if (!prepared) {
    static_cast<void>(directory.remove(kNewRingName));  // what it holds of a full disk
    return std::unexpected(std::move(prepared).error());
  }
  std::unique_ptr<AppendRing> ring(new AppendRing);
  ring->mapping_ = NORI_TRY(directory.map(kNewRingName));
  ring->log_id_ = log_id;
  ring->data_ = ring->mapping_->bytes().subspan(kRingDataOffset, ring_bytes);
  ring->mask_ = ring_bytes - 1;
  encode_ring_header({.log_id = log_id, .ring_bytes = ring_bytes}, ring->mapping_->bytes().data());
  ring->set_mark(mark);
  ring->mapping_->populate();
  NORI_TRY(directory.rename(kNewRingName, kRingName));
  NORI_TRY(directory.sync());
  return ring;
}

void AppendRing::set_mark(const RingMark& mark) noexcept {
  encode_ring_mark(mark, log_id_, slot_++, mapping_->bytes().first(kRingDataOffset));
}

}  // namespace nori
