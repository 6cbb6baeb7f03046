// Whole files: missing, foreign, short, empty, swapped and doubled segments, other versions, and
// what else may lie in a log's directory.
//
// For each: no record is read that was not written at that place of this log, an opening that is
// refused changes nothing, and what is wrong is named.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/crc32c.h"
#include "base/little_endian.h"
#include "format/ring_header.h"
#include "segment/segment_name.h"
#include "tests/damage/small_log.h"

namespace nori::damage_tests {
namespace {

using testing::SimulatedDisk;

std::string path_of(std::string_view name) { return fmt::format("{}/{}", kDirectory, name); }
std::string path_of(std::uint64_t segment_id) { return path_of(segment_name(segment_id)); }

class DamagedFilesTest : public ::testing::TestWithParam<Ending> {
 protected:
  DamagedFilesTest()
      : disk_(make_small_log(GetParam())),
        map_(LogMap::of(*disk_)),
        written_(read_small_log(*disk_, Verification::all).records) {}

  void SetUp() override { ASSERT_EQ(map_.segments.size(), 3U); }

  [[nodiscard]] std::vector<std::byte> bytes_of(std::uint64_t id) const {
    return *disk_->read_file(path_of(id));
  }
  void put(std::uint64_t id, ByteView bytes) { ASSERT_TRUE(disk_->write_file(path_of(id), bytes)); }
  // The first sequence of a segment; behind the last, the end.
  [[nodiscard]] std::uint64_t begin_of(std::uint64_t id) const {
    return id < map_.segments.size() ? map_.segments[id].header.first_sequence : written_.size();
  }
  [[nodiscard]] Records written(std::uint64_t from, std::uint64_t to) const {
    return {written_.begin() + static_cast<std::ptrdiff_t>(from),
            written_.begin() + static_cast<std::ptrdiff_t>(to)};
  }

  // What Verification::tail reads of these logs: of a closed one the newest segment, of the other
  // also the one before it, for its footer; of the rest the names.
  [[nodiscard]] bool is_read_at_open(std::uint64_t id) const {
    return id == 2 || (id == 1 && GetParam() == Ending::power_cut);
  }

  // Openings for writing are refused with `damaged`, naming `name`, and leave all files; readers
  // see records up to `records` and then `damaged`; verify finds it. One that reads the tail alone
  // does not see what is `behind_the_tail`.
  void expect_damaged(std::string_view name, std::uint64_t records, bool behind_the_tail = false) {
    const auto before = files_of(*disk_);
    for (const auto verification : {Verification::tail, Verification::all}) {
      for (const auto mode : {OpenMode::create, OpenMode::existing}) {
        if (behind_the_tail && verification == Verification::tail) {
          const auto disk = disk_->clone();
          EXPECT_TRUE(Wal::open(options_on(*disk, mode, verification)));
          continue;
        }
        const auto opened = Wal::open(options_on(*disk_, mode, verification));
        EXPECT_EQ(files_of(*disk_), before);
        ASSERT_FALSE(opened) << "opened with " << opened->recovery.next_sequence << " records";
        EXPECT_EQ(opened.error().code, ErrorCode::damaged) << opened.error().message;
        if (verification == Verification::all) {
          EXPECT_NE(opened.error().message.find(name), std::string::npos) << opened.error().message;
        }
      }
      const auto reading = read_small_log(*disk_, verification);
      ASSERT_TRUE(reading.error) << reading.records.size() << " records and no error";
      EXPECT_EQ(reading.error->code, ErrorCode::damaged) << reading.error->message;
      EXPECT_NE(reading.error->message.find(name), std::string::npos) << reading.error->message;
      EXPECT_TRUE(is_prefix(reading.records, written_));
      EXPECT_EQ(reading.records.size(), records);
    }
    const auto report = verify(kDirectory, disk_.get());
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_FALSE(report->damages.empty());
    EXPECT_EQ(files_of(*disk_), before);
  }

