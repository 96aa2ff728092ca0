// oneDNN's max pooling and normalisation beside Tandem's ops, which use kernels of their own for
// all but layer norm (docs/performance.md says why). Prints JSON: for each kernel the ratio of
// times, Tandem's over oneDNN's, with its interval from runs in turn.
//
//   onednn_kernels [ROUNDS [plain]]      default: 21; plain: own kernels for layer norm as well
#include <fmt/format.h>

#include <cstdlib>
#include <dnnl.hpp>
#include <functional>
#include <string>
#include <vector>

#include "benchmarks/tradeoff/stats.h"
#include "core/clock.h"
#include "core/parallel.h"
#include "core/policy.h"
#include "tandem/tandem.h"

namespace {

using namespace tandem;
using Memory = dnnl::memory::desc;
using Arguments = std::unordered_map<int, dnnl::memory>;

dnnl::engine& engine() {
  static dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}

Memory describe(const Tensor& t) {
  dnnl::memory::dims dims(t.shape().begin(), t.shape().end());
  dnnl::memory::dims strides(t.strides().begin(), t.strides().end());
  return {dims,
          t.dtype() == DType::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32,
          strides};
}
dnnl::memory memory_of(const Tensor& t) {
  return {describe(t), engine(), t.raw_data()};
}

// A primitive's description is built in two steps before 3.0 and in one since.
template <class P, class... A>
typename P::primitive_desc prepare(const A&... a) {
#if DNNL_VERSION_MAJOR >= 3
  return {engine(), a...};
#else
  return {typename P::desc(a...), engine()};
#endif
}
template <class P, class Hint, class... A>
typename P::primitive_desc prepare_backward(const Hint& hint, const A&... a) {
#if DNNL_VERSION_MAJOR >= 3
  return {engine(), a..., hint};
#else
  return {typename P::desc(a...), engine(), hint};
#endif
}

/// A primitive on the memory of `tensors`.
std::function<void()> runner(const dnnl::primitive& p,
                             const std::vector<std::pair<int, Tensor>>& tensors,
                             Arguments arguments = {}) {
  for (const auto& [name, t] : tensors) arguments.emplace(name, memory_of(t));
  return [p, tensors, arguments] {
    static dnnl::stream stream(engine());
    p.execute(stream, arguments);
    stream.wait();
  };
}

/// The same work twice. Each holds its tensors.
struct Pair {
  std::string op;
  std::function<void()> own, library;
};

std::vector<Pair> pooling(const Tensor& x) {
  Pool2dOptions o;
  o.kernel = {2, 2};
  const auto [y, indices] = max_pool2d_with_indices(x, o);
  const Tensor gy = ones_like(y), gx = Tensor::empty(x.desc());
  const PoolAttrs attrs{
      .kernel = {2, 2}, .stride = {2, 2}, .padding = {0, 0}, .input_size = {x.dim(2), x.dim(3)}};
  const dnnl::memory::dims two{2, 2}, zero{0, 0};
  const auto f = prepare<dnnl::pooling_forward>(dnnl::prop_kind::forward_training,
                                                dnnl::algorithm::pooling_max, describe(x),
                                                describe(y), two, two,
#if DNNL_VERSION_MAJOR >= 3
                                                zero,
#endif
                                                zero, zero);
  const auto b = prepare_backward<dnnl::pooling_backward>(f, dnnl::algorithm::pooling_max,
                                                          describe(x), describe(y), two, two,
#if DNNL_VERSION_MAJOR >= 3
                                                          zero,
#endif
                                                          zero, zero);
  const dnnl::memory workspace(f.workspace_desc(), engine());
  const Tensor into = Tensor::empty(y.desc());
  return {{"max_pool2d", [=] { max_pool2d(x, o); },
           runner(dnnl::pooling_forward(f), {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, into}},
                  {{DNNL_ARG_WORKSPACE, workspace}})},
          {"max_pool2d_grad",
           [gy, x, indices = indices, attrs] { max_pool2d_grad(gy, indices, attrs); },
           runner(dnnl::pooling_backward(b),
                  {
                      {DNNL_ARG_DIFF_DST, gy},
                      {DNNL_ARG_DIFF_SRC, gx},
                  },
                  {{DNNL_ARG_WORKSPACE, workspace}})}};
}

