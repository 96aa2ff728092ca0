// What programs may depend on beside their arguments: looked at before each call.
#pragma once
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/host_changes.h"

namespace tandem::graph {

/// How things of the host side are at a call, spelled in parts. When it differs from what a
/// program's last recording found, the function is recorded again and compared.
struct Watch {
  /// From `begin` to the next part's; its first `label` characters name it.
  struct Part {
    Subject subject;
    std::size_t begin, label;
  };
  std::string text;
  std::vector<Part> parts;

  /// What is appended to `text` from now on says how this is.
  void begin(Subject subject, std::initializer_list<std::string_view> label) {
    const std::size_t at = text.size();
    for (const std::string_view s : label) text += s;
    parts.push_back({subject, at, text.size() - at});
    text += '=';
  }
  void append(const Watch& other);
  bool operator==(const Watch& other) const { return text == other.text; }
};

/// Shared by the calls between which nothing changed. Null: nothing is watched.
using WatchPtr = std::shared_ptr<const Watch>;
const Watch& value_of(const WatchPtr& w);

/// What one has and the other has not, or otherwise.
std::vector<HostChange> changes(const Watch& was, const Watch& is);

/// What changed between the calls of one program without changing the program. What did so before
/// several recordings, is no toggle, and is not known to be read, is forgiven: a counter of the
/// steps, a list of losses. It may be read all the same, where nobody sees it: the function is
/// recorded again at the 1st, 2nd, 4th, 8th … call that is only good by forgiving, and after 128
/// calls without a recording.
/// Where the function now gives another program than the last time, of those it gave before, the
/// reasons may have changed back for that one: they are no harmless changes of it.
class HarmlessChanges {
 public:
  /// Whether the program is good without a recording, before call number `call` (asked once for
  /// each).
  bool cover(std::span<const HostChange> changes, std::uint64_t call);
  /// Whether something was forgiven so long ago that the program is due for a recording.
  bool is_due(std::uint64_t call) const { return unsure_ && call >= recorded_ + kMostCalls; }
  /// The function was recorded again before that call, after these changes, and the program was the
  /// same.
  void note(std::span<const HostChange> changes, std::uint64_t call);
  /// After these changes the program was another one. Which of them may be why: those that are
  /// known to be read, otherwise any.
  std::vector<HostChange> blame(std::span<const HostChange> changes);
  /// What was noted of these before counts no more.
  void suspect(std::span<const HostChange> changes);
  /// What recordings read: that it changes is never forgiven.
  void set_reads(std::vector<Subject> reads);
  /// What changed while the function was recorded. What does so two times running is its own doing,
  /// which replays do not repeat, and forgiven at once.
  void note_own(std::vector<Subject> changed);
  /// What is read, or may be, and has changed before many recordings, if anything new: each costs,
  /// and its owner may not know. Nothing is named twice.
  std::string take_costly();

 private:
  // What has no number goes by its name.
  using Key = std::pair<Subject, std::string>;
  static Key key_of(const HostChange& c) {
    return {c.subject, c.subject == 0 ? c.what : std::string()};
  }
  bool is_read(const HostChange& c) const;

  void tell_at(int times, const HostChange& c);

  std::map<Key, int> times_, blamed_;  // recordings after it changed
  std::set<Subject> reads_, forgiven_, own_;
  std::vector<Subject> changed_last_;
  static constexpr std::uint64_t kMostCalls = 128;
  std::uint64_t covered_ = 0, recorded_ = 0;
  bool unsure_ = false;  // something was forgiven since the last recording
  std::string costly_;
};

}  // namespace tandem::graph
