// A disk that does not answer is neither an end nor damage: every call that reads fails, for logs
// in every state.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nori/consumer.h"
#include "nori/garbage.h"
#include "nori/verify.h"
#include "nori/wal.h"
#include "testing/simulated_disk.h"
#include "tests/damage/log_states.h"
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

/// Reads on with `reader` until its end or an error; past damage if it is to.
void read_on(Reader& reader, Answer& answer, bool skip_damaged) {
  for (;;) {
    const auto entry = reader.next();
    if (!entry && entry.error().code == ErrorCode::damaged && skip_damaged) {
      answer.rest += "; " + entry.error().message;
      continue;
    }
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
  read_on(*reader, answer, options.skip_damaged);
  return answer;
}

Answer follow(SimulatedDisk& disk) {
  Answer answer;
  const auto opened = Wal::open(options_on(disk, OpenMode::read_only));
  if (!opened) {
    answer.error = opened.error();
    return answer;
  }
  auto reader = opened->wal.read_from(begin_of_log);
  if (!reader) {
    answer.error = reader.error();
    return answer;
  }
  for (;;) {
    const auto more = reader->follow(std::chrono::milliseconds{0});
    if (!more || !*more) {
      answer.error = more ? std::nullopt : std::optional(more.error());
      return answer;
    }
    const auto entry = reader->next();
    if (!entry) {
      answer.error = entry.error();
      return answer;
    }
    answer.records.push_back((*entry)->copy());
  }
}

Answer verify_all(SimulatedDisk& disk, std::uint32_t threads) {
  Answer answer;
  const auto report = verify(std::string(kDirectory), &disk, nullptr, threads);
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

Answer garbage_of(SimulatedDisk& disk) {
  Answer answer;
  const auto garbage = find_garbage(kDirectory, &disk);
  if (!garbage) {
    answer.error = garbage.error();
    return answer;
  }
  for (const auto& file : *garbage) {
    answer.rest +=
        fmt::format("{}: {} of {} records, {} of {} bytes, {} tombstones; ", file.file,
                    file.records_live, file.records, file.bytes_live, file.bytes, file.tombstones);
  }
  return answer;
}

Answer consumers_of(SimulatedDisk& disk) {
  Answer answer;
  const auto opened = Wal::open(options_on(disk, OpenMode::read_only));
  if (!opened) {
    answer.error = opened.error();
    return answer;
  }
  const auto consumers = opened->wal.consumers();
  if (!consumers) {
    answer.error = consumers.error();
    return answer;
  }
  for (const auto& consumer : *consumers) {
    answer.rest += fmt::format("{} at {}; ", consumer.name, consumer.position.sequence);
    if (consumer.unreadable) {
      answer.error = consumer.unreadable;
    }
  }
  return answer;
}

Answer consume(SimulatedDisk& disk, OpenMode mode) {
  Answer answer;
  auto opened = Wal::open(options_on(disk, mode));
  if (!opened) {
    answer.error = opened.error();
    return answer;
  }
  auto consumer = opened->wal.consumer(kConsumer);
  if (!consumer) {
    answer.error = consumer.error();
    return answer;
  }
  const auto lag = consumer->lag();
  if (!lag) {
    answer.error = lag.error();
    return answer;
  }
  answer.rest = fmt::format("{} records, {} ms behind", lag->records, lag->time.count());
  for (;;) {
    const auto entry = consumer->next();
    if (!entry || !*entry) {
      answer.error = entry ? std::nullopt : std::optional(entry.error());
      return answer;
    }
    answer.records.push_back((*entry)->copy());
  }
}

struct Work {
  std::string_view name;
  std::function<Answer(SimulatedDisk&)> run;
  bool changes_the_disk = false;
};

// `log` is the one that came into the state.
std::vector<Work> all_work(SimulatedDisk& log) {
  // The third of three frames' times.
  const auto middle = TimePoint{std::chrono::milliseconds{log.now_ms() - 10}};
  const auto map = LogMap::of(log);
  const auto& first = map.frames.at(map.segments.at(1).first_frame);
  const auto& second = map.frames.at(map.segments.at(1).first_frame + 1);
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
      {"reading from a later sequence",
       [](SimulatedDisk& disk) { return read_from(disk, Sequence{25}, {}); }},
      {"reading from a time", [=](SimulatedDisk& disk) { return read_from(disk, middle, {}); }},
      {"reading from where a segment begins",
       [=](SimulatedDisk& disk) {
         return read_from(disk, FramePlace{first.segment_id, first.offset}, {});
       }},
      {"reading from a place",
       [=](SimulatedDisk& disk) {
         return read_from(disk, FramePlace{second.segment_id, second.offset}, {});
       }},
      {"following", follow},
      {"position_at", [=](SimulatedDisk& disk) { return position_at(disk, middle); }},
      {"verify", [](SimulatedDisk& disk) { return verify_all(disk, 1); }},
      {"verify on two threads", [](SimulatedDisk& disk) { return verify_all(disk, 2); }},
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

// What goes by the places of consumers and snapshots, or is for them.
std::vector<Work> work_beside_places() {
  return {
      {"finding garbage", garbage_of},
      {"listing consumers", consumers_of},
      {"consuming, read-only",
       [](SimulatedDisk& disk) { return consume(disk, OpenMode::read_only); }, true},
      {"consuming", [](SimulatedDisk& disk) { return consume(disk, OpenMode::create); }, true},
  };
}

class ReadFaultsTest : public ::testing::TestWithParam<LogState> {
 protected:
  static void fail_every_call(const std::vector<Work>& all, std::initializer_list<Repeat> repeats);
};

// Goal: an I/O error is told as one. It is never taken for an end or for damage, and it changes
// nothing: asked again, the log says what it would have said.
// Method: for each state and each kind of work, the disk fails at its 1st, 2nd, ... call, once and
// for good, until there are no more calls.
void ReadFaultsTest::fail_every_call(const std::vector<Work>& all,
                                     std::initializer_list<Repeat> repeats) {
  const auto start = GetParam().make();
  for (const auto& work : all) {
    const auto expected = work.run(*start->clone());
    for (const auto repeat : repeats) {
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
        if (work.changes_the_disk) {
          const auto again = work.run(*disk);
          EXPECT_TRUE(same(again.records, expected.records)) << where << "\nagain " << again.text();
          EXPECT_EQ(again.error.has_value(), expected.error.has_value()) << where;
        } else {
          EXPECT_TRUE(files_of(*disk) == before) << where;
        }
        if (HasFailure()) {
          return;
        }
      }
    }
  }
}

TEST_P(ReadFaultsTest, AreToldAndChangeNothing) {
  fail_every_call(all_work(*make_small_log(GetParam().ending)), {Repeat::once, Repeat::forever});
}

class MoreReadFaultsTest : public ReadFaultsTest {};

TEST_P(MoreReadFaultsTest, AreToldAndChangeNothing) {
  fail_every_call(all_work(*make_small_log(GetParam().ending)), {Repeat::once});
}

class PlacesReadFaultsTest : public ReadFaultsTest {};

TEST_P(PlacesReadFaultsTest, AreToldAndChangeNothing) {
  fail_every_call(all_work(*make_small_log(GetParam().ending)), {Repeat::once});
  fail_every_call(work_beside_places(), {Repeat::once, Repeat::forever});
}

INSTANTIATE_TEST_SUITE_P(Every, MoreReadFaultsTest, ::testing::ValuesIn(more_log_states()),
                         [](const auto& test) { return test.param.name; });
INSTANTIATE_TEST_SUITE_P(Every, PlacesReadFaultsTest, ::testing::ValuesIn(states_with_places()),
                         [](const auto& test) { return test.param.name; });
INSTANTIATE_TEST_SUITE_P(Every, ReadFaultsTest, ::testing::ValuesIn(log_states()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace nori::damage_tests
