#include <cmath>

#include "cpu/lanes.h"
#include "cpu/onednn.h"
#include "cpu/operand.h"
#include "ops/norm.h"

namespace tandem::cpu {
namespace {

using i64 = std::int64_t;

struct Rows {
  i64 count, size;
  Rows(const TensorDesc& x, i64 axes) : count(1), size(1) {
    for (int i = 0; i < x.rank(); ++i) (i < x.rank() - axes ? count : size) *= x.dim(i);
  }
};

Operand dense(const TensorDesc& d, std::size_t& bytes) {
  return {d, contiguous_strides(d.shape), bytes};
}

template <class T>
RefPtr<Plan> forward_plan(const PlanRequest& r) {
  using P = compute_t<T>;
  const Rows rows(r.in[0], r.attrs<LayerNormAttrs>().axes);
  const double eps = r.attrs<LayerNormAttrs>().eps;
  std::size_t bytes = 0;
  const Operand in = dense(r.in[0], bytes), weight = dense(r.in[1], bytes),
                bias = dense(r.in[2], bytes), out = dense(r.out[0], bytes);
  return make_plan(
      "cpu:layer_norm",
      [=](const LaunchArgs& a) {
        void* ws = a.workspace;
        const T* xs = in.load<T>(a.in[0], ws);
        const P *w = weight.load<P>(a.in[1], ws), *b = bias.load<P>(a.in[2], ws);
        T* ys = out.buffer<T>(a.out[0], ws);
        P *mean = static_cast<P*>(a.out[1]), *rstd = static_cast<P*>(a.out[2]);
        const i64 size = rows.size;
        parallel_for(rows.count, grain_for(size), [=](i64 begin, i64 end) {
          for (i64 row = begin; row < end; ++row) {
            const T* x = xs + row * size;
            T* y = ys + row * size;
            // Relative to the first element: no cancellation far from zero.
            const double shift = size ? static_cast<double>(static_cast<P>(x[0])) : 0;
            const auto sums = lane_sums<double, 2>(size, [=](i64 i) {
              const double d = static_cast<double>(static_cast<P>(x[i])) - shift;
              return std::array<double, 2>{d, d * d};
            });
            const double off = sums[0] / static_cast<double>(size);
            double squares = sums[1] - sums[0] * off;
            if (squares < 0) squares = 0;
            const P m = static_cast<P>(shift + off);
            const P s = static_cast<P>(1 / std::sqrt(squares / static_cast<double>(size) + eps));
            mean[row] = m;
            rstd[row] = s;
#pragma GCC ivdep
            for (i64 i = 0; i < size; ++i) {
              y[i] = static_cast<T>((static_cast<P>(x[i]) - m) * s * w[i] + b[i]);
            }
          }
        });
        out.store(a.out[0], ws);
      },
      bytes);
}

template <class T>
RefPtr<Plan> grad_plan(const PlanRequest& r) {
  using P = compute_t<T>;
  const Rows rows(r.in[1], r.in[2].rank());
  // Weight gradients are summed over blocks of rows; their number depends only on the shape.
  const i64 blocks = std::clamp<i64>(rows.count / 16, 1, 32);
  std::size_t bytes = 0;
  std::array<Operand, 5> in;
  for (std::size_t i = 0; i < 5; ++i) in[i] = dense(r.in[i], bytes);
  const Operand out = dense(r.out[0], bytes);
  const std::size_t scratch_at =
      reserve(bytes, static_cast<std::size_t>(2 * blocks * rows.size) * sizeof(double));
  return make_plan(
      "cpu:layer_norm_grad",
      [=](const LaunchArgs& a) {
        void* ws = a.workspace;
        const T *gys = in[0].template load<T>(a.in[0], ws),
                *xs = in[1].template load<T>(a.in[1], ws);
        const P *w = in[2].template load<P>(a.in[2], ws),
                *mean = in[3].template load<P>(a.in[3], ws),
                *rstd = in[4].template load<P>(a.in[4], ws);
        T* gxs = out.buffer<T>(a.out[0], ws);
        P *gw = static_cast<P*>(a.out[1]), *gb = static_cast<P*>(a.out[2]);
        double* scratch = reinterpret_cast<double*>(static_cast<char*>(ws) + scratch_at);
        const i64 size = rows.size, per = (rows.count + blocks - 1) / blocks;
        parallel_for(blocks, grain_for(per * size), [=](i64 begin, i64 end) {
          for (i64 block = begin; block < end; ++block) {
            double *sw = scratch + 2 * block * size, *sb = sw + size;
            for (i64 i = 0; i < 2 * size; ++i) sw[i] = 0;
            for (i64 row = block * per; row < std::min(rows.count, (block + 1) * per); ++row) {
              const T *gy = gys + row * size, *x = xs + row * size;
              T* gx = gxs + row * size;
              const P m = mean[row], s = rstd[row];
              const auto sums = lane_sums<double, 2>(size, [=](i64 i) {
                const P v = static_cast<P>(gy[i]) * w[i];
                const P n = (static_cast<P>(x[i]) - m) * s;
                return std::array<double, 2>{static_cast<double>(v), static_cast<double>(v * n)};
              });
              const P v_mean = static_cast<P>(sums[0] / static_cast<double>(size));
              const P vn_mean = static_cast<P>(sums[1] / static_cast<double>(size));
#pragma GCC ivdep
              for (i64 i = 0; i < size; ++i) {
                const P g = static_cast<P>(gy[i]), n = (static_cast<P>(x[i]) - m) * s;
                gx[i] = static_cast<T>(s * (g * w[i] - v_mean - n * vn_mean));
                sw[i] += static_cast<double>(g * n);
                sb[i] += static_cast<double>(g);
              }
            }
          }
        });
        out.store(a.out[0], ws);
        for (i64 i = 0; i < size; ++i) {
          double tw = 0, tb = 0;
          for (i64 b = 0; b < blocks; ++b) {
            tw += scratch[2 * b * size + i];
            tb += scratch[(2 * b + 1) * size + i];
          }
          gw[i] = static_cast<P>(tw);
          gb[i] = static_cast<P>(tb);
        }
      },
      bytes);
}

}  // namespace

RefPtr<Plan> plan_layer_norm(const PlanRequest& r) {
  if (r.policy.vendor) {
    if (RefPtr<Plan> v = onednn::plan_layer_norm(r, r.attrs<LayerNormAttrs>().eps)) return v;
  }
  return visit_floating(r.in[0].dtype,
                        [&](auto tag) { return forward_plan<typename decltype(tag)::type>(r); });
}
RefPtr<Plan> plan_layer_norm_grad(const PlanRequest& r) {
  if (r.policy.vendor) {
    if (RefPtr<Plan> v = onednn::plan_layer_norm_grad(r)) return v;
  }
  return visit_floating(r.in[1].dtype,
                        [&](auto tag) { return grad_plan<typename decltype(tag)::type>(r); });
}

}  // namespace tandem::cpu
