#include "bench/files.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace nori::bench {
namespace {

constexpr std::size_t kAlignment = 4096;

void check_written(ssize_t written, std::size_t wanted) {
  if (written < 0) {
    throw_errno("write");
  }
  if (static_cast<std::size_t>(written) != wanted) {
    errno = ENOSPC;
    throw_errno("a short write");
  }
}

/// Everything written so far to the filesystem of `path`.
void sync_filesystem(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor >= 0) {
    static_cast<void>(::syncfs(descriptor));
    ::close(descriptor);
  }
}

}  // namespace

void throw_errno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

File::File(const std::filesystem::path& path, int flags)
    : descriptor_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
  if (descriptor_ < 0) {
    throw_errno("open " + path.string());
  }
}

File::File(File&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

File::~File() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

void File::allocate(std::uint64_t bytes) const {
  if (::fallocate(descriptor_, 0, 0, static_cast<off_t>(bytes)) != 0) {
    throw_errno("fallocate");
  }
}

void File::write_at(std::string_view bytes, std::uint64_t offset) const {
  check_written(::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(offset)),
                bytes.size());
}

void File::write_durable_at(std::string_view bytes, std::uint64_t offset) const {
  const iovec piece{.iov_base = const_cast<char*>(bytes.data()), .iov_len = bytes.size()};
  check_written(::pwritev2(descriptor_, &piece, 1, static_cast<off_t>(offset), RWF_DSYNC),
                bytes.size());
}

std::size_t File::read_at(std::span<std::byte> to, std::uint64_t offset) const {
  const ssize_t bytes = ::pread(descriptor_, to.data(), to.size(), static_cast<off_t>(offset));
  if (bytes < 0) {
    throw_errno("read");
  }
  return static_cast<std::size_t>(bytes);
}

void File::sync_data() const {
  if (::fdatasync(descriptor_) != 0) {
    throw_errno("fdatasync");
  }
}

void File::drop_cache() const {
  static_cast<void>(::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_DONTNEED));
}

AlignedBytes::AlignedBytes(std::size_t size)
    : size_(size), bytes_(static_cast<char*>(std::aligned_alloc(kAlignment, size))) {
  if (!bytes_) {
    throw std::bad_alloc();
  }
  for (std::size_t i = 0; i < size; ++i) {
    bytes_.get()[i] = static_cast<char>(i % 251 + 1);
  }
}

Scratch::Scratch(const std::filesystem::path& parent, std::string_view name)
    : path_(parent / name) {
  std::filesystem::remove_all(path_);
  std::filesystem::create_directories(path_);
}

Scratch::~Scratch() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
  sync_filesystem(path_.parent_path());
}

void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) {
    throw std::runtime_error("cannot write " + path.string());
  }
}

std::vector<std::filesystem::path> segment_files(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() == ".wal") {
      files.push_back(entry.path());
    }
  }
  std::ranges::sort(files);
  return files;
}

std::uint64_t read_segments_directly(const std::filesystem::path& directory) {
  constexpr std::size_t kPieceBytes = 1 << 20;
  const AlignedBytes piece(kPieceBytes);
  const std::span<std::byte> to(
      reinterpret_cast<std::byte*>(const_cast<char*>(piece.view().data())), kPieceBytes);
  std::uint64_t bytes = 0;
  for (const auto& path : segment_files(directory)) {
    const File file(path, O_RDONLY | O_DIRECT);
    std::size_t read = to.size();
    for (std::uint64_t at = 0; read == to.size(); at += read) {
      read = file.read_at(to, at);
      bytes += read;
    }
  }
  return bytes;
}

}  // namespace nori::bench
