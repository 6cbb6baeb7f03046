// What a log must hold after a power cut, going by what was heard of its writers before.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "nori/wal.h"
#include "tests/writer/log_check.h"
#include "tests/writer/workload.h"
#include "tests/writer/writer_protocol.h"

namespace nori::power_tests {

using writer_tests::Dump;
using writer_tests::Message;
using writer_tests::RecordId;
using writer_tests::Workload;

/// How much had been heard at one moment.
struct Moment {
  std::size_t messages = 0;
  /// The writer that was running.
  std::uint64_t life = 0;
};

/// The lives of a log between two power cuts, the second of which may be at any of many moments.
class Promises {
 public:
  Promises(const Workload& workload, bool appended_is_durable)
      : workload_(workload), appended_is_durable_(appended_is_durable) {}

  [[nodiscard]] const Workload& workload() const { return workload_; }

  /// Takes down what a writer said.
  void hear(std::uint64_t life, const Message& message);

  [[nodiscard]] Moment now(std::uint64_t life) const { return {said_.size(), life}; }

  /// Whether the directory holds a log for certain if power goes at that moment.
  [[nodiscard]] bool log_exists(const Moment& moment) const;

  /// Checks what is left of the log when power went at that moment. Nothing when it is not even
  /// readable.
  std::optional<Dump> check(const Wal& wal, const Moment& moment) const;

  /// Goes on from what was left at that moment, as check() returned it.
  void go_on_from(Dump dump, const Moment& moment);

 private:
  struct Said {
    std::uint64_t life = 0;
    Message message;
  };
  struct Known {
    bool log_exists = false;
    Sequence durable = 0;         // records before it are there...
    Sequence first = 0;           // ...except that those before this one are not,
    Sequence deleted_before = 0;  // and those before this one may be gone.
  };
  [[nodiscard]] Known known(const Moment& moment) const;
  // Which records stand where, as far as one of the lives up to that one told; count is 0 where
  // none did.
  [[nodiscard]] std::vector<RecordId> records(std::uint64_t last_life) const;

  Workload workload_;
  bool appended_is_durable_;
  Known before_;  // at the last power cut
  Dump left_;     // by it
  std::vector<Said> said_;
};

}  // namespace nori::power_tests
