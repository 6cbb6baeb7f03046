#include "testing/file_contents.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace nori::testing {

namespace {

/// Versions of one page that a power cut may go back to, besides the newest and the durable one.
constexpr std::size_t kOlderVersionsMax = 4;
constexpr std::size_t kSizeChangesMax = 8;

constexpr std::array<std::byte, kPageBytes> kZeroPage{};

// Thread sanitizer must not look into these two: a kernel that reads a mapping races with the
// program by design. Words are moved whole, as on the hardware.
using SharedWord __attribute__((may_alias)) = std::uint64_t;

__attribute__((noinline, no_sanitize("thread"))) void copy_from_shared(std::byte* to,
                                                                       const std::byte* from,
                                                                       std::size_t bytes) {
  std::size_t done = 0;
  for (; done < bytes && reinterpret_cast<std::uintptr_t>(from + done) % 8 != 0; ++done) {
    to[done] = *static_cast<const volatile std::byte*>(from + done);
  }
  for (; done + 8 <= bytes; done += 8) {
    const std::uint64_t word = *reinterpret_cast<const volatile SharedWord*>(from + done);
    __builtin_memcpy(to + done, &word, 8);
  }
  for (; done < bytes; ++done) {
    to[done] = *static_cast<const volatile std::byte*>(from + done);
  }
}

__attribute__((noinline, no_sanitize("thread"))) void copy_to_shared(std::byte* to,
                                                                     const std::byte* from,
                                                                     std::size_t bytes) {
  std::size_t done = 0;
  for (; done < bytes && reinterpret_cast<std::uintptr_t>(to + done) % 8 != 0; ++done) {
    *static_cast<volatile std::byte*>(to + done) = from[done];
  }
  for (; done + 8 <= bytes; done += 8) {
    std::uint64_t word = 0;
    __builtin_memcpy(&word, from + done, 8);
    *reinterpret_cast<volatile SharedWord*>(to + done) = word;
  }
  for (; done < bytes; ++done) {
    *static_cast<volatile std::byte*>(to + done) = from[done];
  }
}

template <typename Mask>
constexpr Mask without(Mask mask, Mask removed) noexcept {
  return static_cast<Mask>(mask & ~removed);
}

template <typename Visitor>
void for_each_page(std::uint64_t offset, std::uint64_t bytes, Visitor&& visit) {
  for (const auto end = offset + bytes; offset < end;) {
    const auto index = offset / kPageBytes;
    const auto from = offset % kPageBytes;
    const auto to = std::min(kPageBytes, from + (end - offset));
    visit(index, from, to);
    offset += to - from;
  }
}

}  // namespace

// --- MappedMemory

MappedMemory::MappedMemory(std::uint64_t bytes) : bytes_(bytes) {
  const auto rounded = std::max(pages(), std::uint64_t{1}) * kPageBytes;
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, rounded)));
  if (memory_ == nullptr) {
    throw std::bad_alloc();
  }
  std::memset(memory_.get(), 0, rounded);
}

void MappedMemory::Free::operator()(std::byte* memory) const noexcept { std::free(memory); }

void MappedMemory::load(std::uint64_t offset, ByteSpan into) const noexcept {
  copy_from_shared(into.data(), memory_.get() + offset, into.size());
}

void MappedMemory::store(std::uint64_t offset, ByteView from) noexcept {
  copy_to_shared(memory_.get() + offset, from.data(), from.size());
}

// --- Pages

FileContents::SectorMask FileContents::sectors_between(std::uint64_t from,
                                                       std::uint64_t to) const noexcept {
  const auto first = from / sector_bytes_;
  const auto end = (to + sector_bytes_ - 1) / sector_bytes_;
  return static_cast<SectorMask>(((1U << end) - 1U) & ~((1U << first) - 1U));
}

FileContents::SectorMask FileContents::sectors_newer(const PageRef& page,
                                                     const PageRef& than) const noexcept {
  if (page == than) {
    return 0;
  }
  unsigned mask = 0;
  for (std::size_t sector = 0; sector < sectors_per_page(); ++sector) {
    mask |= static_cast<unsigned>(stamp_of(page, sector) > stamp_of(than, sector)) << sector;
  }
  return static_cast<SectorMask>(mask);
}

