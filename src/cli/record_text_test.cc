#include "cli/record_text.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

namespace nori::cli {
namespace {

using std::chrono::milliseconds;

// A record as words: "put KEY=VALUE", "put KEY=VALUE until MS", "delete KEY", "nothing", or
// "malformed: WHY".
std::string parsed(TextFormat format, std::string_view line) {
  RecordParser parser(format);
  const auto record = parser.parse(line);
  if (!record) {
    return "malformed: " + record.error();
  }
  if (!*record) {
    return "nothing";
  }
  std::string text = (*record)->op == Operation::put ? "put " : "delete ";
  text += (*record)->key;
  if ((*record)->op == Operation::put) {
    text += '=';
    text += (*record)->value;
  }
  if ((*record)->expires_at) {
    text +=
        " until " +
        std::to_string(
            std::chrono::floor<milliseconds>((*record)->expires_at->time_since_epoch()).count());
  }
  return text;
}

std::string tsv(std::string_view line) { return parsed(TextFormat::tsv, line); }
std::string jsonl(std::string_view line) { return parsed(TextFormat::jsonl, line); }

bool is_malformed(const std::string& text) { return text.starts_with("malformed: "); }

Entry entry_of(const Record& record) {
  Entry entry;
  entry.op = record.op;
  entry.key = record.key;
  entry.value = record.value;
  entry.expires_at = record.expires_at;
  return entry;
}

std::string printed_tsv(const Record& record) {
  std::string text;
  print_tsv(entry_of(record), text);
  return text;
}
std::string printed_jsonl(const Record& record) {
  std::string text;
  print_jsonl(entry_of(record), text);
  return text;
}

TEST(TsvTest, AKeyAndAValueIsAPut) {
  EXPECT_EQ(tsv("key\tvalue"), "put key=value");
  EXPECT_EQ(tsv("key\t"), "put key=");
  EXPECT_EQ(tsv("\tvalue"), "put =value");
  EXPECT_EQ(tsv("\t"), "put =");
}

TEST(TsvTest, ALineWithoutATabIsATombstone) {
  EXPECT_EQ(tsv("key"), "delete key");
  EXPECT_EQ(tsv(""), "delete ");
}

TEST(TsvTest, EscapesStandForTheirBytes) {
  EXPECT_EQ(tsv(R"(a\tb	c\nx\re\\f)"), "put a\tb=c\nx\re\\f");
  EXPECT_EQ(tsv(R"(\\t)"), "delete \\t");
}

TEST(TsvTest, OtherBytesStandForThemselves) {
  EXPECT_EQ(tsv(std::string_view("a\0b\r\t\xff\r", 7)), std::string("put a\0b\r=\xff\r", 11));
}

TEST(TsvTest, AnUnknownEscapeIsMalformed) {
  EXPECT_TRUE(is_malformed(tsv(R"(a\0)")));
  EXPECT_TRUE(is_malformed(tsv(R"(a\)")));
  EXPECT_TRUE(is_malformed(tsv("a\\\tb")));
  EXPECT_TRUE(is_malformed(tsv("a\tb\\")));
  EXPECT_EQ(tsv("a\\q\tb"), "malformed: unknown escape \"\\q\"; write a backslash as \\\\");
}

TEST(TsvTest, ASecondTabIsMalformed) {
  EXPECT_TRUE(is_malformed(tsv("a\tb\tc")));
  EXPECT_TRUE(is_malformed(tsv("a\t\t")));
}

TEST(LinesTest, TheLineIsTheValue) {
  EXPECT_EQ(parsed(TextFormat::lines, "a\tb\\q"), "put =a\tb\\q");
  EXPECT_EQ(parsed(TextFormat::lines, ""), "put =");
}

TEST(JsonlTest, ReadsPutsAndDeletes) {
  EXPECT_EQ(jsonl(R"({"op":"put","key":"k","value":"v"})"), "put k=v");
  EXPECT_EQ(jsonl(R"( { "value" : "" , "key" : "" , "op" : "put" } )"), "put =");
  EXPECT_EQ(jsonl(R"({"op":"delete","key":"k"})"), "delete k");
  EXPECT_EQ(jsonl(R"({"op":"put","key":"k\u0000\n","value":"\u00e9"})"),
            std::string("put k\0\n=\xc3\xa9", 10));
}

TEST(JsonlTest, ReadsExpiries) {
  EXPECT_EQ(jsonl(R"({"op":"put","key":"k","value":"v","expires_at_ms":1767225600001})"),
            "put k=v until 1767225600001");
  EXPECT_EQ(jsonl(R"({"op":"put","key":"k","value":"v","expires_at_ms":-1})"), "put k=v until -1");
}

TEST(JsonlTest, ReadsBytesAsBase64) {
  EXPECT_EQ(jsonl(R"({"op":"put","key_b64":"/w==","value_b64":"AP8="})"),
            std::string("put \xff=\0\xff", 8));
  EXPECT_EQ(jsonl(R"({"op":"put","key_b64":"Zg==","value":"v"})"), "put f=v");
  EXPECT_EQ(jsonl(R"({"op":"delete","key_b64":""})"), "delete ");
}

TEST(JsonlTest, IgnoresWhatDumpSaysOfAPlace) {
  EXPECT_EQ(jsonl(R"({"sequence":7,"position":"0:4096","time_ms":1,"epoch":3,"op":"put",)"
                  R"("key":"k","value":"v","ends_batch":true})"),
            "put k=v");
  EXPECT_EQ(jsonl(R"({"op":"delete","key":"k","position":{"segment":[1,{"key":2}]},"epoch":null})"),
            "delete k");
}

TEST(JsonlTest, AGapIsNoRecord) {
  std::string text;
  print_gap({.from_sequence = 3, .to_sequence = 9, .reason = "a \"bad\" place"}, text);
  EXPECT_EQ(text, R"({"gap":{"from_sequence":3,"to_sequence":9,"reason":"a \"bad\" place"}})"
                  "\n");
  EXPECT_EQ(jsonl(text), "nothing");
  EXPECT_TRUE(is_malformed(jsonl(R"({"gap":{},"op":"delete","key":"k"})")));
}

