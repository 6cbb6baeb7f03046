#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "base/make_error.h"
#include "base/try.h"
#include "cli/kv.h"
#include "cli/place.h"
#include "cli/recovery_report.h"
#include "cli/report.h"
#include "store/store_appender.h"

namespace nori::cli {

namespace {

struct PutOptions {
  std::filesystem::path directory;
  std::string key;
  std::string value;
  std::optional<std::chrono::milliseconds> expires_in;
  std::optional<TimePoint> expires_at;
};

Result<std::optional<TimePoint>> expiry_of(const PutOptions& options) {
  if (!options.expires_in) {
    return options.expires_at;
  }
  const auto now = std::chrono::system_clock::now();
  if (*options.expires_in > std::chrono::floor<std::chrono::milliseconds>(TimePoint::max() - now)) {
    return make_error(ErrorCode::invalid_argument,
                      "--expires-in {} ms leads beyond the year 2261; name less",
                      options.expires_in->count());
  }
  return now + *options.expires_in;
}

// Appends one record. Closing makes it durable.
Result<void> write(const std::filesystem::path& directory, OpenMode mode, const Record& record) {
  WalOptions options;
  options.directory = directory;
  options.mode = mode;
  options.ring_bytes = WalOptions::kNoRing;  // for one record it is not worth its preparation
  auto store = NORI_TRY(StoreAppender::open(options));
  report_recovery(directory, store.recovery());
  NORI_TRY(store.log().append(record));
  return store.close();
}

int put(const PutOptions& options) {
  const auto written = [&]() -> Result<void> {
    auto record = Record::put(options.key, options.value);
    record.expires_at = NORI_TRY(expiry_of(options));
    return write(options.directory, OpenMode::create, record);
  }();
  return written ? kExitDone : report(written.error());
}

int del(const PutOptions& options) {
  const auto written = write(options.directory, OpenMode::existing, Record::remove(options.key));
  return written ? kExitDone : report(written.error());
}

}  // namespace

void add_kv_put(CLI::App& kv, Command& chosen) {
  CLI::App& command = *kv.add_subcommand(
      "put", "Give a key a value, durably, and make the store if it is not there yet.");
  const auto options = std::make_shared<PutOptions>();
  add_store_directory(command, options->directory);
  add_key(command, options->key);
  command.add_option("VALUE", options->value, "the value, as it is")->required()->type_name("");
  auto* const in = add_parsed_option(
      command, "--expires-in", options->expires_in,
      [](std::string_view text) -> Parsed<std::optional<std::chrono::milliseconds>> {
        return parse_duration(text);
      },
      "D", "from then on the key is gone: 30s, 15m, 12h, 7d from now");
  add_parsed_option(
      command, "--expires-at", options->expires_at,
      [](std::string_view text) -> Parsed<std::optional<TimePoint>> { return parse_time(text); },
      "ISO", "the same, at a time in UTC: 2026-01-31T23:59:59Z")
      ->excludes(in);
  command.footer("Example:\n  nori kv put fruit.store apple red --expires-in 7d");
  on_chosen(command, chosen, options, put);
}

void add_kv_del(CLI::App& kv, Command& chosen) {
  CLI::App& command = *kv.add_subcommand(
      "del", "Remove a key, durably. It makes no difference whether it is there.");
  const auto options = std::make_shared<PutOptions>();
  add_store_directory(command, options->directory);
  add_key(command, options->key);
  command.footer("Example:\n  nori kv del fruit.store apple");
  on_chosen(command, chosen, options, del);
}

}  // namespace nori::cli
