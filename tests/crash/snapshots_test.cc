// A crash at every step of writing snapshots of a log and of removing older ones, and at every step
// of doing so again afterwards.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "nori/snapshot.h"
#include "nori/wal.h"
#include "snapshot/snapshot_files.h"
#include "testing/crash_points.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"

namespace nori::crash_tests {
namespace {

using namespace nori::testing;  // NOLINT: the language of scripts

using State = std::map<std::string, OwnedEntry>;

WalOptions options_on(SimulatedDisk& disk, OpenMode mode) {
  auto options = small_options();
  options.directory = "log";
  options.file_system = &disk;
  options.fsync = FsyncPolicy::os();
  options.mode = mode;
  options.background_thread = false;
  return options;
}

// What the records before `end` make.
Result<State> state_before(const Wal& wal, Sequence end) {
  State state;
  auto reader = wal.read_from(begin_of_log);
  if (!reader) {
    return std::unexpected(reader.error());
  }
  for (const auto& entry : *reader) {
    if (!entry) {
      return std::unexpected(entry.error());
    }
    if (entry->sequence >= end) {
      break;
    }
    if (entry->op == nori::Operation::remove) {
      state.erase(std::string(entry->key));
    } else {
      state.insert_or_assign(std::string(entry->key), entry->copy());
    }
  }
  return state;
}

// The snapshot of the state at the log's end.
Result<void> take_snapshot(Wal& wal) {
  const auto at = wal.current_position();
  const auto state = state_before(wal, at.sequence);
  if (!state) {
    return std::unexpected(state.error());
  }
  auto writer = SnapshotWriter::begin(
      wal, at, {.compression = Compression::none, .block_bytes = kKiB, .retain = 1});
  if (!writer) {
    return std::unexpected(writer.error());
  }
  for (const auto& [key, entry] : *state) {
    if (auto added = writer->add({.key = key,
                                  .value = entry.value,
                                  .epoch = entry.epoch,
                                  .sequence = entry.sequence,
                                  .expires_at = entry.expires_at});
        !added) {
      return added;
    }
  }
  const auto written = writer->finish();
  return written ? Result<void>{} : std::unexpected(written.error());
}

struct Life {
  /// Not closed before the disk has died: a process that is killed.
  std::optional<Opened> opened;
  Result<void> outcome;
  /// Of the last snapshot whose finish() succeeded, in this life or an earlier one.
  Sequence finished = 0;
};

// Appends and takes snapshots, up to the first error: the disk is dead then.
Life live(SimulatedDisk& disk, int number, Sequence finished_before) {
  Life life{.opened = std::nullopt, .outcome = {}, .finished = finished_before};
  auto opened = Wal::open(options_on(disk, OpenMode::create));
  if (!opened) {
    life.outcome = std::unexpected(opened.error());
    return life;
  }
  auto& wal = life.opened.emplace(*std::move(opened)).wal;
  for (int snapshot = 0; snapshot < 3; ++snapshot) {
    for (int i = 0; i < 3; ++i) {
      const auto key = fmt::format("key-{}", (number + snapshot + i) % 4);
      const auto value = fmt::format("{}-{}-{}{}", number, snapshot, i, std::string(700, '.'));
      const auto appended = wal.append(i == 2 ? Record::remove(key) : Record::put(key, value));
      if (!appended) {
        life.outcome = std::unexpected(appended.error());
        return life;
      }
    }
    life.outcome = take_snapshot(wal);
    if (!life.outcome) {
      return life;
    }
    life.finished = wal.current_position().sequence;
  }
  return life;
}

// What is wrong with what a crash left of a disk on which a snapshot of `finished` was finished;
// empty if nothing is.
std::string wrong_after_crash(SimulatedDisk& disk, Sequence finished) {
  const auto opened = Wal::open(options_on(disk, OpenMode::existing));
  if (!opened) {
    return finished == 0 && opened.error().code == ErrorCode::not_a_log
               ? ""
               : "the log does not open: " + opened.error().message;
  }
  const auto files = verify_snapshots("log", &disk);
  if (!files) {
    return files.error().message;
  }
  for (const auto& file : *files) {
    if (!file.valid) {
      return "a snapshot got its name before it was whole: " + file.reason;
    }
    if (file.sequence > opened->recovery.next_sequence) {
      return fmt::format("a snapshot of {} is ahead of its log, which ends at {}", file.sequence,
                         opened->recovery.next_sequence);
    }
  }
  auto snapshot = SnapshotReader::open("log", {.verify = true, .file_system = &disk});
  if (!snapshot) {
    return snapshot.error().message;
  }
  if (!snapshot->reader) {
    return finished == 0 ? "" : fmt::format("the snapshot of {} is gone", finished);
  }
  const auto& file = snapshot->reader->file();
  if (file.sequence < finished) {
    return fmt::format("the newest snapshot is of {}, but one of {} was finished", file.sequence,
                       finished);
  }
  auto state = state_before(opened->wal, file.sequence);
  if (!state) {
    return state.error().message;
  }
  while (true) {
    const auto entry = snapshot->reader->next();
    if (!entry) {
      return entry.error().message;
    }
    if (!*entry) {
      return state->empty() ? "" : "an entry is missing: " + state->begin()->first;
    }
    const auto due = state->find(std::string((*entry)->key));
    if (due == state->end() || due->second.value != (*entry)->value ||
        due->second.sequence != (*entry)->sequence || due->second.epoch != (*entry)->epoch) {
      return fmt::format("the snapshot of {} holds another {}", file.sequence, (*entry)->key);
    }
    state->erase(due);
  }
}

TEST(SnapshotCrashTest, AFinishedSnapshotIsNeverLost) {
  const SimulatedDisk start(1);
  std::uint64_t points = 0;
  for_each_crash_point(
      start, [](SimulatedDisk& disk) { return std::make_unique<Life>(live(disk, 0, 0)); },
      [&](SimulatedDisk& disk, const Life& life, std::uint64_t operations) {
        ++points;
        if (!disk.dead()) {
          ASSERT_TRUE(life.outcome) << life.outcome.error().message;
          ASSERT_EQ(life.finished, 9U);
        }
        for (const auto& form : kCrashForms) {
          const auto copy = crashed_copy(disk, form, operations);
          if (form.crash == Crash::process) {
            copy->crash_process();
          }
          ASSERT_EQ(wrong_after_crash(*copy, life.finished), "")
              << "crash after " << operations << ", " << form.name;
        }
      });
  EXPECT_GT(points, 40 / kCrashPointStride) << "snapshots were hardly written";
}

TEST(SnapshotCrashTest, NorByASecondCrash) {
  const SimulatedDisk start(2);
  for_each_crash_point(
      start, [](SimulatedDisk& disk) { return std::make_unique<Life>(live(disk, 0, 0)); },
      [&](SimulatedDisk& disk, const Life& life, std::uint64_t first) {
        const auto& first_form = kCrashForms[first % std::size(kCrashForms)];
        const auto crashed = crashed_copy(disk, first_form, first);
        crashed->crash_process();
        for_each_crash_point(
            *crashed,
            [&](SimulatedDisk& again) {
              return std::make_unique<Life>(live(again, 1, life.finished));
            },
            [&](SimulatedDisk& again, const Life& second_life, std::uint64_t second) {
              for (const auto& form :
                   {kPowerKeepsNothing, kCrashForms[(first + second) % std::size(kCrashForms)]}) {
                const auto copy = crashed_copy(again, form, first + second);
                copy->crash_process();
                ASSERT_EQ(wrong_after_crash(*copy, second_life.finished), "")
                    << "crash after " << first << ", " << first_form.name << "; then after "
                    << second << ", " << form.name;
              }
            });
      });
}

// --- Threads

// Goal: snapshots are whole whoever appends, reads or begins one meanwhile.
// Method: a thread appends; two others take snapshots whenever it is their turn, and have each read
// in parts by threads of its own while the next one is being written.
TEST(SnapshotThreadsTest, AreTakenAndReadBesideEachOther) {
  SimulatedDisk disk(3);
  auto opened = Wal::open(options_on(disk, OpenMode::create));
  ASSERT_TRUE(opened) << opened.error().message;
  auto& wal = opened->wal;
  std::atomic<bool> done{false};
  std::atomic<int> refused{0};
  std::atomic<int> read_whole{0};

  const auto read_in_parts = [&] {
    auto snapshot = SnapshotReader::open("log", {.file_system = &disk});
    ASSERT_TRUE(snapshot) << snapshot.error().message;
    if (!snapshot->reader) {
      return;
    }
    std::atomic<std::uint64_t> entries{0};
    {
      auto parts = snapshot->reader->split(2);
      std::vector<std::jthread> readers;
      for (auto& part : parts) {
        readers.emplace_back([&entries, &part] {
          while (true) {
            const auto entry = part.next();
            ASSERT_TRUE(entry) << entry.error().message;
            if (!*entry) {
              return;
            }
            ++entries;
          }
        });
      }
    }
    EXPECT_EQ(entries, snapshot->reader->file().entries);
    ++read_whole;
  };
  const auto take_turns = [&] {
    for (int i = 0; i < 20; ++i) {
      if (const auto taken = take_snapshot(wal); !taken) {
        // The other one is at it, or was, and of a later place.
        EXPECT_TRUE(taken.error().code == ErrorCode::busy ||
                    taken.error().code == ErrorCode::invalid_argument)
            << taken.error().message;
        ++refused;
      }
      read_in_parts();
    }
  };
  {
    const std::jthread appender([&] {
      for (int i = 0; !done; ++i) {
        ASSERT_TRUE(wal.append(Record::put(fmt::format("key-{:03}", i % 100), "value")));
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      }
    });
    {
      const std::jthread one(take_turns);
      const std::jthread other(take_turns);
    }
    done = true;
  }
  EXPECT_LT(refused, 40);
  EXPECT_GT(read_whole, 0);
}

}  // namespace
}  // namespace nori::crash_tests