TEST(JsonlTest, AGapWithoutAnEndHasNone) {
  std::string text;
  print_gap({.from_sequence = 3, .to_sequence = std::nullopt, .reason = ""}, text);
  EXPECT_EQ(text, "{\"gap\":{\"from_sequence\":3,\"to_sequence\":null,\"reason\":\"\"}}\n");
  EXPECT_EQ(jsonl(text), "nothing");
}

TEST(JsonlTest, RefusesWhatIsNoRecord) {
  for (const char* const line : {
           "",
           " ",
           "{}",
           "[]",
           "null",
           "1",
           "\"put\"",
           "{",
           R"({"op":"put","key":"k","value":"v"} x)",
           R"({"op":"put","key":"k","value":"v"}{})",
           R"({"key":"k","value":"v"})",
           R"({"op":"put","value":"v"})",
           R"({"op":"put","key":"k"})",
           R"({"op":"PUT","key":"k","value":"v"})",
           R"({"op":1,"key":"k","value":"v"})",
           R"({"op":"put","key":1,"value":"v"})",
           R"({"op":"put","key":"k","value":null})",
           R"({"op":"put","key":"k","value":["v"]})",
           R"({"op":"put","key":"k","value":{"v":1}})",
           R"({"op":"put","key":"k","value":"v","more":1})",
           R"({"op":"put","key":"k","key":"k","value":"v"})",
           R"({"op":"put","key":"k","key_b64":"","value":"v"})",
           R"({"op":"put","key":"k","value":"v","value_b64":""})",
           R"({"op":"put","key_b64":"?","value":"v"})",
           R"({"op":"put","key":"k","value_b64":"Zg"})",
           R"({"op":"put","key":"k","value":"v","expires_at_ms":"1"})",
           R"({"op":"put","key":"k","value":"v","expires_at_ms":1.5})",
           R"({"op":"put","key":"k","value":"v","expires_at_ms":9223372036855})",
           R"({"op":"put","key":"k","value":"v","expires_at_ms":18446744073709551615})",
           R"({"op":"put","key":"k","value":"v","expires_at_ms":99999999999999999999})",
           R"({"op":"delete","key":"k","value":"v"})",
           R"({"op":"delete","key":"k","expires_at_ms":1})",
           "{\"op\":\"put\",\"key\":\"\xff\",\"value\":\"\"}",
           R"({"op":"put","key":"\ud800","value":""})",
       }) {
    EXPECT_TRUE(is_malformed(jsonl(line))) << line << " is " << jsonl(line);
  }
}

TEST(JsonlTest, SaysWhereJsonEnds) {
  const std::string why = jsonl(R"({"op":nil})");
  EXPECT_TRUE(why.starts_with("malformed: not JSON at column 8: syntax error")) << why;
}

TEST(JsonlTest, PrintsEveryField) {
  Entry entry = entry_of(Record::put("k", "v", TimePoint(milliseconds(1767225600001))));
  entry.sequence = 7;
  entry.position = {.segment_id = 3, .offset = 4096, .sequence = 7};
  entry.time = TimePoint(milliseconds(1767225599999));
  entry.ends_batch = true;
  std::string text;
  print_jsonl(entry, text);
  EXPECT_EQ(text,
            R"({"sequence":7,"position":"3:4096","time_ms":1767225599999,"op":"put","key":"k",)"
            R"("value":"v","expires_at_ms":1767225600001,"ends_batch":true})"
            "\n");
  EXPECT_EQ(printed_jsonl(Record::remove("k")),
            R"({"sequence":0,"position":"0:0","time_ms":0,"op":"delete","key":"k",)"
            R"("ends_batch":false})"
            "\n");
}

