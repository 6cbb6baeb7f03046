// What has to be true of a log after a crash.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "nori/options.h"
#include "testing/crash_points.h"
#include "testing/derived_model.h"
#include "testing/reference_model.h"
#include "testing/simulated_disk.h"

namespace nori::testing {

/// A ring and segments as small as can be, and no thread, so that a disk's operations repeat
/// themselves.
[[nodiscard]] WalOptions small_options();

/// Whether the disk keeps what it watches for: no durable byte written with another value, no file
/// written in two ways, no two writes to one block, no holes under a mapping. What is wrong, or
/// nothing.
[[nodiscard]] std::string watched(const SimulatedDisk& disk, const WalOptions& options);
/// The same options, by which watched() does not mind durable bytes: where a sync on another
/// account carried the front of a frame of which nobody was told, a power cut may take its rest,
/// and recovery writes over it.
[[nodiscard]] WalOptions without_durable_bytes(WalOptions options);

/// What a crash leaves is a log: it can be read without changing it; opening it finds the same,
/// says so truly, and makes it durable; then it takes records, closes, and opens clean. All of it
/// compared with `reference`, which becomes what was found. `may_be_missing`: nobody was told that
/// there is a log.
///
/// Returns what is wrong, or nothing.
[[nodiscard]] std::string check_recovery(SimulatedDisk& disk, const WalOptions& options,
                                         ReferenceLog& reference, Crash crash,
                                         bool may_be_missing = false);

/// Only reads what is there, and compares it. `reference` becomes it, no more durable than before.
[[nodiscard]] std::string look_at(SimulatedDisk& disk, const WalOptions& options,
                                  ReferenceLog& reference, Crash crash,
                                  bool may_be_missing = false);
/// The same, with what was made from the log. `derived` becomes what is there of it.
[[nodiscard]] std::string look_at(SimulatedDisk& disk, const WalOptions& options,
                                  ReferenceLog& reference, DerivedModel& derived, Crash crash,
                                  bool may_be_missing);

/// All the disk did, for a failure's message.
[[nodiscard]] std::string trace_of(const SimulatedDisk& disk);

}  // namespace nori::testing
