// Keeps the events that a log tells.

#pragma once

#include <string>
#include <variant>
#include <vector>

#include "nori/events.h"

namespace nori::testing {

/// Threads: one at a time, as for every listener; `events` between calls that tell some.
class EventRecorder : public EventListener {
 public:
  void on_event(const Event& event) override { events.push_back(event); }

  /// Those of one kind.
  template <typename T>
  [[nodiscard]] std::vector<T> all() const {
    std::vector<T> found;
    for (const auto& event : events) {
      if (const auto* one = std::get_if<T>(&event); one != nullptr) {
        found.push_back(*one);
      }
    }
    return found;
  }
  /// All of them in words, a line each.
  [[nodiscard]] std::string text() const {
    std::string text;
    for (const auto& event : events) {
      text += describe(event) + "\n";
    }
    return text;
  }

  std::vector<Event> events;
};

}  // namespace nori::testing