  std::unique_ptr<SimulatedDisk> disk_;
  LogMap map_;
  Records written_;
};

INSTANTIATE_TEST_SUITE_P(Endings, DamagedFilesTest,
                         ::testing::Values(Ending::closed, Ending::power_cut), [](const auto& of) {
                           return of.param == Ending::closed ? "Closed" : "PowerCut";
                         });

// --- missing -------------------------------------------------------------------------------------

// Deletion leaves a log that begins later. Nothing tells that from a first segment that is lost.
TEST_P(DamagedFilesTest, WithoutItsFirstSegmentALogBeginsLater) {
  ASSERT_TRUE(disk_->remove_file(path_of(0)));
  const auto reading = read_small_log(*disk_, Verification::all);
  EXPECT_FALSE(reading.error) << reading.error->message;
  EXPECT_TRUE(same(reading.records, written(begin_of(1), written_.size())));
  auto opened = Wal::open(options_on(*disk_));
  ASSERT_TRUE(opened) << opened.error().message;
  const auto gone = opened->wal.read_from(Sequence{0});
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, ErrorCode::gone);
  ASSERT_TRUE(gone.error().position);
  EXPECT_EQ(gone.error().position->sequence, begin_of(1));
}

TEST_P(DamagedFilesTest, AMissingMiddleSegmentIsDamage) {
  ASSERT_TRUE(disk_->remove_file(path_of(1)));
  expect_damaged("000001.wal", begin_of(1));
  const auto reading = read_small_log(*disk_, Verification::tail, true);
  Records expected = written(0, begin_of(1));
  for (const auto& record : written(begin_of(2), written_.size())) {
    expected.push_back(record);
  }
  EXPECT_TRUE(same(reading.records_skipping, expected));
}

// The footer of the one before says that it was there.
TEST_P(DamagedFilesTest, AMissingNewestSegmentIsDamage) {
  ASSERT_TRUE(disk_->remove_file(path_of(2)));
  expect_damaged("000002.wal", begin_of(2));
}

// Where there is a ring, there was a log: no new one is made over what is left of it.
TEST_P(DamagedFilesTest, WithoutAnySegmentItIsNoLogOrADamagedOne) {
  for (const std::uint64_t id : {0, 1, 2}) {
    ASSERT_TRUE(disk_->remove_file(path_of(id)));
  }
  const bool has_ring = GetParam() == Ending::power_cut;
  const auto expected = has_ring ? ErrorCode::damaged : ErrorCode::not_a_log;
  const auto read_only = Wal::open(options_on(*disk_, OpenMode::read_only));
  ASSERT_FALSE(read_only);
  EXPECT_EQ(read_only.error().code, expected);
  const auto existing = Wal::open(options_on(*disk_, OpenMode::existing));
  ASSERT_FALSE(existing);
  EXPECT_EQ(existing.error().code, expected);
  EXPECT_EQ(Wal::open(options_on(*disk_, OpenMode::create)).has_value(), !has_ring);
}

// --- of this log, at the wrong place -------------------------------------------------------------

TEST_P(DamagedFilesTest, SwappedSegmentsAreDamage) {
  for (const auto& [one, other] : {std::pair<std::uint64_t, std::uint64_t>{0, 1}, {0, 2}, {1, 2}}) {
    SCOPED_TRACE(fmt::format("{} and {}", one, other));
    ASSERT_TRUE(disk_->swap_files(path_of(one), path_of(other)));
    expect_damaged(segment_name(one), begin_of(one),
                   !is_read_at_open(one) && !is_read_at_open(other));
    ASSERT_TRUE(disk_->swap_files(path_of(one), path_of(other)));
  }
}

TEST_P(DamagedFilesTest, ASegmentInPlaceOfAnotherIsDamage) {
  for (const std::uint64_t of : {0, 1, 2}) {
    const auto kept = bytes_of(of);
    for (const std::uint64_t by : {0, 1, 2}) {
      if (of != by) {
        SCOPED_TRACE(fmt::format("{} in place of {}", by, of));
        put(of, bytes_of(by));
        expect_damaged(segment_name(of), begin_of(of), !is_read_at_open(of));
        put(of, kept);
      }
    }
  }
}

// A copy behind the end says nothing that is not in the log: it is cut, as a torn tail would be.
TEST_P(DamagedFilesTest, ACopyBehindTheEndIsNotRead) {
  for (const std::uint64_t of : {0, 1, 2}) {
    SCOPED_TRACE(of);
    put(3, bytes_of(of));
    const auto reading = read_small_log(*disk_, Verification::all);
    EXPECT_FALSE(reading.error) << reading.error->message;
    EXPECT_TRUE(same(reading.records, written_));
  }
  auto opened = Wal::open(options_on(*disk_));
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_TRUE(opened->recovery.torn_tail);
  EXPECT_EQ(opened->recovery.next_sequence, written_.size());
  EXPECT_EQ(opened->recovery.quarantined.size(), 1U);
  ASSERT_TRUE(opened->wal.close());
  EXPECT_TRUE(same(read_small_log(*disk_, Verification::all).records, written_));
}

// --- of another log, or of none ------------------------------------------------------------------

TEST_P(DamagedFilesTest, ASegmentOfAnotherLogIsDamage) {
  // The same records, places and epochs: only the log's id differs.
  const auto other = make_small_log(GetParam(), 2);
  for (const std::uint64_t id : {1, 2}) {
    SCOPED_TRACE(id);
    const auto kept = bytes_of(id);
    put(id, *other->read_file(path_of(id)));
    expect_damaged(segment_name(id), begin_of(id), !is_read_at_open(id));
    put(id, kept);
  }
}

// Which of the two logs the directory holds is anybody's guess; none of it is taken for the other.
TEST_P(DamagedFilesTest, AFirstSegmentOfAnotherLogIsDamage) {
  const auto other = make_small_log(GetParam(), 2);
  const auto others = read_small_log(*other, Verification::all).records;
  for (const std::uint64_t foreign : {0, 2}) {  // sealed, and not
    SCOPED_TRACE(foreign);
    if (foreign == 2) {
      put(0, bytes_of(2));
      continue;
    }
    put(0, *other->read_file(path_of(foreign)));
    const auto before = files_of(*disk_);
    const auto opened = Wal::open(options_on(*disk_, OpenMode::create, Verification::all));
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, ErrorCode::damaged) << opened.error().message;
    EXPECT_EQ(files_of(*disk_), before);
    const auto reading = read_small_log(*disk_, Verification::all);
    ASSERT_TRUE(reading.error);
    EXPECT_EQ(reading.error->code, ErrorCode::damaged);
    EXPECT_TRUE(is_prefix(reading.records, others));
  }
}

