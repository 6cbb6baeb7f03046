// What the log needs of a disk: one interface, two implementations. io/posix_file_system.cc is the
// operating system; testing/simulated_disk.h is a disk that is worse than real ones.
//
// What is promised about durability, and nothing more:
//   - write_at(durable = true) makes the bytes of that write durable (Linux RWF_DSYNC), and the
//     file metadata needed to read them back; no other bytes.
//   - File::sync() (fdatasync) makes durable every write, allocation and truncation of the file
//   that
//     returned before it began.
//   - Directory::sync() makes durable every name created, renamed or removed in it before it began.
//     Syncing a file does not make its name durable.
// A failed sync is reported once; the bytes it was to carry may be lost although they can be read.

#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "nori/error.h"

namespace nori::io {

/// How a file is opened.
enum class Access : std::uint8_t {
  read,            ///< Reads, buffered.
  write_buffered,  ///< Reads and writes through the page cache.
  /// Writes past the page cache: offset, size and memory of every write are multiples of
  /// Directory::traits().direct_alignment. Reads through the same handle are aligned alike.
  write_direct,
};

/// Whether open() makes the file.
enum class Creation : std::uint8_t {
  existing,  ///< It must be there: otherwise an error with ENOENT.
  /// A new and empty file (0600, umask respected). One that is there loses the name and keeps its
  /// bytes: after a power cut within a rename both names may lead to it.
  replace,
};

/// Names a file, whatever name it has: device and inode.
struct FileId {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  friend bool operator==(const FileId&, const FileId&) = default;
};

struct FileStatus {
  std::uint64_t bytes = 0;
  /// Some name leads to it: it was not removed since it was opened.
  bool has_name = true;
};

/// An open file. Threads: any member from any thread; overlapping writes are the caller's fault.
/// Interrupted and short calls are repeated inside; no call returns EINTR.
/// Every error carries the operating system's errno and the file's path; ENOSPC and EDQUOT have the
/// code `no_space`, EACCES, EPERM and EROFS `permission`, all else `io`.
class File {
 public:
  virtual ~File() = default;
  File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  /// Reads from `offset` until `into` is full or the file ends; returns the bytes read.
  [[nodiscard]] virtual Result<std::size_t> read_at(std::uint64_t offset, ByteSpan into) = 0;

  /// Writes `first`, then `second` behind it, extending the file where needed. On an error any part
  /// of it may have been written.
  [[nodiscard]] virtual Result<void> write_at(std::uint64_t offset, ByteView first, ByteView second,
                                              bool durable) = 0;

  /// fdatasync.
  [[nodiscard]] virtual Result<void> sync() = 0;

  /// Lets the device begin with what was written there and is in a cache, and does not wait for it:
  /// the next sync() has less to do, and tells what has failed here. Nothing is durable by it.
  virtual void begin_writeback(std::uint64_t offset, std::uint64_t bytes) noexcept {
    static_cast<void>(offset);
    static_cast<void>(bytes);
  }

  /// Reserves space for [offset, offset + bytes) so that writes there find room, and extends the
  /// size to cover it; it reads as zeros. On `no_space` the size is unchanged: nobody may
  /// write beyond it meanwhile. A filesystem that
  /// cannot reserve (EOPNOTSUPP) gets the size extended alone.
  [[nodiscard]] virtual Result<void> allocate(std::uint64_t offset, std::uint64_t bytes) = 0;

  /// Cuts or extends (with zeros) to `bytes`.
  [[nodiscard]] virtual Result<void> truncate(std::uint64_t bytes) = 0;

  [[nodiscard]] virtual Result<FileStatus> status() = 0;
  [[nodiscard]] Result<std::uint64_t> size();