std::vector<Pair> normalisation(const Tensor& x) {
  const std::int64_t c = x.dim(1);
  const Tensor w = ones({c}), b = zeros({c}), mean = zeros({c}), var = ones({c}), gw = zeros({c}),
               gb = zeros({c}), rstd = ones({c});
  const Tensor y = Tensor::empty(x.desc()), gx = Tensor::empty(x.desc());
  const auto flags = dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift;
  const auto f =
      prepare<dnnl::batch_normalization_forward>(dnnl::prop_kind::forward_training, describe(x),
#if DNNL_VERSION_MAJOR >= 3
                                                 describe(y),
#endif
                                                 1e-5f, flags);
  const auto g = prepare_backward<dnnl::batch_normalization_backward>(f, dnnl::prop_kind::backward,
                                                                      describe(x), describe(x),
#if DNNL_VERSION_MAJOR >= 3
                                                                      describe(x),
#endif
                                                                      1e-5f, flags);
  return {{"batch_norm, training",
           [=]() mutable {
             Tensor m = mean, v = var;
             batch_norm(x, w, b, m, v, true);
           },
           runner(dnnl::batch_normalization_forward(f), {{DNNL_ARG_SRC, x},
                                                         {DNNL_ARG_DST, y},
                                                         {DNNL_ARG_SCALE, w},
                                                         {DNNL_ARG_SHIFT, b},
                                                         {DNNL_ARG_MEAN, gw},
                                                         {DNNL_ARG_VARIANCE, gb}})},
          {"batch_norm_grad", [=] { batch_norm_grad(x, x, w, mean, rstd); },
           runner(dnnl::batch_normalization_backward(g), {{DNNL_ARG_SRC, x},
                                                          {DNNL_ARG_DIFF_DST, x},
                                                          {DNNL_ARG_DIFF_SRC, gx},
                                                          {DNNL_ARG_SCALE, w},
                                                          {DNNL_ARG_SHIFT, b},
                                                          {DNNL_ARG_MEAN, mean},
                                                          {DNNL_ARG_VARIANCE, var},
                                                          {DNNL_ARG_DIFF_SCALE, gw},
                                                          {DNNL_ARG_DIFF_SHIFT, gb}})}};
}

std::vector<Pair> layer_normalisation(const Tensor& x) {
  const std::int64_t n = x.dim(0), c = x.dim(1);
  const Tensor w = ones({c}), b = zeros({c}), mean = zeros({n}), var = ones({n}), rstd = ones({n}),
               gw = zeros({c}), gb = zeros({c});
  const Tensor y = Tensor::empty(x.desc()), gx = Tensor::empty(x.desc());
  const auto flags = dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift;
  const auto f =
      prepare<dnnl::layer_normalization_forward>(dnnl::prop_kind::forward_training, describe(x),
#if DNNL_VERSION_MAJOR >= 3
                                                 describe(y),
#endif
                                                 describe(mean), 1e-5f, flags);
  const auto g = prepare_backward<dnnl::layer_normalization_backward>(f, dnnl::prop_kind::backward,
                                                                      describe(x), describe(x),
#if DNNL_VERSION_MAJOR >= 3
                                                                      describe(x),
#endif
                                                                      describe(mean), 1e-5f, flags);
  return {{"layer_norm", [=] { layer_norm(x, {c}, w, b); },
           runner(dnnl::layer_normalization_forward(f), {{DNNL_ARG_SRC, x},
                                                         {DNNL_ARG_DST, y},
                                                         {DNNL_ARG_SCALE, w},
                                                         {DNNL_ARG_SHIFT, b},
                                                         {DNNL_ARG_MEAN, mean},
                                                         {DNNL_ARG_VARIANCE, var}})},
          {"layer_norm_grad", [=] { layer_norm_grad(x, x, w, mean, rstd); },
           runner(dnnl::layer_normalization_backward(g), {{DNNL_ARG_SRC, x},
                                                          {DNNL_ARG_DIFF_DST, x},
                                                          {DNNL_ARG_DIFF_SRC, gx},
                                                          {DNNL_ARG_SCALE, w},
                                                          {DNNL_ARG_SHIFT, b},
                                                          {DNNL_ARG_MEAN, mean},
                                                          {DNNL_ARG_VARIANCE, var},
                                                          {DNNL_ARG_DIFF_SCALE, gw},
                                                          {DNNL_ARG_DIFF_SHIFT, gb}})}};
}

