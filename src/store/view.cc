#include "store/view.h"

#include <algorithm>
#include <utility>

#include "store/contents.h"

namespace nori {
namespace {

// The first key behind all that begin with `prefix`; nothing if there is none such.
std::optional<std::string> behind_prefix(std::string_view prefix) {
  std::string next(prefix);
  while (!next.empty() && next.back() == '\xff') {
    next.pop_back();
  }
  if (next.empty()) {
    return std::nullopt;
  }
  next.back() = static_cast<char>(next.back() + 1);
  return next;
}

std::optional<std::string> end_of(const ScanOptions& options) {
  auto end = behind_prefix(options.prefix);
  if (options.to && (!end || *options.to < *end)) {
    end = *options.to;
  }
  return end;
}

}  // namespace

// --- Scan

Scan::Impl::Impl(std::shared_ptr<const StoreView::Impl> view, const ScanOptions& options)
    : view_(std::move(view)),
      from_(std::max(options.prefix, options.from)),
      to_(end_of(options)),
      reverse_(options.reverse),
      left_(options.limit == 0 ? UINT64_MAX : options.limit),
      cursor_(view_->index) {
  if (!reverse_) {
    cursor_.seek(from_);
  } else if (to_) {
    cursor_.seek_below(*to_);
  } else {
    cursor_.seek_last();
  }
}

std::optional<StoreEntry> Scan::Impl::next() {
  while (left_ > 0) {
    const auto* const item = cursor_.item();
    if (item == nullptr || (reverse_ ? item->key() < from_ : to_ && item->key() >= *to_)) {
      break;
    }
    if (reverse_) {
      cursor_.previous();
    } else {
      cursor_.next();
    }
    if (view_->shows(*item)) {
      --left_;
      return entry_of(*item, *view_->lives);
    }
  }
  left_ = 0;
  return std::nullopt;
}

Scan::Scan(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Scan::Scan(Scan&&) noexcept = default;
Scan& Scan::operator=(Scan&&) noexcept = default;
Scan::~Scan() = default;

std::optional<StoreEntry> Scan::next() { return impl_->next(); }

// --- StoreView

std::optional<StoreEntry> StoreView::get(std::string_view key) const {
  const auto* const item = impl_->index.find(key);
  return item != nullptr && impl_->shows(*item) ? std::optional(entry_of(*item, *impl_->lives))
                                                : std::nullopt;
}

Scan StoreView::scan(const ScanOptions& options) const {
  return Scan(std::make_unique<Scan::Impl>(impl_, options));
}

Sequence StoreView::sequence() const noexcept { return impl_->sequence; }

}  // namespace nori
