// What is behind nori::StoreView and nori::Scan.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "nori/store.h"
#include "store/lives.h"
#include "store/ordered_index.h"

namespace nori {

class StoreView::Impl {
 public:
  IndexView index;
  std::shared_ptr<const Lives> lives;
  /// It holds what the records before this one made.
  Sequence sequence = 0;
  /// What expires until then is not there.
  std::int64_t now_ms = 0;

  [[nodiscard]] bool shows(const Item& item) const noexcept { return !item.has_expired(now_ms); }
};

class Scan::Impl {
 public:
  Impl(std::shared_ptr<const StoreView::Impl> view, const ScanOptions& options);

  [[nodiscard]] std::optional<StoreEntry> next();

 private:
  const std::shared_ptr<const StoreView::Impl> view_;
  const std::string from_;
  const std::optional<std::string> to_;
  const bool reverse_;
  std::uint64_t left_;
  IndexCursor cursor_;
};

}  // namespace nori
