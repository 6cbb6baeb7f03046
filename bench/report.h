// Results as Markdown and as JSON.

#pragma once

#include <string>
#include <vector>

#include "bench/driver.h"

namespace nori::bench {

/// Where and how something was measured.
struct Heading {
  std::vector<std::string> machine;
  std::string command;
};

[[nodiscard]] std::string as_markdown(const Heading& heading);

/// The row as a table, a line a subject. Values are medians, with the range of the rounds where it
/// matters; latencies are of all rounds' operations.
[[nodiscard]] std::string as_markdown(const RowResult& row);

/// An array, an object a row and subject: `row`, `subject`, the values of the table by the names in
/// report.cc with `_min` and `_max` beside them, and of ours `ratio_to`: by the other subject's
/// name, what multiple it is of it; beside it `ratio_to_min`, `ratio_to_max`, and `ratio_of`, which
/// says what was compared.
[[nodiscard]] std::string as_json(const Heading& heading, const std::vector<RowResult>& rows);

}  // namespace nori::bench