// The same where nothing was sealed: no footer speaks for it.
TEST(DamagedFilesOfTwoLogsTest, AnotherLogsSegmentBehindTheEndIsDamage) {
  SimulatedDisk one(1);
  {
    auto opened = Wal::open(options_on(one));
    ASSERT_TRUE(opened);
    ASSERT_TRUE(opened->wal.append(Record::put("a", "1"), Durability::durable));
    one.power_cut(1, {.survival = testing::Survival::nothing});
  }
  const auto other = make_small_log(Ending::closed, 2);
  ASSERT_TRUE(one.write_file(path_of(1), *other->read_file(path_of(1))));
  const auto before = files_of(one);
  const auto opened = Wal::open(options_on(one));
  ASSERT_FALSE(opened) << "records of another log went to quarantine";
  EXPECT_EQ(opened.error().code, ErrorCode::damaged) << opened.error().message;
  EXPECT_NE(opened.error().message.find("000001.wal"), std::string::npos);
  EXPECT_EQ(files_of(one), before);
  const auto reading = read_small_log(one, Verification::tail);
  EXPECT_EQ(reading.records.size(), 1U);
  ASSERT_TRUE(reading.error);
  EXPECT_EQ(reading.error->code, ErrorCode::damaged);
  EXPECT_FALSE(verify(kDirectory, &one)->damages.empty());
}

