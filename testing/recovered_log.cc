#include "testing/recovered_log.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nori/wal.h"
#include "testing/workload.h"

namespace nori::testing {

namespace {

constexpr std::string_view kDirectory = "log";

std::vector<std::string> files_of(const SimulatedDisk& disk) {
  return disk.list_files(kDirectory).value_or(std::vector<std::string>{});
}

bool has_file(const SimulatedDisk& disk, std::string_view directory, std::string_view name) {
  const auto files = disk.list_files(directory);
  return files && std::ranges::find(*files, name) != files->end();
}

std::string message_of(std::string_view what, const Error& error) {
  return fmt::format("{}: {}: {}", what, error_code_name(error.code), error.message);
}

bool equal(const LogContents& a, const LogContents& b) {
  return a.next_sequence == b.next_sequence &&
         std::ranges::equal(a.entries, b.entries, [](const OwnedEntry& x, const OwnedEntry& y) {
           return x.sequence == y.sequence && x.epoch == y.epoch && x.time == y.time &&
                  x.op == y.op && x.key == y.key && x.value == y.value &&
                  x.expires_at == y.expires_at && x.ends_batch == y.ends_batch;
         });
}

// Whether a recovery's report fits what can be read.
std::string check_report(const RecoveryInfo& info, const LogContents& found, bool all_scanned) {
  if (info.next_sequence != found.next_sequence) {
    return fmt::format("the report says that the next record is {}, not {}", info.next_sequence,
                       found.next_sequence);
  }
  if (info.valid_records > found.entries.size() ||
      (all_scanned && info.valid_records != found.entries.size())) {
    return fmt::format("the report says {} valid records, and there are {}", info.valid_records,
                       found.entries.size());
  }
  if (info.records_from_ring > info.valid_records) {
    return "more records from the ring than records";
  }
  if (info.last_valid_position.has_value() != (info.valid_records != 0) ||
      (info.last_valid_position && info.last_valid_position->sequence + 1 != found.next_sequence)) {
    return "the report's last valid position is not the last record's";
  }
  if (info.corruption_detected) {
    return "a crash is no corruption: " + info.reason;
  }
  if (info.torn_tail != info.truncated_at.has_value() || info.torn_tail == info.reason.empty() ||
      (!info.torn_tail && info.bytes_truncated != 0)) {
    return fmt::format("the report contradicts itself: torn {}, {} bytes, reason \"{}\"",
                       info.torn_tail, info.bytes_truncated, info.reason);
  }
  if (info.truncated_at && info.truncated_at->sequence != found.next_sequence) {
    return "the report's cut is not at the log's end";
  }
  if (info.closed_cleanly && info.torn_tail) {
    return "closed cleanly, and torn";
  }
  return {};
}

class Examination {
 public:
  Examination(SimulatedDisk& disk, WalOptions options, ReferenceLog& reference, Crash crash,
              bool may_be_missing)
      : disk_(disk),
        options_(std::move(options)),
        reference_(reference),
        crash_(crash),
        may_be_missing_(may_be_missing) {
    options_.file_system = &disk_;
    options_.directory = kDirectory;
  }