FileContents::PageRef FileContents::make_page(const std::array<std::uint64_t, kSectorsMax>& stamps,
                                              const PageBytes& bytes) {
  auto page = std::make_shared<Page>();
  page->stamps = stamps;
  if (std::memcmp(bytes.data(), kZeroPage.data(), kPageBytes) != 0) {
    page->bytes = std::make_unique_for_overwrite<PageBytes>();
    *page->bytes = bytes;
  }
  return page;
}

FileContents::PageState& FileContents::page_at(std::uint64_t index) {
  if (index >= pages_.size()) {
    pages_.resize(static_cast<std::size_t>(index) + 1);
  }
  return pages_[static_cast<std::size_t>(index)];
}

void FileContents::list(std::uint64_t index) {
  auto& state = pages_[static_cast<std::size_t>(index)];
  if (!state.listed) {
    state.listed = true;
    unsynced_pages_.push_back(index);
  }
}

void FileContents::forget_synced() {
  std::erase_if(unsynced_pages_, [this](std::uint64_t index) {
    auto& state = pages_[static_cast<std::size_t>(index)];
    state.listed = sectors_newer(state.current, state.durable) != 0;
    return !state.listed;
  });
}

void FileContents::replace_current(PageState& state, PageRef page, SectorMask changed) {
  if ((sectors_newer(state.current, state.durable) & changed) != 0) {
    if (state.older.size() == kOlderVersionsMax) {
      state.older.erase(state.older.begin() +
                        static_cast<std::ptrdiff_t>(stamp_ % kOlderVersionsMax));
    }
    state.older.push_back(std::move(state.current));
  }
  state.current = std::move(page);
  state.dropped = without(state.dropped, changed);
  state.disowned = without(state.disowned, changed);
}

void FileContents::write_page(std::uint64_t index, std::uint64_t from, std::uint64_t to,
                              const std::byte* bytes) {
  const bool is_mapped = memory_ != nullptr && index < memory_->pages();
  if (is_mapped) {
    absorb_page(index);
  }
  if (bytes == nullptr) {
    bytes = kZeroPage.data();
  }
  auto& state = page_at(index);
  const auto changed = sectors_between(from, to);
  auto page = std::make_shared<Page>();
  if (state.current != nullptr) {
    page->stamps = state.current->stamps;
  }
  for (std::size_t sector = 0; sector < sectors_per_page(); ++sector) {
    if ((changed >> sector & 1) != 0) {
      page->stamps[sector] = stamp_;
    }
  }
  const auto length = static_cast<std::size_t>(to - from);
  const auto* const base = bytes_of(state.current);
  const bool is_whole = length == kPageBytes;
  const bool writes_zeros = std::memcmp(bytes, kZeroPage.data(), length) == 0;
  if (!writes_zeros || (!is_whole && base != nullptr)) {
    page->bytes = std::make_unique_for_overwrite<PageBytes>();
    if (!is_whole) {
      std::memcpy(page->bytes->data(), base != nullptr ? base : kZeroPage.data(), kPageBytes);
    }
    std::memcpy(page->bytes->data() + from, bytes, length);
  }
  replace_current(state, std::move(page), changed);
  list(index);
  if (is_mapped) {
    memory_->store(index * kPageBytes + from, ByteView(bytes, length));
  }
}

FileContents::PageRef FileContents::merged(const PageRef& base, const PageRef& over,
                                           SectorMask sectors) const {
  if (sectors == 0) {
    return base;
  }
  std::array<std::uint64_t, kSectorsMax> stamps{};
  bool all_of_over = true;
  for (std::size_t sector = 0; sector < sectors_per_page(); ++sector) {
    const bool taken = (sectors >> sector & 1) != 0;
    stamps[sector] = stamp_of(taken ? over : base, sector);
    all_of_over = all_of_over && stamps[sector] == stamp_of(over, sector);
  }
  if (all_of_over) {
    return over;
  }
  PageBytes bytes;
  const auto* const base_bytes = bytes_of(base);
  const auto* const over_bytes = bytes_of(over);
  std::memcpy(bytes.data(), base_bytes != nullptr ? base_bytes : kZeroPage.data(), kPageBytes);
  const auto* const from = over_bytes != nullptr ? over_bytes : kZeroPage.data();
  for (std::size_t sector = 0; sector < sectors_per_page(); ++sector) {
    if ((sectors >> sector & 1) != 0) {
      const auto offset = sector * sector_bytes_;
      std::memcpy(bytes.data() + offset, from + offset, sector_bytes_);
    }
  }
  return make_page(stamps, bytes);
}

