#include "core/plan_cache.h"

#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "core/backend.h"
#include "core/parallel.h"
#include "core/thread_state.h"

namespace tandem {
namespace detail {
namespace {

// A program with ever-changing shapes or scalars must not grow without bound, nor lose the plans it
// always needs (making some takes milliseconds). So there are two generations: entries that are
// asked for move to the young one, and when that is full it becomes the old one, whose entries are
// dropped. Programs in use hold on to the plans they need.
struct SharedTable {
  using Map = std::unordered_multimap<std::uint64_t, RefPtr<const PreparedOp>>;
  static constexpr std::size_t kMaxYoung = 1 << 14;

  template <class Same>
  static const PreparedOp* find(const Map& m, std::uint64_t hash, const Same& same) {
    for (auto [b, e] = m.equal_range(hash); b != e; ++b) {
      if (same(*b->second)) return b->second.get();
    }
    return nullptr;
  }
  void add(std::uint64_t hash, RefPtr<const PreparedOp> p) {
    if (young.size() >= kMaxYoung) {
      old = std::move(young);
      young.clear();
    }
    young.emplace(hash, std::move(p));
  }

  std::shared_mutex mutex;
  Map young, old;
  std::atomic<std::uint64_t> epoch{0}, misses{0};
};
SharedTable& shared() {
  static SharedTable* const t = new SharedTable;
  return *t;
}

std::uint64_t key_hash(const OpDef& op, std::span<const TensorDesc* const> in, AttrRef attrs) {
  std::uint64_t h =
      mix(op.id | static_cast<std::uint64_t>(num_threads()) << 16, thread_state.policy.key());
  for (const TensorDesc* d : in) {
    h = mix(h, static_cast<std::uint64_t>(d->dtype) | static_cast<std::uint64_t>(d->rank()) << 8 |
                   static_cast<std::uint64_t>(d->device.type) << 16 |
                   static_cast<std::uint64_t>(d->device.index) << 24);
    for (int i = 0; i < d->rank(); ++i) {
      h = mix(h, static_cast<std::uint64_t>(d->shape[i]) +
                     (static_cast<std::uint64_t>(d->strides[i]) << 32 |
                      static_cast<std::uint64_t>(d->strides[i]) >> 32));
    }
  }
  return attrs.data ? mix(h, attrs.type->hash(attrs.data)) : h;
}

bool matches(const PreparedOp& p, std::uint64_t hash, const OpDef& op,
             std::span<const TensorDesc* const> in, AttrRef attrs) {
  if (p.hash != hash || p.op != &op || p.in.size() != in.size()) return false;
  if (!(p.policy == thread_state.policy) || p.threads != num_threads()) return false;
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (!(p.in[i] == *in[i])) return false;
  }
  if (!attrs.data) return true;
  return attrs.type->equal(p.attrs.ref().data, attrs.data);
}

void check_devices(const OpDef& op, std::span<const TensorDesc* const> in) {
  for (const TensorDesc* d : in) {
    if (!(d->device == in[0]->device)) {
      fail<DeviceError>(op.name, "all tensors must be on one device",
                        in[0]->device.str() + " and " + d->device.str());
    }
  }
}

RefPtr<const PreparedOp> make(std::uint64_t hash, const OpDef& op,
                              std::span<const TensorDesc* const> in, AttrRef attrs) {
  check_devices(op, in);
  // A null AttrRef stands for a default-constructed NoAttrs.
  InferContext c(op, in, attrs.data);
  op.infer(c);
  auto p = make_ref<PreparedOp>();
  p->op = &op;
  p->attrs = AttrBox(attrs);
  p->policy = thread_state.policy;
  p->threads = num_threads();
  for (const TensorDesc* d : in) p->in.push_back(*d);
  p->out = std::move(c.outputs);
  for (const auto& d : p->out) {
    checked_numel(d.shape, op.name);
    p->out_bytes.push_back(d.bytes());
  }
  p->mutated = std::move(c.mutated);
  p->view_offset = c.view_offset;
  p->hash = hash;
  p->saves_inputs = op.saves ? op.saves(*p) : op.traits.saves_inputs;
  if (op.traits.kind != OpKind::view) {
    const Device device = in.empty() ? p->out.at(0).device : in[0]->device;
    const PlanFn plan = backend(device).kernel(op.id);
    if (!plan) fail<DeviceError>(op.name, "no kernel for this device", device.str());
    p->plan = plan({op, p->in, p->out, p->attrs.ref().data, p->policy});
  }
  return p;
}

}  // namespace

PlanCache& PlanCache::local() {
  static thread_local PlanCache c;
  return c;
}

const PreparedOp& PlanCache::get(const OpDef& op, std::span<const TensorDesc* const> in,
                                 AttrRef attrs) {
  const std::uint64_t h = key_hash(op, in, attrs);
  const std::size_t slot = (h ^ h >> 32) % kSlots;
  const PreparedOp* p = slots_[slot].get();
  if (p && matches(*p, h, op, in, attrs) &&
      epoch_ == shared().epoch.load(std::memory_order_relaxed)) [[likely]] {
    return *p;
  }
  return miss(slot, h, op, in, attrs);
}

const PreparedOp& PlanCache::miss(std::size_t slot, std::uint64_t hash, const OpDef& op,
                                  std::span<const TensorDesc* const> in, AttrRef attrs) {
  SharedTable& t = shared();
  if (const auto e = t.epoch.load(); e != epoch_) {
    for (auto& s : slots_) s = nullptr;
    epoch_ = e;
  }
  const auto same = [&](const PreparedOp& p) { return matches(p, hash, op, in, attrs); };
  RefPtr<const PreparedOp> made;
  {
    std::shared_lock lock(t.mutex);
    if (const PreparedOp* p = t.find(t.young, hash, same)) {
      slots_[slot] = RefPtr<const PreparedOp>(p);
      return *slots_[slot];
    }
    made = RefPtr<const PreparedOp>(t.find(t.old, hash, same));
  }
  // Planned outside the lock: it can take milliseconds. Two threads may plan the same thing; the
  // first to finish wins, and both use its plan.
  if (!made) {
    ++t.misses;
    made = make(hash, op, in, attrs);
  }
  std::unique_lock lock(t.mutex);
  if (const PreparedOp* p = t.find(t.young, hash, same)) {
    slots_[slot] = RefPtr<const PreparedOp>(p);
  } else {
    t.add(hash, made);
    slots_[slot] = std::move(made);
  }
  return *slots_[slot];
}

}  // namespace detail

namespace dispatch {

PlanCacheStats plan_cache_stats() {
  auto& t = detail::shared();
  std::shared_lock lock(t.mutex);
  return {t.young.size() + t.old.size(), t.misses};
}

void clear_plan_cache() {
  auto& t = detail::shared();
  std::unique_lock lock(t.mutex);
  t.young.clear();
  t.old.clear();
  ++t.epoch;
}

}  // namespace dispatch
}  // namespace tandem