/// Milliseconds of one call, from a block of about five.
double time(const std::function<void()>& f, int calls) {
  const auto t0 = Clock::now();
  for (int i = 0; i < calls; ++i) f();
  return ms_since(t0) / calls;
}

struct Row {
  std::string op, shape, dtype, layout;
  tradeoff::Interval own, library, ratio;
};

Row measure(const Pair& p, const Tensor& x, int rounds) {
  const double once = std::max(time(p.own, 3), time(p.library, 3));
  const int calls = std::max(1, static_cast<int>(5 / once));
  std::vector<double> own, library;
  for (int r = 0; r < rounds; ++r) {
    own.push_back(time(p.own, calls));
    library.push_back(time(p.library, calls));
  }
  const bool last = x.rank() == 4 && x.strides()[1] == 1 && x.dim(1) > 1;
  return {p.op,
          x.shape().str(),
          name_of(x.dtype()),
          last ? "channels_last" : "contiguous",
          tradeoff::median_interval(own),
          tradeoff::median_interval(library),
          tradeoff::paired_ratio(own, library)};
}

std::string json(const tradeoff::Interval& i) {
  return fmt::format(R"({{"median": {:.5g}, "low": {:.5g}, "high": {:.5g}}})", i.median, i.low,
                     i.high);
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 21;
  const bool plain = argc > 2 && std::string_view(argv[2]) == "plain";
  if (rounds < 1 || argc > 3 || (argc == 3 && !plain)) {
    fmt::print(stderr, "usage: onednn_kernels [ROUNDS [plain]]\n");
    return 2;
  }
  const PolicyScope policy({.vendor = !plain});
  // Activations of LeNet, the VGG-style net, ResNet-18 for 32x32 images, ResNet-50 (a quarter).
  const std::vector<Shape> shapes{
      {64, 32, 28, 28}, {64, 50, 32, 32}, {64, 64, 32, 32}, {16, 64, 112, 112}};
  std::vector<Row> rows;
  manual_seed(0);
  for (const Shape& shape : shapes) {
    for (const DType t : {DType::f32, DType::bf16}) {
      for (const MemoryFormat m : {MemoryFormat::contiguous, MemoryFormat::channels_last}) {
        const Tensor x = copy(randn(shape).to(t), m);
        for (const auto& pairs : {pooling(x), normalisation(x)}) {
          for (const Pair& p : pairs) rows.push_back(measure(p, x, rounds));
        }
      }
    }
  }
  for (const Shape& shape : {Shape{4096, 512}, Shape{64, 4096}}) {
    for (const DType t : {DType::f32, DType::bf16}) {
      const Tensor x = randn(shape).to(t);
      for (const Pair& p : layer_normalisation(x)) rows.push_back(measure(p, x, rounds));
    }
  }
  fmt::print("{{\"onednn\": \"{}.{}.{}\", \"threads\": {}, \"rounds\": {}, \"rows\": [\n",
             dnnl_version()->major, dnnl_version()->minor, dnnl_version()->patch, num_threads(),
             rounds);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& r = rows[i];
    fmt::print(
        R"(  {{"op": "{}", "shape": "{}", "dtype": "{}", "layout": "{}", "own_ms": {}, "onednn_ms": {}, "own_over_onednn": {}}}{})"
        "\n",
        r.op, r.shape, r.dtype, r.layout, json(r.own), json(r.library), json(r.ratio),
        i + 1 < rows.size() ? "," : "");
  }
  fmt::print("]}}\n");
}
