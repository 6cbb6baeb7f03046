#include "nori/read_key.h"

#include <utility>

#include "base/try.h"
#include "format/record.h"
#include "io/file_system.h"
#include "store/contents.h"
#include "store/origins.h"

namespace nori {
namespace {

using Found = std::optional<KeyRead>;

Result<Found> find_in_snapshot(Origin& origin, std::string_view key) {
  if (!origin.snapshot) {
    return Found();
  }
  const auto entry = NORI_TRY(origin.snapshot->get(key));
  if (!entry) {
    return Found();
  }
  return KeyRead{.value = std::string(entry->value),
                 .version = {.epoch = entry->epoch, .sequence = entry->sequence},
                 .expires_at = entry->expires_at};
}

// What the log says of the key from `from` on replaces `found`.
Result<void> find_in_log(const Wal& wal, Sequence from, std::string_view key, Found& found) {
  auto reader = NORI_TRY(wal.read_from(from));
  for (;;) {
    const auto entry = NORI_TRY(reader.next());
    if (!entry) {
      return {};
    }
    if (entry->key != key) {
      continue;
    }
    found.reset();
    if (entry->op == Operation::put) {
      found = {.value = std::string(entry->value),
               .version = {.epoch = entry->epoch, .sequence = entry->sequence},
               .expires_at = entry->expires_at};
    }
  }
}

}  // namespace

Result<std::optional<KeyRead>> read_key(const std::filesystem::path& directory,
                                        std::string_view key, const ReadKeyOptions& options) {
  const WalOptions log_options{
      .directory = directory, .mode = OpenMode::read_only, .file_system = options.file_system};
  const auto opened = NORI_TRY(Wal::open(log_options));
  Origins origins(opened.wal, log_options);
  for (;;) {
    auto origin = NORI_TRY(origins.next());
    auto part = Origins::Part::snapshot;
    auto found = find_in_snapshot(origin, key);
    if (found) {
      part = Origins::Part::log;
      if (auto read = find_in_log(opened.wal, origin.from, key, *found); !read) {
        found = std::unexpected(std::move(read).error());
      }
    }
    if (!found) {
      NORI_TRY(origins.go_on_after(origin, part, std::move(found).error()));
      continue;
    }
    if (*found && (*found)->expires_at) {
      auto& file_system =
          options.file_system != nullptr ? *options.file_system : io::posix_file_system();
      const auto now_ms =
          options.clock ? ms_of(options.clock()) : static_cast<std::int64_t>(file_system.now_ms());
      if (ms_of(*(*found)->expires_at) <= now_ms) {
        found->reset();
      }
    }
    return found;
  }
}

}  // namespace nori
