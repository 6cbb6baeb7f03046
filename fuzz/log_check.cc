#include "fuzz/log_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "fuzz/require.h"
#include "nori/verify.h"
#include "testing/recovered_log.h"

namespace nori::fuzz {

using testing::SimulatedDisk;

namespace {

bool equal(const OwnedEntry& a, const OwnedEntry& b) {
  return a.sequence == b.sequence && a.epoch == b.epoch && a.time == b.time && a.op == b.op &&
         a.key == b.key && a.value == b.value && a.expires_at == b.expires_at &&
         a.ends_batch == b.ends_batch && a.position.segment_id == b.position.segment_id &&
         a.position.offset == b.position.offset;
}

using Entries = std::vector<OwnedEntry>;

bool equal(const Entries& a, const Entries& b) {
  return std::ranges::equal(
      a, b, [](const OwnedEntry& one, const OwnedEntry& other) { return equal(one, other); });
}

bool is_prefix(const Entries& shorter, const Entries& longer) {
  return shorter.size() <= longer.size() &&
         std::equal(
             shorter.begin(), shorter.end(), longer.begin(),
             [](const OwnedEntry& one, const OwnedEntry& other) { return equal(one, other); });
}

std::string message_of(std::string_view what, const Error& error) {
  return fmt::format("{}: {}: {}", what, error_code_name(error.code), error.message);
}

template <typename T>
void require_ok(const Result<T>& result, std::string_view what) {
  if (!result) {
    require_nothing(message_of(what, result.error()));
  }
}

// What a file's bytes can be the reason of. Nothing fails here but them.
void require_honest(const Error& error, std::string_view what) {
  require(error.code == ErrorCode::damaged || error.code == ErrorCode::not_a_log ||
              error.code == ErrorCode::unsupported_version,
          message_of(what, error));
  require(!error.message.empty(), "an error without words");
}

std::vector<std::string> names_on(const SimulatedDisk& disk) {
  return disk.list_files("log").value_or(std::vector<std::string>{});
}

struct Reading {
  Entries entries;             ///< Up to the first error.
  std::optional<Error> error;  ///< The first one.
};

void require_written(const Entries& entries, const Written* written) {
  if (written != nullptr) {
    for (const auto& entry : entries) {
      require_nothing(written->compare(entry));
    }
  }
}

// From the beginning to the end, or to the first error. Nothing but `written`, if that is known.
Reading read(const Wal& wal, const Written* written) {
  Reading reading;
  auto reader = wal.read_from(begin_of_log);
  if (!reader) {
    require_honest(reader.error(), "read_from");
    reading.error = reader.error();
    return reading;
  }
  for (;;) {
    const auto entry = reader->next();
    if (!entry) {
      require_honest(entry.error(), "next");
      reading.error = entry.error();
      break;
    }
    if (!*entry) {
      break;
    }
    require(reading.entries.empty() || (*entry)->sequence == reading.entries.back().sequence + 1,
            "a hole that nobody has told of");
    reading.entries.push_back((*entry)->copy());
  }
  require_written(reading.entries, written);
  return reading;
}

class LogCheck {
 public:
  LogCheck(const SimulatedDisk& disk, const Written* written)
      : disk_(disk.clone()), written_(written) {}

  void run(Verification verification) {
    const auto operations = disk_->operations();
    const auto names = names_on(*disk_);
    const auto tail = look(Verification::tail);
    const auto all = look(Verification::all);
    const auto report = verify("log", disk_.get());
    if (!report) {
      require_honest(report.error(), "verify");
    }
    require(disk_->operations() == operations && names_on(*disk_) == names,
            "reading has changed the disk");
    if (all) {
      agree_on_damage(*all, report, tail);
      seek(*all);
    }
    // What `tail` does not look at may be damaged: then what is appended cannot be read.
    const bool is_whole = all && all->is_good() && tail &&
                          all->info.torn_tail == tail->info.torn_tail && !all->reading.error;
    write(verification, verification == Verification::tail ? tail : all, is_whole);
  }

 private:
  // What a read-only opening found, and what can be read of it.
  struct Look {
    RecoveryInfo info;
    Reading reading;
    [[nodiscard]] bool is_good() const { return !info.corruption_detected; }
  };

  // Damage is told of once, and what comes behind it lies behind it.
  void skip(const Wal& wal, const Reading& reading) const {
    auto reader = wal.read_from(begin_of_log, {.skip_damaged = true});
    if (!reader) {
      return;
    }
    Entries entries;
    std::optional<Position> damage;
    for (;;) {
      const auto entry = reader->next();
      if (!entry) {
        require_honest(entry.error(), "next, skipping");
        if (entry.error().code != ErrorCode::damaged) {
          break;
        }
        require(reading.error.has_value(), "damage only for who skips it");
        if (!damage) {
          require(equal(entries, reading.entries), "skipping, the same is read before the damage");
        }
        damage = entry.error().position;
        continue;
      }
      if (!*entry) {
        break;
      }
      require(
          entries.empty() || written_ == nullptr || (*entry)->sequence > entries.back().sequence,
          "skipping damage has led back");
      entries.push_back((*entry)->copy());
    }
    require_written(entries, written_);
    require(damage || reading.error || equal(entries, reading.entries),
            "without damage there is nothing to skip");
  }

