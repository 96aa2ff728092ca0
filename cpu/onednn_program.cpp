#include "cpu/onednn_program.h"

#include "core/parallel.h"

namespace tandem::cpu::onednn {

// Never destroyed: plans live in caches that may outlast any static object of this file.
const dnnl::engine& engine() {
  static const auto& e = *new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return e;
}
const dnnl::stream& stream() {
  static const auto& s = *new dnnl::stream(engine());
  return s;
}

std::string version() {
  const dnnl_version_t* v = dnnl_version();
  return fmt::format("oneDNN {}.{}.{}", v->major, v->minor, v->patch);
}

void check(dnnl_status_t s) {
  if (s != dnnl_success) {
    fail<InternalError>("onednn", "a planned primitive failed", fmt::format("status {}", int{s}),
                        "status 0");
  }
}

void agree_on_threads() {
#ifdef TANDEM_OPENMP
  // A primitive is made for a number of threads: with fewer it computes a part, or waits for ever.
  if (num_threads() > 1 && omp_in_parallel()) {
    fail("onednn", "kernels are not run by several threads from inside a parallel region of OpenMP",
         fmt::format("{} threads", num_threads()),
         "a call from outside, or set_num_threads(1), or the policy vendor = false");
  }
  // OpenMP keeps both per thread.
  if (omp_get_dynamic()) omp_set_dynamic(0);
  if (omp_get_max_threads() != num_threads()) omp_set_num_threads(num_threads());
#endif
}

dnnl::primitive_attr attributes(const Policy& policy, bool relu) {
  dnnl::primitive_attr attr;
  if (relu) {
    dnnl::post_ops after;
#if DNNL_VERSION_MAJOR >= 3
    after.append_eltwise(dnnl::algorithm::eltwise_relu, 0, 0);
#else
    after.append_eltwise(1, dnnl::algorithm::eltwise_relu, 0, 0);
#endif
    attr.set_post_ops(after);
  }
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (policy.fast_math) attr.set_fpmath_mode(dnnl::fpmath_mode::bf16);
  return attr;
}

Program::~Program() {
  for (auto& s : idle_) delete s.load();
}

int Program::temporary(const Memory& m) {
  const std::size_t at = reserve(workspace_bytes, m.get_size());
  return add({m, Place::workspace, static_cast<std::int64_t>(at)});
}

void Program::reorder(int from, int to) {
  const dnnl::reorder::primitive_desc d(engine(), slots_[from].desc, engine(), slots_[to].desc,
                                        attributes());
  run(dnnl::reorder(d), d, {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
}

int Program::converted(int m, const Memory& want) {
  if (slots_[m].desc == want) return m;
  const int t = temporary(want);
  reorder(m, t);
  return t;
}

void Program::launch(const LaunchArgs& a) const {
  agree_on_threads();
  void* in[kMaxInputs];
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    in[i] = inputs_[i].load<void>(a.in[i], a.workspace);
  }
  std::unique_ptr<Session> s = take_session();
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    void* p = slots_[i].place == Place::input    ? in[slots_[i].at]
              : slots_[i].place == Place::output ? a.out[slots_[i].at]
                                                 : static_cast<char*>(a.workspace) + slots_[i].at;
    if (p != s->pointers[i]) {
      check(dnnl_memory_set_data_handle(s->memories[i].get(), p));
      s->pointers[i] = p;
    }
  }
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    check(dnnl_primitive_execute(steps_[i].primitive.get(), stream().get(),
                                 static_cast<int>(s->args[i].size()), s->args[i].data()));
  }
  put_back(std::move(s));
}

Program::Session::Session(const Program& p) : pointers(p.slots_.size(), nullptr) {
  for (const auto& s : p.slots_) memories.push_back({s.desc, engine(), DNNL_MEMORY_NONE});
  for (const auto& s : p.steps_) {
    auto& a = args.emplace_back();
    for (auto [arg, m] : s.args) a.push_back({arg, memories[m].get()});
  }
}

std::unique_ptr<Program::Session> Program::take_session() const {
  for (auto& slot : idle_) {
    if (slot.load(std::memory_order_relaxed) == nullptr) continue;
    std::unique_ptr<Session> s(slot.exchange(nullptr, std::memory_order_acquire));
    if (s) return s;
  }
  return std::make_unique<Session>(*this);  // more threads at once than ever before
}

void Program::put_back(std::unique_ptr<Session> s) const {
  for (auto& slot : idle_) {
    Session* none = nullptr;
    if (slot.compare_exchange_strong(none, s.get(), std::memory_order_release)) {
      s.release();
      return;
    }
  }
}

}  // namespace tandem::cpu::onednn