TEST_P(DamagedFilesTest, AFileInWalThatIsNoSegmentIsDamage) {
  for (const std::string_view name : {"x.wal", "0.wal", "0000001.wal", "000001.wal.wal", ".wal"}) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(disk_->write_file(path_of(name), as_byte_view("not a segment")));
    const auto before = files_of(*disk_);
    for (const auto mode : {OpenMode::create, OpenMode::existing}) {
      const auto opened = Wal::open(options_on(*disk_, mode));
      ASSERT_FALSE(opened);
      EXPECT_EQ(opened.error().code, ErrorCode::damaged) << opened.error().message;
      EXPECT_NE(opened.error().message.find(name), std::string::npos) << opened.error().message;
    }
    const auto report = verify(kDirectory, disk_.get());
    ASSERT_TRUE(report) << report.error().message;
    ASSERT_EQ(report->damages.size(), 1U);
    EXPECT_NE(report->damages.front().reason.find(name), std::string::npos);
    EXPECT_EQ(files_of(*disk_), before);
    ASSERT_TRUE(disk_->remove_file(path_of(name)));
  }
}

TEST_P(DamagedFilesTest, JunkUnderASegmentsNameIsDamage) {
  const std::string junk(20000, 'j');
  for (const std::uint64_t id : {0, 1, 2}) {
    SCOPED_TRACE(id);
    const auto kept = bytes_of(id);
    put(id, as_byte_view(junk));
    expect_damaged(segment_name(id), begin_of(id), !is_read_at_open(id));
    put(id, kept);
  }
}

// --- short ---------------------------------------------------------------------------------------

TEST_P(DamagedFilesTest, AnEmptySegmentIsDamage) {
  for (const std::uint64_t id : {0, 1, 2}) {
    SCOPED_TRACE(id);
    const auto kept = bytes_of(id);
    for (const std::size_t bytes : {0, 1, 127}) {
      put(id, ByteView(kept).first(bytes));
      expect_damaged(segment_name(id), begin_of(id), !is_read_at_open(id));
    }
    put(id, std::vector<std::byte>(8192));
    expect_damaged(segment_name(id), begin_of(id), !is_read_at_open(id));
    put(id, kept);
  }
}

// What a crash right after a rotation leaves, and also what a truncation leaves: nothing tells.
TEST_P(DamagedFilesTest, ANewestSegmentOfAHeaderAloneIsAnEmptyOne) {
  const auto bytes = bytes_of(2);
  for (const std::size_t length : {std::size_t{128}, std::size_t{4096}}) {
    SCOPED_TRACE(length);
    const auto disk = disk_->clone();
    ASSERT_TRUE(disk->write_file(path_of(2), ByteView(bytes).first(length)));
    auto opened = Wal::open(options_on(*disk));
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_FALSE(opened->recovery.torn_tail);
    EXPECT_EQ(opened->recovery.next_sequence, begin_of(2));
    ASSERT_TRUE(opened->wal.append(Record::put("new", "record")));
    ASSERT_TRUE(opened->wal.close());
    EXPECT_EQ(read_small_log(*disk, Verification::all).records.size(), begin_of(2) + 1);
  }
}

