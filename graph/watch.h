// What programs may depend on beside their arguments: looked at before each call.
#pragma once
#include <map>
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
  bool empty() const { return parts.empty(); }
  void append(const Watch& other);
  /// Forgets all but the first `n` parts.
  void keep(std::size_t n);
  bool operator==(const Watch& other) const { return text == other.text; }
};

/// What one has and the other has not, or otherwise.
std::vector<HostChange> changes(const Watch& was, const Watch& is);

/// What changed between the calls of one program without changing the program. What did so several
/// times, and is not known to be read, is forgiven: a counter of the steps, a list of losses.
class HarmlessChanges {
 public:
  /// Whether all of them are forgiven.
  bool cover(std::span<const HostChange> changes) const;
  /// The function was recorded again after these changes, and the program was the same.
  void note(std::span<const HostChange> changes);
  /// What recordings read: that it changes is never forgiven.
  void set_reads(std::vector<Subject> reads);
  /// What the function itself changes when it is recorded, and so at no replay: forgiven at once.
  void forgive(std::span<const Subject> own);
  /// What is read, or may be, and has changed often since the last time this was asked, if anything:
  /// each change costs a recording, and its owner may not know. Nothing is named twice.
  std::string take_costly();

 private:
  std::map<Subject, int> times_;  // recordings after it changed
  std::set<Subject> reads_, forgiven_;
  std::string costly_;
};

}  // namespace tandem::graph
