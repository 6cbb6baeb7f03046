// What nori does, in a minute: real records, a writer that is killed again and again, and every
// record found again; a log that has grown, and what is left of it in three ways; and a map on it.
// `./dev demo` runs it. Ends with 0 if and only if nothing was lost.
//
//   nori_demo DIRECTORY [SEED]     DIRECTORY is empty; SEED decides when the writer is killed

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <random>
#include <string>

#include "demo/garbage.h"
#include "demo/history.h"
#include "demo/map.h"
#include "demo/text.h"
#include "demo/writer.h"
#include "nori/verify.h"
#include "nori/wal.h"

namespace demo {
namespace {

using Clock = std::chrono::steady_clock;
using nori::FsyncPolicy;
using std::chrono::milliseconds;

constexpr int kKills = 9;

struct NamedPolicy {
  const char* name;
  FsyncPolicy policy;
};
const std::array kPolicies = {NamedPolicy{.name = "always", .policy = FsyncPolicy::always()},
                              NamedPolicy{.name = "batch", .policy = FsyncPolicy::batch()},
                              NamedPolicy{.name = "os", .policy = FsyncPolicy::os()}};

bool complain(const char* what, const std::string& why) {
  std::printf("\n   FAILED: %s: %s\n", what, why.c_str());
  return false;
}
bool complain(const char* what, const nori::Error& error) { return complain(what, error.message); }

// How many records the log holds, if they are the first so many of the history, byte for byte and
// every batch whole. Reads without changing anything, as anybody could beside the writer.
std::optional<std::uint64_t> prefix_length(const std::string& directory, const History& history) {
  auto options = log_options(directory, FsyncPolicy::os());
  options.mode = nori::OpenMode::read_only;
  const auto opened = nori::Wal::open(options);
  if (!opened) {
    complain("open to read", opened.error());
    return std::nullopt;
  }
  auto reader = opened->wal.read_from(nori::begin_of_log);
  if (!reader) {
    complain("read", reader.error());
    return std::nullopt;
  }
  std::uint64_t found = 0;
  bool batch_is_whole = true;
  for (const auto& entry : *reader) {
    if (!entry) {
      complain("read", entry.error());
      return std::nullopt;
    }
    const auto wrong = [&](const char* what) {
      complain("read", "record " + std::to_string(found) + " " + what);
      return std::nullopt;
    };
    if (found == history.steps().size()) {
      return wrong("was never appended");
    }
    const auto& step = history.steps()[found];
    if (entry->sequence != found) {
      return wrong("is missing");
    }
    if (entry->op != step.op || entry->key != step.key || entry->value != step.value ||
        entry->ends_batch != step.ends_batch) {
      return wrong("is not what was appended");
    }
    batch_is_whole = entry->ends_batch;
    ++found;
  }
  if (!batch_is_whole) {
    complain("read", "the last batch is not whole");
    return std::nullopt;
  }
  return found;
}

// The right half of a line of the table: what the next opening made of what the killed one left.
void print_recovery(const Recovery& recovery) {
  std::printf(" | %8s  %9s  %9s  %5s ms\n", grouped(recovery.records_checked).c_str(),
              grouped(recovery.records_from_ring).c_str(), grouped(recovery.bytes_cut).c_str(),
              decimal(in_milliseconds(recovery.time_taken)).c_str());
  if (recovery.reason[0] != '\0') {
    std::printf("         cut because: %s\n", recovery.reason.data());
  }
}

bool load_and_kill(const std::string& directory, const History& history, std::uint64_t seed) {
  std::printf(
      "\n2. A writer that is killed\n\n"
      "   A second process appends these records to a log. As soon as append() has returned, it\n"
      "   acknowledges the record through a pipe. This process kills it with SIGKILL at a random\n"
      "   moment, %d times, and then reads the log, changing nothing: every acknowledged record "
      "has\n"
      "   to be there, and what is there has to be the beginning of the input, without a gap. The\n"
      "   next writer opens what was left, recovers it, and goes on. (seed %llu)\n\n"
      "           what the killed writer left                    | what the next opening did\n"
      "   kill    policy    alive  acknowledged    found  lost | checked  from ring  bytes cut     "
      "took\n",
      kKills, static_cast<unsigned long long>(seed));

  std::mt19937_64 random(seed);
  const auto between = [&random](std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
  };
  const auto share = history.steps().size() / (kKills + 1);
  std::uint64_t kept = 0;
  for (int kill = 0; kill < kKills; ++kill) {
    const auto& [name, policy] = kPolicies[static_cast<std::size_t>(kill) % kPolicies.size()];
    Writer writer(directory, policy, history);
    const auto recovery = writer.opened();
    if (!recovery) {
      return complain("the writer", "could not open the log");
    }
    if (kill > 0) {
      print_recovery(*recovery);
    }
    if (recovery->next_sequence != kept) {
      return complain("the writer", "recovered " + grouped(recovery->next_sequence) +
                                        " records, not " + grouped(kept));
    }

    // A disk may be slow to make each record durable: do not wait for all of a share then.
    const auto started = Clock::now();
    writer.listen(kept + between(1, share), milliseconds(between(100, 1000)));
    const auto alive = Clock::now() - started;
    if (!writer.kill()) {
      return complain("the writer", "ended before it was killed");
    }

    const auto acknowledged = writer.acknowledged();
    const auto found = prefix_length(directory, history);
    if (!found) {
      return false;
    }
    const auto lost = acknowledged - std::min(acknowledged, *found);
    std::printf("   %4d    %-6s %5s ms  %12s %8s  %4s", kill + 1, name,
                decimal(in_milliseconds(alive)).c_str(), grouped(acknowledged).c_str(),
                grouped(*found).c_str(), grouped(lost).c_str());
    std::fflush(stdout);
    if (lost > 0) {
      return complain("the log", grouped(lost) + " acknowledged records are lost");
    }
    kept = *found;
  }
  return true;
}

bool finish(const std::string& directory, const History& history) {
  // The last killed writer's log is recovered here.
  const auto& [name, policy] = kPolicies[1];
  auto opened = nori::Wal::open(log_options(directory, policy));
  if (!opened) {
    return complain("open", opened.error());
  }
  const auto recovery = Recovery::of(opened->recovery);
  print_recovery(recovery);
  std::printf(
      "\n   \"found\" may be more than was acknowledged: records whose acknowledgment the kill cut "
      "off.\n"
      "   A kill takes the process, not the machine: what \"always\" promises beyond that, that "
      "an\n"
      "   acknowledged record survives a power cut, is tested on a simulated disk (./dev test).\n"
      "\n3. The rest of the load, and all of it read back\n\n");
  if (!append_steps(opened->wal, history, recovery.next_sequence, history.steps().size(),
                    [](std::uint64_t) {})) {
    return false;
  }
  if (const auto closed = opened->wal.close(); !closed) {
    return complain("close", closed.error());
  }
  std::printf("   The last %s records appended (policy %s), the log closed.\n",
              grouped(history.steps().size() - recovery.next_sequence).c_str(), name);

  const auto reopened_at = Clock::now();
  const auto reopened = nori::Wal::open(log_options(directory, policy));
  if (!reopened) {
    return complain("open", reopened.error());
  }
  const auto open_took = Clock::now() - reopened_at;
  if (!reopened->recovery.closed_cleanly) {
    return complain("open", "the log was closed, but does not look so");
  }
  auto reader = reopened->wal.read_from(nori::begin_of_log);
  if (!reader) {
    return complain("read", reader.error());
  }
  State state;
  std::uint64_t records = 0;
  const auto read_at = Clock::now();
  for (const auto& entry : *reader) {
    if (!entry) {
      return complain("read", entry.error());
    }
    apply(state, entry->op, entry->key, entry->value);
    ++records;
  }
  const auto read_took = Clock::now() - read_at;
  if (records != history.steps().size() || state != history.final_state()) {
    return complain("read", "the records do not add up to what was appended");
  }
  std::printf(
      "   Opened again in %s ms: closed cleanly, nothing to recover.\n"
      "   All %s records read back into a map in %s ms. It has the %s keys and values that\n"
      "   the input adds up to.\n",
      decimal(in_milliseconds(open_took)).c_str(), grouped(records).c_str(),
      decimal(in_milliseconds(read_took)).c_str(), grouped(state.size()).c_str());
  return true;
}

bool draw_segments(const std::string& directory) {
  const auto report = nori::verify(directory);
  if (!report) {
    return complain("verify", report.error());
  }
  std::printf(
      "\n4. What is on the disk\n\n"
      "   Every byte read and checked: %s damaged places. A segment is a file; a new one begins "
      "when\n"
      "   one is full. # is records, . is padding: bytes that were durable are never written "
      "again.\n\n",
      grouped(report->damages.size()).c_str());
  std::uint64_t largest = 1;
  for (const auto& segment : report->segments) {
    largest = std::max(largest, segment.bytes);
  }
  constexpr std::uint64_t kBarWidth = 40;
  for (const auto& segment : report->segments) {
    const auto width = std::max<std::uint64_t>(1, segment.bytes * kBarWidth / largest);
    const auto padding = segment.bytes_padding * width / std::max<std::uint64_t>(1, segment.bytes);
    const auto bar = std::string(width - padding, '#') + std::string(padding, '.');
    std::printf("   %s  %-*s %8s  %7s records from %7s on%s\n", segment.file.c_str(),
                static_cast<int>(kBarWidth), bar.c_str(), in_megabytes(segment.bytes).c_str(),
                grouped(segment.records).c_str(), grouped(segment.first_sequence).c_str(),
                segment.sealed ? "" : ", the active one");
  }
  return report->damages.empty() || complain("verify", report->damages.front().reason);
}

// The same records again, each policy with a log of its own and nobody to kill it.
bool measure(const std::string& directory, const History& history) {
  std::printf("\n7. Rates, one thread, one append at a time\n\n");
  for (const auto& [name, policy] : kPolicies) {
    const auto scratch = directory + "/" + name;
    auto options = log_options(scratch, policy);
    options.segment_bytes = 128 * nori::kMiB;  // the defaults
    options.ring_bytes = 16 * nori::kMiB;
    auto opened = nori::Wal::open(options);
    if (!opened) {
      return complain("open", opened.error());
    }
    const bool waits = policy.kind() == FsyncPolicy::Kind::always;
    const auto end =
        waits ? std::min<std::size_t>(500, history.steps().size()) : history.steps().size();
    std::uint64_t appended = 0;
    const auto started = Clock::now();
    if (!append_steps(opened->wal, history, 0, end,
                      [&](std::uint64_t count) { appended = count; })) {
      return false;
    }
    const auto took = Clock::now() - started;
    if (const auto synced = opened->wal.sync(); !synced) {
      return complain("sync", synced.error());
    }
    const auto durable_took = Clock::now() - started;
    std::printf("   %-6s  %10s records/s", name, grouped(rate(appended, took)).c_str());
    if (waits) {
      std::printf(", each of them durable when its append returns\n");
    } else {
      std::printf(", %10s with the sync that makes the last one durable\n",
                  grouped(rate(appended, durable_took)).c_str());
    }
    if (const auto closed = opened->wal.close(); !closed) {
      return complain("close", closed.error());
    }
    std::filesystem::remove_all(scratch);
  }
  return true;
}

bool collect_garbage(const std::string& directory, const History& history, std::uint64_t seed) {
  const auto wrong = Garbage(directory, history, seed).run();
  return !wrong || complain("garbage", *wrong);
}

bool show_map(const std::string& directory, const History& history, std::uint64_t seed) {
  const auto wrong = Map(directory, history, seed).run();
  return !wrong || complain("store", *wrong);
}

bool run(const std::string& directory, std::uint64_t seed) {
  std::printf("1. The input\n\n");
  const auto history = History::of_this_machine();
  std::printf(
      "   %s:\n"
      "   %s records (%s), %s of them updates of a key that is there, %s deletions.\n"
      "   A removed package is one atomic batch: after a crash it is there with all its files, or "
      "gone.\n",
      history.source().c_str(), grouped(history.steps().size()).c_str(),
      in_megabytes(history.bytes()).c_str(), grouped(history.updates()).c_str(),
      grouped(history.removals()).c_str());
  if (history.steps().size() < 1000) {
    return complain("input", "fewer than 1000 records found on this machine");
  }
  const auto log = directory + "/log";
  return load_and_kill(log, history, seed) && finish(log, history) && draw_segments(log) &&
         collect_garbage(directory + "/garbage", history, seed) &&
         show_map(directory + "/map", history, seed) && measure(directory, history);
}

}  // namespace
}  // namespace demo

int main(int count, char** arguments) {
  if (count < 2) {
    std::fprintf(stderr, "usage: nori_demo DIRECTORY [SEED]\n");
    return 2;
  }
  const auto seed = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : std::random_device{}();
  if (!demo::run(arguments[1], seed)) {
    std::printf("\nFAILED (seed %llu)\n", static_cast<unsigned long long>(seed));
    return 1;
  }
  std::printf("\nNothing was lost.\n");
  return 0;
}