// A creation that was cut short, whatever of its header is there.
TEST(DamagedFilesOfANewLogTest, ACreationCutShortIsBlank) {
  SimulatedDisk disk(1);
  {
    auto opened = Wal::open(options_on(disk));
    ASSERT_TRUE(opened);
  }
  auto bytes = *disk.read_file(path_of(0));
  for (const std::size_t length : {0, 1, 100, 127}) {
    SCOPED_TRACE(length);
    for (const std::size_t padded_to : {std::size_t{0}, std::size_t{4096}}) {
      auto file = std::vector<std::byte>(bytes.begin(),
                                         bytes.begin() + static_cast<std::ptrdiff_t>(length));
      file.resize(std::max(length, padded_to));
      ASSERT_TRUE(disk.write_file(path_of(0), file));
      for (const auto mode : {OpenMode::read_only, OpenMode::existing}) {
        const auto refused = Wal::open(options_on(disk, mode));
        ASSERT_FALSE(refused) << padded_to;
        EXPECT_EQ(refused.error().code, ErrorCode::not_a_log) << refused.error().message;
      }
      auto opened = Wal::open(options_on(disk));
      ASSERT_TRUE(opened) << opened.error().message;
      EXPECT_TRUE(opened->recovery.created);
      ASSERT_TRUE(opened->wal.append(Record::put("a", "1")));
      ASSERT_TRUE(opened->wal.close());
      EXPECT_EQ(read_small_log(disk, Verification::all).records.size(), 1U);
    }
  }
  // Anything behind it was a record.
  bytes[1] ^= std::byte{1};
  bytes.resize(9000);
  bytes[8999] = std::byte{1};
  ASSERT_TRUE(disk.write_file(path_of(0), bytes));
  const auto opened = Wal::open(options_on(disk));
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::damaged);
}

// --- versions ------------------------------------------------------------------------------------

// As a newer library would write it: all is valid but the version.
void put_version(std::vector<std::byte>& bytes, std::uint32_t version) {
  const auto header = decode_segment_header(bytes);
  ASSERT_TRUE(header.has_value());
  store_le(&bytes[8], version);
  store_le(&bytes[kSegmentHeaderBytes - 4],
           crc32c(place_seed(header->seed(), 0), ByteView(bytes).first(kSegmentHeaderBytes - 4)));
}

void expect_unsupported(SimulatedDisk& disk, std::string_view name, bool behind_the_tail = false) {
  const auto before = files_of(disk);
  for (const auto verification : {Verification::tail, Verification::all}) {
    for (const auto mode : {OpenMode::create, OpenMode::existing}) {
      const auto opened = Wal::open(options_on(disk, mode, verification));
      if (behind_the_tail && verification == Verification::tail) {
        EXPECT_TRUE(opened) << opened.error().message;
        continue;
      }
      ASSERT_FALSE(opened);
      EXPECT_EQ(opened.error().code, ErrorCode::unsupported_version) << opened.error().message;
      EXPECT_NE(opened.error().message.find(name), std::string::npos) << opened.error().message;
      EXPECT_NE(opened.error().message.find("version 2"), std::string::npos)
          << opened.error().message;
    }
    const auto reading = read_small_log(disk, verification);
    ASSERT_TRUE(reading.error);
    EXPECT_EQ(reading.error->code, ErrorCode::unsupported_version) << reading.error->message;
  }
  const auto report = verify(kDirectory, &disk);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, ErrorCode::unsupported_version);
  EXPECT_EQ(files_of(disk), before);
}

TEST_P(DamagedFilesTest, AnUnknownVersionIsNamedAndNotCalledDamage) {
  for (const std::uint64_t id : {0, 1, 2}) {
    SCOPED_TRACE(id);
    const auto kept = bytes_of(id);
    auto newer = kept;
    put_version(newer, 2);
    put(id, newer);
    // A closed log is not read but for its newest segment; one that is not, from the front here.
    expect_unsupported(*disk_, segment_name(id), GetParam() == Ending::closed && id == 1);
    put(id, kept);
  }
}

// What is in it may be the newest records: not to be passed over.
TEST(DamagedFilesOfANewLogTest, ARingOfAnUnknownVersionIsNamed) {
  const auto disk = make_small_log(Ending::process_died);
  auto bytes = *disk->read_file("log/ring");
  store_le(&bytes[8], std::uint32_t{2});
  store_le(&bytes[40], crc32c(0, ByteView(bytes).first(40)));
  ASSERT_TRUE(disk->write_file("log/ring", bytes));
  expect_unsupported(*disk, "ring");
}

