// Real filesystems in files: made, filled, copied as they are at an instant, and gone afterwards.

#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <memory>
#include <ostream>
#include <string>

namespace nori::power_tests {

/// A kind of filesystem, and how small a test may make it.
struct FileSystemKind {
  const char* name;         ///< As mount(2) knows it; mkfs.NAME makes it.
  const char* options;      ///< For mkfs.
  std::uint64_t bytes_min;  ///< mkfs makes none that is smaller.
  friend void PrintTo(const FileSystemKind& kind, std::ostream* out) { *out << kind.name; }
};

/// All of it in blocks of 4096 bytes, also where a sector would do: so no write is smaller than
/// what the files below can share.
inline constexpr std::array kFileSystemKinds = {
    FileSystemKind{"ext4", "-q -F -b 4096", 16ULL << 20},
    FileSystemKind{"xfs", "-q -f -s size=4096", 300ULL << 20},
    FileSystemKind{"btrfs", "-q -f", 110ULL << 20},
};

/// Why something could not be done, in words.
template <typename T>
using Made = std::expected<T, std::string>;

/// A mounted filesystem in a file. Unmounted with its object.
class Mount {
 public:
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;
  ~Mount();

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  friend class Shelf;
  explicit Mount(std::filesystem::path path) : path_(std::move(path)) {}

  std::filesystem::path path_;
};

/// Where the files are that hold filesystems: a filesystem in a file itself, one whose files can
/// share their blocks, so that a copy is made in milliseconds, whatever its size.
///
/// Nothing is left behind, however the process ends: its mounts are in a namespace of its own and
/// end with it, each loop device with the last mount of it, and the shelf's own file has no name.
/// (An empty folder may stay.) Not for several threads at once.
class Shelf {
 public:
  /// On an error says what is missing: this process's permission, a program, a kernel's filesystem.
  static Made<std::unique_ptr<Shelf>> make();
  Shelf(const Shelf&) = delete;
  Shelf& operator=(const Shelf&) = delete;
  ~Shelf();

  /// What is missing to make and mount filesystems of that kind; empty if nothing.
  std::string missing_for(const FileSystemKind& kind);

  /// Makes a filesystem in a new file of that name.
  Made<void> make_file_system(const FileSystemKind& kind, const std::string& name,
                              std::uint64_t bytes);

  /// Mounts it in the folder `at` of the shelf. Blocks that the filesystem has written are in the
  /// file, what it keeps in memory is not.
  Made<std::unique_ptr<Mount>> mount(const FileSystemKind& kind, const std::string& name,
                                     const std::string& at);

  /// Makes `copy` what the file is at one instant within the call: every write to the disk that was
  /// complete when the call began is in it, and of those on their way each is or is not.
  Made<void> clone(const std::string& name, const std::string& copy);

  void remove(const std::string& name);

  /// The file, for somebody to look at later: in the current folder. Returns its path.
  std::filesystem::path keep(const std::string& name, const std::string& as);

 private:
  explicit Shelf(std::filesystem::path folder) : folder_(std::move(folder)) {}
  [[nodiscard]] std::filesystem::path file(const std::string& name) const {
    return folder_ / "files" / name;
  }

  std::filesystem::path folder_;
  std::unique_ptr<Mount> files_;
};

}  // namespace nori::power_tests
