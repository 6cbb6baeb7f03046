#include "cursor/cursor_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>
#include <thread>
#include <utility>

#include "base/make_error.h"
#include "base/try.h"
#include "segment/segment_name.h"

namespace nori {
namespace {

constexpr std::string_view kValueSuffix = ".cursor";
constexpr std::string_view kLockSuffix = ".lock";
constexpr std::string_view kNewSuffix = ".cursor.tmp";
constexpr std::chrono::milliseconds kLockPoll{1};

std::string new_file_name(std::string_view consumer) {
  return fmt::format("{}{}", consumer, kNewSuffix);
}

bool is_name_character(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.';
}

Result<bool> has_cursors(io::Directory& log) {
  const auto names = NORI_TRY(log.list());
  return std::ranges::find(names, kCursorsName) != names.end();
}

std::unexpected<Error> no_cursor(const std::string& path, const HeaderError& error) {
  if (error.fault == HeaderFault::unsupported_version) {
    return make_error(ErrorCode::unsupported_version,
                      "{}: format version {} is newer than this library's; use a newer one", path,
                      error.version);
  }
  return make_error(ErrorCode::damaged,
                    "{}: not a cursor, or damaged; nothing is deleted until it is restored from a "
                    "copy or dropped",
                    path);
}

}  // namespace

bool is_consumer_name(std::string_view name) noexcept {
  return !name.empty() && name.size() <= kConsumerNameCharactersMax && name.front() != '.' &&
         std::ranges::all_of(name, is_name_character);
}

Result<void> check_consumer_name(std::string_view name) {
  if (is_consumer_name(name)) {
    return {};
  }
  return make_error(ErrorCode::invalid_argument,
                    "\"{}\" cannot name a consumer: take 1 to {} letters, digits, '-', '_' and "
                    "'.', not beginning with a dot",
                    name, kConsumerNameCharactersMax);
}

std::string cursor_file_name(std::string_view consumer) {
  return fmt::format("{}{}", consumer, kValueSuffix);
}

std::string cursor_lock_name(std::string_view consumer) {
  return fmt::format("{}{}", consumer, kLockSuffix);
}

Result<std::unique_ptr<io::Directory>> find_cursors(io::Directory& log) {
  if (!NORI_TRY(has_cursors(log))) {
    return nullptr;
  }
  return log.subdirectory(kCursorsName);
}

Result<std::unique_ptr<io::Directory>> make_cursors(io::Directory& log) {
  return log.subdirectory(kCursorsName);
}

Result<std::optional<CursorValue>> read_cursor(io::Directory& cursors, std::string_view name) {
  auto file = cursors.open(cursor_file_name(name), io::Access::read, io::Creation::existing);
  if (!file) {
    if (file.error().system_errno == ENOENT) {
      return std::nullopt;
    }
    return std::unexpected(std::move(file).error());
  }
  std::array<std::byte, kCursorBytes + 1> bytes{};  // one more, so that a longer file is told
  const auto bytes_read = NORI_TRY((*file)->read_at(0, bytes));
  const auto value = decode_cursor(ByteView(bytes).first(bytes_read));
  if (!value) {
    return no_cursor((cursors.path() / cursor_file_name(name)).string(), value.error());
  }
  return *value;
}

Result<std::vector<FoundCursor>> read_cursors(io::Directory& cursors) {
  // A listing may miss a name that is replaced meanwhile, but not that of a lock.
  std::set<std::string> names;
  for (const std::string_view file : NORI_TRY(cursors.list())) {
    for (const auto suffix : {kValueSuffix, kLockSuffix}) {
      if (file.ends_with(suffix) && is_consumer_name(file.substr(0, file.size() - suffix.size()))) {
        names.emplace(file.substr(0, file.size() - suffix.size()));
      }
    }
  }
  std::vector<FoundCursor> found;
  for (const auto& name : names) {
    auto value = read_cursor(cursors, name);
    if (!value) {
      found.push_back({.name = name, .value = std::unexpected(std::move(value).error())});
    } else if (*value) {
      found.push_back({.name = name, .value = **value});
    }
  }
  return found;
}

Result<io::FileId> prepare_cursor(io::Directory& cursors, std::string_view name,
                                  const CursorValue& value) {
  std::array<std::byte, kCursorBytes> bytes;
  encode_cursor(value, bytes.data());
  const auto file = NORI_TRY(
      cursors.open(new_file_name(name), io::Access::write_buffered, io::Creation::replace));
  NORI_TRY(file->write_at(0, bytes, {}, false));
  NORI_TRY(file->sync());
  return file->id();
}

Result<void> publish_cursor(io::Directory& cursors, std::string_view name) {
  return cursors.rename(new_file_name(name), cursor_file_name(name));
}

Result<std::unique_ptr<io::Lock>> lock_cursors(io::FileSystem& file_system, io::Directory& log,
                                               std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    auto lock = log.lock(kCursorsLockName, file_system.holder_description());
    if (lock || lock.error().code != ErrorCode::locked ||
        std::chrono::steady_clock::now() >= deadline) {
      return lock;
    }
    std::this_thread::sleep_for(kLockPoll);
  }
}

}  // namespace nori
