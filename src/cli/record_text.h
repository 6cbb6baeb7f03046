// Records as text, one a line: what `nori append` reads and `nori dump` writes (docs/tool.md#text).
//
//   tsv    key<TAB>value  put; \t \n \r \\ stand for tab, newline, carriage return, backslash
//          key            remove
//   jsonl  {"op":"put","key":"...","value":"...","expires_at_ms":...}
//          {"op":"delete","key":"..."}
//          key_b64 and value_b64 for bytes that are no UTF-8
//   lines  value          put, with an empty key
//
// All other bytes stand for themselves in tsv and lines, NUL included.

#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "nori/record.h"
#include "nori/store.h"
#include "nori/wal.h"

namespace nori::cli {

enum class TextFormat : std::uint8_t { tsv, jsonl, lines };

/// Takes lines for records.
class RecordParser {
 public:
  explicit RecordParser(TextFormat format) : format_(format) {}

  /// The record that `line` (without its newline) stands for, or why it is malformed and what to
  /// do. Nothing for a line that stands for none: a gap that `dump` marked. The record's views are
  /// into `line` or this parser, and valid until its next call.
  [[nodiscard]] std::expected<std::optional<Record>, std::string> parse(std::string_view line);

 private:
  std::expected<std::optional<Record>, std::string> parse_tsv(std::string_view line);
  std::expected<std::optional<Record>, std::string> parse_jsonl(std::string_view line);

  TextFormat format_;
  std::string key_;
  std::string value_;
};

/// Adds a record as a line of tsv, which cannot say when a record expires.
void print_tsv(const Entry& entry, std::string& text);

/// Adds a record as a line of jsonl.
void print_jsonl(const Entry& entry, std::string& text);

/// Adds what a store has of a key as a put in tsv, which cannot say when it expires.
void print_tsv(const StoreEntry& entry, std::string& text);
/// The same in jsonl.
void print_jsonl(const StoreEntry& entry, std::string& text);
/// In jsonl, and which record it is from, as `epoch` and `sequence`.
void print_jsonl_with_version(const StoreEntry& entry, std::string& text);
/// Adds a key alone, as in tsv, without a newline.
void print_key(std::string_view key, std::string& text);

/// Records that cannot be read: [from_sequence, to_sequence).
struct Gap {
  Sequence from_sequence = 0;
  /// Nothing if no record follows.
  std::optional<Sequence> to_sequence;
  std::string reason;
};

/// Adds a gap as a line of jsonl.
void print_gap(const Gap& gap, std::string& text);

/// Whether `bytes` are well-formed UTF-8 (RFC 3629).
[[nodiscard]] bool is_utf8(std::string_view bytes) noexcept;

}  // namespace nori::cli