  std::string open_for_writing() {
    std::optional<RecoveryInfo> read_only;
    if (auto wrong = read_without_change(read_only); !wrong.empty()) {
      return wrong;
    }
    auto opened = Wal::open(options_);
    if (!opened) {
      return message_of("open", opened.error());
    }
    wal_.emplace(std::move(opened->wal));
    const auto& info = opened->recovery;
    if (info.created != !read_only.has_value()) {
      return info.created ? "a log was created in place of one" : "a log appeared";
    }
    const auto found = read_all(*wal_);
    if (!found) {
      return message_of("read", found.error());
    }
    if (read_only && !equal(*found, found_)) {
      return fmt::format("reading finds {} records, opening {}", found_.next_sequence,
                         found->next_sequence);
    }
    if (auto wrong = check_report(info, *found, false); !wrong.empty()) {
      return wrong;
    }
    if (read_only &&
        (read_only->torn_tail != info.torn_tail || read_only->truncated_at != info.truncated_at ||
         read_only->bytes_truncated != info.bytes_truncated)) {
      return fmt::format("reading reports {} bytes torn, opening {}", read_only->bytes_truncated,
                         info.bytes_truncated);
    }
    for (const auto& name : info.quarantined) {
      if (!has_file(disk_, "log/quarantine", name)) {
        return fmt::format("quarantine/{} is reported, and not there", name);
      }
    }
    if (wal_->durable_position().sequence != found->next_sequence) {
      return fmt::format("opened, and only {} records of {} are durable",
                         wal_->durable_position().sequence, found->next_sequence);
    }
    reference_.adopt(*found);
    // All that was found is durable now.
    const auto cut = disk_.clone();
    cut->power_cut(disk_.operations(), {.survival = Survival::nothing});
    return compare_on(*cut, "a power cut after opening");
  }

  std::string look() {
    std::optional<RecoveryInfo> read_only;
    auto wrong = read_without_change(read_only);
    if (wrong.empty() && read_only) {
      reference_.adopt_undurable(found_);
    }
    return wrong;
  }

  // look() found nothing wrong.
  std::string look_derived(DerivedModel& derived) {
    if (derived.empty()) {
      derived.adopt({}, crash_);
      return {};
    }
    if (!looked_at_) {
      return derived.compare({}, 0, {}, reference_, crash_);
    }
    const auto found = read_derived(*looked_at_, disk_);
    if (!found) {
      return message_of("what was made from the log", found.error());
    }
    const auto first = looked_at_->stats().first_sequence;
    auto wrong = derived.compare(*found, first, found_, reference_, crash_);
    for (const auto& [name, place] : found->cursors) {
      wrong = wrong.empty() ? read_from(place) : std::move(wrong);
    }
    derived.adopt(*found, crash_);
    return wrong;
  }

  std::string go_on() {
    CheckedLog log(disk_, options_, reference_);
    if (!log.run({open(), append(2), append_batch(3), sync(), append(1)})) {
      return message_of("recovered, but", *log.error());
    }
    if (!log.problem().empty()) {
      return "recovered, but " + log.problem();
    }
    {
      const auto& worst = log.reference();
      const auto cut = disk_.clone();
      cut->power_cut(disk_.operations(), {.torn_sectors = true});
      const auto found = read_log(*cut);
      if (!found) {
        return message_of("a power cut after that", found.error());
      }
      if (auto wrong = worst.compare(*found, Crash::power); !wrong.empty()) {
        return "a power cut after that: " + wrong;
      }
    }
    if (!log.run(close())) {
      return message_of("close", log.error().value());
    }
    reference_ = log.reference();
    for (const auto& name : files_of(disk_)) {
      if (name == "ring" || name.ends_with(".tmp")) {
        return fmt::format("closed, and {} is left behind", name);
      }
    }
    auto read_only = options_;
    read_only.mode = OpenMode::read_only;
    const auto reopened = Wal::open(read_only);
    if (!reopened) {
      return message_of("reopen", reopened.error());
    }
    if (!reopened->recovery.closed_cleanly) {
      return "closed, and found not closed";
    }
    return compare_on(disk_, "closed");
  }

  void forget() { wal_.reset(); }

 private:
  // Where a cursor stands the log is read as in any other way.
  std::string read_from(Sequence place) {
    const auto due = std::ranges::lower_bound(found_.entries, place, {}, &OwnedEntry::sequence);
    auto reader = looked_at_->read_from(place);
    if (!reader) {
      return message_of("a reader from a cursor on", reader.error());
    }
    const auto entry = reader->next();
    if (!entry) {
      return message_of("a reader from a cursor on", entry.error());
    }
    if (entry->has_value() != (due != found_.entries.end()) ||
        (*entry && (*entry)->sequence != due->sequence)) {
      return fmt::format("a reader from {} on finds another record", place);
    }
    return {};
  }

