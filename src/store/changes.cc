#include "store/changes.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

#include "store/key_head.h"
#include "store/run_together.h"

namespace nori {
namespace {

/// Below this it is not worth a second thread, nor sorting in between.
constexpr std::size_t kMany = 1 << 18;

}  // namespace

void Change::make_head(std::size_t skip) noexcept { head_ = head_of<std::uint64_t>(key(), skip); }

bool Change::is_before(const Change& a, const Change& b) noexcept {
  if (a.head_ != b.head_) {
    return a.head_ < b.head_;
  }
  if (const auto order = a.key().compare(b.key()); order != 0) {
    return order < 0;
  }
  // Rows of lives got their numbers as the log was read.
  return std::tuple(a.item().life(), a.item().number()) <
         std::tuple(b.item().life(), b.item().number());
}

Changes::~Changes() {
  for (const auto& change : changes_) {
    if (auto* const item = change.get(); item != nullptr) {
      item->release();
    }
  }
}

void Changes::add(const Entry& entry) {
  const bool is_removal = entry.op == Operation::remove;
  ItemRef item(Item::make(entry.key, entry.value, entry.expires_at));
  versions_.give(*item, entry.epoch, entry.sequence);
  if (changes_.empty()) {
    first_key_ = entry.key;
    common_bytes_ = first_key_.size();
  } else if (!entry.key.starts_with(std::string_view(first_key_).substr(0, common_bytes_))) {
    common_bytes_ = common_prefix(entry.key, first_key_);
  }
  if (changes_.size() >= 2 * settled_ + 8 * kMany) {
    sort();
  }
  changes_.emplace_back(std::move(item), is_removal);
}

std::span<const Change> Changes::settle() {
  sort();
  return changes_;
}

void Changes::sort() {
  if (skip_ != common_bytes_ || common_bytes_ != 0) {
    constexpr std::size_t kAhead = 16;
    for (std::size_t i = 0; i < changes_.size(); ++i) {
      __builtin_prefetch(&changes_[std::min(i + kAhead, changes_.size() - 1)].item());
      changes_[i].make_head(common_bytes_);
    }
    skip_ = common_bytes_;
  }
  const auto parts = changes_.size() < kMany ? 1U : threads_;
  std::vector<std::size_t> ends(parts + 1);
  for (unsigned part = 0; part <= parts; ++part) {
    ends[part] = changes_.size() * part / parts;
  }
  const auto at = [&](std::size_t place) {
    return changes_.begin() + static_cast<std::ptrdiff_t>(place);
  };
  run_together(parts, [&](std::size_t part) {
    std::sort(at(ends[part]), at(ends[part + 1]), Change::is_before);
  });
  for (unsigned part = 1; part < parts; ++part) {
    std::vector<Change> merged;
    merged.reserve(changes_.capacity());
    std::merge(at(0), at(ends[part]), at(ends[part]), at(ends[part + 1]),
               std::back_inserter(merged), Change::is_before);
    merged.insert(merged.end(), at(ends[part + 1]), changes_.end());
    changes_.swap(merged);
  }
  // Of each key the last one stays.
  std::size_t kept = 0;
  for (std::size_t i = 0; i < changes_.size(); ++i) {
    const bool is_superseded = i + 1 < changes_.size() &&
                               changes_[i].head_ == changes_[i + 1].head_ &&
                               changes_[i].key() == changes_[i + 1].key();
    if (is_superseded) {
      changes_[i].get()->release();
    } else {
      changes_[kept++] = changes_[i];
    }
  }
  changes_.erase(at(kept), changes_.end());
  settled_ = kept;
}

std::size_t Changes::first_from(std::string_view key) const noexcept {
  const auto found = std::ranges::lower_bound(changes_, key, {}, &Change::key);
  return static_cast<std::size_t>(found - changes_.begin());
}

ItemRef Changes::take(std::size_t place) noexcept {
  auto& change = changes_[place];
  ItemRef item(change.get());
  change.tagged_ = nullptr;
  return item;
}

}  // namespace nori
