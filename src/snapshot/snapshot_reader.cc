#include "snapshot/snapshot_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <ranges>
#include <utility>

#include "base/make_error.h"
#include "base/try.h"
#include "format/snapshot_block.h"
#include "format/snapshot_index.h"
#include "snapshot/snapshot_files.h"

namespace nori {
namespace {

// How often the list is read again because a snapshot went between listing and opening it.
constexpr int kAttemptsMax = 20;

// What the readers of one snapshot share. It does not change.
struct Image {
  std::unique_ptr<io::File> file;
  std::string path;
  SnapshotFile description;
  SnapshotIndex index;
  std::uint32_t seed = 0;
};

// Reads exactly so many bytes.
Result<bool> read_all(io::File& file, std::uint64_t offset, ByteSpan into) {
  return NORI_TRY(file.read_at(offset, into)) == into.size();
}

Result<std::shared_ptr<const Image>> open_image(io::Directory& snapshots, Sequence sequence,
                                                const std::optional<LogId>& log_id) {
  auto image = std::make_shared<Image>();
  image->path = (snapshots.path() / snapshot_name(sequence)).string();
  auto open = NORI_TRY(open_snapshot_file(snapshots, sequence));
  image->description = describe(open);
  image->seed = open.header.seed();
  image->file = std::move(open.file);
  if (log_id && open.header.log_id != *log_id) {
    return make_error(ErrorCode::damaged, "{}: it is the snapshot of another log", image->path);
  }
  std::vector<std::byte> bytes(open.footer.index_bytes);
  bytes.resize(NORI_TRY(image->file->read_at(open.footer.index_offset, bytes)));
  auto index = SnapshotIndex::decode(std::move(bytes), open.footer, image->seed);
  if (!index) {
    return make_error(ErrorCode::damaged, "{} at offset {}: its index is damaged", image->path,
                      open.footer.index_offset);
  }
  image->index = *std::move(index);
  return image;
}

}  // namespace

// Reads the blocks [first, end) of an image.
class SnapshotReader::Impl {
 public:
  Impl(std::shared_ptr<const Image> image, std::size_t first, std::size_t end)
      : image_(std::move(image)), first_(first), end_(end), next_block_(first) {}

  Result<std::optional<SnapshotEntry>> next() {
    SnapshotEntry entry;
    while (true) {
      const auto before = block_.cursor();
      switch (block_.next(entry)) {
        case SnapshotBlock::Step::entry:
          // Of the first: within a block they ascend.
          if (before.is_first && entry.key < image_->index.separator(next_block_ - 1))
              [[unlikely]] {
            block_.go_to(before);
            return damaged("its first key belongs to an earlier block");
          }
          return entry;
        case SnapshotBlock::Step::malformed:
          return damaged("its entries are malformed");
        case SnapshotBlock::Step::end:
          if (!before.is_first && next_block_ < image_->index.blocks() &&
              before.key >= image_->index.separator(next_block_)) {
            return damaged("its last key belongs to a later block");
          }
          if (next_block_ == end_) {
            return std::nullopt;
          }
          NORI_TRY(load(next_block_));
      }
    }
  }

  Result<void> seek(std::string_view key) {
    if (first_ == end_) {
      return {};
    }
    const auto block = std::clamp(image_->index.block_of(key), first_, end_ - 1);
    if (is_loaded_ && next_block_ == block + 1) {
      block_.rewind();
    } else {
      NORI_TRY(load(block));
    }
    while (true) {
      const auto before = block_.cursor();
      SnapshotEntry entry;
      if (block_.next(entry) != SnapshotBlock::Step::entry || entry.key >= key) {
        block_.go_to(before);
        return {};  // at its end, next() goes on; what is malformed it tells
      }
    }
  }

  Result<std::optional<SnapshotEntry>> get(std::string_view key) {
    NORI_TRY(seek(key));
    if (first_ == end_) {
      return std::nullopt;
    }
    const auto before = block_.cursor();
    if (before.entries_left == 0) {
      return std::nullopt;  // above every key of the block, and below the next one's
    }
    auto entry = NORI_TRY(next());
    if (entry && entry->key != key) {
      block_.go_to(before);
      return std::nullopt;
    }
    return entry;
  }