FileContents::PageRef FileContents::torn(const PageRef& base, const PageRef& over,
                                         std::size_t sector, Random& random) const {
  const auto* const base_bytes = bytes_of(base);
  const auto* const over_bytes = bytes_of(over);
  PageBytes bytes;
  std::memcpy(bytes.data(), base_bytes != nullptr ? base_bytes : kZeroPage.data(), kPageBytes);
  const auto offset = sector * sector_bytes_;
  const auto prefix = 1 + random.below(sector_bytes_ - 1);
  std::memcpy(bytes.data() + offset,
              (over_bytes != nullptr ? over_bytes : kZeroPage.data()) + offset, prefix);
  auto stamps = base != nullptr ? base->stamps : std::array<std::uint64_t, kSectorsMax>{};
  stamps[sector] = stamp_;  // Neither of the two: it must not pass for one of them.
  return make_page(stamps, bytes);
}

// --- As processes see it

std::size_t FileContents::read(std::uint64_t offset, ByteSpan into) const {
  if (offset >= size_) {
    return 0;
  }
  const auto bytes = std::min<std::uint64_t>(into.size(), size_ - offset);
  auto* to = into.data();
  for_each_page(offset, bytes, [&](std::uint64_t index, std::uint64_t from, std::uint64_t end) {
    const auto length = static_cast<std::size_t>(end - from);
    const auto* const source =
        index < pages_.size() ? bytes_of(pages_[static_cast<std::size_t>(index)].current) : nullptr;
    if (memory_ != nullptr && index < memory_->pages()) {
      memory_->load(index * kPageBytes + from, ByteSpan(to, length));
    } else if (source != nullptr) {
      std::memcpy(to, source + from, length);
    } else {
      std::memset(to, 0, length);
    }
    to += length;
  });
  return static_cast<std::size_t>(bytes);
}

void FileContents::write(std::uint64_t offset, ByteView bytes) {
  if (bytes.empty()) {
    return;
  }
  ++stamp_;
  if (offset + bytes.size() > size_) {
    change_size(offset + bytes.size());
  }
  allocate_blocks(offset, bytes.size());
  const auto* source = bytes.data();
  for_each_page(offset, bytes.size(),
                [&](std::uint64_t index, std::uint64_t from, std::uint64_t to) {
                  write_page(index, from, to, source);
                  source += to - from;
                });
}

void FileContents::disown(std::uint64_t offset, std::uint64_t bytes) {
  for_each_page(offset, bytes, [&](std::uint64_t index, std::uint64_t from, std::uint64_t to) {
    auto& state = page_at(index);
    state.disowned = static_cast<SectorMask>(state.disowned | sectors_between(from, to));
  });
}

void FileContents::change_size(std::uint64_t bytes) {
  size_ = bytes;
  if (size_changes_.size() == kSizeChangesMax) {
    size_changes_.erase(size_changes_.begin() +
                        static_cast<std::ptrdiff_t>(stamp_ % (kSizeChangesMax - 1)));
  }
  size_changes_.push_back({stamp_, bytes});
}

void FileContents::resize(std::uint64_t bytes) {
  ++stamp_;
  if (bytes < size_) {
    const auto mapped_pages = memory_ != nullptr ? memory_->pages() : 0;
    const auto pages = std::max<std::uint64_t>(pages_.size(), mapped_pages);
    for (auto index = bytes / kPageBytes; index < pages; ++index) {
      const auto from = index == bytes / kPageBytes ? bytes % kPageBytes : 0;
      if (index < mapped_pages ||
          bytes_of(pages_[static_cast<std::size_t>(index)].current) != nullptr) {
        write_page(index, from, kPageBytes, nullptr);
      }
    }
    const auto blocks = (bytes + kPageBytes - 1) / kPageBytes;
    for (auto block = blocks; block < allocated_.size(); ++block) {
      blocks_allocated_ -= allocated_[static_cast<std::size_t>(block)] ? 1 : 0;
    }
    if (blocks < allocated_.size()) {
      allocated_.resize(static_cast<std::size_t>(blocks));
      allocation_unsynced_ = true;
    }
    written_durably_end_ = std::min(written_durably_end_, bytes);
  }
  if (bytes != size_) {
    change_size(bytes);
  }
}

