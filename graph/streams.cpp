#include "graph/streams.h"

#include <algorithm>
#include <map>

namespace tandem::graph {

namespace {

// The address space cut into stretches that all steps so far have treated alike.
class Touched {
 public:
  void read(const MemoryRange& r, int step, std::vector<int>& after) {
    each(r, [&](Stretch& s) {
      if (s.writer >= 0) after.push_back(s.writer);
      s.readers.push_back(step);
    });
  }
  void write(const MemoryRange& r, int step, std::vector<int>& after) {
    each(r, [&](Stretch& s) {
      // Readers came after the writer, so they stand for it; a reader may be this step itself.
      if (s.readers.empty() && s.writer >= 0) after.push_back(s.writer);
      after.insert(after.end(), s.readers.begin(), s.readers.end());
      s.writer = step;
      s.readers.clear();
    });
  }

 private:
  struct Stretch {
    std::uintptr_t end;
    int writer = -1;           // the last one
    std::vector<int> readers;  // since then
  };
  using Map = std::map<std::uintptr_t, Stretch>;  // by first address, without overlap

  // Cuts the stretch around `at` in two, if there is one.
  void cut(std::uintptr_t at) {
    auto it = map_.upper_bound(at);
    if (it == map_.begin()) return;
    --it;
    if (it->first == at || it->second.end <= at) return;
    Stretch right = it->second;
    it->second.end = at;
    map_.emplace(at, std::move(right));
  }
  template <class F>
  void each(const MemoryRange& r, const F& f) {
    if (r.begin >= r.end) return;
    cut(r.begin);
    cut(r.end);
    std::uintptr_t at = r.begin;
    for (auto it = map_.lower_bound(r.begin); at < r.end; ++it) {
      const std::uintptr_t next = it == map_.end() ? r.end : std::min(it->first, r.end);
      if (at < next) it = map_.emplace(at, Stretch{next, -1, {}}).first;
      f(it->second);
      at = it->second.end;
    }
  }

  Map map_;
};

}  // namespace

std::vector<std::vector<int>> dependencies(std::span<const MemoryAccess> steps) {
  Touched memory;
  std::vector<std::vector<int>> result;
  for (const MemoryAccess& a : steps) {
    const int step = static_cast<int>(result.size());
    std::vector<int> after;
    for (const MemoryRange& r : a.reads) memory.read(r, step, after);
    for (const MemoryRange& r : a.writes) memory.write(r, step, after);
    std::sort(after.begin(), after.end());
    after.erase(std::unique(after.begin(), after.end()), after.end());
    if (!after.empty() && after.back() == step) after.pop_back();
    result.push_back(std::move(after));
  }
  return result;
}

StreamSchedule schedule_streams(std::span<const std::vector<int>> dependencies, int max_streams) {
  StreamSchedule out;
  out.streams = 0;
  std::vector<int> last;  // step of each stream
  // seen[i][s]: the latest step of stream s that step i comes after, itself included.
  std::vector<std::vector<int>> seen;
  for (std::size_t i = 0; i < dependencies.size(); ++i) {
    const std::vector<int>& after = dependencies[i];
    // Behind the latest dependency that is still the end of its stream; else wherever there is
    // room; else behind the stream that has been left alone for longest.
    int stream = -1;
    for (auto d = after.rbegin(); d != after.rend() && stream < 0; ++d) {
      const int s = out.steps[static_cast<std::size_t>(*d)].stream;
      if (last[static_cast<std::size_t>(s)] == *d) stream = s;
    }
    if (stream < 0 && out.streams < max_streams) {
      stream = out.streams++;
      last.push_back(-1);
    }
    if (stream < 0) {
      stream = static_cast<int>(std::min_element(last.begin(), last.end()) - last.begin());
    }
    StreamSchedule::Step step{.stream = stream, .waits = {}};
    std::vector<int> known(static_cast<std::size_t>(max_streams), -1);
    const auto learn = [&](int d) {
      for (std::size_t s = 0; s < known.size(); ++s) {
        known[s] = std::max(known[s], seen[static_cast<std::size_t>(d)][s]);
      }
    };
    int& end = last[static_cast<std::size_t>(stream)];
    if (end >= 0) learn(end);
    for (auto d = after.rbegin(); d != after.rend(); ++d) {  // later ones imply earlier ones
      StreamSchedule::Step& dependency = out.steps[static_cast<std::size_t>(*d)];
      if (known[static_cast<std::size_t>(dependency.stream)] >= *d) continue;
      step.waits.push_back(*d);
      dependency.signals = true;
      learn(*d);
    }
    end = static_cast<int>(i);
    known[static_cast<std::size_t>(stream)] = end;
    seen.push_back(std::move(known));
    out.steps.push_back(std::move(step));
  }
  out.streams = std::max(out.streams, 1);
  for (int s = 1; s < out.streams; ++s) {
    out.ends.push_back(last[static_cast<std::size_t>(s)]);
    out.steps[static_cast<std::size_t>(out.ends.back())].signals = true;
  }
  return out;
}

}  // namespace tandem::graph