  // Nothing, if it is no log, or none that can be read at all.
  std::optional<Look> look(Verification verification) {
    auto opened = Wal::open(small_options(*disk_, OpenMode::read_only, verification));
    if (!opened) {
      require_honest(opened.error(), "open read-only");
      return std::nullopt;
    }
    Look look{.info = opened->recovery, .reading = read(opened->wal, written_)};
    skip(opened->wal, look.reading);
    require(look.info.next_sequence == opened->wal.current_position().sequence,
            "two ends of one log");
    return look;
  }

  // What reads every byte finds the same.
  void agree_on_damage(const Look& all, const Result<VerifyReport>& report,
                       const std::optional<Look>& tail) const {
    const auto& entries = all.reading.entries;
    if (written_ == nullptr) {
      return;
    }
    require(tail.has_value(), "reading all of it opens what reading its tail does not");
    // A reader does not come to a segment behind a hole if the log ends before.
    const bool has_hole = all.info.reason.starts_with("the segment is missing");
    require(all.is_good() || all.reading.error || has_hole,
            "damage that a reader does not come to");
    require(!all.is_good() || !all.reading.error, "a reader finds damage that opening does not");
    require(report.has_value(), "a log that verify cannot read");
    if (all.is_good()) {
      require(all.info.valid_records == entries.size(), "records are counted that are not read");
      // Only frames say where the ring has a segment whose file has lost its header: those of the
      // one before it, which `tail` does not read.
      require(tail->is_good() || all.info.records_from_ring != 0,
              "its tail is damaged, all of it is not: " + tail->info.reason);
    }
    // Of a log that was closed `tail` reads the close frame, which repeats what padding before it
    // has lost.
    if (all.is_good() && tail->is_good() && !tail->info.closed_cleanly) {
      require(tail->info.next_sequence == all.info.next_sequence &&
                  tail->info.torn_tail == all.info.torn_tail &&
                  tail->info.bytes_truncated == all.info.bytes_truncated,
              fmt::format("its tail ends at {} with {} bytes to cut, all of it at {} with {}",
                          tail->info.next_sequence, tail->info.bytes_truncated,
                          all.info.next_sequence, all.info.bytes_truncated));
    }
    if (all.is_good()) {
      require(report->next_sequence == all.info.next_sequence, "verify finds another end");
      require(report->records == entries.size(), "verify counts other records");
      require((report->bytes_torn != 0) <= all.info.torn_tail, "a torn tail for verify alone");
    } else {
      require(!report->damages.empty(), "damage that verify does not report");
    }
  }

  // The same records are found from places within.
  void seek(const Look& all) {
    const auto& entries = all.reading.entries;
    auto opened = Wal::open(small_options(*disk_, OpenMode::read_only));
    if (!opened || entries.empty()) {
      return;
    }
    const auto& wal = opened->wal;
    for (const auto at : {entries.size() / 2, entries.size() - 1}) {
      const auto& entry = entries[at];
      const FramePlace place{.segment_id = entry.position.segment_id,
                             .offset = entry.position.offset};
      for (const ReadFrom from : {ReadFrom{entry.sequence}, ReadFrom{entry.position},
                                  ReadFrom{entry.time}, ReadFrom{place}}) {
        auto reader = wal.read_from(from);
        if (!reader) {
          require(written_ == nullptr || !all.is_good(),
                  message_of("a record's place leads nowhere", reader.error()));
          continue;
        }
        const auto found = reader->next();
        if (written_ == nullptr || !all.is_good()) {
          continue;
        }
        require(found && *found, "a record's place leads to none");
        // A time leads to the first record of that time, a place to its frame's first.
        const bool is_exact = from.index() == 1 || from.index() == 2;
        require((*found)->sequence <= entry.sequence &&
                    (!is_exact || (*found)->sequence == entry.sequence) &&
                    (from.index() != 3 || (*found)->time == entry.time) &&
                    (from.index() != 4 || (*found)->position.offset == place.offset),
                "a record's place leads to another");
        require(equal((*found)->copy(), entries[(*found)->sequence - entries.front().sequence]),
                "from a place within, another record is read");
      }
    }
  }

