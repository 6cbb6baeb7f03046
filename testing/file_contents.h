// The bytes of one file on the simulated disk: what processes see, what is durable, and everything
// in between that a power cut may choose from. Names, handles and threads are simulated_disk.h's.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "testing/random.h"

namespace nori::testing {

/// What of the unsynced state a power cut leaves.
enum class Survival : std::uint8_t {
  nothing,     ///< The disk is exactly what was promised durable.
  everything,  ///< All unsynced state made it, but what a failed sync dropped.
  random,      ///< Each sector, page, size and name on its own.
};

struct PowerCutOptions {
  Survival survival = Survival::random;
  /// With `random`: an unsynced sector may also be a prefix of its newest bytes followed by the
  /// rest of its durable ones. Off, sectors are atomic.
  bool torn_sectors = false;
  /// With `random`: the sectors of a mapped page are chosen each on its own, as on a disk that was
  /// cut off within the page. Off, the pages of a mapped file are atomic.
  bool split_mapped_pages = false;
};

inline constexpr std::uint64_t kPageBytes = 4096;

/// Memory shared by a file and those who mapped it. The program stores into it whenever it likes:
/// everything here reads it as a kernel would, without synchronization.
class MappedMemory {
 public:
  explicit MappedMemory(std::uint64_t bytes);

  [[nodiscard]] ByteSpan bytes() const noexcept { return {memory_.get(), bytes_}; }
  [[nodiscard]] std::uint64_t pages() const noexcept {
    return (bytes_ + kPageBytes - 1) / kPageBytes;
  }
  /// Within the pages.
  void load(std::uint64_t offset, ByteSpan into) const noexcept;
  void store(std::uint64_t offset, ByteView from) noexcept;

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept;
  };
  std::uint64_t bytes_;
  std::unique_ptr<std::byte, Free> memory_;
};

/// Threads: none. Copies share pages, which never change once made, so copying costs a pointer per
/// page and copies may live in different threads.
class FileContents {
 public:
  /// `sector_bytes`: 512, 1024, 2048 or 4096.
  explicit FileContents(std::uint64_t sector_bytes) noexcept : sector_bytes_(sector_bytes) {}

  // As processes see it.

  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  /// Returns the bytes read: fewer at the end of the file.
  [[nodiscard]] std::size_t read(std::uint64_t offset, ByteSpan into) const;
  void write(std::uint64_t offset, ByteView bytes);
  /// The write of these bytes has failed. A sync may carry what it left, and promises it to nobody.
  void disown(std::uint64_t offset, std::uint64_t bytes);
  void resize(std::uint64_t bytes);
  /// Gives [offset, offset + bytes) blocks, and the file the size to cover it.
  void allocate(std::uint64_t offset, std::uint64_t bytes);

  /// Blocks of kPageBytes that a write to [offset, offset + bytes) would have to allocate.
  [[nodiscard]] std::uint64_t blocks_missing(std::uint64_t offset, std::uint64_t bytes) const;
  [[nodiscard]] std::uint64_t blocks_allocated() const noexcept { return blocks_allocated_; }

  // Becoming durable.

  /// What a sync that begins now will carry.
  struct Unsynced {
    struct Sectors;
    std::vector<Sectors> pages;
    std::uint64_t stamp = 0;
    std::uint64_t size = 0;
  };
  [[nodiscard]] Unsynced unsynced();
  /// The sync that began with `carried` has succeeded.
  void make_durable(const Unsynced& carried);
  /// It failed, and the kernel marked clean what it was to carry.
  void drop(const Unsynced& carried);
  /// The sectors of [offset, offset + bytes) as they are now, and the size to read them.
  void make_durable(std::uint64_t offset, std::uint64_t bytes);
  /// A failed flush of the same left them readable but clean.
  void drop(std::uint64_t offset, std::uint64_t bytes);
  /// What a sync dropped reads from the disk again, as under memory pressure.
  void forget_dropped();
  void make_all_durable();

  /// How many bytes that a sync or durable write carried, and that are not zero on disk, a write of
  /// `bytes` at `offset` would change.
  [[nodiscard]] std::uint64_t durable_bytes_changed_by(std::uint64_t offset, ByteView bytes) const;

  // Mapping.

  /// The same memory for everyone, until unmap(). Null if it is mapped at another size.
  [[nodiscard]] std::shared_ptr<MappedMemory> map();
  [[nodiscard]] bool mapped() const noexcept { return memory_ != nullptr; }
  /// Copies into the file up to `pages_max` pages of the mapping that were stored to: versions that
  /// a power cut may go back to. Nothing becomes durable.
  void write_back(std::uint64_t pages_max, Random& random);
  /// Copies all of it, then lets go: later stores do not reach the file.
  void unmap();
  /// Likewise, if nobody else holds the memory.
  void unmap_unless_shared();
  [[nodiscard]] bool has_holes() const { return blocks_missing(0, size_) != 0; }

