// What a log holds after a kill, and whether that is what it must hold.

#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nori/wal.h"
#include "tests/writer/workload.h"
#include "tests/writer/writer_protocol.h"

namespace nori::writer_tests {

/// The records of a log from the first left on.
struct Dump {
  Sequence first = 0;
  std::vector<RecordId> records;
  [[nodiscard]] Sequence end() const { return first + records.size(); }
};

/// Reads all records, each checked to the byte: sequences are dense, batches whole, times and
/// epochs never go back, every thread's appends are there in order without a hole. On a failure
/// says which record, and returns nothing.
std::optional<Dump> read_and_check(const Wal& wal, const Workload& workload,
                                   ReadOptions options = {});

/// What is known of a log across all of its lives.
class Knowledge {
 public:
  explicit Knowledge(const WriterOptions& options) : workload_(options.workload()) {}

  [[nodiscard]] const Workload& workload() const { return workload_; }
  /// Where the log ended when it was last read: nothing before that may change any more, however
  /// often a process dies.
  [[nodiscard]] Sequence end() const { return known_.end(); }
  /// Whether a log must be there.
  [[nodiscard]] bool log_exists() const { return log_exists_; }

  /// Takes down what a writer said.
  void hear(std::uint64_t life, const std::vector<Message>& messages);
  /// The same of an append in this process.
  void appended(const RecordId& id, const Appended& appended);

  /// Checks what is in the log against it, and keeps that for the next time.
  void check(const Wal& wal);

 private:
  struct Acknowledged {
    RecordId id;
    Sequence first = 0;
  };

  Workload workload_;
  std::vector<Acknowledged> acknowledged_;
  Sequence deleted_before_ = 0;
  bool log_exists_ = false;
  Dump known_;
};

/// Every file of the directory and below: name, size, inode, time of the last change to the
/// nanosecond.
std::vector<std::string> listing(const std::string& directory);

}  // namespace nori::writer_tests
