#include "segment/segment_reader.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <limits>
#include <memory>
#include <string>
#include <string_view>

#include "base/crc32c.h"
#include "base/little_endian.h"
#include "segment/segment_name.h"
#include "testing/random.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using testing::SimulatedDisk;

constexpr std::uint64_t kBlock = 4096;
constexpr std::uint64_t kSegmentId = 7;

/// Segment 7 on a disk: a header, and whatever a test puts behind it.
class SegmentReaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = *disk_.open_directory("log", true);
    header_.log_id.bytes.fill(std::byte{0xa1});
    header_.first_segment = header_.last_segment = kSegmentId;
    header_.first_sequence = 100;
    header_.first_offset = kBlock;
  }

  [[nodiscard]] std::string header_block() const {
    std::string bytes(kBlock, '\0');
    encode_segment_header(header_, reinterpret_cast<std::byte*>(bytes.data()));
    return bytes;
  }

  void put_file(std::string_view bytes, std::uint64_t segment_id = kSegmentId) {
    ASSERT_TRUE(disk_.write_file("log/" + segment_name(segment_id), as_byte_view(bytes)));
  }

  [[nodiscard]] std::unique_ptr<SegmentReader> open(std::uint64_t segment_id = kSegmentId) {
    auto reader = SegmentReader::open(*directory_, segment_id);
    EXPECT_TRUE(reader) << reader.error().message;
    return *std::move(reader);
  }

  static std::string view(SegmentReader& reader, std::uint64_t offset, std::uint64_t bytes) {
    const auto seen = reader.view(offset, bytes);
    EXPECT_TRUE(seen) << seen.error().message;
    return std::string(as_text(*seen));
  }

  [[nodiscard]] SegmentSummary summary_ending_at(std::uint64_t offset) const {
    return {.frames = 3,
            .records = 2,
            .padding_bytes = 1,
            .first_sequence = 100,
            .end_sequence = 102,
            .first_time_ms = 5,
            .last_time_ms = 6,
            .epoch = std::uint64_t{1} << 40,
            .durable_mark = 102,
            .end_offset = offset,
            .index = {{.sequence = 101, .offset = kBlock, .time_ms = 5}}};
  }

  /// A close frame that fills a block at `offset`.
  [[nodiscard]] std::string close_frame_at(std::uint64_t offset, std::uint64_t block) const {
    std::string payload = encode_summary(summary_ending_at(offset));
    payload.resize(block - kFrameHeaderBytes, '\0');
    FrameHeader frame;
    frame.kind = FrameKind::close;
    frame.payload_bytes = payload.size();
    frame.payload_crc32c = crc32c(0, as_byte_view(payload));
    frame.first_sequence = frame.durable_mark = 102;
    frame.epoch = std::uint64_t{1} << 40;
    std::string bytes(kFrameHeaderBytes, '\0');
    encode_frame_header(frame, place_seed(header_.seed(), offset),
                        reinterpret_cast<std::byte*>(bytes.data()));
    return bytes + payload;
  }

  SimulatedDisk disk_{1};
  std::unique_ptr<io::Directory> directory_;
  SegmentHeader header_;
};

TEST_F(SegmentReaderTest, AMissingFileIsTold) {
  const auto reader = SegmentReader::open(*directory_, kSegmentId);
  ASSERT_FALSE(reader);
  EXPECT_EQ(reader.error().system_errno, ENOENT);
}

TEST_F(SegmentReaderTest, ABadHeaderIsNoErrorButIsSeen) {
  put_file("");
  EXPECT_EQ(open()->header().error().fault, HeaderFault::too_short);
  put_file(std::string(kSegmentHeaderBytes - 1, '\0'));
  EXPECT_EQ(open()->header().error().fault, HeaderFault::too_short);
  put_file(std::string(kBlock, '\0'));
  EXPECT_EQ(open()->header().error().fault, HeaderFault::blank);
  put_file(std::string(kBlock, 'x'));
  EXPECT_EQ(open()->header().error().fault, HeaderFault::bad);
  EXPECT_FALSE(open()->header_fits());
}

TEST_F(SegmentReaderTest, AHeaderFitsUnderItsOwnNameOnly) {
  put_file(header_block());
  put_file(header_block(), kSegmentId + 1);
  EXPECT_TRUE(open()->header_fits());
  const auto other = open(kSegmentId + 1);
  EXPECT_TRUE(other->header());
  EXPECT_FALSE(other->header_fits());
}

