#include "bench/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string_view>

#include "bench/files.h"

namespace nori::bench {
namespace {

constexpr double kWidth = 760;
constexpr double kHeight = 420;
constexpr double kLeft = 80;
constexpr double kRight = 170;  // the lines' names
constexpr double kTop = 40;
constexpr double kBottom = 55;
// Told apart also by who does not see colours as most do (Okabe and Ito).
constexpr std::array<std::string_view, 8> kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                      "#e69f00", "#56b4e9", "#000000", "#999999"};

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    result += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : std::string(1, c);
  }
  return result;
}

std::string tick_text(double value) {
  for (const auto& [unit, name] :
       {std::pair{1e9, " G"}, std::pair{1e6, " M"}, std::pair{1e3, " K"}}) {
    if (std::abs(value) >= unit) {
      return fmt::format("{:g}{}", value / unit, name);
    }
  }
  return fmt::format("{:g}", value);
}

/// From values to places between `from` and `to`, which may lie the other way round.
class Axis {
 public:
  Axis(bool is_logarithmic, double from, double to)
      : is_logarithmic_(is_logarithmic), from_(from), to_(to) {}

  [[nodiscard]] bool shows(double value) const {
    return std::isfinite(value) && (!is_logarithmic_ || value > 0);
  }
  void include(double value) {
    if (shows(value)) {
      least_ = std::min(least_, scaled(value));
      most_ = std::max(most_, scaled(value));
    }
  }
  /// Whole steps around what is included; a linear axis begins at 0.
  void finish() {
    if (!(least_ <= most_)) {
      least_ = 0;
      most_ = 1;
    }
    if (is_logarithmic_) {
      least_ = std::floor(least_);
      most_ = std::max(std::ceil(most_), least_ + 1);
      step_ = 1;
      return;
    }
    least_ = std::min(least_, 0.0);
    const double rough = std::max(most_ - least_, 1e-9) / 5;
    const double power = std::pow(10, std::floor(std::log10(rough)));
    step_ = power * (rough > 5 * power ? 10 : rough > 2 * power ? 5 : rough > power ? 2 : 1);
    most_ = std::ceil(most_ / step_) * step_;
  }

  [[nodiscard]] double place(double value) const {
    return from_ + (scaled(value) - least_) / (most_ - least_) * (to_ - from_);
  }
  [[nodiscard]] std::vector<double> ticks() const {
    std::vector<double> values;
    for (double at = least_; at <= most_ + step_ / 2; at += step_) {
      values.push_back(is_logarithmic_ ? std::pow(10, at) : at);
    }
    return values;
  }

 private:
  [[nodiscard]] double scaled(double value) const {
    return is_logarithmic_ ? std::log10(value) : value;
  }

  bool is_logarithmic_;
  double from_;
  double to_;
  double least_ = std::numeric_limits<double>::infinity();
  double most_ = -std::numeric_limits<double>::infinity();
  double step_ = 1;
};

std::string text_at(double x, double y, std::string_view anchor, std::string_view text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor,
                     escaped(text));
}

std::string rule(double x1, double y1, double x2, double y2, std::string_view colour) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\"/>\n", x1, y1, x2,
      y2, colour);
}

std::string axes(const Plot& plot, const Axis& x, const Axis& y) {
  std::string svg;
  for (const double tick : y.ticks()) {
    svg += rule(kLeft, y.place(tick), kWidth - kRight, y.place(tick), "#dddddd");
    svg += text_at(kLeft - 6, y.place(tick) + 4, "end", tick_text(tick));
  }
  auto names = plot.x_names;
  if (names.empty()) {
    for (const double tick : x.ticks()) {
      names.emplace_back(tick, tick_text(tick));
    }
  }
  for (const auto& [at, name] : names) {
    svg += rule(x.place(at), kTop, x.place(at), kHeight - kBottom, "#eeeeee");
    svg += text_at(x.place(at), kHeight - kBottom + 18, "middle", name);
  }
  svg += text_at((kLeft + kWidth - kRight) / 2, kHeight - 12, "middle", plot.x_title);
  return svg + text_at(kLeft, kTop - 8, "middle", plot.y_title);
}

