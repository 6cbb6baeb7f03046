#include "cli/recovery_report.h"

#include <fmt/format.h>

#include <string>

#include "cli/report.h"

namespace nori::cli {

void report_recovery(const std::filesystem::path& directory, const RecoveryInfo& recovery) {
  if (recovery.bytes_truncated == 0) {
    return;
  }
  std::string kept = recovery.quarantine_note;
  for (const auto& name : recovery.quarantined) {
    kept += (kept.empty() ? "kept as " : ", ") + name;
  }
  complain(fmt::format(
      "{}: a torn tail of {} bytes was cut{}: {}; {}", directory.string(), recovery.bytes_truncated,
      recovery.truncated_at ? fmt::format(" at {}:{}", recovery.truncated_at->segment_id,
                                          recovery.truncated_at->offset)
                            : "",
      recovery.reason, kept.empty() ? "nothing of it was durable" : kept));
}

}  // namespace nori::cli
