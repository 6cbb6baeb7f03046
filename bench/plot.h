// Results as pictures.

#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "bench/driver.h"

namespace nori::bench {

struct Line {
  std::string name;
  std::vector<std::pair<double, double>> points;  ///< In the order of x.
};

struct Plot {
  std::string title;
  std::string x_title;
  std::string y_title;
  bool x_is_logarithmic = false;
  bool y_is_logarithmic = false;
  /// Names of places on the x axis; empty: numbers.
  std::vector<std::pair<double, std::string>> x_names = {};
  std::vector<Line> lines;
};

/// An SVG document. Values that an axis cannot show (0 on a logarithmic one) are left out.
[[nodiscard]] std::string as_svg(const Plot& plot);

/// What there is to see of a row: latency percentiles, throughput over x, the rate over time. Each
/// as a file `<row>-<what>.svg` in `directory`. Errors are thrown.
void write_plots(const RowResult& row, const std::filesystem::path& directory);

}  // namespace nori::bench