Plot latency_plot(const RowResult& row) {
  constexpr std::array<std::pair<const char*, const char*>, 5> kPercentiles = {
      {{"p50_us", "p50"},
       {"p99_us", "p99"},
       {"p99_9_us", "p99.9"},
       {"p99_99_us", "p99.99"},
       {"max_us", "max"}}};
  Plot plot{.title = row.name + ": latency",
            .x_title = "percentile",
            .y_title = "µs",
            .y_is_logarithmic = true,
            .lines = {}};
  for (std::size_t i = 0; i < kPercentiles.size(); ++i) {
    plot.x_names.emplace_back(static_cast<double>(i), kPercentiles.at(i).second);
  }
  for (const SubjectResult& subject : row.subjects) {
    Line line{.name = subject.name, .points = {}};
    for (std::size_t i = 0; i < kPercentiles.size(); ++i) {
      if (const auto found = subject.percentiles.find(kPercentiles.at(i).first);
          found != subject.percentiles.end()) {
        line.points.emplace_back(static_cast<double>(i), found->second);
      }
    }
    if (!line.points.empty()) {
      plot.lines.push_back(std::move(line));
    }
  }
  return plot;
}

Plot throughput_plot(const RowResult& row) {
  Plot plot{.title = row.name + ": throughput",
            .x_title = row.x_title,
            .y_title = "records/s",
            .x_is_logarithmic = true,
            .y_is_logarithmic = true,
            .lines = {}};
  for (const SubjectResult& subject : row.subjects) {
    const auto rate = subject.values.find("records_per_s");
    if (subject.line.empty() || rate == subject.values.end()) {
      continue;
    }
    auto line = std::ranges::find(plot.lines, subject.line, &Line::name);
    if (line == plot.lines.end()) {
      line = plot.lines.insert(line, {.name = subject.line, .points = {}});
    }
    line->points.emplace_back(subject.x, rate->second.median);
  }
  return plot;
}

Plot time_plot(const RowResult& row) {
  Plot plot{.title = row.name + ": rate", .x_title = "seconds", .y_title = "MB/s", .lines = {}};
  for (const SubjectResult& subject : row.subjects) {
    Line line{.name = subject.name, .points = {}};
    for (std::size_t i = 0; i < subject.over_time.size(); ++i) {
      line.points.emplace_back(static_cast<double>(i) / 10, subject.over_time[i]);
    }
    if (!line.points.empty()) {
      plot.lines.push_back(std::move(line));
    }
  }
  return plot;
}

}  // namespace

std::string as_svg(const Plot& plot) {
  Axis x(plot.x_is_logarithmic, kLeft, kWidth - kRight);
  Axis y(plot.y_is_logarithmic, kHeight - kBottom, kTop);
  for (const Line& line : plot.lines) {
    for (const auto& [at, value] : line.points) {
      x.include(at);
      y.include(value);
    }
  }
  x.finish();
  y.finish();

  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      kWidth, kHeight);
  svg += text_at(kWidth / 2, 18, "middle", plot.title) + axes(plot, x, y);
  for (std::size_t i = 0; i < plot.lines.size(); ++i) {
    const auto colour = kColours.at(i % kColours.size());
    std::string points;
    for (const auto& [at, value] : plot.lines[i].points) {
      if (x.shows(at) && y.shows(value)) {
        points += fmt::format("{:.1f},{:.1f} ", x.place(at), y.place(value));
      }
    }
    svg +=
        fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\"/>\n",
                    points, colour);
    const double row = kTop + 10 + 18 * static_cast<double>(i);
    svg += rule(kWidth - kRight + 12, row, kWidth - kRight + 32, row, colour);
    svg += text_at(kWidth - kRight + 38, row + 4, "start", plot.lines[i].name);
  }
  return svg + "</svg>\n";
}

void write_plots(const RowResult& row, const std::filesystem::path& directory) {
  std::filesystem::create_directories(directory);
  for (const auto& [what, plot] :
       {std::pair{"latency", latency_plot(row)}, std::pair{"throughput", throughput_plot(row)},
        std::pair{"rate", time_plot(row)}}) {
    if (!plot.lines.empty()) {
      write_text(directory / fmt::format("{}-{}.svg", row.name, what), as_svg(plot));
    }
  }
}

}  // namespace nori::bench