  std::vector<SnapshotReader> split(std::size_t parts) const {
    const auto blocks = end_ - first_;
    parts = std::clamp<std::size_t>(parts, 1, std::max<std::size_t>(blocks, 1));
    std::vector<SnapshotReader> readers;
    readers.reserve(parts);
    for (std::size_t i = 0; i < parts; ++i) {
      readers.emplace_back(std::make_unique<Impl>(image_, first_ + blocks * i / parts,
                                                  first_ + blocks * (i + 1) / parts));
    }
    return readers;
  }

  // Of all of it. On return it stands at the end.
  Result<void> verify() {
    std::uint64_t entries = 0;
    std::uint64_t plain_bytes = 0;
    while (true) {
      const auto block = next_block_;
      const auto entry = NORI_TRY(next());
      if (next_block_ != block) {
        plain_bytes += block_.plain_bytes();
      }
      if (!entry) {
        break;
      }
      ++entries;
    }
    if (entries != file().entries || plain_bytes != file().plain_bytes) {
      return make_error(ErrorCode::damaged, "{}: its footer counts other entries", image_->path);
    }
    return {};
  }

  const SnapshotFile& file() const { return image_->description; }

 private:
  Result<void> load(std::size_t i) {
    const auto place = image_->index.block(i);
    is_loaded_ = false;
    next_block_ = i;
    if (stored_capacity_ < place.bytes) {
      stored_ = {};
      stored_ = std::make_unique_for_overwrite<std::byte[]>(place.bytes);
      stored_capacity_ = place.bytes;
    }
    // What is there is no block any more: where this fails, next() tries again.
    static_cast<void>(block_.open({}, 0, 0, 0));
    const ByteSpan stored(stored_.get(), place.bytes);
    const bool is_whole = NORI_TRY(read_all(*image_->file, place.offset, stored));
    if (!is_whole || !block_.open(stored, image_->seed, place.offset, file().sequence)) {
      return make_error(ErrorCode::damaged, "{} at offset {}: a block of {} bytes is damaged",
                        image_->path, place.offset, place.bytes);
    }
    is_loaded_ = true;
    next_block_ = i + 1;
    return {};
  }

  [[nodiscard]] std::unexpected<Error> damaged(std::string_view what) const {
    return make_error(ErrorCode::damaged, "{} at offset {}: {}", image_->path,
                      image_->index.block(next_block_ - 1).offset, what);
  }