  // Mishaps.

  /// Leaves what a power cut leaves; all of it is durable then. Not while mapped.
  void cut_power(const PowerCutOptions& options, Random& random);
  /// In every version. Offset below size().
  void flip_bit(std::uint64_t offset, unsigned bit);

 private:
  static constexpr std::size_t kSectorsMax = 8;
  using SectorMask = std::uint8_t;
  using PageBytes = std::array<std::byte, kPageBytes>;

  /// One version of a page. Never changes, so versions, files and disks share it.
  struct Page {
    /// Per sector, the write that made it, which orders its versions. 0: never written.
    std::array<std::uint64_t, kSectorsMax> stamps{};
    /// Null: zeros.
    std::unique_ptr<PageBytes> bytes;
  };
  /// Null: zeros with stamp 0.
  using PageRef = std::shared_ptr<const Page>;

  struct PageState {
    PageRef current;
    PageRef durable;
    /// Versions between the two that current has replaced, oldest first.
    std::vector<PageRef> older;
    /// Sectors that a failed sync marked clean although they are not durable.
    SectorMask dropped = 0;
    /// Sectors whose durable bytes a sync or durable write carried, rather than luck.
    SectorMask promised = 0;
    /// Sectors that a failed write was the last to change.
    SectorMask disowned = 0;
    bool listed = false;  ///< In unsynced_pages_.
  };

  struct SizeChange {
    std::uint64_t stamp;
    std::uint64_t size;
  };

  [[nodiscard]] std::size_t sectors_per_page() const noexcept {
    return static_cast<std::size_t>(kPageBytes / sector_bytes_);
  }
  [[nodiscard]] SectorMask sectors_between(std::uint64_t from, std::uint64_t to) const noexcept;
  [[nodiscard]] SectorMask sectors_newer(const PageRef& page, const PageRef& than) const noexcept;
  [[nodiscard]] static std::uint64_t stamp_of(const PageRef& page, std::size_t sector) noexcept {
    return page == nullptr ? 0 : page->stamps[sector];
  }
  /// Null: zeros.
  [[nodiscard]] static const std::byte* bytes_of(const PageRef& page) noexcept {
    return page == nullptr || page->bytes == nullptr ? nullptr : page->bytes->data();
  }
  [[nodiscard]] static PageRef make_page(const std::array<std::uint64_t, kSectorsMax>& stamps,
                                         const PageBytes& bytes);

  PageState& page_at(std::uint64_t index);
  void list(std::uint64_t index);
  void forget_synced();
  void replace_current(PageState& state, PageRef page, SectorMask changed);
  /// Bytes [from, to) of the page; null `bytes`: zeros.
  void write_page(std::uint64_t index, std::uint64_t from, std::uint64_t to,
                  const std::byte* bytes);
  void absorb_page(std::uint64_t index);
  void absorb_all();
  void take_sectors(PageState& state, const PageRef& from, SectorMask sectors);
  void change_size(std::uint64_t bytes);
  void allocate_blocks(std::uint64_t offset, std::uint64_t bytes);
  [[nodiscard]] PageRef merged(const PageRef& base, const PageRef& over, SectorMask sectors) const;
  [[nodiscard]] PageRef torn(const PageRef& base, const PageRef& over, std::size_t sector,
                             Random& random) const;
  [[nodiscard]] PageRef surviving_page(const PageState& state, const PowerCutOptions& options,
                                       unsigned keep_chance, Random& random) const;
  void cut_pages();
  void cut_blocks(const PowerCutOptions& options, Random& random);

  std::uint64_t sector_bytes_;
  std::uint64_t stamp_ = 0;

  std::uint64_t size_ = 0;
  std::uint64_t durable_size_ = 0;
  /// Those since durable_size_, newest last.
  std::vector<SizeChange> size_changes_;
  std::uint64_t synced_stamp_ = 0;
  /// The end of the durable writes that no sync has followed, and the stamp of the last.
  std::uint64_t written_durably_end_ = 0;
  std::uint64_t written_durably_stamp_ = 0;

  std::vector<PageState> pages_;
  /// Indexes of pages whose current and durable versions differ; and perhaps some others.
  std::vector<std::uint64_t> unsynced_pages_;

  std::vector<bool> allocated_;
  std::vector<bool> allocated_durably_;
  std::uint64_t blocks_allocated_ = 0;
  bool allocation_unsynced_ = false;

  std::shared_ptr<MappedMemory> memory_;
  bool was_mapped_ = false;  ///< Since the last power cut.
};

struct FileContents::Unsynced::Sectors {
  std::uint64_t index;
  PageRef page;
  SectorMask sectors;
};

}  // namespace nori::testing
