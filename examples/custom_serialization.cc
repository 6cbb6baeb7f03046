// Records of one's own types: a struct whose fields are listed once, for writing and for reading,
// each with the version since which it is there. A program that has one field more reads what the
// older one wrote, and the older one what the newer one writes.
//
// Fields are only ever added, behind the others, and never change their type. Whoever has
// Protobuf, FlatBuffers or CBOR at hand takes that: a log stores bytes.

#include <nori/wal.h>

#include <concepts>
#include <cstdint>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace {

class Writer {
 public:
  void operator()(int /*since*/, const std::integral auto& number) {
    for (std::size_t i = 0; i < sizeof number; ++i) {
      bytes_.push_back(static_cast<char>(number >> (8 * i)));
    }
  }
  void operator()(int since, const std::string& text) {
    (*this)(since, static_cast<std::uint32_t>(text.size()));
    bytes_ += text;
  }

  [[nodiscard]] std::string take() && { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// What the record is too old for keeps its default; what it is too new for stays unread.
class Parser {
 public:
  explicit Parser(std::string_view bytes) : bytes_(bytes) { (*this)(0, version_); }

  template <std::integral T>
  void operator()(int since, T& number) {
    if (const auto bytes = next(since, sizeof(T))) {
      std::uint64_t bits = 0;
      for (std::size_t i = sizeof(T); i > 0; --i) {
        bits = bits << 8 | static_cast<unsigned char>((*bytes)[i - 1]);
      }
      number = static_cast<T>(bits);
    }
  }
  void operator()(int since, std::string& text) {
    std::uint32_t size = 0;
    (*this)(since, size);
    if (const auto bytes = next(since, size)) {
      text = *bytes;
    }
  }

  // Whether there was all that its version promises.
  [[nodiscard]] bool good() const { return good_ && version_ > 0; }

 private:
  std::optional<std::string_view> next(int since, std::size_t size) {
    if (since > version_) {
      return std::nullopt;
    }
    good_ = good_ && size <= bytes_.size();
    if (!good_) {
      return std::nullopt;
    }
    const auto bytes = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return bytes;
  }

  std::string_view bytes_;
  std::uint8_t version_ = 0;
  bool good_ = true;
};

template <typename T>
std::string encode(const T& value) {
  Writer writer;
  writer(0, T::kVersion);
  T::fields(writer, value);
  return std::move(writer).take();
}

// The log vouches for the bytes, not for what some program has meant by them.
template <typename T>
nori::Result<T> decode(std::string_view bytes) {
  Parser parser(bytes);
  T value;
  T::fields(parser, value);
  if (!parser.good()) {
    return std::unexpected(nori::Error{nori::ErrorCode::damaged, "it is none, or not all of one"});
  }
  return value;
}

// As the program was at first ...
namespace released {
struct Reading {
  std::string place;
  std::int16_t celsius_tenths = 0;

  static constexpr std::uint8_t kVersion = 1;
  static void fields(auto& archive, auto& self) {
    archive(1, self.place);
    archive(1, self.celsius_tenths);
  }
  friend bool operator==(const Reading&, const Reading&) = default;
};
}  // namespace released

// ... and as it is now.
struct Reading {
  std::string place;
  std::int16_t celsius_tenths = 0;
  std::uint8_t humidity_percent = kUnknown;

  static constexpr std::uint8_t kUnknown = 255;
  static constexpr std::uint8_t kVersion = 2;
  static void fields(auto& archive, auto& self) {
    archive(1, self.place);
    archive(1, self.celsius_tenths);
    archive(2, self.humidity_percent);
  }
  friend bool operator==(const Reading&, const Reading&) = default;
};

template <typename T>
void append(const std::string& directory, const T& value) {
  auto log = nori::Wal::open({.directory = directory}).value().wal;
  log.append(nori::Record::put(value.place, encode(value))).value();
}

template <typename T>
std::vector<T> read_all(const std::string& directory) {
  auto log = nori::Wal::open({.directory = directory}).value().wal;
  auto reader = log.read_from(nori::begin_of_log).value();
  std::vector<T> values;
  for (const auto& entry : reader) {
    values.push_back(decode<T>(entry.value().value).value());
  }
  return values;
}

bool run(const std::string& directory) {
  const released::Reading old{"attic", 315};
  const Reading now{"cellar", -23, 81};
  append(directory, old);
  append(directory, now);

  const auto by_now = read_all<Reading>(directory);
  const auto by_old = read_all<released::Reading>(directory);
  for (const auto& reading : by_now) {
    std::cout << reading.place << ": " << reading.celsius_tenths / 10.0 << " °C, "
              << (reading.humidity_percent == Reading::kUnknown
                      ? "humidity was not measured yet"
                      : std::to_string(reading.humidity_percent) + " % humidity")
              << '\n';
  }
  // Whatever is cut off is noticed.
  const auto bytes = encode(now);
  bool cut_noticed = true;
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    cut_noticed = cut_noticed && !decode<Reading>(std::string_view(bytes).substr(0, size));
  }
  return cut_noticed &&
         by_now == std::vector<Reading>{{old.place, old.celsius_tenths, Reading::kUnknown}, now} &&
         by_old == std::vector<released::Reading>{old, {now.place, now.celsius_tenths}};
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: custom_serialization DIRECTORY\n";
    return 2;
  }
  try {
    return run(arguments[1]) ? 0 : 1;
  } catch (const std::bad_expected_access<nori::Error>& failed) {
    std::cerr << failed.error().message << '\n';
    return 1;
  }
}
