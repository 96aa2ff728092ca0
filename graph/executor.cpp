#include "graph/executor.h"

#include <algorithm>
#include <unordered_map>

#include "core/backend.h"
#include "core/grad_meta.h"
#include "core/profiler.h"

namespace tandem::graph {

using Kind = Buffers::Kind;

Executor::Executor(Program program, const ExecutorOptions& options)
    : program_(std::move(program)), options_(options) {
  build();
}

// What its memory is given to next comes after the last run, also if that was in another stream.
Executor::~Executor() {
  if (!ran_in_) return;
  Stream& stream = backend(device_).stream(device_.index);
  if (&stream == ran_in_) return;
  try {
    ran_->block(stream);
  } catch (...) {
    // The stream is being recorded, which this has ended: whoever records it is told.
  }
}

std::string Executor::no_device_graph() const {
  const std::lock_guard lock(mutex_);
  if (!recorder_->usable()) return recorder_->why_not();
  if (!options_.memory_plan) return "needs the memory plan";
  return options_.device_graph ? "" : "switched off";
}

// storages_: [arguments | gradient reads | states | dynamic buffers]. Temporaries in the arena
// are addressed directly and have no storage of their own.
void Executor::build() {
  const Program& p = program_;
  const Buffers b = buffers_of(p, true);
  const std::size_t nv = p.values.size();
  const auto root = [&](ValueId v) {
    return static_cast<std::size_t>(b.root[static_cast<std::size_t>(v)]);
  };

  // When is each buffer in use? Steps count launches; views launch nothing.
  std::vector<int> first(nv, -1), last(nv, -1);
  int step = 0;
  std::vector<int> step_of(p.nodes.size(), -1);
  for (std::size_t n = 0; n < p.nodes.size(); ++n) {
    const Node& node = p.nodes[n];
    if (node.op().traits.kind == OpKind::view) continue;
    step_of[n] = step;
    const auto touch = [&](ValueId v) {
      if (first[root(v)] < 0) first[root(v)] = step;
      last[root(v)] = step;
    };
    for (ValueId v : node.inputs) touch(v);
    for (ValueId v : node.outputs) touch(v);
    ++step;
  }
  const int steps = step;

  // Give every root an address: fixed, in the arena, or moving.
  struct Place {
    bool moving = false;
    std::size_t index = 0;  // of the moving buffer
    char* base = nullptr;
    std::int64_t arena_item = -1;
    std::size_t storage = SIZE_MAX;
  };
  std::vector<Place> place(nv);
  std::vector<Lifetime> lifetimes;
  const auto make_moving = [&](std::size_t r) {
    place[r].moving = true;
    place[r].index = moving_.size();
    moving_.emplace_back();
    return place[r].index;
  };
  for (ValueId v : p.inputs) {
    place[root(v)].storage = input_moving_.size();
    input_moving_.push_back(make_moving(root(v)));
  }
  for (const auto& g : p.grad_reads) {
    place[root(g.value)].storage = input_moving_.size() + grad_read_moving_.size();
    grad_read_moving_.push_back(make_moving(root(g.value)));
  }
  storages_.resize(input_moving_.size() + grad_read_moving_.size());
  for (const auto& s : p.states) {
    Place& x = place[root(s.value)];
    x.base = static_cast<char*>(s.storage->data()) + s.offset;
    x.storage = storages_.size();
    storages_.push_back(RefPtr<Storage>());  // filled on demand: see make_result
  }
  std::unordered_map<std::size_t, Storage*> state_storage;
  for (const auto& s : p.states) state_storage[place[root(s.value)].storage] = s.storage.get();
  for (const auto& c : p.constants) {
    place[root(c.value)].base = static_cast<char*>(c.tensor.raw_data());
  }
  device_ = kCPU;
  for (const Node& n : p.nodes) {
    if (!n.call->out.empty()) device_ = n.call->out[0].device;
  }
  for (std::size_t v = 0; v < nv; ++v) {
    if (root(static_cast<ValueId>(v)) != v || first[v] < 0) continue;
    if (b.kind[v] != Kind::temporary && b.kind[v] != Kind::output) continue;
    const std::size_t bytes = p.values[v].desc.bytes();
    const bool result = b.kind[v] == Kind::output;
    if (result || !options_.memory_plan) {
      const std::size_t m = make_moving(v);
      place[v].storage = storages_.size();
      dynamic_.push_back({m, bytes, first[v], result ? steps : last[v], result});
      storages_.emplace_back();
    } else {
      place[v].arena_item = static_cast<std::int64_t>(lifetimes.size());
      lifetimes.push_back({bytes, first[v], last[v]});
    }
  }
  // Workspaces live for one step.
  std::vector<std::int64_t> workspace_item(p.nodes.size(), -1);
  std::vector<std::size_t> workspace_moving(p.nodes.size(), SIZE_MAX);
  for (std::size_t n = 0; n < p.nodes.size(); ++n) {
    if (step_of[n] < 0) continue;
    const std::size_t bytes = p.nodes[n].call->plan->workspace_bytes;
    if (bytes == 0) continue;
    if (options_.memory_plan) {
      workspace_item[n] = static_cast<std::int64_t>(lifetimes.size());
      lifetimes.push_back({bytes, step_of[n], step_of[n]});
    } else {
      workspace_moving[n] = moving_.size();
      dynamic_.push_back({moving_.size(), bytes, step_of[n], step_of[n], false});
      moving_.emplace_back();
      storages_.emplace_back();
    }
  }
  plan_ = plan_memory(lifetimes, kAlignment);
  if (plan_.arena > 0) arena_ = Storage::allocate(plan_.arena, device_);
  const auto in_arena = [&](std::int64_t item) {
    return static_cast<char*>(arena_->data()) + plan_.offset[static_cast<std::size_t>(item)];
  };

  // The launches, with pointers where they are known and patches where they move.
  const auto push = [&](ValueId v) {
    const Place& x = place[root(v)];
    const std::int64_t off = b.offset[static_cast<std::size_t>(v)];
    if (x.moving) {
      moving_[x.index].patches.push_back({pointers_.size(), off});
      pointers_.push_back(nullptr);
    } else if (x.arena_item >= 0) {
      pointers_.push_back(p.values[root(v)].desc.bytes() ? in_arena(x.arena_item) + off : nullptr);
    } else {
      pointers_.push_back(x.base + off);
    }
  };
  for (std::size_t n = 0; n < p.nodes.size(); ++n) {
    if (step_of[n] < 0) continue;
    const Node& node = p.nodes[n];
    Step s{node.call.get(), pointers_.size(), 0, &node};
    for (ValueId v : node.inputs) push(v);
    s.out = pointers_.size();
    for (std::size_t i = 0; i < node.call->out.size(); ++i) push(node.outputs[i]);
    // The workspace's place comes after the outputs.
    if (workspace_item[n] >= 0) {
      pointers_.push_back(in_arena(workspace_item[n]));
    } else if (workspace_moving[n] != SIZE_MAX) {
      moving_[workspace_moving[n]].patches.push_back({pointers_.size(), 0});
      pointers_.push_back(nullptr);
    } else {
      pointers_.push_back(nullptr);
    }
    steps_.push_back(s);
  }
  std::vector<RecordedStep> recorded;
  for (const Step& s : steps_) recorded.push_back({s.call, s.in, s.out});
  recorder_ = std::make_unique<LaunchRecorder>(device_, std::move(recorded));
  record_ = options_.device_graph && options_.memory_plan && recorder_->usable();
  for (Dynamic& d : dynamic_) {
    if (record_ && d.result && d.bytes > 0) {
      d.blocks = std::make_shared<BlockPool>(device_, d.bytes, kMostBlocks);
    }
  }
  if (!device_.is_cpu()) ran_ = backend(device_).make_event(device_.index);
  start_.resize(static_cast<std::size_t>(steps) + 1);
  stop_.resize(static_cast<std::size_t>(steps) + 1);
  for (std::size_t d = 0; d < dynamic_.size(); ++d) {
    if (dynamic_[d].result) continue;  // taken before the first step
    start_[static_cast<std::size_t>(dynamic_[d].first)].push_back(d);
    stop_[static_cast<std::size_t>(dynamic_[d].last)].push_back(d);
  }

  const auto result = [&](ValueId v) {
    const auto r = root(v);
    if (place[r].storage == SIZE_MAX) {
      fail<InternalError>("executor", "a result lives in memory that will be used again");
    }
    const bool is_state = state_storage.contains(place[r].storage);
    std::int64_t off = b.offset[static_cast<std::size_t>(v)];
    if (is_state) {
      off += place[r].base - static_cast<char*>(state_storage[place[r].storage]->data());
      storages_[place[r].storage] = nullptr;
    }
    return Result{p.values[static_cast<std::size_t>(v)].desc, place[r].storage, off};
  };
  for (ValueId v : p.outputs) results_.push_back(result(v));
  for (const auto& w : p.grad_writes) {
    grad_results_.push_back(w.value >= 0 ? result(w.value) : Result{{}, SIZE_MAX, 0});
  }

  for (std::size_t i = 0; i < p.grad_writes.size(); ++i) {
    const auto same_leaf = [&](const GradRead& r) {
      return r.leaf.get() == p.grad_writes[i].leaf.get();
    };
    if (std::none_of(p.grad_reads.begin(), p.grad_reads.end(), same_leaf)) {
      unread_slots_.push_back(i);
    }
  }

  // Who was written last, so that the tape can name the place.
  for (std::size_t n = 0; n < p.nodes.size(); ++n) {
    const Node& node = p.nodes[n];
    std::vector<ValueId> targets;
    if (node.inplace) targets.push_back(node.inputs[0]);
    for (int m : node.call->mutated) targets.push_back(node.inputs[static_cast<std::size_t>(m)]);
    for (ValueId t : targets) {
      const std::size_t s = place[root(t)].storage;
      if (auto it = state_storage.find(s); it != state_storage.end()) {
        written_states_.emplace_back(it->second, static_cast<std::int32_t>(n));
      }
      for (std::size_t i = 0; i < input_moving_.size() + grad_read_moving_.size(); ++i) {
        if (s == i &&
            std::find(written_inputs_.begin(), written_inputs_.end(), i) == written_inputs_.end()) {
          written_inputs_.push_back(i);
        }
      }
    }
  }
}

void Executor::bind(std::size_t moving, void* address) {
  Moving& m = moving_[moving];
  if (m.address == address) return;
  m.address = address;
  for (const Patch& x : m.patches) pointers_[x.at] = static_cast<char*>(address) + x.offset;
}

Tensor Executor::make_result(const Result& r, std::span<const RefPtr<Storage>> storages) const {
  RefPtr<Storage> s = storages[r.storage];
  if (!s) {  // a state: its storage belongs to the program
    const std::size_t first_state = input_moving_.size() + grad_read_moving_.size();
    s = RefPtr<Storage>(program_.states[r.storage - first_state].storage.get());
  }
  std::int64_t offset = r.offset;
  if (r.storage < input_moving_.size() + grad_read_moving_.size()) {
    // An argument may itself be a view into its storage.
    const std::size_t m = r.storage < input_moving_.size()
                              ? input_moving_[r.storage]
                              : grad_read_moving_[r.storage - input_moving_.size()];
    offset += static_cast<char*>(moving_[m].address) - static_cast<char*>(s->data());
  }
  return Tensor(RefPtr<TensorImpl>(new TensorImpl(std::move(s), r.desc, offset)));
}

void Executor::run(std::span<const Tensor* const> args, std::span<Tensor> results) {
  const std::lock_guard lock(mutex_);
  run_locked(args, results, nullptr);
}

std::vector<Tensor> Executor::run(std::span<const Tensor* const> args) {
  std::vector<Tensor> results(num_results());
  run(args, results);
  return results;
}

std::vector<Tensor> Executor::run_observed(std::span<const Tensor* const> args,
                                           const Observer& observe) {
  const std::lock_guard lock(mutex_);
  std::vector<Tensor> results(num_results());
  run_locked(args, results, &observe);
  return results;
}

void Executor::run_locked(std::span<const Tensor* const> args, std::span<Tensor> results,
                          const Observer* observe) {
  // The run's own references, dropped again however it ends.
  struct Drop {
    std::vector<RefPtr<Storage>>& s;
    ~Drop() {
      for (auto& x : s) x = nullptr;
    }
  } drop{storages_};

  for (std::size_t i = 0; i < args.size(); ++i) {
    bind(input_moving_[i], args[i]->raw_data());
    storages_[i] = args[i]->impl()->storage;
  }
  for (std::size_t i = 0; i < grad_read_moving_.size(); ++i) {
    const Tensor g = static_cast<GradMeta*>(program_.grad_reads[i].leaf->grad_meta.get())->grad;
    bind(grad_read_moving_[i], g.raw_data());
    storages_[input_moving_.size() + i] = g.impl()->storage;
  }
  // Old gradients that nobody reads make room for the new ones.
  for (std::size_t i : unread_slots_) {
    static_cast<GradMeta*>(program_.grad_writes[i].leaf->grad_meta.get())->grad = Tensor();
  }
  const std::size_t first_dynamic =
      input_moving_.size() + grad_read_moving_.size() + program_.states.size();
  for (std::size_t d = 0; d < dynamic_.size(); ++d) {
    if (dynamic_[d].result) take(first_dynamic, d);
  }

  // A run that a kernel ends early (a label out of range) may have written something already.
  struct NoteWrites {
    const Executor& x;
    ~NoteWrites() {
      for (const auto& [storage, n] : x.written_states_) {
        const Node& node = x.program_.nodes[static_cast<std::size_t>(n)];
        storage->bump_version(node.op().name, node.source.loc);
      }
      for (std::size_t i : x.written_inputs_) {
        x.storages_[i]->bump_version("compiled program", SrcLoc());
      }
    }
  } note_writes{*this};

  Stream& stream = backend(device_).stream(device_.index);
  if (ran_in_ && ran_in_ != &stream) ran_->block(stream);
  // The first run is plain: what is made ready on first use cannot be while recording.
  if (record_ && !observe && runs_++ > 0) {
    key_.clear();
    for (const Moving& m : moving_) key_.push_back(m.address);
    record_ = recorder_->run(pointers_, key_, stream);
    if (!record_) launch_all(first_dynamic, stream, nullptr);
  } else {
    launch_all(first_dynamic, stream, observe);
  }
  if (ran_) {
    ran_->record(stream);
    ran_in_ = &stream;
  }

  for (std::size_t i = 0; i < grad_results_.size(); ++i) {
    TensorImpl* leaf = program_.grad_writes[i].leaf.get();
    Tensor& slot = static_cast<GradMeta*>(leaf->grad_meta.get())->grad;
    slot =
        grad_results_[i].storage == SIZE_MAX ? Tensor() : make_result(grad_results_[i], storages_);
  }
  for (std::size_t i = 0; i < results_.size(); ++i) {
    results[i] = make_result(results_[i], storages_);
  }
}

// Allocates dynamic buffer d. A storage of its own for every run, also around used memory: versions
// and views belong to the result, not to the bytes.
void Executor::take(std::size_t first_dynamic, std::size_t d) {
  Dynamic& buffer = dynamic_[d];
  RefPtr<Storage> s;
  if (buffer.blocks) {
    Stream& stream = backend(device_).stream(device_.index);
    buffer.blocks->release_strangers(stream);
    BlockPool::Block b = buffer.blocks->reuse(stream);
    if (!b.data) b = buffer.blocks->allocate(stream);
    void* data = b.data;
    s = Storage::borrow(data, buffer.bytes, device_, buffer.blocks->lend(b));
  } else {
    s = Storage::allocate(buffer.bytes, device_);
  }
  bind(buffer.moving, s->data());
  storages_[first_dynamic + d] = std::move(s);
}

void Executor::launch_all(std::size_t first_dynamic, Stream& stream, const Observer* observe) {
  const bool moving = !options_.memory_plan;
  ReplaySite site;
  for (std::size_t k = 0; k < steps_.size(); ++k) {
    const Step& s = steps_[k];
    site.set(&s.node->source);
    if (moving) {
      for (std::size_t d : start_[k]) take(first_dynamic, d);
    }
    const std::size_t n_out = s.call->out.size();
    profiler::launch(*s.call, {pointers_.data() + s.in, pointers_.data() + s.out,
                               pointers_[s.out + n_out], &stream});
    if (observe) {
      const Node& node = *s.node;
      site.set(nullptr);
      std::vector<Tensor> made;
      for (std::size_t i = 0; i < node.outputs.size(); ++i) {
        const bool fresh = i < n_out;
        const TensorDesc& d =
            fresh ? s.call->out[i]
                  : s.call->in[static_cast<std::size_t>(s.call->mutated[i - n_out])];
        void* at = fresh ? pointers_[s.out + i]
                         : pointers_[s.in + static_cast<std::size_t>(s.call->mutated[i - n_out])];
        made.push_back(Tensor(RefPtr<TensorImpl>(
            new TensorImpl(Storage::borrow(at, d.bytes(), d.device, nullptr), d, 0))));
      }
      (*observe)(node, made);
    }
    if (moving) {
      for (std::size_t d : stop_[k]) storages_[first_dynamic + d] = nullptr;
    }
  }
}

}  // namespace tandem::graph
