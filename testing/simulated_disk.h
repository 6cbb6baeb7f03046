// A disk in memory that is worse than real ones, and repeats itself from a seed.
//
// What may happen to what has been written:
//
//   process crash  What processes saw stays: bytes, names, stores into mappings. Locks are
//                  released, every handle is dead. A write in flight ends before: wholly, in part
//                  or not at all.
//   power cut      What was promised durable stays (io/file_system.h says what that is). The rest
//                  is drawn, each part on its own:
//                  sector  durable bytes, newest bytes, or any version written in between; torn (a
//                          prefix of the newest bytes, then the durable ones) if asked for
//                  mapped  likewise, but a page of 4096 bytes as one (or by sector, if asked for);
//                          versions in between are taken now and then while operations run
//                  size    durable size, newest, or any in between, whatever becomes of the data;
//                          what was never written, or was lost, reads as zeros
//                  name    what it led to durably, or at any time since: a file made may be
//                          missing, one removed may be back, a rename may have left the old name,
//                          the new one or both, and what it replaced may be back. But a file that
//                          has had a durable name, and was not removed, never loses all its names.
//                  space   what was allocated since the last sync may be holes again
//                  Afterwards all that is left is durable.
//   failed sync    Nothing becomes durable. With drops_pages its bytes stay readable and no later
//                  sync writes them: the next power cut loses nearly all of them.
//   failed write   Any number of its first sectors is written; of one that found no space, never
//                  the last page: what there is no room for cannot be read.
//   full disk      Allocation, and writes that need blocks, answer ENOSPC; of the write, what found
//                  room is there. Writes to allocated blocks fit, unless told otherwise.
//   damage         On demand: bits, whole files, places that cannot be read.
//
// It trusts a disk to keep what it promised, to change no other sectors than those written, and to
// report success only if there was.
//
// What it watches, for a test to assert afterwards: mixed_io_seen(), overlapping_writes_seen(),
// durable_bytes_changed(), mapped_holes_seen().

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "io/file_system.h"
#include "nori/error.h"
#include "testing/fault_plan.h"
#include "testing/file_contents.h"

namespace nori::testing {

/// What comes of io::Access::write_direct.
enum class DirectSupport : std::uint8_t {
  works,
  refused_at_open,
  refused_at_write,  ///< open() succeeds, the first write answers EINVAL.
};

struct SimulatedDiskOptions {
  std::uint64_t seed = 1;
  /// What survives a power cut as one: 512, 1024, 2048 or 4096.
  std::uint64_t sector_bytes = 512;
  /// `block_bytes` is also the unit of overlapping_writes_seen().
  io::DirectoryTraits traits = {
      .direct_alignment = 4096,
      .block_bytes = 4096,
      .direct_allowed = true,
      .mapping_allowed = true,
      .file_system_name = "simulated",
  };
  DirectSupport direct_support = DirectSupport::works;
  /// durable_bytes_changed() counts in files whose name ends so.
  std::string durable_suffix = ".wal";
  /// How many operations pass, on average, until the kernel writes back some pages of the
  /// mappings; 0: only at writeback().
  std::uint64_t operations_per_write_back = 8;
};

/// A whole disk, used by one process at a time.
///
/// Threads: any member from any thread. From one thread it is deterministic; from several, as far
/// as the order of their calls is. Handles may outlive the disk.
/// Paths: "log/000000.wal", from the root; a leading slash changes nothing.
/// Limits: no symbolic links, no permissions. A mapping has the size the file had when it was
/// mapped, and the file cannot be mapped at another one until it is unmapped.
class SimulatedDisk final : public io::FileSystem {
 public:
  static constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

  explicit SimulatedDisk(SimulatedDiskOptions options = {});
  /// From a seed, all else as usual.
  explicit SimulatedDisk(std::uint64_t seed);
  ~SimulatedDisk() override;

  // io::FileSystem. open_directory(create) makes durable the name of every directory on the path.
  // The clock stands still between advance_ms() calls.

  [[nodiscard]] Result<std::unique_ptr<io::Directory>> open_directory(
      const std::filesystem::path& path, bool create) override;
  [[nodiscard]] std::uint64_t now_ms() override;
  [[nodiscard]] std::uint64_t random_bits() override;
  /// "host simulated, process N, since TIME": N counts the crashes.
  [[nodiscard]] std::string holder_description() override;

  void set_now_ms(std::uint64_t now_ms);
  void advance_ms(std::int64_t ms);

  // Crashes. Each ends the process: its handles answer `io` errors and change nothing, stores into
  // its mappings reach nobody. Whoever comes after opens the disk anew. Faults in wait stay.