  [[nodiscard]] virtual FileId id() const = 0;
};

inline Result<std::uint64_t> File::size() {
  auto found = status();
  if (!found) {
    return std::unexpected(std::move(found).error());
  }
  return found->bytes;
}

/// A file mapped shared and writable: stores survive the process, not a power cut.
class Mapping {
 public:
  virtual ~Mapping() = default;
  Mapping() = default;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  [[nodiscard]] virtual ByteSpan bytes() const = 0;
  /// Takes the page faults that the next stores would take. Changes no byte; safe beside stores.
  virtual void populate() = 0;
};

/// Held until destroyed, or until the process ends. A child made by fork() does not hold it.
class Lock {
 public:
  virtual ~Lock() = default;
  Lock() = default;
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
};

/// What is true of all files of one directory.
struct DirectoryTraits {
  /// What direct writes must be multiples of, in bytes.
  std::uint64_t direct_alignment = 4096;
  /// A power of two: the largest of direct_alignment, physical sector, filesystem block and 4096.
  std::uint64_t block_bytes = 4096;
  /// Whether write_direct may be tried (not on network or FUSE filesystems).
  bool direct_allowed = true;
  /// Whether a fully written file may be mapped shared and stored to without a full disk killing
  /// the process (not on copy-on-write, network or FUSE filesystems).
  bool mapping_allowed = true;
  /// The filesystem's name, for reports: "ext4", "xfs", "btrfs", "tmpfs", "nfs", ...
  std::string file_system_name;
};

/// A directory, held open: names are looked up in it even if it is renamed. Symbolic links are not
/// followed by open(). Threads: any member from any thread.
class Directory {
 public:
  virtual ~Directory() = default;
  Directory() = default;
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  /// All names but "." and "..", in no order.
  [[nodiscard]] virtual Result<std::vector<std::string>> list() = 0;
  [[nodiscard]] virtual Result<std::unique_ptr<File>> open(std::string_view name, Access access,
                                                           Creation creation) = 0;
  /// Where the name leads now. ENOENT is an `io` error with that errno.
  [[nodiscard]] virtual Result<FileId> id_of(std::string_view name) = 0;
  /// `to` is replaced if it is there.
  [[nodiscard]] virtual Result<void> rename(std::string_view from, std::string_view to) = 0;
  /// Moves `name` into the directory `into`, replacing what has the name `new_name` there.
  [[nodiscard]] virtual Result<void> move_to(std::string_view name, Directory& into,
                                             std::string_view new_name) = 0;
  [[nodiscard]] virtual Result<void> remove(std::string_view name) = 0;
  [[nodiscard]] virtual Result<void> sync() = 0;
  /// The subdirectory of that name, made (0700) if it is not there.
  [[nodiscard]] virtual Result<std::unique_ptr<Directory>> subdirectory(std::string_view name) = 0;
  /// The subdirectory of that name. Makes nothing: ENOENT is an `io` error with that errno.
  [[nodiscard]] virtual Result<std::unique_ptr<Directory>> open_subdirectory(
      std::string_view name) = 0;
  /// Maps the existing file shared and writable.
  [[nodiscard]] virtual Result<std::unique_ptr<Mapping>> map(std::string_view name) = 0;
  /// Makes the file if needed and takes an exclusive lock on it, writing `holder` into it. When
  /// another process, or another handle of this one, has it: `locked`, the message naming what it
  /// wrote.
  [[nodiscard]] virtual Result<std::unique_ptr<Lock>> lock(std::string_view name,
                                                           std::string_view holder) = 0;
  /// Whether this process may write here as the owner of it all would: `permission` where the
  /// directory belongs to another user than this process runs as (root's will do), or one of those
  /// of `names` that are there does. The message names the user.
  [[nodiscard]] virtual Result<void> check_owner(const std::vector<std::string>& names) = 0;
  /// How much may still be written here, roughly; 0 where that cannot be found out.
  [[nodiscard]] virtual std::uint64_t free_bytes() = 0;
  [[nodiscard]] virtual const DirectoryTraits& traits() const = 0;
  /// For messages.
  [[nodiscard]] virtual const std::filesystem::path& path() const = 0;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  FileSystem() = default;
  FileSystem(const FileSystem&) = delete;
  FileSystem& operator=(const FileSystem&) = delete;

  /// Opens a directory. With `create`, makes it and its missing parents (0700) and makes their
  /// names durable, also that of a directory found empty. Without: a missing one is `not_a_log`
  /// with ENOENT.
  [[nodiscard]] virtual Result<std::unique_ptr<Directory>> open_directory(
      const std::filesystem::path& path, bool create) = 0;

  /// Wall clock, milliseconds since 1970. Cheap; may be a few milliseconds behind.
  [[nodiscard]] virtual std::uint64_t now_ms() = 0;

  /// 64 bits that nobody else has drawn.
  [[nodiscard]] virtual std::uint64_t random_bits() = 0;

  /// "host HOST, process PID, since TIME": written into the lock file.
  [[nodiscard]] virtual std::string holder_description() = 0;
};

/// The operating system's; one for the process, never destroyed.
[[nodiscard]] FileSystem& posix_file_system();

/// Counts the fork()s that lead to this process, as seen by the library: a handle opened under
/// another count belongs to a parent.
[[nodiscard]] std::uint64_t fork_generation() noexcept;

}  // namespace nori::io
