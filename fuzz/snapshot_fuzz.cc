// A snapshot's file of any bytes.
//
//   input   1  bit 0: its checksums are made to match
//              bit 1: it has the name that its header says; else 00000000000000000002.snapshot
//           1  how many parts it is read in
//           1  how many bytes of the file, from its end, are a key to look for
//           .. the file
//
// Whatever the bytes are: reading ends, keys ascend, sequences lie before the snapshot's, parts
// together are the whole, a key that was read is found, and what verifying accepts is read without
// an error.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "base/little_endian.h"
#include "base/varint.h"
#include "format/snapshot_block.h"
#include "format/snapshot_header.h"
#include "format/snapshot_index.h"
#include "fuzz/input.h"
#include "fuzz/require.h"
#include "fuzz/signing.h"
#include "nori/snapshot.h"
#include "snapshot/snapshot_files.h"
#include "snapshot/snapshot_reader.h"
#include "testing/simulated_disk.h"

namespace nori::fuzz {
namespace {

using testing::SimulatedDisk;

void sign(ByteSpan bytes, std::size_t crc_at, std::uint32_t seed, ByteView covered) {
  if (load_le<std::uint32_t>(&bytes[crc_at]) != kKeepChecksum) {
    store_le(&bytes[crc_at], crc32c(seed, covered));
  }
}

// Header, footer, index, and the blocks as the index has them, as far as they go.
void sign_snapshot(ByteSpan file) {
  if (file.size() < kSnapshotHeaderBytes + kSnapshotFooterBytes + kSnapshotIndexBytesMin) {
    return;
  }
  SnapshotHeader header;
  std::copy_n(file.begin() + 16, 16, header.log_id.bytes.begin());
  header.sequence = load_le<std::uint64_t>(&file[32]);
  const auto seed = header.seed();
  sign(file, 124, place_seed(seed, 0), file.first(124));
  const auto footer_offset = file.size() - kSnapshotFooterBytes;
  const auto footer = file.subspan(footer_offset);
  const auto index_offset = load_le<std::uint64_t>(&footer[8]);
  sign(footer, 60, place_seed(seed, footer_offset), footer.first(60));
  if (index_offset < kSnapshotHeaderBytes || index_offset + 4 > footer_offset ||
      index_offset > footer_offset) {
    return;
  }
  const auto index = file.subspan(index_offset, footer_offset - index_offset);
  sign(index, 0, place_seed(seed, index_offset), index.subspan(4));
  const auto* at = index.data() + 4;
  const auto* const end = index.data() + index.size();
  for (std::uint64_t offset = kSnapshotHeaderBytes; at != end;) {
    std::uint64_t block_bytes = 0;
    std::uint64_t separator_bytes = 0;
    if ((at = load_varint(at, end, block_bytes)) == nullptr ||
        (at = load_varint(at, end, separator_bytes)) == nullptr ||
        separator_bytes > static_cast<std::uint64_t>(end - at) || block_bytes < 4 ||
        block_bytes > index_offset - offset) {
      return;
    }
    const auto block = file.subspan(offset, block_bytes);
    sign(block, 0, place_seed(seed, offset), block.subspan(4));
    at += separator_bytes;
    offset += block_bytes;
  }
}

struct Read {
  std::vector<std::string> keys;
  bool ended = false;  ///< Without an error.
};

Read read_all(SnapshotReader& reader, Sequence sequence) {
  Read read;
  while (true) {
    const auto entry = reader.next();
    if (!entry || !*entry) {
      read.ended = entry.has_value();
      const auto again = reader.next();
      require(again.has_value() == entry.has_value() && (!again || !*again),
              "the end, or what is wrong, does not stay so");
      return read;
    }
    require((*entry)->sequence < sequence, "an entry of a later record");
    require(read.keys.empty() || (*entry)->key > read.keys.back(), "keys that do not ascend");
    read.keys.emplace_back((*entry)->key);
  }
}

void check_reader(SnapshotReader& reader, std::size_t parts, std::string_view sought,
                  bool is_verified) {
  const auto sequence = reader.file().sequence;
  const auto whole = read_all(reader, sequence);
  require(!is_verified || (whole.ended && whole.keys.size() == reader.file().entries),
          "what was verified is not so");

  Read together{.keys = {}, .ended = true};
  for (auto& part : reader.split(parts)) {
    auto read = read_all(part, sequence);
    if (!read.ended) {
      together.ended = false;
      break;
    }
    together.keys.insert(together.keys.end(), read.keys.begin(), read.keys.end());
  }
  require(together.ended == whole.ended && (!whole.ended || together.keys == whole.keys),
          "parts that are not the whole");

  if (whole.ended) {
    for (const auto& key : whole.keys) {
      const auto found = reader.get(key);
      require(found && *found && (*found)->key == key, "a key that is there is not found");
    }
    const auto found = reader.get(sought);
    require(found && found->has_value() == std::ranges::binary_search(whole.keys, sought),
            "a key is found that is not there");
    require(reader.seek(sought).has_value(), "seeking fails");
    const auto next = reader.next();
    const auto due = std::ranges::lower_bound(whole.keys, sought);
    require(next && next->has_value() == (due != whole.keys.end()), "seeking leads elsewhere");
    require(!*next || (*next)->key == *due, "seeking leads to another key");
  }
}

void check(Input input) {
  const auto mode = input.take<std::uint8_t>();
  const auto parts = input.take<std::uint8_t>();
  const auto sought_bytes = input.take<std::uint8_t>();
  const auto rest = input.rest();
  std::vector<std::byte> file(rest.begin(), rest.end());
  if ((mode & 1) != 0) {
    sign_snapshot(file);
  }
  const auto header = decode_snapshot_header(file);
  const Sequence sequence = (mode & 2) != 0 && header ? header->sequence : 2;
  SimulatedDisk disk(1);
  require(disk.write_file("log/snapshots/" + snapshot_name(sequence), file).has_value(), "no file");
  const auto directory = disk.open_directory("log", false);
  require(directory.has_value(), "no directory");

  const auto verified = open_snapshot(**directory, std::nullopt, {.verify = true});
  auto opened = open_snapshot(**directory, std::nullopt, {});
  require(verified.has_value() == opened.has_value(), "a version is told once only");
  if (!opened) {
    require(opened.error().code == ErrorCode::unsupported_version, "bad bytes are no failure");
    return;
  }
  require(opened->reader.has_value() != !opened->skipped.empty() &&
              verified->reader.has_value() != !verified->skipped.empty(),
          "neither opened nor skipped");
  require(opened->reader || !verified->reader, "verifying accepts what opening does not");
  const auto listed = list_snapshots(**directory);
  require(listed && listed->size() == 1 && (listed->front().valid || !opened->reader),
          "what opens is listed as bad");
  if (opened->reader) {
    const auto from_end = file.size() - std::min<std::size_t>(sought_bytes, file.size());
    auto& reader = opened->reader;
    check_reader(*reader, parts, as_text(ByteView(file).subspan(from_end)),
                 verified->reader.has_value());
  }
}

}  // namespace
}  // namespace nori::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nori::fuzz::check(nori::fuzz::Input(data, size));
  return 0;
}