void FileContents::allocate(std::uint64_t offset, std::uint64_t bytes) {
  ++stamp_;
  allocate_blocks(offset, bytes);
  if (offset + bytes > size_) {
    change_size(offset + bytes);
  }
}

void FileContents::allocate_blocks(std::uint64_t offset, std::uint64_t bytes) {
  const auto end = static_cast<std::size_t>((offset + bytes + kPageBytes - 1) / kPageBytes);
  if (allocated_.size() < end) {
    allocated_.resize(end);
  }
  for (auto block = static_cast<std::size_t>(offset / kPageBytes); block < end; ++block) {
    if (!allocated_[block]) {
      allocated_[block] = true;
      ++blocks_allocated_;
      allocation_unsynced_ = true;
    }
  }
}

std::uint64_t FileContents::blocks_missing(std::uint64_t offset, std::uint64_t bytes) const {
  std::uint64_t missing = 0;
  const auto end = (offset + bytes + kPageBytes - 1) / kPageBytes;
  for (auto block = offset / kPageBytes; block < end; ++block) {
    missing += block < allocated_.size() && allocated_[static_cast<std::size_t>(block)] ? 0 : 1;
  }
  return missing;
}

// --- Becoming durable

FileContents::Unsynced FileContents::unsynced() {
  if (memory_ != nullptr) {
    absorb_all();
  }
  Unsynced carried{{}, stamp_, size_};
  carried.pages.reserve(unsynced_pages_.size());
  for (const auto index : unsynced_pages_) {
    const auto& state = pages_[static_cast<std::size_t>(index)];
    const auto sectors = without(sectors_newer(state.current, state.durable), state.dropped);
    if (sectors != 0) {
      carried.pages.push_back({index, state.current, sectors});
    }
  }
  return carried;
}

void FileContents::take_sectors(PageState& state, const PageRef& from, SectorMask sectors) {
  // A sync that began later may have ended before: what it carried is newer, and stays.
  sectors = static_cast<SectorMask>(sectors & sectors_newer(from, state.durable));
  if (sectors == 0) {
    return;
  }
  state.durable = merged(state.durable, from, sectors);
  state.promised = static_cast<SectorMask>(state.promised | without(sectors, state.disowned));
  const auto unsynced = sectors_newer(state.current, state.durable);
  state.dropped = static_cast<SectorMask>(state.dropped & unsynced);
  std::erase_if(state.older,
                [&](const PageRef& older) { return sectors_newer(older, state.durable) == 0; });
}

void FileContents::make_durable(const Unsynced& carried) {
  for (const auto& [index, page, sectors] : carried.pages) {
    take_sectors(pages_[static_cast<std::size_t>(index)], page, sectors);
  }
  forget_synced();
  if (carried.stamp >= synced_stamp_) {
    synced_stamp_ = carried.stamp;
    durable_size_ = carried.size;
    if (written_durably_stamp_ > carried.stamp) {
      durable_size_ = std::max(durable_size_, written_durably_end_);
    } else {
      written_durably_end_ = 0;
    }
    std::erase_if(size_changes_,
                  [&](const SizeChange& change) { return change.stamp <= carried.stamp; });
    if (allocation_unsynced_) {
      allocated_durably_ = allocated_;
      allocation_unsynced_ = false;
    }
  }
}

void FileContents::make_durable(std::uint64_t offset, std::uint64_t bytes) {
  for_each_page(offset, bytes, [&](std::uint64_t index, std::uint64_t from, std::uint64_t to) {
    if (memory_ != nullptr && index < memory_->pages()) {
      absorb_page(index);
    }
    auto& state = page_at(index);
    take_sectors(state, state.current, sectors_between(from, to));
    if (allocated_durably_.size() <= index) {
      allocated_durably_.resize(static_cast<std::size_t>(index) + 1);
    }
    allocated_durably_[static_cast<std::size_t>(index)] = true;
  });
  forget_synced();
  const auto end = std::min(offset + bytes, size_);
  durable_size_ = std::max(durable_size_, end);
  written_durably_end_ = std::max(written_durably_end_, end);
  written_durably_stamp_ = stamp_;
  std::erase_if(size_changes_, [&](const SizeChange& change) { return change.size < end; });
}

