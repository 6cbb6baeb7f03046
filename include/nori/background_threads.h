// Threads for what logs do in the background, shared by many logs of a process.
//
//   const auto threads = std::make_shared<nori::BackgroundThreads>(2);
//   for (...) {
//     auto opened = nori::Wal::open({.directory = ..., .background = threads});

#pragma once

#include <memory>

namespace nori {

class BackgroundTask;

/// They write behind, keep space ready and keep the window of FsyncPolicy::batch, for every log
/// opened with them as WalOptions::background. They sleep while no log has anything to do.
///
/// A flush occupies a thread for as long as the disk takes. With fewer threads than logs that have
/// something to flush at a time, these wait for each other: a batch window is then exceeded by what
/// the flushes of the others take.
///
/// Threads: any. Lifetime: logs keep what they were opened with; the threads end with the last that
/// refers to them. In the child of a fork they do not run.
class BackgroundThreads {
 public:
  /// `count`: 1 to 64, else the nearer of the two. Throws std::system_error where the system has no
  /// thread to give.
  explicit BackgroundThreads(unsigned count);
  ~BackgroundThreads();
  BackgroundThreads(const BackgroundThreads&) = delete;
  BackgroundThreads& operator=(const BackgroundThreads&) = delete;

 private:
  friend class BackgroundTask;
  class Pool;
  std::shared_ptr<Pool> pool_;
};

}  // namespace nori
