#include "core/storage.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <vector>

#include "core/backend.h"
#include "core/trace_guard.h"

namespace tandem {

// Memory that others know of, too, can come in several times: as two views of one array, or back
// again after it was shown to somebody. Storages whose bytes overlap make up a region, which has
// one log of writes for all of them.
struct Storage::Region {
  std::uintptr_t begin, end;
  WriteLog log;
  std::vector<Storage*> members;
  // Regions that became part of this one: somebody may be looking at their logs.
  std::vector<std::shared_ptr<Region>> absorbed;

  // By begin; no two overlap. Never destroyed: storages of static tensors end after main().
  static std::map<std::uintptr_t, std::shared_ptr<Region>>& all() {
    static auto* regions = new std::map<std::uintptr_t, std::shared_ptr<Region>>;
    return *regions;
  }
  static std::mutex& mutex() {
    static auto* m = new std::mutex;
    return *m;
  }

  static void add(Storage& s) {
    if (s.bytes_ == 0) return;
    const std::lock_guard lock(mutex());
    if (s.region_) return;
    const auto begin = reinterpret_cast<std::uintptr_t>(s.data_);
    auto region = std::make_shared<Region>(begin, begin + s.bytes_, *s.log_);
    region->members = {&s};
    auto& regions = all();
    auto it = regions.upper_bound(begin);
    if (it != regions.begin() && std::prev(it)->second->end > begin) --it;
    for (; it != regions.end() && it->first < begin + s.bytes_; it = regions.erase(it)) {
      if (region->absorbed.empty()) region->log = it->second->log;
      region->absorb(it->second);
    }
    regions.emplace(region->begin, region);
    for (Storage* m : region->members) {
      m->region_ = region;
      m->log_ = &region->log;
    }
  }
  static void remove(Storage& s) {
    const std::lock_guard lock(mutex());
    std::erase(s.region_->members, &s);
    if (s.region_->members.empty()) all().erase(s.region_->begin);
  }

 private:
  void absorb(const std::shared_ptr<Region>& o) {
    begin = std::min(begin, o->begin);
    end = std::max(end, o->end);
    members.insert(members.end(), o->members.begin(), o->members.end());
    absorbed.push_back(o);
  }
};

RefPtr<Storage> Storage::allocate(std::size_t bytes, Device device) {
  Allocator& a = device.is_cpu() ? cpu_allocator() : backend(device).allocator(device.index);
  return RefPtr<Storage>(new Storage(a.allocate(bytes), bytes, device, &a));
}

RefPtr<Storage> Storage::borrow(void* data, std::size_t bytes, Device device,
                                RefPtr<RefCounted> owner) {
  RefPtr<Storage> s(new Storage(data, bytes, device, nullptr));
  s->owner_ = std::move(owner);
  return s;
}

RefPtr<Storage> Storage::import(void* data, std::size_t bytes, Device device,
                                RefPtr<RefCounted> owner) {
  RefPtr<Storage> s = borrow(data, bytes, device, std::move(owner));
  s->imported_by_capture_ = trace_guards() != nullptr;
  s->share();
  return s;
}

bool Storage::is_dropped() const {
  if (!only_pinned()) return false;
  if (!imported_by_capture_) return true;
  const auto* owner = dynamic_cast<const MemoryOwner*>(owner_.get());
  return !owner || owner->is_forgotten();
}

void Storage::share() {
  if (!symbolic_) Region::add(*this);
}

RefPtr<Storage> Storage::symbolic(std::size_t bytes, Device device, RefPtr<RefCounted> trace,
                                  RefPtr<Storage> stands_for) {
  RefPtr<Storage> s(new Storage(nullptr, bytes, device, nullptr));
  s->owner_ = std::move(trace);
  s->symbolic_ = true;
  s->stands_for_ = std::move(stands_for);
  return s;
}

Storage::~Storage() {
  if (log_ != &own_log_) Region::remove(*this);
  if (allocator_) allocator_->deallocate(data_, bytes_);
}

}  // namespace tandem
