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

struct SharedTable {
  std::shared_mutex mutex;
  std::unordered_multimap<std::uint64_t, RefPtr<const PreparedOp>> map;
  std::atomic<std::uint64_t> epoch{0}, misses{0};
  // A program with ever-changing shapes must not grow without bound. Starting over is simple, and
  // programs in use hold on to the plans they need.
  static constexpr std::size_t kMaxEntries = 1 << 16;
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
  {
    std::shared_lock lock(t.mutex);
    auto [b, e] = t.map.equal_range(hash);
    for (; b != e; ++b) {
      if (matches(*b->second, hash, op, in, attrs)) {
        slots_[slot] = b->second;
        return *slots_[slot];
      }
    }
  }
  ++t.misses;
  // Planned outside the lock: it can take milliseconds. Two threads may plan the same thing; the
  // first to finish wins, and both use its plan.
  RefPtr<const PreparedOp> made = make(hash, op, in, attrs);
  std::unique_lock lock(t.mutex);
  if (t.map.size() >= SharedTable::kMaxEntries) t.map.clear();
  auto [b, e] = t.map.equal_range(hash);
  for (; b != e; ++b) {
    if (matches(*b->second, hash, op, in, attrs)) break;
  }
  if (b == e) b = t.map.emplace(hash, std::move(made));
  slots_[slot] = b->second;
  return *slots_[slot];
}

}  // namespace detail

namespace dispatch {

PlanCacheStats plan_cache_stats() {
  auto& t = detail::shared();
  std::shared_lock lock(t.mutex);
  return {t.map.size(), t.misses};
}

void clear_plan_cache() {
  auto& t = detail::shared();
  std::unique_lock lock(t.mutex);
  t.map.clear();
  ++t.epoch;
}

}  // namespace dispatch
}  // namespace tandem
