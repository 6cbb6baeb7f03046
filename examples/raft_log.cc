// A follower's log in Raft: it takes a leader's entries, then another leader's, which supersede the
// end of the first one's; it votes, compacts, and is the same after it was opened again.

#include "raft_log.h"

#include <iostream>
#include <string>

namespace {

std::string text(const raft::RaftLog& log) {
  const auto entries = log.entries(log.first_index(), log.last_index() + 1).value();
  std::string text;
  for (const auto& entry : entries) {
    text += " " + std::to_string(entry.id.index) + "/" + std::to_string(entry.id.term) + ":" +
            entry.data;
  }
  return text;
}

bool run(const std::string& directory) {
  std::string before;
  {
    auto log = raft::RaftLog::open({.directory = directory}).value();
    const raft::Entry first[] = {
        {{1, 1}, "x=1"}, {{2, 1}, "x=2"}, {{3, 1}, "x=3"}, {{4, 1}, "x=4"}, {{5, 1}, "x=5"}};
    log.append(first).value();
    std::cout << "the leader of term 1 sent" << text(log) << '\n';

    log.save_vote({.term = 2, .candidate = 7}).value();
    const raft::Entry second[] = {{{3, 2}, "y=1"}, {{4, 2}, "y=2"}};
    log.append(second).value();
    std::cout << "with the leader of term 2 it is" << text(log) << '\n';

    log.compact_to({.index = 2, .term = 1}).value();
    before = text(log);
  }
  const auto log = raft::RaftLog::open({.directory = directory}).value();
  std::cout << "compacted to 2, and opened again, " << text(log) << "; it voted for "
            << log.vote().candidate << " in term " << log.vote().term << '\n';
  return before == " 3/2:y=1 4/2:y=2" && text(log) == before && log.term(2).value() == 1 &&
         log.vote() == raft::Vote{.term = 2, .candidate = 7};
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: raft_log DIRECTORY\n";
    return 2;
  }
  try {
    return run(arguments[1]) ? 0 : 1;
  } catch (const std::bad_expected_access<nori::Error>& failed) {
    std::cerr << failed.error().message << '\n';
    return 1;
  }
}
