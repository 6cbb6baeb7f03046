// The driver: subjects of a row take turns, round after round (A-B-A-B), so that a disk that has a
// slow minute has it for all of them. Ratios are taken within a round, then summed up.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bench/measurement.h"

namespace nori::bench {

/// One of those compared in a row.
struct Subject {
  std::string name;
  /// How it does the work, in a line.
  std::string what;
  /// This log, rather than something it is compared with.
  bool ours = false;
  /// The value by which ours are compared with this one; empty: not compared.
  std::string compared_by;
  /// Where a row has the same work in several sizes: the line of its plot this is a point of, and
  /// where on it.
  std::string line = {};
  double x = 0;
  /// Throws if the work cannot be done. What it sets up is not in what it measures.
  std::function<Measurement()> run_round;
};

/// One kind of work.
struct Row {
  std::string name;
  std::string what;
  std::uint32_t rounds = 5;
  /// What Subject::x is; empty if it is nothing.
  std::string x_title = {};
  std::vector<Subject> subjects;
};

struct SubjectResult {
  std::string name;
  std::string what;
  std::string note;
  /// Over the rounds.
  std::map<std::string, Range> values;
  /// Over the operations of all rounds.
  std::map<std::string, double> percentiles;
  std::string compared_by;
  /// Of ours: what multiple its value is of another's, by the other's name.
  std::map<std::string, Range> ratio_to;
  /// Why it did not work; empty if it did.
  std::string failure;
  std::string line;
  double x = 0;
  /// Of the last round: Measurement::over_time.
  std::vector<double> over_time;
};

struct RowResult {
  std::string name;
  std::string what;
  std::uint32_t rounds = 0;
  std::string x_title;
  std::vector<SubjectResult> subjects;

  [[nodiscard]] bool failed() const;
};

/// Runs all rounds. A subject that throws is left out from then on and says why in its result.
[[nodiscard]] RowResult run(const Row& row);

}  // namespace nori::bench