  Result<LogContents> read_log(SimulatedDisk& disk, RecoveryInfo* info = nullptr) {
    auto options = options_;
    options.file_system = &disk;
    options.mode = OpenMode::read_only;
    options.verification = Verification::all;
    auto opened = Wal::open(options);
    if (!opened) {
      return std::unexpected(std::move(opened).error());
    }
    if (info != nullptr) {
      *info = std::move(opened->recovery);
    }
    auto contents = read_all(opened->wal);
    if (&disk == &disk_) {
      looked_at_.emplace(std::move(opened->wal));
    }
    return contents;
  }

  std::string read_without_change(std::optional<RecoveryInfo>& report) {
    const auto files = files_of(disk_);
    const auto operations = disk_.operations();
    RecoveryInfo info;
    auto found = read_log(disk_, &info);
    if (disk_.operations() != operations || files_of(disk_) != files) {
      return "opening it read-only changed the disk";
    }
    if (!found) {
      const auto& error = found.error();
      return error.code == ErrorCode::not_a_log && may_be_missing_
                 ? std::string{}
                 : message_of("read-only open", error);
    }
    if (auto wrong = reference_.compare(*found, crash_); !wrong.empty()) {
      return wrong;
    }
    report = std::move(info);
    found_ = *std::move(found);
    return check_report(*report, found_, true);
  }

  std::string compare_on(SimulatedDisk& disk, std::string_view what) {
    const auto found = read_log(disk);
    if (!found) {
      return message_of(what, found.error());
    }
    const auto wrong = reference_.compare(*found, Crash::power);
    return wrong.empty() ? wrong : fmt::format("{}: {}", what, wrong);
  }

  SimulatedDisk& disk_;
  WalOptions options_;
  ReferenceLog& reference_;
  Crash crash_;
  bool may_be_missing_;
  LogContents found_;
  std::optional<Wal> looked_at_;
  std::optional<Wal> wal_;
};

}  // namespace

WalOptions small_options() {
  WalOptions options;
  options.directory = kDirectory;
  options.segment_bytes = 64 * kKiB;
  options.ring_bytes = 64 * kKiB;
  options.background_thread = false;
  return options;
}

std::string watched(const SimulatedDisk& disk, const WalOptions& options) {
  if (options.padding == Padding::block && disk.durable_bytes_changed() != 0) {
    return fmt::format("{} durable bytes were changed", disk.durable_bytes_changed());
  }
  if (disk.mixed_io_seen()) {
    return "a file was written both directly and through the page cache";
  }
  if (disk.overlapping_writes_seen()) {
    return "two writes to one block were in flight";
  }
  if (disk.mapped_holes_seen()) {
    return "a file with holes was mapped";
  }
  return {};
}

WalOptions without_durable_bytes(WalOptions options) {
  options.padding = Padding::none;
  return options;
}

std::string look_at(SimulatedDisk& disk, const WalOptions& options, ReferenceLog& reference,
                    Crash crash, bool may_be_missing) {
  return Examination(disk, options, reference, crash, may_be_missing).look();
}

std::string look_at(SimulatedDisk& disk, const WalOptions& options, ReferenceLog& reference,
                    DerivedModel& derived, Crash crash, bool may_be_missing) {
  Examination examination(disk, options, reference, crash, may_be_missing);
  auto wrong = examination.look();
  return wrong.empty() ? examination.look_derived(derived) : wrong;
}

std::string check_recovery(SimulatedDisk& disk, const WalOptions& options, ReferenceLog& reference,
                           Crash crash, bool may_be_missing) {
  Examination examination(disk, options, reference, crash, may_be_missing);
  auto wrong = examination.open_for_writing();
  if (wrong.empty()) {
    disk.crash_process();
    examination.forget();
    wrong = examination.go_on();
  }
  if (!wrong.empty()) {
    disk.crash_process();
    return wrong;
  }
  return watched(disk, options);
}

std::string trace_of(const SimulatedDisk& disk) {
  return fmt::format("{}", fmt::join(disk.trace(), "\n"));
}

}  // namespace nori::testing