TEST_F(SegmentReaderTest, ViewsAreWhatTheFileHolds) {
  testing::Random random(5);
  auto file = header_block();
  while (file.size() < 1'000'000) {
    file.push_back(static_cast<char>(random.next()));
  }
  put_file(file);
  const auto reader = open();
  for (int i = 0; i < 2000; ++i) {
    const auto offset = random.below(file.size() + 5000);
    const auto bytes = random.below(random.chance(16) ? 700'000 : 5000);
    const auto expected = offset < file.size() ? file.substr(offset, bytes) : std::string{};
    ASSERT_EQ(view(*reader, offset, bytes), expected) << offset << '+' << bytes;
  }
}

TEST_F(SegmentReaderTest, AViewBeyondTheEndIsShort) {
  put_file(header_block() + "tail");
  const auto reader = open();
  EXPECT_EQ(view(*reader, kBlock, 100), "tail");
  EXPECT_EQ(view(*reader, kBlock + 2, 1 << 30), "il");
  EXPECT_EQ(view(*reader, kBlock + 4, 1), "");
  // Places that only a hostile frame names.
  constexpr auto kMax = std::numeric_limits<std::uint64_t>::max();
  for (const auto offset : {std::uint64_t{1} << 62, kMax / 2, kMax / 2 + 1, kMax - 41, kMax}) {
    EXPECT_EQ(view(*reader, offset, kFrameHeaderBytes), "") << offset;
    EXPECT_EQ(view(*reader, offset, kFrameHeaderBytes + kPayloadBytesMax), "") << offset;
  }
  EXPECT_EQ(view(*reader, kBlock, kFrameHeaderBytes + kPayloadBytesMax), "tail");
}

TEST_F(SegmentReaderTest, SeesWhatWasWrittenMeanwhileOnceItForgets) {
  put_file(header_block() + "old");
  const auto reader = open();
  EXPECT_EQ(view(*reader, kBlock, 3), "old");
  put_file(header_block() + "new");
  EXPECT_EQ(view(*reader, kBlock, 3), "old");
  reader->drop_window();
  EXPECT_EQ(view(*reader, kBlock, 3), "new");
}

TEST_F(SegmentReaderTest, AFileThatGrewIsSeenToItsNewEnd) {
  put_file(header_block());
  const auto reader = open();
  EXPECT_EQ(view(*reader, kBlock, 5), "");
  const auto file = *directory_->open(segment_name(kSegmentId), io::Access::write_buffered,
                                      io::Creation::existing);
  ASSERT_TRUE(file->write_at(kBlock, as_byte_view("frame"), {}, false));
  EXPECT_EQ(view(*reader, kBlock, 5), "frame");
}

TEST_F(SegmentReaderTest, ADeletedFileStaysReadable) {
  put_file(header_block() + "tail");
  const auto reader = open();
  ASSERT_TRUE(directory_->remove(segment_name(kSegmentId)));
  reader->drop_window();
  EXPECT_EQ(view(*reader, kBlock, 4), "tail");
}

TEST_F(SegmentReaderTest, AnUnreadablePlaceIsAnError) {
  put_file(header_block() + std::string(2 * kBlock, 'x'));
  const auto reader = open();
  ASSERT_TRUE(disk_.make_unreadable("log/" + segment_name(kSegmentId), 2 * kBlock, 512));
  const auto seen = reader->view(2 * kBlock, 10);
  ASSERT_FALSE(seen);
  EXPECT_EQ(seen.error().code, ErrorCode::io);
}

TEST_F(SegmentReaderTest, AFooterIsFoundAtTheEnd) {
  const auto frames = std::string(3 * kBlock, 'f');
  const auto end = kBlock + frames.size();
  const auto footer = encode_footer(summary_ending_at(end), header_.seed(), kBlock);
  const auto sealed = header_block() + frames + footer;
  put_file(sealed);
  auto reader = open();
  const auto found = reader->footer();
  ASSERT_TRUE(found && *found);
  EXPECT_EQ(**found, summary_ending_at(end));
  EXPECT_FALSE(*reader->close_frame());

  for (const auto& cut_or_followed : {sealed.substr(0, end), sealed.substr(0, sealed.size() - 1),
                                      sealed + '\0', header_block() + footer, header_block()}) {
    put_file(cut_or_followed);
    reader = open();
    const auto none = reader->footer();
    ASSERT_TRUE(none) << none.error().message;
    EXPECT_FALSE(*none);
  }
}

TEST_F(SegmentReaderTest, AHostileFooterLengthIsNotFollowed) {
  auto file = header_block() + std::string(kBlock, 'f') +
              encode_footer(summary_ending_at(2 * kBlock), header_.seed(), kBlock);
  auto* const length = reinterpret_cast<std::byte*>(&file[file.size() - kFooterTrailerBytes]);
  for (const auto bytes :
       {std::uint64_t{0}, std::uint64_t{112}, std::uint64_t{2 * kBlock}, std::uint64_t{3 * kBlock},
        std::uint64_t{3 * kBlock + 1}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    store_le(length, bytes);
    put_file(file);
    const auto found = open()->footer();
    ASSERT_TRUE(found) << bytes << ": " << found.error().message;
    EXPECT_FALSE(*found) << bytes;
  }
  // A header that places the first frame behind the file's end.
  header_.first_offset = kFirstOffsetMax;
  for (const auto bytes : {std::uint64_t{kBlock}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    store_le(length, bytes);
    put_file(header_block() + file.substr(kBlock));
    const auto found = open()->footer();
    ASSERT_TRUE(found) << bytes << ": " << found.error().message;
    EXPECT_FALSE(*found) << bytes;
    EXPECT_FALSE(*open()->close_frame());
  }
}

TEST_F(SegmentReaderTest, ACloseFrameIsFoundWhateverTheBlock) {
  for (std::uint64_t block = 4096; block <= 65536; block *= 2) {
    header_.first_offset = block;
    auto file = header_block();
    file.resize(block, '\0');
    file += std::string(block, 'f');
    const auto offset = file.size();
    file += close_frame_at(offset, block);
    put_file(file);
    const auto reader = open();
    const auto found = reader->close_frame();
    ASSERT_TRUE(found && *found) << block;
    EXPECT_EQ((*found)->offset, offset);
    EXPECT_EQ((*found)->header.first_sequence, 102U);
    EXPECT_EQ((*found)->summary, summary_ending_at(offset));
    EXPECT_FALSE(*reader->footer());
  }
}

TEST_F(SegmentReaderTest, ACloseFrameCountsOnlyAsTheFilesLastBlock) {
  const auto closed =
      header_block() + std::string(kBlock, 'f') + close_frame_at(2 * kBlock, kBlock);
  put_file(closed);
  EXPECT_TRUE(*open()->close_frame());
  for (const auto& file :
       {closed + '\0', closed + std::string(kBlock, '\0'), closed.substr(0, closed.size() - 1),
        header_block() + std::string(2 * kBlock, 'f') + close_frame_at(2 * kBlock, kBlock)}) {
    put_file(file);
    EXPECT_FALSE(*open()->close_frame());
  }
}

TEST_F(SegmentReaderTest, EveryFlippedBitOfACloseFrameIsNoticed) {
  put_file(header_block() + std::string(kBlock, 'f') + close_frame_at(2 * kBlock, kBlock));
  const auto path = "log/" + segment_name(kSegmentId);
  for (std::uint64_t byte = 2 * kBlock; byte < 3 * kBlock;
       byte += byte < 2 * kBlock + 200 ? 1 : 97) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      ASSERT_TRUE(disk_.flip_bit(path, byte, bit));
      EXPECT_FALSE(*open()->close_frame()) << byte << '.' << bit;
      ASSERT_TRUE(disk_.flip_bit(path, byte, bit));
    }
  }
  EXPECT_TRUE(*open()->close_frame());
}

TEST_F(SegmentReaderTest, AHeaderFitsItsNameOrNot) {
  const auto fits = [&](const SegmentFile& name) {
    EXPECT_TRUE(disk_.write_file("log/" + name.name(), as_byte_view(header_block())));
    return (*SegmentReader::open(*directory_, name))->header_fits();
  };
  EXPECT_TRUE(fits(kSegmentId));
  EXPECT_FALSE(fits(kSegmentId + 1));
  EXPECT_FALSE(fits(SegmentFile::compacted(kSegmentId, kSegmentId))) << "it was not compacted";
  header_.generation = 1;
  EXPECT_TRUE(fits(SegmentFile::compacted(kSegmentId, kSegmentId)));
  EXPECT_FALSE(fits(SegmentFile::compacted(kSegmentId, kSegmentId + 1))) << "of fewer segments";
  EXPECT_FALSE(fits(kSegmentId)) << "it was compacted";
}

}  // namespace
}  // namespace nori
