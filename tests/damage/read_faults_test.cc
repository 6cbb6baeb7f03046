// A disk that does not answer is neither an end nor damage: every call that reads fails, for logs
// in every state.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "nori/verify.h"
#include "nori/wal.h"
#include "testing/simulated_disk.h"
#include "tests/damage/small_log.h"

namespace nori::damage_tests {
namespace {

using testing::Operation;
using testing::Repeat;
using testing::SimulatedDisk;

/// What somebody was told of a log.
struct Answer {
  Records records;
  std::optional<Error> error;
  std::string rest;  ///< All else, as text.

  [[nodiscard]] bool is_same(const Answer& other) const {
    return same(records, other.records) && rest == other.rest &&
           (error ? error->message : "") == (other.error ? other.error->message : "");
  }
  [[nodiscard]] std::string text() const {
    return fmt::format("{} records; {}; {}", records.size(), rest,
                       error ? error->message : "no error");
  }
};

/// Reads on with `reader` until its end or an error.
void read_on(Reader& reader, Answer& answer) {
  for (;;) {
    const auto entry = reader.next();
    if (!entry) {
      answer.error = entry.error();
      return;
    }
    if (!*entry) {
      return;
    }
    answer.records.push_back((*entry)->copy());
  }
}

Answer read_from(SimulatedDisk& disk, const ReadFrom& from, const ReadOptions& options,
                 OpenMode mode = OpenMode::read_only,
                 Verification verification = Verification::tail) {
  Answer answer;
  auto opened = Wal::open(options_on(disk, mode, verification));
  if (!opened) {
    answer.error = opened.error();
    return answer;
  }
  const auto& recovery = opened->recovery;
  answer.rest = fmt::format("torn {}, clean {}", recovery.bytes_truncated, recovery.closed_cleanly);
  auto reader = opened->wal.read_from(from, options);
  if (!reader) {
    answer.error = reader.error();
    return answer;
  }
  read_on(*reader, answer);
  return answer;
}

Answer verify_all(SimulatedDisk& disk) {
  Answer answer;
  const auto report = verify(std::string(kDirectory), &disk);
  if (!report) {
    answer.error = report.error();
    return answer;
  }
  answer.rest = fmt::format("{} records, {} in the ring, [{}, {}), mark {}, torn {}, {} foreign",
                            report->records, report->records_in_ring, report->first_sequence,
                            report->next_sequence, report->durable_mark, report->bytes_torn,
                            report->foreign_files.size());
  for (const auto& segment : report->segments) {
    answer.rest +=
        fmt::format("; {}: {} {} {}", segment.file, segment.bytes, segment.records, segment.sealed);
  }
  for (const auto& damage : report->damages) {
    answer.rest += fmt::format("; damage {} {} {} {}", damage.segment_id, damage.offset,
                               damage.bytes, damage.reason);
  }
  return answer;
}

Answer position_at(SimulatedDisk& disk, TimePoint time) {
  Answer answer;
  const auto opened = Wal::open(options_on(disk, OpenMode::read_only));
  if (!opened) {
    answer.error = opened.error();
    return answer;
  }
  const auto position = opened->wal.position_at(time);
  if (!position) {
    answer.error = position.error();
  } else {
    answer.rest =
        fmt::format("{} {} {}", position->segment_id, position->offset, position->sequence);
  }
  return answer;
}

struct Work {
  std::string_view name;
  std::function<Answer(SimulatedDisk&)> run;
  bool changes_the_disk = false;
};

std::vector<Work> all_work(TimePoint middle) {
  return {
      {"reading", [](SimulatedDisk& disk) { return read_from(disk, begin_of_log, {}); }},
      {"reading, all verified",
       [](SimulatedDisk& disk) {
         return read_from(disk, begin_of_log, {}, OpenMode::read_only, Verification::all);
       }},
      {"reading what is durable",
       [](SimulatedDisk& disk) {
         return read_from(disk, begin_of_log, {.visible = Visible::durable});
       }},
      {"reading past damage",
       [](SimulatedDisk& disk) { return read_from(disk, begin_of_log, {.skip_damaged = true}); }},
      {"reading from a sequence",
       [](SimulatedDisk& disk) { return read_from(disk, Sequence{8}, {}); }},
      {"reading from a time", [=](SimulatedDisk& disk) { return read_from(disk, middle, {}); }},
      {"position_at", [=](SimulatedDisk& disk) { return position_at(disk, middle); }},
      {"verify", verify_all},
      {"opening",
       [](SimulatedDisk& disk) { return read_from(disk, begin_of_log, {}, OpenMode::create); },
       true},
      {"opening, all verified",
       [](SimulatedDisk& disk) {
         return read_from(disk, begin_of_log, {}, OpenMode::create, Verification::all);
       },
       true},
  };
}

struct State {
  std::string name;
  Ending ending = Ending::closed;
  std::function<void(SimulatedDisk&)> alter = [](SimulatedDisk&) {};

