// What has to be true of any directory, whatever its files hold.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "nori/options.h"
#include "nori/wal.h"
#include "testing/simulated_disk.h"

namespace nori::fuzz {

/// The smallest ring and segments, no thread: a simulated disk's operations repeat themselves.
[[nodiscard]] WalOptions small_options(testing::SimulatedDisk& disk, OpenMode mode,
                                       Verification verification = Verification::tail);

/// Records that were appended, those cut since too: (epoch, sequence) names one for ever.
class Written {
 public:
  /// All that `wal` holds now.
  void add_all(const Wal& wal);
  /// Whether it is one of them, to the last field. What is wrong, or nothing.
  [[nodiscard]] std::string compare(const OwnedEntry& entry) const;

 private:
  std::map<std::pair<std::uint64_t, Sequence>, OwnedEntry> entries_;
};

/// Opens the log in every way, read-only and for writing, reads all of it, with and without
/// skip_damaged and from places within, verifies it, goes on writing; and requires that all of them
/// agree, that reading changes nothing, that recovering twice finds what recovering once has left,
/// and that only `written` is returned. Without `written` its checksums were made to match: then
/// there may be any record, and all openings of one kind still have to agree; but what holds of
/// crashes and bit rot alone is not required, such as that recovery leaves nothing to do.
///
/// `verification` is how it is opened for writing.
void check_log(const testing::SimulatedDisk& disk, const Written* written,
               Verification verification);

}  // namespace nori::fuzz