  // Opening for writing finds what reading has found, and what it leaves is that for good.
  void write(Verification verification, const std::optional<Look>& look, bool goes_on) {
    const auto disk = disk_->clone();
    const auto operations = disk->operations();
    auto opened = Wal::open(small_options(*disk, OpenMode::existing, verification));
    if (!opened && opened.error().code == ErrorCode::io && written_ == nullptr) {
      return;  // forged, its blocks may be none that this disk takes
    }
    require(opened.has_value() == (look && look->is_good()),
            opened ? "what cannot be read was opened for writing"
                   : message_of("what can be read cannot be written", opened.error()));
    if (!opened) {
      require_honest(opened.error(), "open");
      require(disk->operations() == operations, "opening has failed, and changed the disk");
      return;
    }
    require(opened->recovery.next_sequence == look->info.next_sequence,
            "opened for writing, it ends elsewhere");
    const auto reading = read(opened->wal, written_);
    // What the ring had of segments that `tail` does not look at went with the ring.
    require(equal(reading.entries, look->reading.entries) ||
                (verification == Verification::tail && reading.error &&
                 is_prefix(reading.entries, look->reading.entries)),
            "opened for writing, it holds other records");
    disk->crash_process();
    {
      const auto cut = disk->clone();
      cut->power_cut(1, {.survival = testing::Survival::nothing});
      require_same(*cut, verification, reading, "after a power cut");
    }
    require_same(*disk, verification, reading, "opened again");
    if (goes_on && !reading.error) {
      go_on(*disk, verification, reading);
    }
  }

  // It was recovered: now it holds that and nothing has to be done.
  void require_same(SimulatedDisk& disk, Verification verification, const Reading& reading,
                    std::string_view when) const {
    const auto opened = Wal::open(small_options(disk, OpenMode::existing, verification));
    if (written_ == nullptr) {
      return;  // a forged log may contradict itself: no more is required than that this returns
    }
    require_ok(opened, when);
    require(!opened->recovery.torn_tail && opened->recovery.quarantined.empty(),
            fmt::format("{} there is something to cut: {}", when, opened->recovery.reason));
    require(equal(read(opened->wal, written_).entries, reading.entries),
            fmt::format("{} it holds other records", when));
    disk.crash_process();
  }

  // It takes records, closes, and opens clean.
  void go_on(SimulatedDisk& disk, Verification verification, const Reading& before) const {
    auto opened = Wal::open(small_options(disk, OpenMode::existing, verification));
    if (!opened && written_ == nullptr) {
      return;
    }
    require_ok(opened, "open once more");
    auto& wal = opened->wal;
    const auto appended = wal.append(Record::put("one", "more"), Durability::durable);
    require(appended || written_ == nullptr, "recovered, it takes no record");
    if (!appended) {
      return;  // forged, it may be at the end of what it can count
    }
    const auto closing = wal.close();
    if (written_ == nullptr) {
      return;
    }
    require_ok(closing, "close");
    auto closed = Wal::open(small_options(disk, OpenMode::read_only, verification));
    require_ok(closed, "closed, it cannot be opened");
    require(closed->recovery.closed_cleanly, "closed, and found not closed");
    const auto after = read(closed->wal, nullptr);  // there is one record more than those written
    require(after.entries.size() == before.entries.size() + 1 && !after.error &&
                after.entries.back().key == "one" && is_prefix(before.entries, after.entries),
            fmt::format("it held {} records, and closed with one more it holds {}{}",
                        before.entries.size(), after.entries.size(),
                        after.error ? ": " + after.error->message : ""));
  }

  std::unique_ptr<SimulatedDisk> disk_;
  const Written* written_;
};

}  // namespace

WalOptions small_options(SimulatedDisk& disk, OpenMode mode, Verification verification) {
  auto options = testing::small_options();
  options.mode = mode;
  options.verification = verification;
  options.fsync = FsyncPolicy::os();
  options.file_system = &disk;
  return options;
}

void Written::add_all(const Wal& wal) {
  auto reader = wal.read_from(begin_of_log);
  require_ok(reader, "reading what was written");
  for (;;) {
    const auto entry = reader->next();
    require_ok(entry, "reading what was written");
    if (!*entry) {
      return;
    }
    entries_.try_emplace({(*entry)->epoch.bits, (*entry)->sequence}, (*entry)->copy());
  }
}

std::string Written::compare(const OwnedEntry& entry) const {
  const auto found = entries_.find({entry.epoch.bits, entry.sequence});
  if (found == entries_.end()) {
    return fmt::format("record {} of epoch {:x} was never written", entry.sequence,
                       entry.epoch.bits);
  }
  return equal(found->second, entry)
             ? std::string{}
             : fmt::format("record {} of epoch {:x} is not what was written", entry.sequence,
                           entry.epoch.bits);
}

void check_log(const SimulatedDisk& disk, const Written* written, Verification verification) {
  LogCheck(disk, written).run(verification);
}

}  // namespace nori::fuzz
