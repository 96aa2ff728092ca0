#include "cpu/onednn.h"

#ifdef TANDEM_HAS_ONEDNN
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <dnnl.hpp>
#include <memory>

#include "core/parallel.h"
#include "cpu/operand.h"

namespace tandem::cpu::onednn {
namespace {

using Memory = dnnl::memory::desc;
using Layout = dnnl::memory::dims;

// Never destroyed: plans live in caches that may outlast any static object of this file.
const dnnl::engine& engine() {
  static const auto& e = *new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return e;
}
const dnnl::stream& stream() {
  static const auto& s = *new dnnl::stream(engine());
  return s;
}

void check(dnnl_status_t s) {
  if (s != dnnl_success) {
    fail<InternalError>("onednn", "a planned primitive failed", fmt::format("status {}", int{s}),
                        "status 0");
  }
}

// oneDNN asks OpenMP how many threads there are, and OpenMP keeps that number per thread.
void agree_on_threads() {
#ifdef TANDEM_OPENMP
  if (omp_get_max_threads() != num_threads()) omp_set_num_threads(num_threads());
#endif
}

// A primitive's description is built in two steps before 3.0 and in one since.
template <class P, class... A>
typename P::primitive_desc describe(const dnnl::primitive_attr& attr, const A&... a) {
#if DNNL_VERSION_MAJOR >= 3
  return {engine(), a..., attr};
#else
  return {typename P::desc(a...), attr, engine()};
#endif
}
template <class P, class Hint, class... A>
typename P::primitive_desc describe_backward(const dnnl::primitive_attr& attr, const Hint& hint,
                                             const A&... a) {
#if DNNL_VERSION_MAJOR >= 3
  return {engine(), a..., hint, attr};
#else
  return {typename P::desc(a...), attr, engine(), hint};
#endif
}

dnnl::primitive_attr attributes(const Policy& policy = {}, bool relu = false) {
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

// Of NaN the library's ReLU makes 0.
constexpr Exactness kEpilogue = Exactness::approximate;

bool known(DType t) {
  return t == DType::f32 || t == DType::bf16;
}
dnnl::memory::data_type type_of(DType t) {
  return t == DType::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

/// A few primitives run one after the other on inputs, outputs and pieces of the workspace.
class Program final : public Plan {
 public:
  enum class Place : std::uint8_t { input, output, workspace };

  ~Program() override {
    for (auto& s : idle_) delete s.load();
  }

  /// Input i is read in the dense layout `want`.
  void add_input(const TensorDesc& d, const Strides& want) {
    inputs_.emplace_back(d, want, workspace_bytes);
  }
  int input(int i, const Memory& m) { return add({m, Place::input, i}); }
  int output(const Memory& m) { return add({m, Place::output, 0}); }
  int temporary(const Memory& m) {
    const std::size_t at = reserve(workspace_bytes, m.get_size());
    return add({m, Place::workspace, static_cast<std::int64_t>(at)});
  }

  using Args = std::vector<std::pair<int, int>>;  // dnnl argument -> memory
  template <class Desc>
  void run(const dnnl::primitive& p, const Desc& d, Args args) {
    const Memory scratch = d.scratchpad_desc();
    if (scratch.get_size() > 0) args.emplace_back(DNNL_ARG_SCRATCHPAD, temporary(scratch));
    steps_.push_back({p, std::move(args)});
  }
  void reorder(int from, int to) {
    const dnnl::reorder::primitive_desc d(engine(), slots_[from].desc, engine(), slots_[to].desc,
                                          attributes());
    run(dnnl::reorder(d), d, {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
  }
  /// Memory `m` in the layout `want`, reordered now if it is in another.
  int converted(int m, const Memory& want) {
    if (slots_[m].desc == want) return m;
    const int t = temporary(want);
    reorder(m, t);
    return t;
  }
  /// Where to write what shall end up in `m`; `reorder` it when it differs from `m`.
  int writable(int m, const Memory& have) { return slots_[m].desc == have ? m : temporary(have); }

  /// Builds what a launch needs, so that the first one allocates nothing either.
  void finish() { put_back(std::make_unique<Session>(*this)); }

  void launch(const LaunchArgs& a) const override {
    agree_on_threads();
    void* in[kMaxInputs];
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      in[i] = inputs_[i].load<void>(a.in[i], a.workspace);
    }
    std::unique_ptr<Session> s = take_session();
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      void* p = slots_[i].place == Place::input    ? in[slots_[i].at]
                : slots_[i].place == Place::output ? a.out[0]
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

 private:
  static constexpr int kMaxInputs = 3;
  struct Slot {
    Memory desc;
    Place place;
    std::int64_t at;  // input number or workspace offset
  };
  struct Step {
    dnnl::primitive primitive;
    Args args;
  };

  // Memory objects remember their pointer, so no two launches at a time may share them.
  struct Session {
    explicit Session(const Program& p) : pointers(p.slots_.size(), nullptr) {
      for (const auto& s : p.slots_) memories.push_back({s.desc, engine(), DNNL_MEMORY_NONE});
      for (const auto& s : p.steps_) {
        auto& a = args.emplace_back();
        for (auto [arg, m] : s.args) a.push_back({arg, memories[m].get()});
      }
    }
    std::vector<dnnl::memory> memories;
    std::vector<void*> pointers;
    std::vector<std::vector<dnnl_exec_arg_t>> args;
  };

  int add(Slot s) {
    slots_.push_back(std::move(s));
    return static_cast<int>(slots_.size()) - 1;
  }
  std::unique_ptr<Session> take_session() const {
    for (auto& slot : idle_) {
      if (slot.load(std::memory_order_relaxed) == nullptr) continue;
      std::unique_ptr<Session> s(slot.exchange(nullptr, std::memory_order_acquire));
      if (s) return s;
    }
    return std::make_unique<Session>(
        *this);  // as many threads as there never were before run this plan
  }
  void put_back(std::unique_ptr<Session> s) const {
    for (auto& slot : idle_) {
      Session* none = nullptr;
      if (slot.compare_exchange_strong(none, s.get(), std::memory_order_release)) {
        s.release();
        return;
      }
    }
  }

  std::vector<Operand> inputs_;
  std::vector<Slot> slots_;
  std::vector<Step> steps_;
  mutable std::atomic<Session*> idle_[8] = {};
};

template <class Desc>
bool is_reference(const Desc& d) {
  return std::strncmp(d.impl_info_str(), "ref", 3) == 0;
}

Memory memory_of(const TensorDesc& d) {
  return {d.shape.vec(), type_of(d.dtype), d.strides.vec()};
}

}  // namespace

std::string version() {
  const dnnl_version_t* v = dnnl_version();
  return fmt::format("oneDNN {}.{}.{}", v->major, v->minor, v->patch);
}

// ---------------------------------------------------------------------------------- matmul

namespace {

// A matrix as the library takes it: one stride is 1, the other no less than a line. Strides of axes
// of size 1 mean nothing and are made to fit. False: the matrix must be packed.
bool fit(std::int64_t rows, std::int64_t columns, std::int64_t& row, std::int64_t& column) {
  if (rows == 1 && columns == 1) row = column = 1;
  if (columns == 1) column = 1;
  if (rows == 1) row = column == 1 ? columns : 1;
  if (column == 1 && row >= columns) return true;
  return row == 1 && column >= rows;
}

/// The layout in which `d`, [batch..., rows, columns], is read: its own if that fits.
TensorDesc readable(const TensorDesc& d) {
  const int r = d.rank();
  TensorDesc e = d;
  if (!fit(d.dim(r - 2), d.dim(r - 1), e.strides[r - 2], e.strides[r - 1])) {
    e.strides = contiguous_strides(d.shape);
  }
  return e;
}

// Of large untransposed f32 products this entry point makes a fifth more than the primitive.
RefPtr<Plan> plan_sgemm(const MatmulProblem& p, const TensorDesc& a, const TensorDesc& b) {
  const std::int64_t m = p.c.dim(0), n = p.c.dim(1), k = a.dim(1);
  return make_plan("onednn:sgemm",
                   [=, lda = a.strides[0], ldb = b.strides[0]](const LaunchArgs& r) {
                     agree_on_threads();
                     check(dnnl_sgemm('N', 'N', m, n, k, 1.0f, static_cast<const float*>(r.in[0]),
                                      lda, static_cast<const float*>(r.in[1]), ldb, 0.0f,
                                      static_cast<float*>(r.out[0]), n));
                   });
}

}  // namespace

RefPtr<Plan> plan_matmul(const MatmulProblem& p) try {
  if (!known(p.c.dtype)) return {};
  agree_on_threads();
  const dnnl::primitive_attr attr = attributes(p.policy, p.relu);
  const TensorDesc read_a = readable(p.a), read_b = readable(p.b);
  const auto direct = [](const TensorDesc& d, const TensorDesc& read) {
    return d.rank() == 2 && read.strides[1] == 1 && same_layout(d.shape, d.strides, read.strides);
  };
  if (p.c.dtype == DType::f32 && !p.policy.fast_math && !p.bias && !p.relu && direct(p.a, read_a) &&
      direct(p.b, read_b) && p.c.numel() * p.a.dim(1) >= (1 << 22)) {
    return plan_sgemm(p, read_a, read_b);
  }
  const Memory a = memory_of(read_a), b = memory_of(read_b), c = memory_of(p.c);
  Layout bias_shape(static_cast<std::size_t>(p.c.rank()), 1), bias_strides = bias_shape;
  bias_shape.back() = p.c.shape.back();
  for (std::size_t i = 0; i + 1 < bias_strides.size(); ++i) bias_strides[i] = bias_shape.back();
  const Memory bias(bias_shape, type_of(p.c.dtype), bias_strides);
  const auto d =
      p.bias ? describe<dnnl::matmul>(attr, a, b, bias, c) : describe<dnnl::matmul>(attr, a, b, c);
  if (is_reference(d)) return {};
  auto plan = make_ref<Program>();
  plan->name = std::string("onednn:") + d.impl_info_str();
  plan->epilogue = kEpilogue;
  plan->add_input(p.a, read_a.strides);
  plan->add_input(p.b, read_b.strides);
  Program::Args args = {{DNNL_ARG_SRC, plan->input(0, a)},
                        {DNNL_ARG_WEIGHTS, plan->input(1, b)},
                        {DNNL_ARG_DST, plan->output(c)}};
  if (p.bias) {
    plan->add_input(*p.bias, {1});
    args.emplace_back(DNNL_ARG_BIAS, plan->input(2, bias));
  }
  plan->run(dnnl::matmul(d), d, std::move(args));
  plan->finish();
  return plan;
} catch (const dnnl::error&) {
  return {};  // strides or a type this version or this processor lacks
}

// ---------------------------------------------------------------------------------- convolution

namespace {

/// The layout a convolution computes in. `blocked` leaves it to the library.
enum class Inner : std::uint8_t { contiguous, channels_last, blocked };

Memory image(const TensorDesc& d, Inner layout) {
  using Tag = dnnl::memory::format_tag;
  return {d.shape.vec(), type_of(d.dtype),
          layout == Inner::contiguous      ? Tag::nchw
          : layout == Inner::channels_last ? Tag::nhwc
                                           : Tag::any};
}

/// The user's tensor as oneDNN sees it. A tensor of one channel or one pixel is in both layouts at
/// once: it is then called by the name that saves the reorder.
Memory image_as(const TensorDesc& d, bool channels_last, const Memory& wanted) {
  for (const Inner l : {Inner::contiguous, Inner::channels_last}) {
    const bool fits = l == Inner::contiguous ? d.is_contiguous() : d.is_channels_last();
    if (fits && image(d, l) == wanted) return wanted;
  }
  return image(d, channels_last ? Inner::channels_last : Inner::contiguous);
}

/// [O, C, kh, kw] with these strides, or [groups, O/groups, C, kh, kw].
Memory weights(const TensorDesc& w, std::int64_t groups, const Strides& s) {
  if (groups == 1) return {w.shape.vec(), type_of(w.dtype), s.vec()};
  const std::int64_t o = w.dim(0) / groups;
  return {Layout{groups, o, w.dim(1), w.dim(2), w.dim(3)}, type_of(w.dtype),
          Layout{s[0] * o, s[0], s[1], s[2], s[3]}};
}
Memory weights_any(const TensorDesc& w, std::int64_t groups) {
  const auto any = dnnl::memory::format_tag::any;
  if (groups == 1) return {w.shape.vec(), type_of(w.dtype), any};
  return {Layout{groups, w.dim(0) / groups, w.dim(1), w.dim(2), w.dim(3)}, type_of(w.dtype), any};
}

/// Layouts to try, best first, from measurements (docs/performance.md): the user's own layout saves
/// reorders, but contiguous means im2col, the f32 kernels for input gradients want blocks, and
/// no kernel but im2col likes an input gradient of few channels.
std::array<Inner, 3> preferred(const ConvProblem& p, bool channels_last) {
  constexpr Inner plain = Inner::contiguous, last = Inner::channels_last, blocked = Inner::blocked;
  const std::int64_t c = p.x.dim(1) / p.groups, o = p.y.dim(1) / p.groups;
  const bool f32 = p.x.dtype == DType::f32, grad_input = p.pass == ConvPass::grad_input;
  const bool pointwise = p.w.dim(2) == 1 && p.w.dim(3) == 1;
  const bool full_blocks = c % 16 == 0 && o % 16 == 0;
  if (f32 && grad_input && c < 16 && p.groups == 1) return {plain, last, blocked};
  if (pointwise && !channels_last) return {plain, blocked, last};
  if (f32 && !pointwise) {
    if (grad_input && full_blocks) return {blocked, last, plain};
    if (!channels_last && (c <= 4 || full_blocks)) return {blocked, last, plain};
  }
  return {last, blocked, plain};
}

bool wants_channels_last(const ConvProblem& p) {
  if (p.pass == ConvPass::grad_weight) return p.x.is_channels_last() || p.y.is_channels_last();
  return p.pass == ConvPass::forward ? p.y.is_channels_last() : p.x.is_channels_last();
}

/// A plan that computes in `inner`, or null if only the library's reference code does.
RefPtr<Plan> plan_conv_in(const ConvProblem& p, Inner inner) {
  const auto direct = dnnl::algorithm::convolution_direct;
  const dnnl::primitive_attr attr = attributes(p.policy, p.relu);
  const Layout stride = p.stride.vec(), pad = p.padding.vec();
  Layout dilation = p.dilation.vec();
  for (auto& d : dilation) --d;  // here 0 means dense
  const Memory x = image(p.x, inner), y = image(p.y, inner), w = weights_any(p.w, p.groups);
  const Memory b({p.y.dim(1)}, type_of(p.y.dtype), dnnl::memory::format_tag::x);
  const auto forward_kind = dnnl::prop_kind::forward_training;
  using Forward = dnnl::convolution_forward;
  const auto f =
      p.bias ? describe<Forward>(attr, forward_kind, direct, x, w, b, y, stride, dilation, pad, pad)
             : describe<Forward>(attr, forward_kind, direct, x, w, y, stride, dilation, pad, pad);

  const bool last = wants_channels_last(p);
  auto plan = make_ref<Program>();
  // An input that is neither contiguous nor channels-last is packed into the latter or the former.
  const auto image_input = [&](int i, const TensorDesc& d, const Memory& wanted) {
    const bool cl = d.is_channels_last() ? last || !d.is_contiguous() : last && !d.is_contiguous();
    const TensorDesc dense(d.dtype, d.device, d.shape,
                           cl ? channels_last_strides(d.shape) : contiguous_strides(d.shape));
    plan->add_input(d, dense.strides);
    return plan->converted(plan->input(i, image_as(dense, cl, wanted)), wanted);
  };
  const auto weight_input = [&](const Memory& wanted) {
    const Strides s =
        p.w.is_channels_last() ? channels_last_strides(p.w.shape) : contiguous_strides(p.w.shape);
    plan->add_input(p.w, s);
    return plan->converted(plan->input(1, weights(p.w, p.groups, s)), wanted);
  };
  const auto run_into = [&](const auto& primitive, const auto& d, Program::Args args, int argument,
                            const Memory& user, const Memory& have) {
    const int out = plan->output(user), made = plan->writable(out, have);
    args.emplace_back(argument, made);
    plan->run(primitive, d, std::move(args));
    if (made != out) plan->reorder(made, out);
    plan->name = std::string("onednn:") + d.impl_info_str();
  };

  switch (p.pass) {
    case ConvPass::forward: {
      if (is_reference(f)) return {};
      Program::Args args = {{DNNL_ARG_SRC, image_input(0, p.x, f.src_desc())},
                            {DNNL_ARG_WEIGHTS, weight_input(f.weights_desc())}};
      if (p.bias) {
        plan->add_input(*p.bias, {1});
        args.emplace_back(DNNL_ARG_BIAS, plan->input(2, b));
      }
      plan->epilogue = kEpilogue;
      run_into(Forward(f), f, std::move(args), DNNL_ARG_DST, image_as(p.y, last, f.dst_desc()),
               f.dst_desc());
      break;
    }
    case ConvPass::grad_input: {
      using Backward = dnnl::convolution_backward_data;
      const auto d =
          describe_backward<Backward>(attr, f, direct, x, w, y, stride, dilation, pad, pad);
      if (is_reference(d)) return {};
      Program::Args args = {{DNNL_ARG_DIFF_DST, image_input(0, p.y, d.diff_dst_desc())},
                            {DNNL_ARG_WEIGHTS, weight_input(d.weights_desc())}};
      run_into(Backward(d), d, std::move(args), DNNL_ARG_DIFF_SRC,
               image_as(p.x, last, d.diff_src_desc()), d.diff_src_desc());
      break;
    }
    case ConvPass::grad_weight: {
      using Backward = dnnl::convolution_backward_weights;
      const auto d =
          describe_backward<Backward>(attr, f, direct, x, w, y, stride, dilation, pad, pad);
      if (is_reference(d)) return {};
      Program::Args args = {{DNNL_ARG_SRC, image_input(0, p.x, d.src_desc())},
                            {DNNL_ARG_DIFF_DST, image_input(1, p.y, d.diff_dst_desc())}};
      run_into(Backward(d), d, std::move(args), DNNL_ARG_DIFF_WEIGHTS,
               weights(p.w, p.groups, p.w.strides), d.diff_weights_desc());
      break;
    }
  }
  plan->finish();
  return plan;
}

/// The plan that took least time in a few runs, in turn, on memory of its own.
RefPtr<Plan> fastest(const std::vector<RefPtr<Plan>>& plans, const ConvProblem& p) {
  std::size_t workspace = 1;
  for (const auto& plan : plans) workspace = std::max(workspace, plan->workspace_bytes);
  const auto memory = [](std::size_t bytes) {
    return std::unique_ptr<float[], void (*)(float*)>(
        new (std::align_val_t(kAlignment)) float[bytes / sizeof(float) + 1](),
        [](float* m) { ::operator delete[](m, std::align_val_t(kAlignment)); });
  };
  const bool forward = p.pass == ConvPass::forward, weight = p.pass == ConvPass::grad_weight;
  const auto x = memory(p.x.bytes()), w = memory(p.w.bytes()), y = memory(p.y.bytes());
  const auto bias = memory(p.bias ? p.bias->bytes() : 0), scratch = memory(workspace);
  void* in[] = {forward || weight ? x.get() : y.get(), weight ? y.get() : w.get(), bias.get()};
  void* out[] = {forward ? y.get() : weight ? w.get() : x.get()};
  std::vector<double> best(plans.size(), HUGE_VAL);
  for (int round = 0; round < 4; ++round) {
    for (std::size_t i = 0; i < plans.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      plans[i]->launch({in, out, scratch.get(), nullptr});
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      if (round > 0) best[i] = std::min(best[i], took.count());
    }
  }
  const auto first = std::min_element(best.begin(), best.end());
  return plans[static_cast<std::size_t>(first - best.begin())];
}

/// The input's gradient of a convolution without strides is the convolution of gy with the turned
/// kernel: w'[c, o, i, j] = w[o, c, kh - 1 - i, kw - 1 - j].
struct TurnedKernel final : Plan {
  RefPtr<Plan> forward;
  std::size_t at = 0, forward_at = 0;  // in the workspace
  std::int64_t filters, channels, height, width;
  Strides from;  // of w

  void launch(const LaunchArgs& a) const override {
    auto* turned = reinterpret_cast<float*>(static_cast<char*>(a.workspace) + at);
    turn(static_cast<const float*>(a.in[1]), turned);
    void* in[] = {a.in[0], turned};
    forward->launch({in, a.out, static_cast<char*>(a.workspace) + forward_at, a.stream});
  }

  void turn(const float* w, float* turned) const {
    parallel_for(channels, 1024 / (filters * height * width) + 1,
                 [&](std::int64_t begin, std::int64_t end) {
                   for (std::int64_t c = begin; c < end; ++c) {
                     float* to = turned + c * filters * height * width;
                     for (std::int64_t o = 0; o < filters; ++o) {
                       const float* p = w + o * from[0] + c * from[1];
                       for (std::int64_t i = height; i-- > 0;) {
                         for (std::int64_t j = width; j-- > 0;)
                           *to++ = p[i * from[2] + j * from[3]];
                       }
                     }
                   }
                 });
  }
};

// The library's kernels for input gradients are slower than those for the way forward where the
// latter fit (no strides), up to the size of a kernel whose turning costs what is gained.
RefPtr<Plan> plan_turned(const ConvProblem& p) {
  const Dims one = {1, 1};
  const std::int64_t kh = p.w.dim(2), kw = p.w.dim(3);
  const Dims padding = {p.dilation[0] * (kh - 1) - p.padding[0],
                        p.dilation[1] * (kw - 1) - p.padding[1]};
  if (p.groups != 1 || !(p.stride == one) || kh * kw == 1 || p.w.dim(1) < 16 ||
      p.w.numel() > (1 << 18) || padding[0] < 0 || padding[1] < 0 || p.x.dtype != DType::f32) {
    return {};
  }
  const Shape turned = {p.w.dim(1), p.w.dim(0), kh, kw};
  const TensorDesc w(p.w.dtype, p.w.device, turned, contiguous_strides(turned));
  const RefPtr<Plan> forward = plan_conv({.pass = ConvPass::forward,
                                          .x = p.y,
                                          .w = w,
                                          .y = p.x,
                                          .stride = p.stride,
                                          .padding = padding,
                                          .dilation = p.dilation,
                                          .policy = p.policy});
  if (!forward) return {};
  auto plan = make_ref<TurnedKernel>();
  plan->forward = forward;
  plan->name = forward->name + " (turned kernel)";
  plan->filters = p.w.dim(0), plan->channels = p.w.dim(1), plan->height = kh, plan->width = kw;
  plan->from = p.w.strides;
  plan->at = reserve(plan->workspace_bytes, w.bytes());
  plan->forward_at = reserve(plan->workspace_bytes, forward->workspace_bytes);
  return plan;
}

}  // namespace

RefPtr<Plan> plan_conv(const ConvProblem& p) {
  if (!known(p.x.dtype)) return {};
  agree_on_threads();
  const std::size_t most = std::max<std::size_t>(p.policy.search, 1);
  std::vector<RefPtr<Plan>> found;
  const auto consider = [&](RefPtr<Plan> plan) {
    if (plan) found.push_back(std::move(plan));
  };
  if (p.pass == ConvPass::grad_input) consider(plan_turned(p));
  for (const Inner inner : preferred(p, wants_channels_last(p))) {
    if (found.size() >= most) break;
    try {
      consider(plan_conv_in(p, inner));
    } catch (const dnnl::error&) {
      // No kernel of this layout, type and shape on this processor: try the next.
    }
  }
  return found.size() < 2 ? found.empty() ? RefPtr<Plan>() : found[0] : fastest(found, p);
}

// ---------------------------------------------------------------------------------- pooling

RefPtr<Plan> plan_average_pool(const AveragePoolProblem& p) try {
  if (!known(p.large.dtype) || p.large.numel() == 0 || p.small.numel() == 0) return {};
  const Layout kernel = p.kernel.vec(), stride = p.stride.vec(), before = p.padding.vec();
  Layout after = before;
  for (int i = 0; i < 2; ++i) {
    // A last window that hangs over the padded edge is divided by what it covers; not so here.
    const std::int64_t reach = (p.small.dim(2 + i) - 1) * p.stride[i] + p.kernel[i];
    const std::int64_t right = reach - p.large.dim(2 + i) - p.padding[i];
    if (right > p.padding[i]) return {};
    // Negative where the windows do not reach the edge.
    after[static_cast<std::size_t>(i)] = right;
  }
  agree_on_threads();
  const auto algorithm = p.count_include_pad ? dnnl::algorithm::pooling_avg_include_padding
                                             : dnnl::algorithm::pooling_avg_exclude_padding;
  const auto kind = dnnl::prop_kind::forward_inference;
  const dnnl::primitive_attr attr = attributes();
  const TensorDesc& from = p.grad ? p.small : p.large;
  const Inner layout = from.is_channels_last() ? Inner::channels_last : Inner::contiguous;
  const Memory large = image(p.large, layout), small = image(p.small, layout);
  const auto plan = make_ref<Program>();
  plan->add_input(from, layout == Inner::channels_last ? channels_last_strides(from.shape)
                                                       : contiguous_strides(from.shape));
  // Here the 3.x interface differs in more than how a description is made: it knows dilation.
#if DNNL_VERSION_MAJOR >= 3
  const Layout dense = {0, 0};
  const auto f = describe<dnnl::pooling_forward>(attr, kind, algorithm, large, small, stride,
                                                 kernel, dense, before, after);
#else
  const auto f = describe<dnnl::pooling_forward>(attr, kind, algorithm, large, small, stride,
                                                 kernel, before, after);
#endif
  if (!p.grad) {
    if (is_reference(f)) return {};
    plan->run(dnnl::pooling_forward(f), f,
              {{DNNL_ARG_SRC, plan->input(0, large)}, {DNNL_ARG_DST, plan->output(small)}});
    plan->name = std::string("onednn:") + f.impl_info_str();
  } else {
#if DNNL_VERSION_MAJOR >= 3
    const auto b = describe_backward<dnnl::pooling_backward>(attr, f, algorithm, large, small,
                                                             stride, kernel, dense, before, after);
#else
    const auto b = describe_backward<dnnl::pooling_backward>(attr, f, algorithm, large, small,
                                                             stride, kernel, before, after);
#endif
    if (is_reference(b)) return {};
    plan->run(
        dnnl::pooling_backward(b), b,
        {{DNNL_ARG_DIFF_DST, plan->input(0, small)}, {DNNL_ARG_DIFF_SRC, plan->output(large)}});
    plan->name = std::string("onednn:") + b.impl_info_str();
  }
  plan->finish();
  return plan;
} catch (const dnnl::error&) {
  return {};
}

}  // namespace tandem::cpu::onednn
#endif
