#include "graph/watch.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <utility>

namespace tandem::graph {
namespace {

constexpr int kTimesToForgive = 3;
constexpr int kTimesToTell = 16;

std::string_view label_of(const Watch& w, const Watch::Part& p) {
  return std::string_view(w.text).substr(p.begin, p.label);
}

std::string_view text_of(const Watch& w, std::size_t i) {
  const std::size_t end = i + 1 < w.parts.size() ? w.parts[i + 1].begin : w.text.size();
  return std::string_view(w.text).substr(w.parts[i].begin, end - w.parts[i].begin);
}

}  // namespace

void Watch::append(const Watch& other) {
  for (Part p : other.parts) {
    p.begin += text.size();
    parts.push_back(p);
  }
  text += other.text;
}

const Watch& value_of(const WatchPtr& w) {
  static const Watch nothing;
  return w ? *w : nothing;
}

std::vector<HostChange> changes(const Watch& was, const Watch& is) {
  std::vector<HostChange> found;
  const auto add = [&](const Watch& w, std::size_t i) {
    const Subject s = w.parts[i].subject;
    const auto known = [&](const HostChange& c) { return c.subject == s && s != 0; };
    if (std::none_of(found.begin(), found.end(), known)) {
      found.push_back({s, std::string(label_of(w, w.parts[i]))});
    }
  };
  const auto same_subject = [](const auto& a, const auto& b) { return a.subject == b.subject; };
  if (std::equal(was.parts.begin(), was.parts.end(), is.parts.begin(), is.parts.end(),
                 same_subject)) {
    for (std::size_t i = 0; i < is.parts.size(); ++i) {
      if (text_of(was, i) != text_of(is, i)) add(is, i);
    }
    return found;
  }
  // Attributes come and go. A subject may have several parts.
  std::multimap<Subject, std::string_view> before, now;
  for (std::size_t i = 0; i < was.parts.size(); ++i) {
    before.emplace(was.parts[i].subject, text_of(was, i));
  }
  for (std::size_t i = 0; i < is.parts.size(); ++i) {
    now.emplace(is.parts[i].subject, text_of(is, i));
  }
  const auto differs = [&](Subject s) {
    const auto [a, a_end] = before.equal_range(s);
    const auto [b, b_end] = now.equal_range(s);
    return !std::equal(a, a_end, b, b_end);
  };
  for (const Watch* w : {&was, &is}) {
    for (std::size_t i = 0; i < w->parts.size(); ++i) {
      if (differs(w->parts[i].subject)) add(*w, i);
    }
  }
  return found;
}

bool HarmlessChanges::cover(std::span<const HostChange> changes, std::uint64_t call) {
  bool forgiving = false;
  for (const HostChange& c : changes) {
    if (own_.contains(c.subject)) continue;
    if (is_read(c) || !forgiven_.contains(c.subject)) return false;
    forgiving = true;
  }
  if (!forgiving) return true;
  unsure_ = true;
  return !std::has_single_bit(++covered_) && !is_due(call);
}

void HarmlessChanges::note(std::span<const HostChange> changes, std::uint64_t call) {
  recorded_ = call;
  unsure_ = false;
  std::set<Key> seen;
  for (const HostChange& c : changes) {
    if (!seen.insert(key_of(c)).second) continue;
    const int n = ++times_[key_of(c)];
    if (is_read(c)) {
      tell_at(n, c);
    } else if (n >= kTimesToForgive) {
      forgiven_.insert(c.subject);
    }
  }
}

void HarmlessChanges::tell_at(int times, const HostChange& c) {
  if (times == kTimesToTell) costly_ += (costly_.empty() ? "" : ", ") + c.what;
}

std::vector<HostChange> HarmlessChanges::blame(std::span<const HostChange> changes) {
  std::vector<HostChange> found;
  std::ranges::copy_if(changes, std::back_inserter(found),
                       [&](const HostChange& c) { return is_read(c); });
  if (found.empty()) found.assign(changes.begin(), changes.end());
  for (const HostChange& c : found) tell_at(++blamed_[key_of(c)], c);
  return found;
}

void HarmlessChanges::suspect(std::span<const HostChange> changes) {
  covered_ = 0;
  for (const HostChange& c : changes) {
    times_.erase(key_of(c));
    forgiven_.erase(c.subject);
  }
}

// Or may be, by the tape or by code that nobody looks at.
bool HarmlessChanges::is_read(const HostChange& c) const {
  return c.subject == 0 || c.toggle || reads_.contains(c.subject);
}

void HarmlessChanges::set_reads(std::vector<Subject> reads) {
  reads_ = {reads.begin(), reads.end()};
}

void HarmlessChanges::note_own(std::vector<Subject> changed) {
  for (const Subject s : changed) {
    if (std::find(changed_last_.begin(), changed_last_.end(), s) != changed_last_.end()) {
      own_.insert(s);
    }
  }
  changed_last_ = std::move(changed);
}

std::string HarmlessChanges::take_costly() {
  return std::exchange(costly_, {});
}

}  // namespace tandem::graph
