// One segment's file of any bytes.
//
//   input   1  bit 0: its checksums are made to match
//              bit 1: it has the name that its header says; else it is 000000.wal
//              bit 2: it ends in a block of zeros, as reserved space does
//              bit 3: opening it for writing reads all of it
//           .. the file
//
// What readers find is compared with what format/ alone says of the bytes; then all that holds of
// any directory is required.

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/little_endian.h"
#include "format/frame.h"
#include "format/record.h"
#include "format/segment_header.h"
#include "format/value_compression.h"
#include "fuzz/input.h"
#include "fuzz/log_check.h"
#include "fuzz/require.h"
#include "fuzz/signing.h"
#include "segment/segment_name.h"
#include "segment/segment_reader.h"
#include "testing/simulated_disk.h"

namespace nori::fuzz {
namespace {

using testing::SimulatedDisk;

// What can be read of the file before anything in it is wrong.
struct Expected {
  std::vector<OwnedEntry> entries;
  bool is_malformed = false;    ///< A frame that is valid holds records that are not.
  bool is_unsupported = false;  ///< A gap frame.
  FrameChain chain;
};

// Adds a frame's records. False where they are malformed.
bool add_records(const FrameHeader& header, ByteView payload, Expected& expected) {
  for (std::uint32_t i = 0; i < header.record_count; ++i) {
    const auto stored = decode_record(payload);
    std::string_view value;
    ValueBuffer buffer;
    if (!stored || (stored->compression != Compression::none &&
                    !buffer.decompress(stored->compression, stored->record.value,
                                       stored->plain_bytes, value))) {
      return false;
    }
    const auto* const record = &stored->record;
    OwnedEntry entry;
    entry.sequence = header.first_sequence + i;
    entry.key = record->key;
    entry.value = stored->compression == Compression::none ? record->value : value;
    entry.op = record->op;
    entry.expires_at = record->expires_at;
    expected.entries.push_back(std::move(entry));
  }
  return payload.empty();
}

Expected expect(ByteView file, const SegmentHeader& header) {
  Expected expected;
  auto& chain = expected.chain;
  chain = {.next_sequence = header.first_sequence, .epoch = header.epoch};
  auto offset = header.first_offset;
  while (offset < file.size()) {
    const auto bytes = file.subspan(offset);
    const auto frame = decode_frame_header(bytes, place_seed(header.seed(), offset));
    if (!frame || frame->frame_bytes() > bytes.size()) {
      break;
    }
    const auto payload = bytes.subspan(kFrameHeaderBytes, frame->payload_bytes);
    if (!payload_matches(*frame, payload) || !chain.continued_by(*frame, payload)) {
      break;
    }
    if (frame->kind == FrameKind::rotation &&
        decode_rotation(payload)->next_segment_id != header.first_segment + 1) {
      break;
    }
    if (frame->kind == FrameKind::gap) {
      expected.is_unsupported = true;
      break;
    }
    // Opening goes on behind malformed records, reading does not.
    if (frame->kind == FrameKind::records && !expected.is_malformed &&
        !add_records(*frame, payload, expected)) {
      expected.is_malformed = true;
    }
    chain.advance(*frame);
    offset += frame->frame_bytes();
    if (frame->kind == FrameKind::rotation) {
      break;
    }
  }
  return expected;
}

// A view is what the file holds there, however the window moves.
void check_views(SegmentReader& segment, ByteView file) {
  for (const std::uint64_t offset :
       {std::uint64_t{0}, std::uint64_t{file.size() / 2}, std::uint64_t{file.size()},
        std::uint64_t{file.size() + 1}, UINT64_MAX}) {
    for (const std::uint64_t bytes : {std::uint64_t{1}, std::uint64_t{kFrameHeaderBytes},
                                      kFrameHeaderBytes + kPayloadBytesMax}) {
      const auto view = segment.view(offset, bytes);
      require(view.has_value(), "a view is no place to fail");
      const auto there = file.subspan(std::min<std::uint64_t>(offset, file.size()));
      require(std::ranges::equal(*view, there.first(std::min<std::uint64_t>(bytes, there.size()))),
              "a view of other bytes");
    }
  }
}

void check_reader(SimulatedDisk& disk, const Expected& expected) {
  const auto opened = Wal::open(small_options(disk, OpenMode::read_only, Verification::all));
  if (!opened) {
    require(opened.error().code == ErrorCode::unsupported_version && expected.is_unsupported,
            "a segment with a good header is no log");
    return;
  }
  require(!expected.is_unsupported, "a gap frame was passed over");
  auto reader = opened->wal.read_from(begin_of_log);
  require(reader.has_value(), "a log without a beginning");
  for (const auto& due : expected.entries) {
    const auto entry = reader->next();
    require(entry && *entry, "a record is missing");
    require((*entry)->sequence == due.sequence && (*entry)->key == due.key &&
                (*entry)->value == due.value && (*entry)->op == due.op &&
                (*entry)->expires_at == due.expires_at,
            "another record");
  }
  const auto last = reader->next();
  require(!last || !*last, "a record too many");
  require(!expected.is_malformed || !last, "malformed records pass for the end");
  require(opened->wal.current_position().sequence == expected.chain.next_sequence,
          "opening finds another end than the frames say");
}

void check(Input input) {
  const auto mode = input.take<std::uint8_t>();
  const auto rest = input.rest();
  std::vector<std::byte> file(rest.begin(), rest.end());
  if ((mode & 1) != 0) {
    sign_segment(file);
  }
  if ((mode & 4) != 0) {
    file.resize(round_up(file.size(), 4096) + 4096);
  }
  const auto header = decode_segment_header(file);
  const std::uint64_t id = (mode & 2) != 0 && header ? header->first_segment : 0;
  SimulatedDisk disk(1);
  require(disk.write_file("log/" + segment_name(id), file).has_value(), "no file");

  const auto directory = disk.open_directory("log", false);
  require(directory.has_value(), "no directory");
  const auto segment = SegmentReader::open(**directory, id);
  require(segment && (*segment)->header().has_value() == header.has_value(),
          "a header is read otherwise than decoded");
  check_views(**segment, file);
  if ((*segment)->header_fits()) {
    require((*segment)->footer().has_value() && (*segment)->close_frame().has_value(),
            "bad bytes are no failure");
    check_reader(disk, expect(file, *header));
  }
  check_log(disk, nullptr, (mode & 8) != 0 ? Verification::all : Verification::tail);
}

}  // namespace
}  // namespace nori::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nori::fuzz::check(nori::fuzz::Input(data, size));
  return 0;
}