void FileContents::drop(const Unsynced& carried) {
  for (const auto& [index, page, newer] : carried.pages) {
    // What a truncation cut is no page to write: the next sync carries the size.
    const auto begin = index * kPageBytes;
    const auto sectors =
        begin >= carried.size
            ? SectorMask{0}
            : static_cast<SectorMask>(
                  newer & sectors_between(0, std::min(carried.size - begin, kPageBytes)));
    auto& state = pages_[static_cast<std::size_t>(index)];
    const auto rewritten = sectors_newer(state.current, page);
    const auto unsynced = sectors_newer(state.current, state.durable);
    state.dropped =
        static_cast<SectorMask>(state.dropped | (without(sectors, rewritten) & unsynced));
  }
}

void FileContents::drop(std::uint64_t offset, std::uint64_t bytes) {
  for_each_page(offset, bytes, [&](std::uint64_t index, std::uint64_t from, std::uint64_t to) {
    auto& state = page_at(index);
    const auto unsynced = sectors_newer(state.current, state.durable);
    state.dropped = static_cast<SectorMask>(state.dropped | (sectors_between(from, to) & unsynced));
  });
}

void FileContents::forget_dropped() {
  if (memory_ != nullptr) {
    return;  // The mapping holds on to its pages.
  }
  ++stamp_;
  for (const auto index : unsynced_pages_) {
    auto& state = pages_[static_cast<std::size_t>(index)];
    if (state.dropped == 0) {
      continue;
    }
    // What was read from the disk is on the disk: no other version of it can come up any more.
    auto on_disk = std::make_shared<Page>();
    if (state.durable != nullptr) {
      on_disk->stamps = state.durable->stamps;
      if (state.durable->bytes != nullptr) {
        on_disk->bytes = std::make_unique<PageBytes>(*state.durable->bytes);
      }
    }
    for (std::size_t sector = 0; sector < sectors_per_page(); ++sector) {
      if ((state.dropped >> sector & 1) != 0) {
        on_disk->stamps[sector] = stamp_;
      }
    }
    state.durable = std::move(on_disk);
    state.current = merged(state.current, state.durable, state.dropped);
    state.dropped = 0;
    std::erase_if(state.older,
                  [&](const PageRef& older) { return sectors_newer(older, state.durable) == 0; });
  }
  forget_synced();
}

void FileContents::make_all_durable() {
  for (const auto index : unsynced_pages_) {
    pages_[static_cast<std::size_t>(index)].dropped = 0;
  }
  make_durable(unsynced());
}

std::uint64_t FileContents::durable_bytes_changed_by(std::uint64_t offset, ByteView bytes) const {
  if (offset >= durable_size_) {
    return 0;
  }
  std::uint64_t changed = 0;
  const auto* source = bytes.data();
  const auto compared = std::min<std::uint64_t>(bytes.size(), durable_size_ - offset);
  for_each_page(offset, compared, [&](std::uint64_t index, std::uint64_t from, std::uint64_t to) {
    const auto length = static_cast<std::size_t>(to - from);
    if (index < pages_.size()) {
      const auto& state = pages_[static_cast<std::size_t>(index)];
      const auto* const durable = bytes_of(state.durable);
      if (durable != nullptr && (state.promised & sectors_between(from, to)) != 0 &&
          std::memcmp(durable + from, source, length) != 0) {
        for (auto place = from; place < to; ++place) {
          const bool is_promised = (state.promised >> (place / sector_bytes_) & 1) != 0;
          changed += is_promised && durable[place] != std::byte{0} &&
                             durable[place] != source[place - from]
                         ? 1
                         : 0;
        }
      }
    }
    source += length;
  });
  return changed;
}

// --- Mapping

std::shared_ptr<MappedMemory> FileContents::map() {
  if (memory_ == nullptr) {
    auto memory = std::make_shared<MappedMemory>(size_);
    (void)read(0, memory->bytes());
    memory_ = std::move(memory);
    was_mapped_ = true;
  }
  return memory_->bytes().size() == size_ ? memory_ : nullptr;
}