// --- what else lies there ------------------------------------------------------------------------

TEST_P(DamagedFilesTest, StrayFilesAreReportedAndLeftAlone) {
  const std::vector<std::string> foreign = {
      ".000000.wal.swp", "000000.wal~", "000001.wal.bak", "RING", "notes.txt", "wal"};
  for (const auto& name : foreign) {
    ASSERT_TRUE(disk_->write_file(path_of(name), as_byte_view("stray " + name)));
  }
  ASSERT_TRUE(disk_->write_file(path_of("lost+found/#123"), as_byte_view("inode")));
  // Of the log's own making, and void.
  for (const auto name : {"next.tmp", "ring.tmp", "probe.tmp"}) {
    ASSERT_TRUE(disk_->write_file(path_of(name), bytes_of(1)));
  }
  const auto report = verify(kDirectory, disk_.get());
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(report->damages.empty());
  auto reported = report->foreign_files;
  for (auto& name : reported) {
    if (name.ends_with('/')) {
      name.pop_back();
    }
  }
  EXPECT_EQ(reported, foreign);
  EXPECT_TRUE(same(read_small_log(*disk_, Verification::all).records, written_));
  {
    auto opened = Wal::open(options_on(*disk_));
    ASSERT_TRUE(opened) << opened.error().message;
    ASSERT_TRUE(opened->wal.append(Record::put("new", "record")));
    ASSERT_TRUE(opened->wal.rotate());
    ASSERT_TRUE(opened->wal.delete_segments_before(opened->wal.current_position()));
  }
  for (const auto& name : foreign) {
    const auto bytes = disk_->read_file(path_of(name));
    ASSERT_TRUE(bytes) << name;
    EXPECT_EQ(as_text(*bytes), "stray " + name);
  }
  EXPECT_TRUE(disk_->read_file(path_of("lost+found/#123")));
}

TEST(DamagedDirectoryTest, ADirectoryThatHoldsSomethingElseIsLeftAlone) {
  SimulatedDisk disk(1);
  ASSERT_TRUE(disk.write_file("log/README", as_byte_view("mine")));
  const auto before = *disk.list_files("log");
  for (const auto mode : {OpenMode::create, OpenMode::existing, OpenMode::read_only}) {
    const auto opened = Wal::open(options_on(disk, mode));
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, ErrorCode::not_a_log);
    EXPECT_NE(opened.error().message.find("log"), std::string::npos);
  }
  EXPECT_EQ(verify("log", &disk).error().code, ErrorCode::not_a_log);
  EXPECT_EQ(*disk.list_files("log"), before);
}

TEST(DamagedDirectoryTest, LostAndFoundAloneIsAnEmptyDirectory) {
  SimulatedDisk disk(1);
  ASSERT_TRUE(disk.write_file("log/lost+found/#1", as_byte_view("inode")));
  auto opened = Wal::open(options_on(disk));
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_TRUE(opened->recovery.created);
  ASSERT_TRUE(opened->wal.append(Record::put("a", "1")));
  ASSERT_TRUE(opened->wal.close());
  EXPECT_EQ(read_small_log(disk, Verification::all).records.size(), 1U);
}

// A place that cannot be read is neither torn nor damaged: the disk's error is returned.
TEST_P(DamagedFilesTest, APlaceThatCannotBeReadIsAnIoError) {
  ASSERT_TRUE(disk_->make_unreadable(path_of(1), map_.segments[1].header.first_offset, 1));
  const auto before = disk_->operations();
  const auto opened = Wal::open(options_on(*disk_, OpenMode::existing, Verification::all));
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::io) << opened.error().message;
  EXPECT_NE(opened.error().message.find("000001.wal"), std::string::npos) << opened.error().message;
  EXPECT_EQ(disk_->operations(), before) << "something was written";
}

}  // namespace
}  // namespace nori::damage_tests
