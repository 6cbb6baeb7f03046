#include "fuzz/base_logs.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "format/frame.h"
#include "format/ring_header.h"
#include "format/segment_footer.h"
#include "format/segment_header.h"
#include "fuzz/require.h"
#include "fuzz/signing.h"
#include "segment/segment_name.h"

namespace nori::fuzz {

using testing::SimulatedDisk;

namespace {

// Writes one log through several lives.
class Author {
 public:
  explicit Author(std::uint64_t seed) { log_.disk = std::make_unique<SimulatedDisk>(seed); }

  Author& open(std::uint64_t ring_bytes = 64 * kKiB, Padding padding = Padding::block) {
    auto options = small_options(*log_.disk, OpenMode::create);
    options.ring_bytes = ring_bytes;
    options.padding = padding;
    auto opened = Wal::open(options);
    done(opened);
    wal_.emplace(std::move(opened->wal));
    log_.disk->advance_ms(7);
    return *this;
  }
  Author& append(int count, std::size_t value_bytes = 10) {
    for (int i = 0; i < count; ++i) {
      done(wal_->append(record(value_bytes)));
      log_.disk->advance_ms(1);
    }
    return *this;
  }
  Author& append_batch(int records, std::size_t value_bytes = 10) {
    Batch batch;
    for (int i = 0; i < records; ++i) {
      batch.add(record(value_bytes));
    }
    done(wal_->append(batch));
    return *this;
  }
  Author& sync() {
    done(wal_->sync());
    return *this;
  }
  Author& rotate() {
    done(wal_->rotate());
    return *this;
  }
  Author& close() {
    log_.written.add_all(*wal_);
    done(wal_->close());
    wal_.reset();
    log_.earlier.push_back(files_of(*log_.disk));
    return *this;
  }
  Author& die() {
    log_.written.add_all(*wal_);
    log_.earlier.push_back(files_of(*log_.disk));
    log_.disk->crash_process();
    wal_.reset();
    return *this;
  }
  Author& lose_power(std::uint64_t seed) {
    die();
    log_.disk->power_cut(seed);
    return *this;
  }
  BaseLog take();

 private:
  template <typename T>
  static void done(const Result<T>& result) {
    require(result.has_value(), result ? "" : result.error().message);
  }

  // Each has a key of its own; some expire, some are tombstones.
  Record record(std::size_t value_bytes) {
    ++records_;
    key_ = fmt::format("key-{}", records_);
    value_.assign(value_bytes, static_cast<char>('a' + records_ % 26));
    if (records_ % 7 == 0) {
      return Record::remove(key_);
    }
    if (records_ % 5 == 0) {
      return Record::put(key_, value_, TimePoint{std::chrono::milliseconds{records_}});
    }
    return Record::put(key_, value_);
  }

