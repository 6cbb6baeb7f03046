#include "cli/record_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <chrono>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "cli/base64.h"

namespace nori::cli {

namespace {

using std::chrono::milliseconds;

// --- reading tsv

// Replaces `field` by a view of what it stands for, in `unescaped` where that is something else.
// The offending escape, empty if there is none.
std::string_view unescape(std::string_view& field, std::string& unescaped) {
  std::size_t backslash = field.find('\\');
  if (backslash == std::string_view::npos) {
    return {};
  }
  unescaped.clear();
  std::string_view rest = field;
  for (; backslash != std::string_view::npos; backslash = rest.find('\\')) {
    unescaped += rest.substr(0, backslash);
    rest.remove_prefix(backslash);
    if (rest.size() < 2) {
      return rest;
    }
    switch (rest[1]) {
      case 't':
        unescaped += '\t';
        break;
      case 'n':
        unescaped += '\n';
        break;
      case 'r':
        unescaped += '\r';
        break;
      case '\\':
        unescaped += '\\';
        break;
      default:
        return rest.substr(0, 2);
    }
    rest.remove_prefix(2);
  }
  unescaped += rest;
  field = unescaped;
  return {};
}

// --- reading jsonl

enum class Field : std::uint8_t {
  op,
  key,
  key_b64,
  value,
  value_b64,
  expires_at_ms,
  gap,
  // What dump says of a record's place in its log.
  sequence,
  epoch,
  position,
  time_ms,
  ends_batch,
};
constexpr std::array<std::string_view, 12> kFieldNames = {
    "op",  "key",      "key_b64", "value",    "value_b64", "expires_at_ms",
    "gap", "sequence", "epoch",   "position", "time_ms",   "ends_batch"};

// What a TimePoint can hold.
constexpr std::int64_t kTimeMsMax =
    std::chrono::duration_cast<milliseconds>(TimePoint::max().time_since_epoch()).count();

// Takes one object apart as the JSON parser comes across its parts (nlohmann's SAX interface).
class JsonRecord {
 public:
  JsonRecord(std::string& key, std::string& value) : key_(&key), value_(&value) {
    key.clear();
    value.clear();
  }

  // The record, once the parser is through.
  std::expected<std::optional<Record>, std::string> take() {
    if (!error_.empty()) {
      return std::unexpected(std::move(error_));
    }
    if (has(Field::gap)) {
      if (seen_.count() > 1) {
        return std::unexpected("\"gap\" beside other fields; a gap stands alone");
      }
      return std::nullopt;
    }
    if (!has(Field::op)) {
      return std::unexpected(R"(no "op"; it is "put" or "delete")");
    }
    if (has(Field::key) == has(Field::key_b64)) {
      return std::unexpected(R"(it takes either "key" or "key_b64")");
    }
    const bool has_value = has(Field::value) || has(Field::value_b64);
    if (op_ == Operation::remove) {
      if (has_value || has(Field::expires_at_ms)) {
        return std::unexpected("a \"delete\" with a value or an expiry; leave them out");
      }
      return Record::remove(*key_);
    }
    if (!has_value || (has(Field::value) && has(Field::value_b64))) {
      return std::unexpected(R"(a "put" takes either "value" or "value_b64")");
    }
    Record record = Record::put(*key_, *value_);
    record.expires_at = expires_at_;
    return record;
  }

  bool null() { return other(); }
  bool boolean(bool /*value*/) { return other(); }
  bool number_integer(std::int64_t value) { return number(value); }
  bool number_unsigned(std::uint64_t value) {
    return number(static_cast<std::int64_t>(
        std::min(value, static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))));
  }
  bool number_float(double /*value*/, const std::string& /*text*/) { return other(); }
  bool binary(std::vector<std::uint8_t>& /*bytes*/) { return other(); }

  bool string(const std::string& text) {
    if (!counts()) {
      return other();
    }
    switch (field_) {
      case Field::op:
        if (text != "put" && text != "delete") {
          return fail(fmt::format(R"("op" is "{}"; it is "put" or "delete")", text));
        }
        op_ = text == "put" ? Operation::put : Operation::remove;
        return true;
      case Field::key:
        *key_ = text;
        return true;
      case Field::value:
        *value_ = text;
        return true;
      case Field::key_b64:
        return decode_base64(text, *key_) || fail("\"key_b64\" is not Base64");
      case Field::value_b64:
        return decode_base64(text, *value_) || fail("\"value_b64\" is not Base64");
      default:
        return other();
    }
  }

  bool key(const std::string& name) {
    if (depth_ != 1) {
      return true;
    }
    const auto* const found = std::ranges::find(kFieldNames, name);
    if (found == kFieldNames.end()) {
      return fail(fmt::format("unknown field \"{}\"; leave it out", name));
    }
    const auto index = static_cast<std::size_t>(found - kFieldNames.begin());
    if (seen_.test(index)) {
      return fail(fmt::format("field \"{}\" twice; leave one out", name));
    }
    seen_.set(index);
    field_ = static_cast<Field>(index);
    return true;
  }

