// How fast snapshots are written and read: ascending random keys of 16 bytes, values of 100.
//
//   nori_bench_snapshots DIR [ENTRIES [THREADS [none|lz4|zstd [random|text]]]]
//
// DIR is made, used and left to its caller to remove. Prints one line for each figure. Reading is
// from the page cache, each thread a part of its own.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "nori/snapshot.h"
#include "nori/wal.h"
#include "testing/random.h"

namespace {

using namespace nori;

[[noreturn]] void fail(const Error& error) {
  fmt::print(stderr, "{}\n", error.message);
  std::exit(1);
}

template <typename T>
T must(Result<T> result) {
  if (!result) {
    fail(result.error());
  }
  if constexpr (!std::is_void_v<T>) {
    return *std::move(result);
  }
}

double seconds_since(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

void print(std::string_view what, std::uint64_t entries, double seconds) {
  fmt::print("{:<28} {:>8.2f} M entries/s  {:>8.3f} s\n", what,
             static_cast<double>(entries) / seconds / 1e6, seconds);
}

// What a reader of all entries does at least: looks at each byte's place, keeps nothing.
std::uint64_t read_part(SnapshotReader& reader) {
  std::uint64_t entries = 0;
  while (const auto entry = must(reader.next())) {
    entries += entry->key.size() == 16 && entry->value.size() == 100 ? 1 : 0;
  }
  return entries;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.empty()) {
    fmt::print(
        stderr,
        "usage: nori_bench_snapshots DIR [ENTRIES [THREADS [none|lz4|zstd [random|text]]]]\n");
    return 2;
  }
  const auto argument = [&](std::size_t i, std::string_view otherwise) {
    return i < arguments.size() ? arguments[i] : std::string(otherwise);
  };
  const auto entries = std::stoull(argument(1, "1000000"));
  const auto threads = std::stoull(argument(2, "2"));
  const auto compression = argument(3, "lz4");
  const bool is_text = argument(4, "random") == "text";
  SnapshotOptions options;
  options.compression = compression == "none"  ? Compression::none
                        : compression == "lz4" ? Compression::lz4
                                               : Compression::zstd;

  WalOptions log;
  log.directory = arguments[0];
  auto opened = must(Wal::open(log));
  // A snapshot is of what a log's records made: one record is enough of a log here.
  must(opened.wal.append(Record::put("k", "v")));
  must(opened.wal.sync());

  testing::Random random(1);
  std::vector<std::array<std::uint64_t, 2>> keys(entries);
  for (auto& key : keys) {
    key = {random.next(), random.next()};
  }
  const auto text_of = [](const std::array<std::uint64_t, 2>& key) {
    return std::string_view(reinterpret_cast<const char*>(key.data()), 16);
  };
  std::ranges::sort(keys, {}, text_of);
  std::string values(kMiB, '\0');
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = is_text ? "the same few words over and over "[i * 7 / 8 % 33]
                        : static_cast<char>(random.next());
  }

  auto began = std::chrono::steady_clock::now();
  auto writer = must(SnapshotWriter::begin(opened.wal, opened.wal.current_position(), options));
  for (const auto& key : keys) {
    must(writer.add(
        {.key = text_of(key),
         .value = std::string_view(values).substr(key[0] % (values.size() - 100), 100)}));
  }
  const auto written = must(writer.finish());
  print("write, synced", entries, seconds_since(began));
  fmt::print("{:<28} {:>8.1f} bytes an entry of {:.1f}\n", "size",
             static_cast<double>(written.file.bytes) / static_cast<double>(entries),
             static_cast<double>(written.file.plain_bytes) / static_cast<double>(entries));

  for (std::size_t count = 1; count <= threads; ++count) {
    began = std::chrono::steady_clock::now();
    const auto snapshot = must(SnapshotReader::open(log.directory));
    auto parts = snapshot.reader->split(count);
    std::vector<std::uint64_t> read(parts.size());
    {
      std::vector<std::jthread> running;
      for (std::size_t i = 0; i < parts.size(); ++i) {
        running.emplace_back([&, i] { read[i] = read_part(parts[i]); });
      }
    }
    const auto seconds = seconds_since(began);
    std::uint64_t sum = 0;
    for (const auto n : read) {
      sum += n;
    }
    if (sum != entries) {
      fmt::print(stderr, "{} entries were read, not {}\n", sum, entries);
      return 1;
    }
    print(fmt::format("read, {} threads", count), entries, seconds);
  }

  constexpr std::uint64_t kGets = 20'000;
  auto snapshot = must(SnapshotReader::open(log.directory));
  began = std::chrono::steady_clock::now();
  for (std::uint64_t i = 0; i < kGets; ++i) {
    if (!must(snapshot.reader->get(text_of(keys[random.below(entries)])))) {
      return 1;
    }
  }
  fmt::print("{:<28} {:>8.1f} us\n", "get", seconds_since(began) / kGets * 1e6);
  began = std::chrono::steady_clock::now();
  auto again = must(SnapshotReader::open(log.directory));
  static_cast<void>(must(again.reader->get(text_of(keys[entries / 2]))));
  fmt::print("{:<28} {:>8.1f} us\n", "open and get one", seconds_since(began) * 1e6);
  return 0;
}