  BaseLog log_;
  std::optional<Wal> wal_;
  std::int64_t records_ = 0;
  std::string key_;
  std::string value_;
};

// Frames one behind the other, as the file has them.
void find_in_segment(const std::string& name, ByteView file, std::vector<Landmark>& landmarks) {
  landmarks.push_back({.file = name});
  const auto header = decode_segment_header(file);
  if (!header) {
    return;
  }
  auto offset = header->first_offset;
  while (offset < file.size()) {
    const auto seed = place_seed(header->seed(), offset);
    const auto frame = decode_frame_header(file.subspan(offset), seed);
    if (!frame) {
      break;
    }
    landmarks.push_back({.file = name, .offset = offset, .is_frame = true, .place_seed = seed});
    offset += frame->frame_bytes();
  }
  landmarks.push_back({.file = name, .offset = std::min<std::uint64_t>(offset, file.size())});
  landmarks.push_back({.file = name, .offset = file.size() - kFooterTrailerBytes});
}

// Frames at every byte, of whichever segment.
void find_in_ring(ByteView ring, const std::vector<SegmentHeader>& segments,
                  std::vector<Landmark>& landmarks) {
  const std::string name(kRingName);
  landmarks.push_back({.file = name});
  landmarks.push_back({.file = name, .offset = kRingMarkOffset});
  landmarks.push_back({.file = name, .offset = kRingMarkOffset + kRingMarkStride});
  const auto header = decode_ring_header(ring);
  if (!header) {
    return;
  }
  const auto data = ring.subspan(kRingDataOffset);
  for (std::uint64_t at = 0; at + kFrameHeaderBytes <= data.size(); ++at) {
    if (!may_be_frame_header(data.data() + at)) {
      continue;
    }
    for (const auto& segment : segments) {
      // The offsets of that segment that stand there: segments are shorter than four rings.
      const auto first = (at - segment.ring_base) & (header->ring_bytes - 1);
      for (std::uint64_t turn = 0; turn < 4; ++turn) {
        const auto seed = place_seed(segment.seed(), first + turn * header->ring_bytes);
        if (decode_frame_header(data.subspan(at), seed)) {
          landmarks.push_back(
              {.file = name, .offset = kRingDataOffset + at, .is_frame = true, .place_seed = seed});
        }
      }
    }
  }
}

BaseLog Author::take() {
  require(!wal_, "a log that nobody has left");
  log_.files = files_of(*log_.disk);
  std::vector<SegmentHeader> segments;
  for (const auto& [name, bytes] : log_.files) {
    if (parse_segment_name(name)) {
      find_in_segment(name, bytes, log_.landmarks);
      if (const auto header = decode_segment_header(bytes)) {
        segments.push_back(*header);
      }
    }
  }
  if (const auto ring = log_.files.find(std::string(kRingName)); ring != log_.files.end()) {
    find_in_ring(ring->second, segments, log_.landmarks);
  }
  return std::move(log_);
}

std::vector<BaseLog> make_base_logs() {
  std::vector<BaseLog> logs;
  // Closed, of two lives.
  logs.push_back(Author(1)
                     .open()
                     .append_batch(3)
                     .append(2)
                     .sync()
                     .append(2)
                     .rotate()
                     .append(1)
                     .sync()
                     .append_batch(2)
                     .close()
                     .open()
                     .append(2)
                     .rotate()
                     .append(3)
                     .sync()
                     .append(1)
                     .close()
                     .take());
  // Killed, the newest records only in the ring.
  logs.push_back(Author(2)
                     .open()
                     .append_batch(3)
                     .sync()
                     .append(2)
                     .rotate()
                     .append(2)
                     .sync()
                     .append(3)
                     .append_batch(2)
                     .append(1)
                     .die()
                     .take());
  // Killed behind a rotation whose next segment only the ring has, perhaps.
  logs.push_back(
      Author(3).open().append(2).sync().rotate().append(1).rotate().append(2).die().take());
  // What power cuts leave, then a life on top, killed.
  logs.push_back(Author(4)
                     .open()
                     .append(3)
                     .sync()
                     .append(3)
                     .rotate()
                     .append(3)
                     .lose_power(5)
                     .open()
                     .append(2)
                     .sync()
                     .append(4)
                     .lose_power(6)
                     .open()
                     .append(3)
                     .die()
                     .take());
  // A ring that has wrapped, and segments that filled up.
  logs.push_back(
      Author(5).open().append(60, 3000).sync().append(6, 5000).append_batch(3).die().take());
  // No ring.
  logs.push_back(Author(6)
                     .open(WalOptions::kNoRing)
                     .append(2)
                     .sync()
                     .append(2)
                     .rotate()
                     .append_batch(3)
                     .append(2)
                     .die()
                     .take());
  // Blocks that are not filled.
  logs.push_back(Author(7)
                     .open(64 * kKiB, Padding::none)
                     .append(2)
                     .sync()
                     .append(2)
                     .sync()
                     .rotate()
                     .append(2)
                     .sync()
                     .append(3)
                     .die()
                     .take());
  // One segment, one record, closed.
  logs.push_back(Author(8).open().append(1).close().take());
  return logs;
}

}  // namespace

Files files_of(const SimulatedDisk& disk) {
  Files files;
  const auto names = disk.list_files("log");
  require(names.has_value(), "a log without a directory");
  for (const auto& name : *names) {
    if (name != kLockName && !name.ends_with('/')) {
      files[name] = disk.read_file("log/" + name).value_or(std::vector<std::byte>{});
    }
  }
  return files;
}

const std::vector<BaseLog>& base_logs() {
  static const std::vector<BaseLog> kLogs = make_base_logs();
  return kLogs;
}

}  // namespace nori::fuzz
