#include "bench/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>

namespace nori::bench {
namespace {

/// A value there may be, and how a table shows it.
struct Column {
  std::string_view name;
  std::string_view title;
  /// Whether the range over the rounds is shown.
  bool with_range;
};

constexpr Column kValues[] = {
    {"records_per_s", "records/s", true},
    {"mb_per_s", "MB/s", true},
    {"durable_mb_per_s", "durable MB/s", true},
    {"open_ms", "ms", true},
    {"overhead_bytes", "bytes over key and value", false},
    {"device_bytes_per_byte", "bytes to the device a byte", false},
    {"least_share", "least share", true},
    {"cpu_s_per_million", "CPU s per million", false},
    {"cpu_s_per_gb", "CPU s per GB", false},
    {"cpu_ms_per_s", "CPU ms per s", false},
    {"syncs_per_s", "syncs/s", false},
    {"sleeps_per_record", "sleeps a record", false},
    {"device_bytes_per_record", "bytes to the device a record", false},
    {"log_bytes_per_record", "bytes of log a record", false},
    {"records_followed", "followed", false},
    {"threads", "threads", false},
    {"resident_mb", "resident MB", false},
};

constexpr Column kPercentiles[] = {
    {"p50_us", "p50 µs", false},       {"p99_us", "p99 µs", false}, {"p99_9_us", "p99.9 µs", false},
    {"p99_99_us", "p99.99 µs", false}, {"max_us", "max µs", false},
};

/// Three digits that matter, about: 8.31 M, 942 K, 4612, 56.2, 0.113.
std::string short_number(double value) {
  std::string_view unit;
  if (value >= 1e6) {
    value /= 1e6;
    unit = " M";
  } else if (value >= 1e4) {
    value /= 1e3;
    unit = " K";
  }
  const int digits = value >= 99.95 ? 0 : value >= 9.995 ? 1 : value >= 0.9995 ? 2 : 3;
  return fmt::format("{:.{}f}{}", value, digits, unit);
}

std::string with_range(const Range& range) {
  return fmt::format("{} ({}–{})", short_number(range.median), short_number(range.min),
                     short_number(range.max));
}

std::string cell(const SubjectResult& subject, const Column& column) {
  const auto found = subject.values.find(std::string(column.name));
  if (found == subject.values.end()) {
    return "";
  }
  return column.with_range ? with_range(found->second) : short_number(found->second.median);
}

std::string percentile_cell(const SubjectResult& subject, const Column& column) {
  const auto found = subject.percentiles.find(std::string(column.name));
  if (found == subject.percentiles.end()) {
    return "";
  }
  return fmt::format("{:.{}f}", found->second, found->second < 100 ? 1 : 0);
}

/// Among `columns`, those that a subject of the row has something for.
template <std::size_t kCount>
std::vector<Column> used(const Column (&columns)[kCount], const RowResult& row,
                         std::string (*cell_of)(const SubjectResult&, const Column&)) {
  std::vector<Column> result;
  std::ranges::copy_if(columns, std::back_inserter(result), [&](const Column& column) {
    return std::ranges::any_of(row.subjects, [&](const SubjectResult& subject) {
      return !cell_of(subject, column).empty();
    });
  });
  return result;
}

std::string_view title_of(std::string_view name) {
  for (const std::span<const Column> columns :
       {std::span<const Column>(kValues), std::span<const Column>(kPercentiles)}) {
    for (const Column& column : columns) {
      if (column.name == name) {
        return column.title;
      }
    }
  }
  return name;
}

std::string table_line(const std::vector<std::string>& cells) {
  return fmt::format("| {} |\n", fmt::join(cells, " | "));
}

}  // namespace

std::string as_markdown(const Heading& heading) {
  std::string text;
  for (const std::string& fact : heading.machine) {
    text += fmt::format("- {}\n", fact);
  }
  return text + fmt::format("- `{}`\n", heading.command);
}

std::string as_markdown(const RowResult& row) {
  const auto values = used(kValues, row, cell);
  const auto percentiles = used(kPercentiles, row, percentile_cell);
  std::vector<const SubjectResult*> compared;  // ours
  for (const SubjectResult& subject : row.subjects) {
    if (!subject.ratio_to.empty()) {
      compared.push_back(&subject);
    }
  }

  std::string text = fmt::format("### {}\n\n{} {} rounds.\n\n", row.name, row.what, row.rounds);
  std::vector<std::string> titles = {"subject"};
  for (const auto& columns : {values, percentiles}) {
    for (const Column& column : columns) {
      titles.emplace_back(column.title);
    }
  }
  for (const SubjectResult* const ours : compared) {
    titles.push_back(fmt::format("{} is to it", ours->name));
  }
  text += table_line(titles);
  std::vector<std::string> rules(titles.size(), "---:");
  rules.front() = "---";
  text += table_line(rules);

  for (const SubjectResult& subject : row.subjects) {
    std::vector<std::string> cells = {subject.name};
    for (const Column& column : values) {
      cells.push_back(cell(subject, column));
    }
    for (const Column& column : percentiles) {
      cells.push_back(percentile_cell(subject, column));
    }
    for (const SubjectResult* const ours : compared) {
      const auto ratio = ours->ratio_to.find(subject.name);
      cells.push_back(ratio == ours->ratio_to.end()
                          ? ""
                          : fmt::format("{} × in {}", with_range(ratio->second),
                                        title_of(subject.compared_by)));
    }
    text += table_line(cells);
  }

  text += "\n";
  for (const SubjectResult& subject : row.subjects) {
    text += fmt::format("- {}: {}{}{}\n", subject.name, subject.what,
                        subject.note.empty() ? "" : "; " + subject.note,
                        subject.failure.empty() ? "" : ". FAILED: " + subject.failure);
  }
  return text;
}

std::string as_json(const Heading& heading, const std::vector<RowResult>& rows) {
  using nlohmann::ordered_json;
  auto objects = ordered_json::array();
  for (const RowResult& row : rows) {
    for (const SubjectResult& subject : row.subjects) {
      ordered_json object;
      object["row"] = row.name;
      object["subject"] = subject.name;
      object["what"] = subject.what;
      object["rounds"] = row.rounds;
      for (const auto& [name, range] : subject.values) {
        if (!subject.percentiles.contains(name)) {
          object[name] = range.median;
        }
        object[name + "_min"] = range.min;
        object[name + "_max"] = range.max;
      }
      for (const auto& [name, value] : subject.percentiles) {
        object[name] = value;
      }
      for (const SubjectResult& other : row.subjects) {
        const auto ratio = subject.ratio_to.find(other.name);
        if (ratio != subject.ratio_to.end()) {
          object["ratio_to"][other.name] = ratio->second.median;
          object["ratio_to_min"][other.name] = ratio->second.min;
          object["ratio_to_max"][other.name] = ratio->second.max;
          object["ratio_of"][other.name] = other.compared_by;
        }
      }
      if (!subject.note.empty()) {
        object["note"] = subject.note;
      }
      if (!subject.failure.empty()) {
        object["failure"] = subject.failure;
      }
      object["machine"] = heading.machine;
      object["command"] = heading.command;
      objects.push_back(std::move(object));
    }
  }
  return objects.dump(2) + "\n";
}

}  // namespace nori::bench
