#include "store/store_appender.h"

#include "base/try.h"
#include "store/origins.h"
#include "store/store_cursor.h"

namespace nori {
namespace {

// The log goes back to the newest valid snapshot.
Result<void> check_whole(const Wal& wal, const WalOptions& options) {
  Origins origins(wal, options);
  const auto origin = NORI_TRY(origins.next());
  if (auto read = wal.read_from(origin.from); !read) {
    NORI_TRY(origins.go_on_after(origin, Origins::Part::log, std::move(read).error()));
  }
  return {};
}

}  // namespace

Result<StoreAppender> StoreAppender::open(const WalOptions& options) {
  auto opened = NORI_TRY(Wal::open(options));
  NORI_TRY(check_whole(opened.wal, options));
  auto cursor = NORI_TRY(take_store_cursor(opened.wal));
  return StoreAppender(std::move(opened.wal), std::move(opened.recovery), std::move(cursor));
}

Result<void> StoreAppender::close() {
  const auto cursor = cursor_.close();
  auto closed = wal_.close();
  return closed && !cursor ? cursor : closed;
}

}  // namespace nori