  friend void PrintTo(const State& state, std::ostream* to) { *to << state.name; }
};

/// Flips a bit in a segment: in its header, its footer, or the header or payload of its last frame
/// with records.
std::function<void(SimulatedDisk&)> flip(std::uint64_t segment_id, std::string_view part) {
  return [=](SimulatedDisk& disk) {
    const auto map = LogMap::of(disk);
    const auto& segment = map.segments.at(segment_id);
    auto frame = map.frames.at(segment.first_frame);
    for (const auto& other : map.frames) {
      if (other.segment_id == segment_id && other.header.kind == FrameKind::records) {
        frame = other;
      }
    }
    const auto offset = part == "header"   ? 40
                        : part == "footer" ? segment.frames_end + 8
                        : part == "frame"  ? frame.offset + 4
                                           : frame.end() - 1;
    ASSERT_TRUE(disk.flip_bit(fmt::format("{}/{:06}.wal", kDirectory, segment_id), offset, 3));
  };
}

const State kStates[] = {
    {.name = "Closed", .ending = Ending::closed},
    {.name = "PowerCut", .ending = Ending::power_cut},
    {.name = "ProcessDied", .ending = Ending::process_died},
    {.name = "Torn",
     .ending = Ending::process_died,
     .alter =
         [](SimulatedDisk& disk) {
           disk.power_cut(3, {.survival = testing::Survival::nothing});
           // As if a sector of what was being written had come through.
           const auto map = LogMap::of(disk);
           const auto path = fmt::format("{}/{:06}.wal", kDirectory, map.segments.back().id);
           auto bytes = *disk.read_file(path);
           bytes.resize(std::max<std::size_t>(bytes.size(), map.segments.back().frames_end + 4096));
           bytes[map.segments.back().frames_end + 100] = std::byte{1};
           ASSERT_TRUE(disk.write_file(path, bytes));
         }},
    {.name = "PayloadInTheFirst", .alter = flip(0, "payload")},
    {.name = "FrameInTheMiddle", .alter = flip(1, "frame")},
    {.name = "FrameInTheMiddleKilled", .ending = Ending::process_died, .alter = flip(1, "frame")},
    {.name = "FrameInTheNewest", .alter = flip(2, "frame")},
    {.name = "FrameInTheNewestKilled", .ending = Ending::process_died, .alter = flip(2, "frame")},
    {.name = "PayloadInTheNewestCut", .ending = Ending::power_cut, .alter = flip(2, "payload")},
    {.name = "HeaderOfTheMiddle", .alter = flip(1, "header")},
    {.name = "HeaderOfTheNewest", .alter = flip(2, "header")},
    {.name = "FooterOfTheFirst", .alter = flip(0, "footer")},
    {.name = "FooterOfTheMiddle", .ending = Ending::power_cut, .alter = flip(1, "footer")},
    {.name = "MiddleMissing",
     .alter = [](SimulatedDisk& disk) { ASSERT_TRUE(disk.remove_file("log/000001.wal")); }},
    {.name = "NewestMissing",
     .ending = Ending::power_cut,
     .alter = [](SimulatedDisk& disk) { ASSERT_TRUE(disk.remove_file("log/000002.wal")); }},
    {.name = "WithQuarantine",
     .ending = Ending::process_died,
     .alter =
         [](SimulatedDisk& disk) {
           ASSERT_TRUE(disk.write_file("log/quarantine/000009.wal", {}));
           flip(2, "frame")(disk);
         }},
};

class ReadFaultsTest : public ::testing::TestWithParam<State> {};

// Goal: an I/O error is told as one. It is never taken for an end or for damage, and it changes
// nothing: asked again, the log says what it would have said.
// Method: for each state and each kind of work, the disk fails at its 1st, 2nd, ... call, once and
// for good, until there are no more calls.
TEST_P(ReadFaultsTest, AreToldAndChangeNothing) {
  const auto start = make_small_log(GetParam().ending);
  // The third of three frames' times.
  const auto middle = TimePoint{std::chrono::milliseconds{start->now_ms() - 10}};
  GetParam().alter(*start);
  for (const auto& work : all_work(middle)) {
    const auto expected = work.run(*start->clone());
    for (const auto repeat : {Repeat::once, Repeat::forever}) {
      for (std::uint64_t after = 0;; ++after) {
        const auto disk = start->clone();
        const auto before = files_of(*disk);
        disk->fail_nth({Operation::open, Operation::read, Operation::status, Operation::list},
                       after, EIO, repeat);
        const auto answer = work.run(*disk);
        if (disk->faults_hit() == 0) {
          break;
        }
        const auto where =
            fmt::format("{}, call {} {}\nexpected {}\nfound {}", work.name, after,
                        repeat == Repeat::once ? "once" : "ever", expected.text(), answer.text());
        if (answer.error && answer.error->code == ErrorCode::io) {
          EXPECT_EQ(answer.error->system_errno, EIO) << where;
          EXPECT_NE(answer.error->message.find(kDirectory), std::string::npos) << where;
          EXPECT_TRUE(is_prefix(answer.records, expected.records)) << where;
        } else {
          EXPECT_TRUE(answer.is_same(expected)) << where;
        }
        disk->clear_faults();
        if (!work.changes_the_disk) {
          EXPECT_EQ(files_of(*disk), before) << where;
        }
        const auto again = work.run(*disk);
        EXPECT_TRUE(same(again.records, expected.records)) << where << "\nagain " << again.text();
        EXPECT_EQ(again.error.has_value(), expected.error.has_value()) << where;
        if (HasFailure()) {
          return;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Every, ReadFaultsTest, ::testing::ValuesIn(kStates),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace nori::damage_tests
