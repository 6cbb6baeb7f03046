// A writer at work (writer_main.cc), and what it has said so far.

#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/writer/writer_protocol.h"

namespace nori::writer_tests {

/// Killed with its object.
class WriterProcess {
 public:
  explicit WriterProcess(const WriterOptions& options);
  WriterProcess(const WriterProcess&) = delete;
  WriterProcess& operator=(const WriterProcess&) = delete;
  ~WriterProcess();

  /// Listens until `enough` is true, `time` at most. Returns whether it is.
  bool listen(std::chrono::microseconds time, const std::function<bool()>& enough);
  /// Until it has said that, or has ended.
  bool wait_for(Message::Kind kind);

  /// Takes everything that it has said by now.
  void hear_all();

  /// SIGKILL. False if it had ended by itself; it has said why on standard error then.
  bool kill();

  [[nodiscard]] pid_t process() const { return process_; }
  [[nodiscard]] bool has_said(Message::Kind kind) const { return last(kind) != nullptr; }
  /// The last thing of that kind it said, or nullptr.
  [[nodiscard]] const Message* last(Message::Kind kind) const;
  [[nodiscard]] const std::vector<Message>& messages() const { return messages_; }
  /// How many of its appends have returned.
  [[nodiscard]] std::uint64_t appends() const { return appends_; }

 private:
  // Takes what there is to hear. False if there will be no more.
  bool hear();

  pid_t process_ = -1;
  int output_ = -1;
  std::string unread_;
  std::vector<Message> messages_;
  std::uint64_t appends_ = 0;
};

}  // namespace nori::writer_tests
