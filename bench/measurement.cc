#include "bench/measurement.h"

#include <algorithm>
#include <cmath>

namespace nori::bench {

Range range_of(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t half = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
  return {.median = median, .min = values.front(), .max = values.back()};
}

double percentile_us(const std::vector<std::uint64_t>& sorted_ns, double fraction) {
  const auto count = static_cast<double>(sorted_ns.size());
  const auto rank = static_cast<std::size_t>(std::ceil(fraction * count));
  const std::size_t index = std::clamp<std::size_t>(rank, 1, sorted_ns.size()) - 1;
  return static_cast<double>(sorted_ns[index]) / 1000;
}

std::map<std::string, double> percentiles_of(std::vector<std::uint64_t> latencies_ns) {
  if (latencies_ns.empty()) {
    return {};
  }
  std::ranges::sort(latencies_ns);
  return {{"p50_us", percentile_us(latencies_ns, 0.5)},
          {"p99_us", percentile_us(latencies_ns, 0.99)},
          {"p99_9_us", percentile_us(latencies_ns, 0.999)},
          {"p99_99_us", percentile_us(latencies_ns, 0.9999)},
          {"max_us", percentile_us(latencies_ns, 1)}};
}

}  // namespace nori::bench