TEST(JsonlTest, PrintsBytesThatAreNoTextAsBase64) {
  const std::string text = printed_jsonl(Record::put("caf\xc3\xa9", "\xff"));
  EXPECT_NE(text.find("\"key\":\"caf\xc3\xa9\",\"value_b64\":\"/w==\""), std::string::npos) << text;
}

// Goal: what is printed is read back as the same record.
// Method: keys and values of every length up to 12, made of the bytes that count, in both formats.
TEST(RecordTextTest, PrintedRecordsAreReadBack) {
  constexpr std::string_view kBytes("\t\n\r\\\"\0\x1f/aé\x80\xff \x7f", 15);
  std::minstd_rand random(7);
  const auto any_text = [&random, kBytes] {
    std::string text;
    for (auto count = random() % 13; count > 0; --count) {
      text += kBytes[random() % kBytes.size()];
    }
    return text;
  };
  for (int round = 0; round < 20'000; ++round) {
    const std::string key = any_text();
    const std::string value = any_text();
    const Record record = round % 5 == 0 ? Record::remove(key) : Record::put(key, value);
    for (const auto format : {TextFormat::tsv, TextFormat::jsonl}) {
      std::string line = format == TextFormat::tsv ? printed_tsv(record) : printed_jsonl(record);
      ASSERT_TRUE(line.ends_with('\n'));
      line.pop_back();
      ASSERT_EQ(line.find('\n'), std::string::npos);
      RecordParser parser(format);
      const auto read = parser.parse(line);
      ASSERT_TRUE(read) << line << ": " << read.error();
      ASSERT_TRUE(*read) << line;
      EXPECT_EQ((*read)->op, record.op) << line;
      EXPECT_EQ((*read)->key, record.key) << line;
      EXPECT_EQ((*read)->value, record.value) << line;
    }
  }
}

// Goal: dump never prints a string that append's JSON parser refuses.
// Method: every string of one, two and three bytes, and four-byte ones around the limits, judged
// by both.
TEST(Utf8Test, AgreesWithTheJsonParser) {
  const auto agree = [](const std::string& bytes) {
    const bool accepted = nlohmann::json::accept("\"" + bytes + "\"");
    return is_utf8(bytes) == accepted;
  };
  std::vector<char> edges;
  for (const int byte : {0x20, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf,
                         0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff}) {
    edges.push_back(static_cast<char>(byte));
  }
  for (int first = 0x80; first < 256; ++first) {
    const std::string one(1, static_cast<char>(first));
    EXPECT_TRUE(agree(one)) << first;
    for (int second = 0x20; second < 256; ++second) {
      if (second == '"' || second == '\\') {
        continue;
      }
      const std::string two = one + static_cast<char>(second);
      ASSERT_TRUE(agree(two)) << first << ' ' << second;
      for (const char third : edges) {
        ASSERT_TRUE(agree(two + third)) << first << ' ' << second;
        ASSERT_TRUE(agree(two + third + '\x80')) << first << ' ' << second;
      }
    }
  }
  EXPECT_TRUE(is_utf8(""));
  EXPECT_TRUE(is_utf8("plain text, longer than eight bytes, then \xf0\x9f\x90\x9f"));
  EXPECT_FALSE(is_utf8("plain text, longer than eight bytes, then \xf0\x9f\x90"));
}

// --- what a store has

TEST(StoreTextTest, IsReadAsItWasPrinted) {
  const StoreEntry entry{.key = "a\tkey",
                         .value = "\xff",
                         .version = {.epoch = {(3ULL << 40) + 7}, .sequence = 9},
                         .expires_at = TimePoint(milliseconds(1500))};
  std::string text;
  print_tsv(entry, text);
  EXPECT_EQ(text, "a\\tkey\t\xff\n");
  text.clear();
  print_key(entry.key, text);
  EXPECT_EQ(text, "a\\tkey");
  text.clear();
  print_jsonl(entry, text);
  EXPECT_EQ(text, R"({"op":"put","key":"a\tkey","value_b64":"/w==","expires_at_ms":1500})"
                  "\n");
  text.pop_back();
  EXPECT_EQ(parsed(TextFormat::jsonl, text), "put a\tkey=\xff until 1500");
  text.clear();
  print_jsonl_with_version(entry, text);
  EXPECT_TRUE(text.ends_with(
      "\"expires_at_ms\":1500,\"epoch\":{\"number\":3,\"random\":7},\"sequence\":9}\n"))
      << text;
  text.pop_back();
  EXPECT_EQ(parsed(TextFormat::jsonl, text), "put a\tkey=\xff until 1500");
}

}  // namespace
}  // namespace nori::cli