void FileContents::absorb_page(std::uint64_t index) {
  const auto start = index * kPageBytes;
  if (start >= size_) {
    return;
  }
  PageBytes bytes;
  memory_->load(start, bytes);
  if (size_ - start < kPageBytes) {
    std::memset(bytes.data() + (size_ - start), 0, kPageBytes - (size_ - start));
  }
  const auto* old =
      index < pages_.size() ? bytes_of(pages_[static_cast<std::size_t>(index)].current) : nullptr;
  if (old == nullptr) {
    old = kZeroPage.data();
  }
  if (std::memcmp(old, bytes.data(), kPageBytes) == 0) {
    return;
  }
  ++stamp_;
  auto& state = page_at(index);
  auto stamps =
      state.current != nullptr ? state.current->stamps : std::array<std::uint64_t, kSectorsMax>{};
  unsigned changed = 0;
  for (std::size_t sector = 0; sector < sectors_per_page(); ++sector) {
    const auto offset = sector * sector_bytes_;
    if (std::memcmp(old + offset, bytes.data() + offset, sector_bytes_) != 0) {
      changed |= 1U << sector;
      stamps[sector] = stamp_;
    }
  }
  replace_current(state, make_page(stamps, bytes), static_cast<SectorMask>(changed));
  list(index);
  allocate_blocks(start, 1);
}

void FileContents::absorb_all() {
  for (std::uint64_t index = 0; index < memory_->pages(); ++index) {
    absorb_page(index);
  }
}

void FileContents::write_back(std::uint64_t pages_max, Random& random) {
  if (memory_ == nullptr || memory_->pages() == 0) {
    return;
  }
  const auto pages = memory_->pages();
  const auto first = random.below(pages);
  for (std::uint64_t index = 0; index < std::min(pages, pages_max); ++index) {
    absorb_page((first + index) % pages);
  }
}

void FileContents::unmap() {
  if (memory_ != nullptr) {
    absorb_all();
    memory_ = nullptr;
  }
}

void FileContents::unmap_unless_shared() {
  if (memory_.use_count() == 1) {
    unmap();
  }
}

// --- Mishaps

FileContents::PageRef FileContents::surviving_page(const PageState& state,
                                                   const PowerCutOptions& options,
                                                   unsigned keep_chance, Random& random) const {
  const auto unsynced = sectors_newer(state.current, state.durable);
  if (unsynced == 0 || options.survival == Survival::nothing) {
    return state.durable;
  }
  if (options.survival == Survival::everything) {
    return merged(state.durable, state.current, without(unsynced, state.dropped));
  }
  // Of what a failed sync dropped, a little may be on the disk.
  constexpr unsigned kDroppedChance = 16;
  // Index of a version: 0 is the durable one, then the older ones, then the current one.
  const auto versions = state.older.size() + 2;
  const auto version_at = [&](std::size_t index) -> const PageRef& {
    return index == 0              ? state.durable
           : index == versions - 1 ? state.current
                                   : state.older[index - 1];
  };
  if (was_mapped_ && !options.split_mapped_pages) {
    const auto& version = random.chance(keep_chance)
                              ? state.current
                              : version_at(static_cast<std::size_t>(random.below(versions)));
    auto sectors = sectors_newer(version, state.durable);
    if (!random.chance(kDroppedChance)) {
      sectors = without(sectors, state.dropped);
    }
    return merged(state.durable, version, sectors);
  }
  unsigned newest = 0;
  auto survivor = state.durable;
  for (std::size_t sector = 0; sector < sectors_per_page(); ++sector) {
    const auto bit = static_cast<SectorMask>(1U << sector);
    if ((unsynced & bit) == 0 || ((state.dropped & bit) != 0 && !random.chance(kDroppedChance))) {
      continue;
    }
    if (options.torn_sectors && random.chance(32)) {
      survivor = torn(survivor, state.current, sector, random);
    } else if (random.chance(keep_chance)) {
      newest |= bit;
    } else {
      const auto& version = version_at(static_cast<std::size_t>(random.below(versions)));
      if (version == state.current) {
        newest |= bit;
      } else {
        const auto newer = sectors_newer(version, state.durable);
        survivor = merged(survivor, version, static_cast<SectorMask>(newer & bit));
      }
    }
  }
  return merged(survivor, state.current, static_cast<SectorMask>(newest));
}

