#include <nori/wal.h>

#include <iostream>

static int failed(const nori::Error& error) {
  std::cerr << error.message << '\n';
  return 1;
}

int main(int, char** arguments) {
  auto opened = nori::Wal::open({.directory = arguments[1]});  // makes it, or recovers it
  if (!opened) return failed(opened.error());
  nori::Wal& wal = opened->wal;

  auto appended = wal.append(nori::Record::put("user:7", "Ada"));  // survives a killed process
  if (!appended) return failed(appended.error());
  if (auto synced = wal.sync(); !synced) return failed(synced.error());  // and a power cut

  auto reader = wal.read_from(appended->position);  // or nori::begin_of_log, a sequence, a time
  if (!reader) return failed(reader.error());
  for (const auto& entry : *reader) {
    if (!entry) return failed(entry.error());
    std::cout << entry->sequence << ": " << entry->key << " = " << entry->value << '\n';
  }
}