  bool start_object(std::size_t /*size*/) { return enter(); }
  bool end_object() { return leave(); }
  bool start_array(std::size_t /*size*/) { return depth_ == 0 ? other() : enter(); }
  bool end_array() { return leave(); }

  bool parse_error(std::size_t /*byte*/, const std::string& /*token*/,
                   const nlohmann::json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error ...": the
    // line is ours to number.
    std::string_view text = error.what();
    if (const auto column = text.find("column "); column != std::string_view::npos) {
      text.remove_prefix(column);
    }
    return fail(fmt::format("not JSON at {}", text));
  }

 private:
  [[nodiscard]] bool has(Field field) const { return seen_.test(static_cast<std::size_t>(field)); }
  // Whether a value at this place is one of a record's own.
  [[nodiscard]] bool counts() const { return depth_ == 1 && field_ < Field::gap; }

  bool number(std::int64_t value) {
    if (!counts() || field_ != Field::expires_at_ms) {
      return other();
    }
    if (value > kTimeMsMax || value < -kTimeMsMax) {
      return fail(fmt::format("\"expires_at_ms\" is beyond {} milliseconds", kTimeMsMax));
    }
    expires_at_ = TimePoint(milliseconds(value));
    return true;
  }

  // A value of a kind that no field of a record takes.
  bool other() {
    if (depth_ == 0) {
      return fail("not a JSON object; a record is {\"op\":...}");
    }
    return !counts() || wrong_kind();
  }

  bool enter() {
    if (depth_ > 0 && counts() && !wrong_kind()) {
      return false;
    }
    ++depth_;
    return true;
  }
  bool leave() {
    --depth_;
    return true;
  }

  bool wrong_kind() {
    return fail(fmt::format("\"{}\" is no {}", kFieldNames[static_cast<std::size_t>(field_)],
                            field_ == Field::expires_at_ms ? "whole number" : "string"));
  }
  bool fail(std::string error) {
    error_ = std::move(error);
    return false;
  }

  std::string* key_;
  std::string* value_;
  std::bitset<kFieldNames.size()> seen_;
  Field field_ = Field::op;
  std::size_t depth_ = 0;
  Operation op_ = Operation::put;
  std::optional<TimePoint> expires_at_;
  std::string error_;
};

// --- writing

// Adds `bytes`; `escape` answers what stands for a byte, empty if it stands for itself.
template <typename Escape>
void append_escaped(std::string_view bytes, std::string& text, Escape escape) {
  std::size_t copied = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::string_view escaped = escape(static_cast<unsigned char>(bytes[i]));
    if (!escaped.empty()) [[unlikely]] {
      text.append(bytes, copied, i - copied);
      text += escaped;
      copied = i + 1;
    }
  }
  text.append(bytes, copied);
}

constexpr std::string_view tsv_escape(unsigned char byte) {
  switch (byte) {
    case '\t':
      return "\\t";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\\':
      return "\\\\";
    default:
      return {};
  }
}

// What stands for the bytes below 0x20.
constexpr std::array<std::string_view, 32> kControlEscapes = {
    "\\u0000", "\\u0001", "\\u0002", "\\u0003", "\\u0004", "\\u0005", "\\u0006", "\\u0007",
    "\\b",     "\\t",     "\\n",     "\\u000b", "\\f",     "\\r",     "\\u000e", "\\u000f",
    "\\u0010", "\\u0011", "\\u0012", "\\u0013", "\\u0014", "\\u0015", "\\u0016", "\\u0017",
    "\\u0018", "\\u0019", "\\u001a", "\\u001b", "\\u001c", "\\u001d", "\\u001e", "\\u001f"};

constexpr std::string_view json_escape(unsigned char byte) {
  if (byte < kControlEscapes.size()) {
    return kControlEscapes[byte];
  }
  return byte == '"' ? "\\\"" : byte == '\\' ? "\\\\" : "";
}

void append_json_string(std::string_view utf8, std::string& text) {
  text += '"';
  append_escaped(utf8, text, json_escape);
  text += '"';
}

// `,"name":"..."`, or `,"name_b64":"..."` for what is no text.
void append_json_bytes(std::string_view name, std::string_view bytes, std::string& text) {
  text += ",\"";
  text += name;
  if (is_utf8(bytes)) {
    text += "\":";
    append_json_string(bytes, text);
  } else {
    text += "_b64\":\"";
    append_base64(bytes, text);
    text += '"';
  }
}

std::int64_t to_ms(TimePoint time) {
  return std::chrono::floor<milliseconds>(time.time_since_epoch()).count();
}

}  // namespace

std::expected<std::optional<Record>, std::string> RecordParser::parse(std::string_view line) {
  switch (format_) {
    case TextFormat::tsv:
      return parse_tsv(line);
    case TextFormat::jsonl:
      return parse_jsonl(line);
    case TextFormat::lines:
      break;
  }
  return Record::put({}, line);
}