  const std::shared_ptr<const Image> image_;
  const std::size_t first_;
  const std::size_t end_;
  /// The block behind the one that is open.
  std::size_t next_block_;
  bool is_loaded_ = false;
  std::unique_ptr<std::byte[]> stored_;
  std::uint64_t stored_capacity_ = 0;
  SnapshotBlock block_;
};

SnapshotReader::SnapshotReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SnapshotReader::SnapshotReader(SnapshotReader&&) noexcept = default;
SnapshotReader& SnapshotReader::operator=(SnapshotReader&&) noexcept = default;
SnapshotReader::~SnapshotReader() = default;

const SnapshotFile& SnapshotReader::file() const noexcept { return impl_->file(); }
Result<std::optional<SnapshotEntry>> SnapshotReader::next() { return impl_->next(); }
Result<void> SnapshotReader::seek(std::string_view key) { return impl_->seek(key); }
Result<std::optional<SnapshotEntry>> SnapshotReader::get(std::string_view key) {
  return impl_->get(key);
}
std::vector<SnapshotReader> SnapshotReader::split(std::size_t parts) const {
  return impl_->split(parts);
}

namespace {

std::unique_ptr<SnapshotReader::Impl> reader_of(const std::shared_ptr<const Image>& image) {
  return std::make_unique<SnapshotReader::Impl>(image, 0, image->index.blocks());
}

Result<std::unique_ptr<SnapshotReader::Impl>> open_one(io::Directory& snapshots, Sequence sequence,
                                                       const std::optional<LogId>& log_id,
                                                       bool verify) {
  const auto image = NORI_TRY(open_image(snapshots, sequence, log_id));
  if (verify) {
    NORI_TRY(reader_of(image)->verify());
  }
  return reader_of(image);
}

// Bad in itself. Other errors would be the same for the one before, or pass.
bool is_bad_snapshot(const Error& error) {
  return error.code == ErrorCode::damaged || error.system_errno == EIO;
}

Result<std::vector<Sequence>> sequences_of(io::Directory& snapshots,
                                           const SnapshotReadOptions& options) {
  std::vector<Sequence> sequences;
  for (const auto& name : NORI_TRY(snapshots.list())) {
    const auto sequence = parse_snapshot_name(name);
    if (sequence && (!options.at || *sequence == *options.at) &&
        (!options.before || *sequence < *options.before)) {
      sequences.push_back(*sequence);
    }
  }
  std::ranges::sort(sequences, std::ranges::greater{});
  return sequences;
}

// A directory of no log is told from one of a log without snapshots.
Result<std::optional<LogId>> require_log(io::Directory& directory) {
  const auto log_id = NORI_TRY(find_log_id(directory));
  if (!log_id && NORI_TRY(find_snapshots(directory)) == nullptr) {
    return make_error(ErrorCode::not_a_log, "{}: there is no log here", directory.path().string());
  }
  return log_id;
}

Result<std::unique_ptr<io::Directory>> open_log_directory(const std::filesystem::path& path,
                                                          io::FileSystem* file_system) {
  auto& files = file_system != nullptr ? *file_system : io::posix_file_system();
  return files.open_directory(path, false);
}

}  // namespace

Result<OpenedSnapshot> open_snapshot(io::Directory& log_directory,
                                     const std::optional<LogId>& log_id,
                                     const SnapshotReadOptions& options) {
  for (int attempt = 0;; ++attempt) {
    OpenedSnapshot opened;
    const auto snapshots = NORI_TRY(find_snapshots(log_directory));
    if (snapshots == nullptr) {
      return opened;
    }
    bool one_went = false;
    for (const auto sequence : NORI_TRY(sequences_of(*snapshots, options))) {
      auto reader = open_one(*snapshots, sequence, log_id, options.verify);
      if (reader) {
        opened.reader.emplace(*std::move(reader));
        return opened;
      }
      if (reader.error().system_errno == ENOENT && attempt < kAttemptsMax) {
        one_went = true;  // for a newer one, as long as somebody writes
        break;
      }
      if (!is_bad_snapshot(reader.error())) {
        return std::unexpected(std::move(reader).error());
      }
      opened.skipped.push_back({.name = snapshot_name(sequence),
                                .sequence = sequence,
                                .reason = std::move(reader).error().message});
    }
    if (!one_went) {
      return opened;
    }
  }
}

Result<OpenedSnapshot> SnapshotReader::open(const std::filesystem::path& log_directory,
                                            const SnapshotReadOptions& options) {
  const auto directory = NORI_TRY(open_log_directory(log_directory, options.file_system));
  const auto log_id = NORI_TRY(require_log(*directory));
  return open_snapshot(*directory, log_id, options);
}

Result<std::vector<SnapshotFile>> list_snapshots(const std::filesystem::path& log_directory,
                                                 io::FileSystem* file_system) {
  const auto directory = NORI_TRY(open_log_directory(log_directory, file_system));
  const auto log_id = NORI_TRY(require_log(*directory));
  auto files = NORI_TRY(list_snapshots(*directory));
  if (log_id) {
    refuse_other_logs(files, *log_id);
  }
  return files;
}

Result<std::vector<SnapshotFile>> verify_snapshots(const std::filesystem::path& log_directory,
                                                   io::FileSystem* file_system) {
  const auto directory = NORI_TRY(open_log_directory(log_directory, file_system));
  const auto log_id = NORI_TRY(require_log(*directory));
  const auto snapshots = NORI_TRY(find_snapshots(*directory));
  if (snapshots == nullptr) {
    return std::vector<SnapshotFile>{};
  }
  auto files = NORI_TRY(list_snapshot_files(*snapshots));
  std::erase_if(files, [&](SnapshotFile& file) {
    if (!file.valid) {
      return false;
    }
    const auto read = open_one(*snapshots, file.sequence, log_id, true);
    if (!read) {
      file.valid = false;
      file.reason = read.error().message;
    }
    return !read && read.error().system_errno == ENOENT;  // a newer one took its place
  });
  return files;
}

}  // namespace nori