void FileContents::cut_power(const PowerCutOptions& options, Random& random) {
  // All kept but one, all lost but one, and half and half: each finds bugs the others miss.
  constexpr unsigned kKeepChances[] = {8, 128, 248};
  const auto keep_chance = kKeepChances[random.below(3)];
  ++stamp_;

  for (const auto index : unsynced_pages_) {
    auto& state = pages_[static_cast<std::size_t>(index)];
    auto survivor = surviving_page(state, options, keep_chance, random);
    // What luck has kept was promised to nobody.
    state.promised = without(state.promised, sectors_newer(survivor, state.durable));
    state.durable = survivor;
    state.current = std::move(survivor);
    state.older.clear();
    state.dropped = 0;
    state.listed = false;
  }
  unsynced_pages_.clear();

  if (options.survival == Survival::nothing) {
    size_ = durable_size_;
  } else if (options.survival == Survival::random && !random.chance(keep_chance)) {
    const auto pick = static_cast<std::size_t>(random.below(size_changes_.size() + 1));
    size_ = pick == 0 ? durable_size_ : size_changes_[pick - 1].size;
  }
  durable_size_ = size_;
  size_changes_.clear();
  synced_stamp_ = stamp_;
  written_durably_end_ = 0;
  was_mapped_ = false;
  cut_pages();
  cut_blocks(options, random);
}

void FileContents::cut_pages() {
  const auto pages = static_cast<std::size_t>((size_ + kPageBytes - 1) / kPageBytes);
  if (pages_.size() > pages) {
    pages_.resize(pages);
  }
  const auto tail = static_cast<std::size_t>(size_ % kPageBytes);
  if (tail == 0 || pages_.size() < pages || bytes_of(pages_.back().current) == nullptr) {
    return;
  }
  auto& state = pages_.back();
  if (std::memcmp(bytes_of(state.current) + tail, kZeroPage.data(), kPageBytes - tail) != 0) {
    auto bytes = *state.current->bytes;
    std::memset(bytes.data() + tail, 0, kPageBytes - tail);
    state.current = make_page(state.current->stamps, bytes);
    state.durable = state.current;
  }
}

void FileContents::cut_blocks(const PowerCutOptions& options, Random& random) {
  const auto blocks = static_cast<std::size_t>((size_ + kPageBytes - 1) / kPageBytes);
  if (!allocation_unsynced_ && allocated_.size() <= blocks) {
    return;
  }
  const bool is_lost = options.survival == Survival::nothing ||
                       (options.survival == Survival::random && random.coin());
  if (is_lost) {
    allocated_ = allocated_durably_;
  }
  allocated_.resize(std::min(blocks, std::max(allocated_.size(), pages_.size())));
  blocks_allocated_ = 0;
  for (std::size_t block = 0; block < allocated_.size(); ++block) {
    if (block < pages_.size() && pages_[block].current != nullptr) {
      allocated_[block] = true;
    }
    blocks_allocated_ += allocated_[block] ? 1 : 0;
  }
  allocated_durably_ = allocated_;
  allocation_unsynced_ = false;
}

void FileContents::flip_bit(std::uint64_t offset, unsigned bit) {
  const auto index = offset / kPageBytes;
  const auto place = static_cast<std::size_t>(offset % kPageBytes);
  const auto mask = static_cast<std::byte>(1U << (bit % 8));
  const auto flipped = [&](const PageRef& page) {
    PageBytes bytes{};
    if (const auto* const old = bytes_of(page); old != nullptr) {
      std::memcpy(bytes.data(), old, kPageBytes);
    }
    bytes[place] ^= mask;
    return make_page(page != nullptr ? page->stamps : std::array<std::uint64_t, kSectorsMax>{},
                     bytes);
  };
  auto& state = page_at(index);
  const bool is_synced = state.current == state.durable;
  state.current = flipped(state.current);
  state.durable = is_synced ? state.current : flipped(state.durable);
  for (auto& older : state.older) {
    older = flipped(older);
  }
  if (memory_ != nullptr && index < memory_->pages()) {
    std::byte byte{};
    memory_->load(offset, ByteSpan(&byte, 1));
    byte ^= mask;
    memory_->store(offset, ByteView(&byte, 1));
  }
}

}  // namespace nori::testing