std::expected<std::optional<Record>, std::string> RecordParser::parse_tsv(std::string_view line) {
  const auto tab = line.find('\t');
  std::string_view key = line.substr(0, tab);
  std::string_view value = tab == std::string_view::npos ? "" : line.substr(tab + 1);
  if (value.find('\t') != std::string_view::npos) {
    return std::unexpected("a second tab; write a tab that belongs to the value as \\t");
  }
  std::string_view wrong_escape = unescape(key, key_);
  if (wrong_escape.empty()) {
    wrong_escape = unescape(value, value_);
  }
  if (!wrong_escape.empty()) {
    return std::unexpected(
        fmt::format("unknown escape \"{}\"; write a backslash as \\\\", wrong_escape));
  }
  return tab == std::string_view::npos ? Record::remove(key) : Record::put(key, value);
}

std::expected<std::optional<Record>, std::string> RecordParser::parse_jsonl(std::string_view line) {
  JsonRecord record(key_, value_);
  nlohmann::json::sax_parse(line.begin(), line.end(), &record);
  return record.take();
}

void print_tsv(const Entry& entry, std::string& text) {
  append_escaped(entry.key, text, tsv_escape);
  if (entry.op == Operation::put) {
    text += '\t';
    append_escaped(entry.value, text, tsv_escape);
  }
  text += '\n';
}

void print_jsonl(const Entry& entry, std::string& text) {
  const bool is_put = entry.op == Operation::put;
  fmt::format_to(std::back_inserter(text),
                 R"({{"sequence":{},"position":"{}:{}","time_ms":{},"op":"{}")", entry.sequence,
                 entry.position.segment_id, entry.position.offset, to_ms(entry.time),
                 is_put ? "put" : "delete");
  append_json_bytes("key", entry.key, text);
  if (is_put) {
    append_json_bytes("value", entry.value, text);
  }
  if (entry.expires_at) {
    fmt::format_to(std::back_inserter(text), ",\"expires_at_ms\":{}", to_ms(*entry.expires_at));
  }
  text += entry.ends_batch ? ",\"ends_batch\":true}\n" : ",\"ends_batch\":false}\n";
}

namespace {

// Of a line that is one of put, up to the end of what a record is.
void print_put(const StoreEntry& entry, std::string& text) {
  text += R"({"op":"put")";
  append_json_bytes("key", entry.key, text);
  append_json_bytes("value", entry.value, text);
  if (entry.expires_at) {
    fmt::format_to(std::back_inserter(text), ",\"expires_at_ms\":{}", to_ms(*entry.expires_at));
  }
}

}  // namespace

void print_tsv(const StoreEntry& entry, std::string& text) {
  append_escaped(entry.key, text, tsv_escape);
  text += '\t';
  append_escaped(entry.value, text, tsv_escape);
  text += '\n';
}

void print_jsonl(const StoreEntry& entry, std::string& text) {
  print_put(entry, text);
  text += "}\n";
}

void print_jsonl_with_version(const StoreEntry& entry, std::string& text) {
  print_put(entry, text);
  fmt::format_to(
      std::back_inserter(text), ",\"epoch\":{{\"number\":{},\"random\":{}}},\"sequence\":{}}}\n",
      entry.version.epoch.number(), entry.version.epoch.random(), entry.version.sequence);
}

void print_key(std::string_view key, std::string& text) { append_escaped(key, text, tsv_escape); }

void print_gap(const Gap& gap, std::string& text) {
  fmt::format_to(std::back_inserter(text), R"({{"gap":{{"from_sequence":{},"to_sequence":{})",
                 gap.from_sequence, gap.to_sequence ? fmt::to_string(*gap.to_sequence) : "null");
  append_json_bytes("reason", gap.reason, text);
  text += "}}\n";
}

bool is_utf8(std::string_view bytes) noexcept {
  const char* at = bytes.data();
  const char* const end = at + bytes.size();
  // Whether the byte at `index` exists and lies in [low, high].
  const auto within = [&at, end](std::ptrdiff_t index, unsigned low, unsigned high) {
    return end - at > index && static_cast<unsigned char>(at[index]) >= low &&
           static_cast<unsigned char>(at[index]) <= high;
  };
  while (at != end) {
    if (end - at >= 8) {
      std::uint64_t eight = 0;
      std::memcpy(&eight, at, sizeof(eight));
      if ((eight & 0x8080'8080'8080'8080U) == 0) {
        at += 8;
        continue;
      }
    }
    const unsigned lead = static_cast<unsigned char>(*at);
    if (lead < 0x80) {
      at += 1;
    } else if (lead >= 0xc2 && lead <= 0xdf) {
      if (!within(1, 0x80, 0xbf)) {
        return false;
      }
      at += 2;
    } else if (lead >= 0xe0 && lead <= 0xef) {
      // Neither what two bytes could say nor surrogates.
      if (!within(1, lead == 0xe0 ? 0xa0 : 0x80, lead == 0xed ? 0x9f : 0xbf) ||
          !within(2, 0x80, 0xbf)) {
        return false;
      }
      at += 3;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
      // Neither what three bytes could say nor beyond U+10FFFF.
      if (!within(1, lead == 0xf0 ? 0x90 : 0x80, lead == 0xf4 ? 0x8f : 0xbf) ||
          !within(2, 0x80, 0xbf) || !within(3, 0x80, 0xbf)) {
        return false;
      }
      at += 4;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace nori::cli
