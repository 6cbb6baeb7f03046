// What a benchmark measures, and how rounds of it are summed up: medians and ranges, never means.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace nori::bench {

/// What one round of one subject measured.
struct Measurement {
  /// By the names of report.cc: the unit is in the name.
  std::map<std::string, double> values;
  /// Of each operation, where latency is what matters.
  std::vector<std::uint64_t> latencies_ns;
  /// MB/s in each tenth of a second, where that is of interest.
  std::vector<double> over_time;
  /// How the subject did its work, where it decides that by itself.
  std::string note;
};

/// Of some rounds.
struct Range {
  double median = 0;
  double min = 0;
  double max = 0;
};
/// `values` is not empty.
[[nodiscard]] Range range_of(std::vector<double> values);

/// The smallest latency that `fraction` of all do not exceed, in microseconds.
/// `sorted_ns` is not empty.
[[nodiscard]] double percentile_us(const std::vector<std::uint64_t>& sorted_ns, double fraction);

/// p50_us, p99_us, p99_9_us, p99_99_us and max_us, if there are latencies.
[[nodiscard]] std::map<std::string, double> percentiles_of(std::vector<std::uint64_t> latencies_ns);

}  // namespace nori::bench
