#include "bench/driver.h"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <utility>

namespace nori::bench {
namespace {

std::optional<double> value_in(const std::map<std::string, double>& values,
                               const std::string& name) {
  const auto found = values.find(name);
  return found == values.end() ? std::nullopt : std::optional(found->second);
}

/// What is left of a subject's rounds.
struct Rounds {
  /// Percentiles of each round among them.
  std::vector<std::map<std::string, double>> values;
  std::vector<std::uint64_t> latencies_ns;
  std::vector<double> over_time;
  std::string note;
  std::string failure;

  void add(Measurement measured) {
    latencies_ns.insert(latencies_ns.end(), measured.latencies_ns.begin(),
                        measured.latencies_ns.end());
    measured.values.merge(percentiles_of(std::move(measured.latencies_ns)));
    values.push_back(std::move(measured.values));
    over_time = std::move(measured.over_time);
    note = std::move(measured.note);
  }
};

std::optional<Range> ratio_of(const Rounds& ours, const Rounds& other, const std::string& name) {
  std::vector<double> ratios;
  const std::size_t common = std::min(ours.values.size(), other.values.size());
  for (std::size_t round = 0; round < common; ++round) {
    const auto a = value_in(ours.values[round], name);
    const auto b = value_in(other.values[round], name);
    if (a && b && *b > 0) {
      ratios.push_back(*a / *b);
    }
  }
  return ratios.empty() ? std::nullopt : std::optional(range_of(std::move(ratios)));
}

SubjectResult sum_up(const Subject& subject, const Rounds& rounds) {
  SubjectResult result{.name = subject.name,
                       .what = subject.what,
                       .note = rounds.note,
                       .values = {},
                       .percentiles = percentiles_of(rounds.latencies_ns),
                       .compared_by = subject.compared_by,
                       .ratio_to = {},
                       .failure = rounds.failure,
                       .line = subject.line,
                       .x = subject.x,
                       .over_time = rounds.over_time};
  std::map<std::string, std::vector<double>> by_name;
  for (const auto& round : rounds.values) {
    for (const auto& [name, value] : round) {
      by_name[name].push_back(value);
    }
  }
  for (auto& [name, values] : by_name) {
    result.values[name] = range_of(std::move(values));
  }
  return result;
}

}  // namespace

bool RowResult::failed() const {
  return std::ranges::any_of(subjects,
                             [](const auto& subject) { return !subject.failure.empty(); });
}

RowResult run(const Row& row) {
  std::vector<Rounds> rounds(row.subjects.size());
  for (std::uint32_t round = 0; round < row.rounds; ++round) {
    for (std::size_t i = 0; i < row.subjects.size(); ++i) {
      if (!rounds[i].failure.empty()) {
        continue;
      }
      try {
        rounds[i].add(row.subjects[i].run_round());
      } catch (const std::exception& error) {
        rounds[i].failure = error.what();
      }
    }
  }

  RowResult result{.name = row.name,
                   .what = row.what,
                   .rounds = row.rounds,
                   .x_title = row.x_title,
                   .subjects = {}};
  for (std::size_t i = 0; i < row.subjects.size(); ++i) {
    SubjectResult subject = sum_up(row.subjects[i], rounds[i]);
    for (std::size_t other = 0; row.subjects[i].ours && other < row.subjects.size(); ++other) {
      const Subject& to = row.subjects[other];
      if (to.ours || to.compared_by.empty()) {
        continue;
      }
      if (const auto ratio = ratio_of(rounds[i], rounds[other], to.compared_by)) {
        subject.ratio_to[to.name] = *ratio;
      }
    }
    result.subjects.push_back(std::move(subject));
  }
  return result;
}

}  // namespace nori::bench
