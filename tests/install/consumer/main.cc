// A program that knows nori only as an installed package: appends a record, reads it back.

#include <nori/wal.h>

#include <cstdio>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: consumer DIRECTORY\n", stderr);
    return 2;
  }
  auto opened = nori::Wal::open({.directory = argv[1]});
  if (!opened) {
    std::fprintf(stderr, "open: %s\n", opened.error().message.c_str());
    return 1;
  }
  auto& wal = opened->wal;
  if (const auto appended = wal.append(nori::Record::put("key", "value")); !appended) {
    std::fprintf(stderr, "append: %s\n", appended.error().message.c_str());
    return 1;
  }
  auto reader = wal.read_from(nori::begin_of_log);
  if (!reader) {
    std::fprintf(stderr, "read_from: %s\n", reader.error().message.c_str());
    return 1;
  }
  const auto entry = reader->next();
  if (!entry || !entry->has_value() || (*entry)->key != "key" || (*entry)->value != "value") {
    std::fputs("the record appended was not read back\n", stderr);
    return 1;
  }
  const auto closed = wal.close();
  return closed ? 0 : 1;
}
