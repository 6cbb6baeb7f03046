// Files as benchmarks need them: raw descriptors, aligned memory, folders that go away.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nori::bench {

/// Throws std::system_error with the current errno.
[[noreturn]] void throw_errno(const std::string& what);

/// An open file; errors are thrown.
class File {
 public:
  File(const std::filesystem::path& path, int flags);
  File(File&& other) noexcept;
  File& operator=(File&&) = delete;
  ~File();

  /// Reserves space, which is not written yet.
  void allocate(std::uint64_t bytes) const;
  void write_at(std::string_view bytes, std::uint64_t offset) const;
  /// With RWF_DSYNC: durable on return.
  void write_durable_at(std::string_view bytes, std::uint64_t offset) const;
  /// As much as there is, `to.size()` at most; returns how much.
  [[nodiscard]] std::size_t read_at(std::span<std::byte> to, std::uint64_t offset) const;
  void sync_data() const;
  /// Forgets what the page cache holds of it, if that is clean.
  void drop_cache() const;

 private:
  int descriptor_;
};

/// Memory for direct I/O, filled with bytes that are not zero.
class AlignedBytes {
 public:
  explicit AlignedBytes(std::size_t size);
  [[nodiscard]] std::string_view view() const { return {bytes_.get(), size_}; }

 private:
  struct Free {
    void operator()(char* bytes) const { std::free(bytes); }
  };
  std::size_t size_;
  std::unique_ptr<char, Free> bytes_;
};

/// A folder of its own under `parent`, empty now and removed in the end.
class Scratch {
 public:
  Scratch(const std::filesystem::path& parent, std::string_view name);
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  /// Also waits until the filesystem is quiet again, so that one subject's leftovers do not burden
  /// the next.
  ~Scratch();

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Writes a file anew. Throws if that fails.
void write_text(const std::filesystem::path& path, const std::string& text);

/// The segments of the log in `directory`, in their order.
[[nodiscard]] std::vector<std::filesystem::path> segment_files(
    const std::filesystem::path& directory);

/// Reads those once, by direct I/O in pieces of a mebibyte, one at a time; returns how many bytes
/// there are.
std::uint64_t read_segments_directly(const std::filesystem::path& directory);

}  // namespace nori::bench
