// Which call fails, how, and how often.

#pragma once

#include <cerrno>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nori::testing {

/// What a call asks of the disk.
enum class Operation : std::uint8_t {
  open,  ///< Of an existing file or directory.
  read,
  status,  ///< File::status() and size(), Directory::id_of().
  list,
  map,
  lock,
  // Those below change the disk: operations() counts them, crash_after() stops at them.
  write,
  durable_write,  ///< write_at(durable = true).
  sync,           ///< File::sync().
  allocate,
  truncate,
  create,  ///< open(replace), and each directory made.
  rename,  ///< rename() and move_to().
  remove,
  directory_sync,
};

[[nodiscard]] constexpr bool changes_the_disk(Operation operation) noexcept {
  return operation >= Operation::write;
}

[[nodiscard]] constexpr std::string_view operation_name(Operation operation) noexcept {
  constexpr std::string_view kNames[] = {"open",   "read",     "status",        "list",
                                         "map",    "lock",     "write",         "durable_write",
                                         "sync",   "allocate", "truncate",      "create",
                                         "rename", "remove",   "directory_sync"};
  return kNames[static_cast<std::size_t>(operation)];
}

/// A set of operations, written {Operation::write, Operation::sync}.
class OperationSet {
 public:
  // One operation is a set of operations. NOLINTNEXTLINE(google-explicit-constructor)
  constexpr OperationSet(Operation operation) noexcept : bits_(bit(operation)) {}
  constexpr OperationSet(std::initializer_list<Operation> operations) noexcept {
    for (const auto operation : operations) {
      bits_ |= bit(operation);
    }
  }
  [[nodiscard]] constexpr bool contains(Operation operation) const noexcept {
    return (bits_ & bit(operation)) != 0;
  }
  [[nodiscard]] friend constexpr OperationSet operator|(OperationSet a, OperationSet b) noexcept {
    a.bits_ |= b.bits_;
    return a;
  }

 private:
  [[nodiscard]] static constexpr std::uint32_t bit(Operation operation) noexcept {
    return std::uint32_t{1} << static_cast<unsigned>(operation);
  }
  std::uint32_t bits_ = 0;
};

enum class Repeat : std::uint8_t { once, forever };

/// A failure to come.
///
/// A fault on `write` strikes durable writes as well, and leaves any number of the write's first
/// sectors written. One on `durable_write` strikes only those and leaves all of it written, but not
/// durable: the flush failed. Any other failed operation changes nothing.
struct Fault {
  OperationSet operations;
  /// Of the operations it matches, so many succeed before.
  std::uint64_t after = 0;
  int system_errno = EIO;
  Repeat repeat = Repeat::once;
  /// A failed sync, or flush of a buffered durable write, leaves its bytes readable but clean: no
  /// later sync writes them. So do ext4 and xfs.
  bool drops_pages = false;
  /// Strikes only files whose name ends so.
  std::string name_suffix = {};
};

/// The failures to come. Threads: none; whoever holds it guards it.
class FaultPlan {
 public:
  void add(Fault fault) { faults_.push_back(Armed{std::move(fault), 0, false}); }
  void clear() { faults_.clear(); }

  /// The fault that strikes this operation, if one does: the first added of those due.
  [[nodiscard]] std::optional<Fault> strike(Operation operation, std::string_view name) {
    const Fault* hit = nullptr;
    for (auto& armed : faults_) {
      if (armed.spent || !matches(armed.fault, operation, name)) {
        continue;
      }
      if (armed.matched < armed.fault.after) {
        ++armed.matched;
        continue;
      }
      if (hit == nullptr) {
        hit = &armed.fault;
        armed.spent = armed.fault.repeat == Repeat::once;
      }
    }
    if (hit == nullptr) {
      return std::nullopt;
    }
    ++hits_;
    return *hit;
  }

  /// How often a fault has struck.
  [[nodiscard]] std::uint64_t hits() const noexcept { return hits_; }

 private:
  struct Armed {
    Fault fault;
    std::uint64_t matched;
    bool spent;
  };

  [[nodiscard]] static bool matches(const Fault& fault, Operation operation,
                                    std::string_view name) noexcept {
    const bool named = name.ends_with(fault.name_suffix);
    const bool is_write =
        operation == Operation::durable_write && fault.operations.contains(Operation::write);
    return named && (is_write || fault.operations.contains(operation));
  }

  std::vector<Armed> faults_;
  std::uint64_t hits_ = 0;
};

}  // namespace nori::testing