  void crash_process();
  void power_cut(std::uint64_t seed, const PowerCutOptions& options = {});

  /// Lets `operations` more operations that change the disk succeed. The one after takes effect in
  /// part, in full or not at all, and answers an `io` error, as does every call from then on, until
  /// crash_process() or power_cut(). Those also disarm it. Making a lock file does not count. Until
  /// then the process lives on, and its stores into mappings count.
  void crash_after(std::uint64_t operations);
  /// Whether crash_after() has struck and nothing has revived the disk since.
  [[nodiscard]] bool dead() const;
  /// Operations so far that change the disk, failed ones included.
  [[nodiscard]] std::uint64_t operations() const;

  // Faults.

  void inject(Fault fault);
  /// The operation of these kinds that comes after `n` others of these kinds fails.
  void fail_nth(OperationSet operations, std::uint64_t n, int system_errno,
                Repeat repeat = Repeat::once, bool drops_pages = false);
  void clear_faults();
  /// How many operations failed by a fault.
  [[nodiscard]] std::uint64_t faults_hit() const;

  /// What a failed sync dropped reads as it is on the disk from now on, as under memory pressure.
  void forget_dropped_pages();
  /// The kernel writes back all mappings, so that a power cut may go back to what they hold now.
  void writeback();

  // Space, in blocks of 4096 bytes. Files count until they are removed and closed.

  void set_capacity_bytes(std::uint64_t bytes);
  /// kUnlimited without a capacity.
  [[nodiscard]] std::uint64_t free_bytes() const;
  /// While true, every write answers ENOSPC, also into allocated space: a full thin pool.
  void writes_may_hit_no_space(bool on);

  // Traits, of directories opened from now on; direct support, at once.

  void set_traits(const io::DirectoryTraits& traits);
  void set_direct_support(DirectSupport support);

  /// Each call takes so long; while it does, others go on. Bytes reach the file when their write
  /// returns; a sync, of a file or directory, carries what had returned before it began. Called
  /// from many threads. Empty: no waiting, and calls run one after the other.
  void set_latency(std::function<std::chrono::microseconds(Operation)> latency);

  // Damage and inspection, as by someone else's hand: past faults, crashes and capacity, and
  // durable at once. Names are those of now. Errors: `io`, with ENOENT for a missing file.

  [[nodiscard]] Result<void> flip_bit(std::string_view path, std::uint64_t offset, unsigned bit);
  [[nodiscard]] Result<std::vector<std::byte>> read_file(std::string_view path) const;
  /// Makes the file and its directories where needed; else replaces its contents.
  [[nodiscard]] Result<void> write_file(std::string_view path, ByteView bytes);
  [[nodiscard]] Result<void> remove_file(std::string_view path);
  [[nodiscard]] Result<void> swap_files(std::string_view one, std::string_view other);
  /// Sorted; directories end in '/'.
  [[nodiscard]] Result<std::vector<std::string>> list_files(std::string_view directory) const;
  /// Reads that touch [offset, offset + bytes) answer EIO until something is written there.
  [[nodiscard]] Result<void> make_unreadable(std::string_view path, std::uint64_t offset,
                                             std::uint64_t bytes);

  // What it has seen, since it was made.

  /// One file was written, in its life, both past the page cache and through it or a mapping.
  [[nodiscard]] bool mixed_io_seen() const;
  /// Two writes to one block were in flight. Needs set_latency().
  [[nodiscard]] bool overlapping_writes_seen() const;
  /// How many bytes of a file named *.wal were written with other values after a sync or durable
  /// write had carried them. Not counted: zeros, what survived a power cut by luck, and what was
  /// cut off by a truncation that was synced before the space was written again.
  [[nodiscard]] std::uint64_t durable_bytes_changed() const;
  /// A file was mapped that had holes: a store into one kills the process when the disk is full.
  [[nodiscard]] bool mapped_holes_seen() const;

  // Trace, for failure messages: "write 000000.wal 4096+8192 durable", one per operation that
  // changes the disk, and the crashes.

  void set_tracing(bool on);
  [[nodiscard]] std::vector<std::string> trace() const;

  /// The same disk once more, unsynced state and clock and random bits included; no handles, locks,
  /// faults, latency or trace, and nothing seen or counted. Costs a pointer per page.
  [[nodiscard]] std::unique_ptr<SimulatedDisk> clone() const;

  class State;

 private:
  explicit SimulatedDisk(std::shared_ptr<State> state);

  std::shared_ptr<State> state_;
};

}  // namespace nori::testing
