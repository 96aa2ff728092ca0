// All elementwise ops, one at a time (fused chains are generated: fused.cpp). Kernels are compiled
// for each op and compute type; how elements are stored is read at run time, the same for all
// threads, but for the common case of contiguous 32- and 16-bit floats.
#include "cuda/elementwise.h"

#include <algorithm>
#include <limits>

#include "core/functors.h"
#include "cuda/kernel.h"
#include "cuda/loops.h"
#include "cuda/pack.h"
#include "ops/create.h"
#include "ops/elementwise.h"
#include "ops/fused.h"

namespace tandem::cuda {
namespace {

using i64 = long long;

constexpr DType tile_type(DType t) {
  return is_low_precision(t) ? DType::f32 : t;
}

/// An input: elements in memory, or one number known beforehand.
struct Source {
  const void* data = nullptr;  // null: `Arguments::scalar`
  DType dtype = DType::f32;
  DType via = DType::f32;  // a 16-bit type the value is rounded to on its way; f32: none
};

template <class T>
struct Arguments {
  Source in[3];
  T scalar = T();
  T params[2] = {};
  void* out = nullptr;
  DType out_dtype = DType::f32;
};

template <class T>
__device__ T load_element(const void* p, DType t, i64 i) {
  switch (t) {
    case DType::f32: return convert<T>(static_cast<const float*>(p)[i]);
    case DType::f64: return convert<T>(static_cast<const double*>(p)[i]);
    case DType::f16: return convert<T>(static_cast<const Half*>(p)[i]);
    case DType::bf16: return convert<T>(static_cast<const BFloat16*>(p)[i]);
    case DType::i32: return convert<T>(static_cast<const std::int32_t*>(p)[i]);
    case DType::i64: return convert<T>(static_cast<const std::int64_t*>(p)[i]);
    case DType::u8: return convert<T>(static_cast<const std::uint8_t*>(p)[i]);
    case DType::boolean: break;
  }
  return convert<T>(static_cast<const bool*>(p)[i]);
}

template <class T>
__device__ void store_element(void* p, DType t, i64 i, T v) {
  switch (t) {
    case DType::f32: static_cast<float*>(p)[i] = convert<float>(v); return;
    case DType::f64: static_cast<double*>(p)[i] = convert<double>(v); return;
    case DType::f16: static_cast<Half*>(p)[i] = convert<Half>(v); return;
    case DType::bf16: static_cast<BFloat16*>(p)[i] = convert<BFloat16>(v); return;
    case DType::i32: static_cast<std::int32_t*>(p)[i] = convert<std::int32_t>(v); return;
    case DType::i64: static_cast<std::int64_t*>(p)[i] = convert<std::int64_t>(v); return;
    case DType::u8: static_cast<std::uint8_t*>(p)[i] = convert<std::uint8_t>(v); return;
    case DType::boolean: break;
  }
  static_cast<bool*>(p)[i] = convert<bool>(v);
}

template <class T>
__device__ T load_source(const Arguments<T>& a, int k, i64 at) {
  const Source& s = a.in[k];
  if (s.data == nullptr) return a.scalar;
  // Numbers are converted as a cast of their own would, by way of the promoted type.
  if constexpr (std::is_same_v<T, compute_t<Half>>) {
    if (s.via == DType::f16) return convert<T>(load_element<Half>(s.data, s.dtype, at));
    if (s.via == DType::bf16) return convert<T>(load_element<BFloat16>(s.data, s.dtype, at));
  }
  return load_element<T>(s.data, s.dtype, at);
}

/// The functor of an op, on values.
template <OpId Op>
struct Function;
#define TANDEM_FUNCTION(name)              \
  template <>                              \
  struct Function<OpId::name##_> {         \
    template <class... X>                  \
    __device__ static auto apply(X... x) { \
      return functor::name::apply(x...);   \
    }                                      \
  };
// clang-format off
#define TANDEM_CUDA_FUNCTORS(X) \
  X(neg) X(abs) X(sign) X(floor) X(ceil) X(round) X(square) X(reciprocal) \
  X(exp) X(log) X(log1p) X(sqrt) X(rsqrt) X(sin) X(cos) X(acos) X(asin) \
  X(atan) X(erf) X(tanh) X(sigmoid) X(relu) X(leaky_relu) X(gelu) X(silu) X(softplus) X(clamp) \
  X(logical_not) X(isnan) \
  X(add) X(sub) X(mul) X(div) X(pow) X(floor_divide) X(remainder) X(maximum) X(minimum) \
  X(eq) X(ne) X(lt) X(le) X(gt) X(ge) X(logical_and) X(logical_or) \
  X(where) \
  X(tanh_grad) X(sigmoid_grad) X(relu_grad) X(leaky_relu_grad) X(gelu_grad) X(silu_grad) \
  X(softplus_grad) X(clamp_grad)
// clang-format on
TANDEM_CUDA_FUNCTORS(TANDEM_FUNCTION)
#undef TANDEM_FUNCTION

template <OpId Op, class T>
__device__ auto compute(const Arguments<T>& a, const i64* at) {
  constexpr ElementwiseRule rule = elementwise_rule(Op);
  if constexpr (rule.types == TypeRule::select) {
    const bool c = load_element<bool>(a.in[0].data, a.in[0].dtype, at[0]);
    return Function<Op>::apply(c, load_source(a, 1, at[1]), load_source(a, 2, at[2]), a.params);
  } else if constexpr (rule.arity == 2) {
    return Function<Op>::apply(load_source(a, 0, at[0]), load_source(a, 1, at[1]), a.params);
  } else {
    return Function<Op>::apply(load_source(a, 0, at[0]), a.params);
  }
}

struct Steps {
  i64 of[4];
};

// at[k] = i * step[k]: everything in order, or one element for all.
template <OpId Op, class T, int N>
__global__ void in_order(Arguments<T> a, Steps step, i64 n) {
  const i64(&steps)[4] = step.of;
  for (i64 i = global_index(); i < n; i += global_size()) {
    i64 at[N];
    for (int k = 0; k < N; ++k) at[k] = i * steps[k];
    store_element(a.out, a.out_dtype, i, compute<Op>(a, at));
  }
}

template <OpId Op, class T, int N>
__global__ void strided(Arguments<T> a, Walk<N + 1> walk) {
  for (i64 i = global_index(); i < walk.count; i += global_size()) {
    i64 at[N + 1];
    walk.offsets(i, at);
    store_element(a.out, a.out_dtype, at[N], compute<Op>(a, at));
  }
}

// Contiguous floats of one storage type S, 16 bytes an access.
template <class S>
using Wide = Pack<S, 16 / static_cast<int>(sizeof(S))>;

template <OpId Op, class S, int N>
__global__ void packed(Arguments<float> a, i64 packs, i64 n) {
  using P = Wide<S>;
  S* out = static_cast<S*>(a.out);
  const auto value = [&](int k, const S* x) {
    return a.in[k].data == nullptr ? a.scalar : convert<float>(*x);
  };
  const auto one = [&](const S* x, const S* y) {
    if constexpr (N == 1) return convert<S>(Function<Op>::apply(value(0, x), a.params));
    if constexpr (N == 2)
      return convert<S>(Function<Op>::apply(value(0, x), value(1, y), a.params));
  };
  for (i64 i = global_index(); i < packs; i += global_size()) {
    P in[2], result;
    for (int k = 0; k < N; ++k) {
      if (a.in[k].data != nullptr) in[k] = static_cast<const P*>(a.in[k].data)[i];
    }
    for (int j = 0; j < P::size; ++j) result.v[j] = one(&in[0].v[j], &in[1].v[j]);
    reinterpret_cast<P*>(out)[i] = result;
  }
  // What is left of the last pack.
  for (i64 i = packs * P::size + global_index(); i < n; i += global_size()) {
    const S* x = static_cast<const S*>(a.in[0].data);
    const S* y = static_cast<const S*>(a.in[1].data);
    out[i] = one(x ? x + i : nullptr, y ? y + i : nullptr);
  }
}

/// An op's kernels for values of type T.
template <class T, int N>
struct Kernels {
  void (*in_order)(Arguments<T>, Steps, i64) = nullptr;
  void (*strided)(Arguments<T>, Walk<N + 1>) = nullptr;
  // Of f32, f16 and bf16 in memory; null: there is none for this op.
  void (*packed[3])(Arguments<T>, i64 packs, i64) = {};
};

template <OpId Op, class T>
auto kernels_of() {
  constexpr ElementwiseRule rule = elementwise_rule(Op);
  constexpr int N = rule.arity;
  Kernels<T, N> k{in_order<Op, T, N>, strided<Op, T, N>};
  if constexpr (std::is_same_v<T, float> && rule.types != TypeRule::test && N < 3) {
    k.packed[0] = packed<Op, float, N>;
    k.packed[1] = packed<Op, Half, N>;
    k.packed[2] = packed<Op, BFloat16, N>;
  }
  return k;
}

template <class T, int N>
auto packed_for(const Kernels<T, N>& kernels, DType storage) {
  switch (storage) {
    case DType::f32: return kernels.packed[0];
    case DType::f16: return kernels.packed[1];
    case DType::bf16: return kernels.packed[2];
    default: return decltype(kernels.packed[0])(nullptr);
  }
}

/// What a plan knows before it sees pointers.
template <class T>
struct Prepared {
  Arguments<T> args;
  int input[3] = {-1, -1, -1};  // launch input of each source; -1: the scalar
};

template <class T>
Arguments<T> bind(const Prepared<T>& p, const LaunchArgs& l) {
  Arguments<T> a = p.args;
  for (int k = 0; k < 3; ++k) {
    a.in[k].data = p.input[k] < 0 ? nullptr : l.in[p.input[k]];
  }
  a.out = l.out[0];
  return a;
}

// Of the op only the kernels differ: what is compiled for each op is no more than that.
template <class T, int N>
RefPtr<Plan> plan_as(const PlanRequest& r, const Prepared<T>& p, const Kernels<T, N>& kernels) {
  const TensorDesc& out = r.out[0];
  const i64 n = out.numel();
  std::array<const TensorDesc*, N + 1> operand = {};
  for (int k = 0; k < N; ++k) {
    if (p.input[k] >= 0) operand[k] = &r.in[static_cast<std::size_t>(p.input[k])];
  }
  operand[N] = &out;
  const Axes<N + 1> axes = axes_of<N + 1>(out, operand);
  const bool flat = axes.rank() <= 1 && (axes.rank() == 0 || axes.stride[N][0] == 1);
  if (!flat) {
    return make_plan("cuda:elementwise_strided",
                     [p, w = walk_of(axes), kernel = kernels.strided](const LaunchArgs& l) {
                       launch(l, grid_for(w.count), kernel, bind(p, l), w);
                     });
  }
  Steps steps = {};
  bool dense = true;  // every input in order, or the scalar
  for (int k = 0; k < N; ++k) {
    steps.of[k] = axes.rank() == 0 ? 0 : axes.stride[k][0];
    const bool in_line =
        p.input[k] < 0 || (operand[k]->dtype == out.dtype && (steps.of[k] == 1 || n == 1));
    dense = dense && in_line && p.args.in[k].via == DType::f32;
  }
  if (const auto kernel = packed_for(kernels, out.dtype); kernel && dense) {
    return make_plan(
        "cuda:elementwise",
        [p, n, kernel, size = 16 / static_cast<i64>(size_of(out.dtype))](const LaunchArgs& l) {
          const Arguments<T> a = bind(p, l);
          // A view may begin anywhere.
          std::uintptr_t low = reinterpret_cast<std::uintptr_t>(a.out);
          for (int k = 0; k < N; ++k) low |= reinterpret_cast<std::uintptr_t>(a.in[k].data);
          const i64 packs = low % 16 == 0 ? n / size : 0;
          launch(l, grid_for(packs ? packs : n, packs ? 2 : 1), kernel, a, packs, n);
        });
  }
  return make_plan("cuda:elementwise",
                   [p, n, steps, kernel = kernels.in_order](const LaunchArgs& l) {
                     launch(l, grid_for(n, 4), kernel, bind(p, l), steps, n);
                   });
}

/// clamp's missing bounds; values outside of T's range are cut.
template <class T>
void set_params(OpId op, const std::array<Scalar, 2>& given, T (&params)[2]) {
  using L = std::numeric_limits<T>;
  const bool bounds = op == OpId::clamp_ || op == OpId::clamp_grad_;
  for (int i = 0; i < 2; ++i) {
    if constexpr (std::is_floating_point_v<T>) {
      const T none = i == 0 ? -L::infinity() : L::infinity();
      params[i] = given[i].defined() ? given[i].to<T>() : (bounds ? none : T(0));
    } else if (bounds) {
      const std::int64_t lo = L::lowest(), hi = L::max();
      params[i] =
          static_cast<T>(given[i].defined() ? std::clamp<std::int64_t>(given[i].to_int(), lo, hi)
                                            : (i == 0 ? lo : hi));
    } else {
      params[i] = given[i].defined() ? given[i].to<T>() : T(0);
    }
  }
}

template <class T, int N>
RefPtr<Plan> plan_op(const PlanRequest& r, DType promoted, const Kernels<T, N>& kernels) {
  const auto op = static_cast<OpId>(r.op.id);
  const FusedStep s = fused_step(op, r.attr_data, r.out[0].dtype, static_cast<int>(r.in.size()));
  const bool scalar = N == 2 && r.in.size() == 1;
  Prepared<T> p;
  p.args.out_dtype = r.out[0].dtype;
  int next = 0;
  for (int k = 0; k < N; ++k) {
    if (scalar && k == (s.reversed ? 0 : 1)) continue;
    p.input[k] = next++;
    Source& source = p.args.in[k];
    source.dtype = r.in[static_cast<std::size_t>(p.input[k])].dtype;
    const bool condition = elementwise_rule(op).types == TypeRule::select && k == 0;
    if (!condition && is_low_precision(promoted) && source.dtype != promoted) source.via = promoted;
  }
  if (scalar) {
    p.args.scalar = s.params[0].to<T>();
  } else {
    set_params(op, s.params, p.args.params);
  }
  return plan_as(r, p, kernels);
}

DType compute_type_of(const PlanRequest& r) {
  const auto op = static_cast<OpId>(r.op.id);
  const ElementwiseRule rule = elementwise_rule(op);
  if (rule.types != TypeRule::test) return r.out[0].dtype;
  DType types[3];
  for (std::size_t i = 0; i < r.in.size(); ++i) types[i] = r.in[i].dtype;
  const FusedStep s = fused_step(op, r.attr_data, r.out[0].dtype, static_cast<int>(r.in.size()));
  const bool scalar = rule.arity == 2 && r.in.size() == 1;
  return elementwise_compute_type(op, {types, r.in.size()}, scalar ? s.params[0] : Scalar());
}

template <OpId Op>
RefPtr<Plan> plan_types(const PlanRequest& r) {
  constexpr ElementwiseRule rule = elementwise_rule(Op);
  const DType t = compute_type_of(r);
  switch (tile_type(t)) {
    case DType::f32: return plan_op(r, t, kernels_of<Op, float>());
    case DType::f64: return plan_op(r, t, kernels_of<Op, double>());
    default: break;
  }
  if constexpr (rule.types != TypeRule::floating) {
    switch (t) {
      case DType::i32: return plan_op(r, t, kernels_of<Op, std::int32_t>());
      case DType::i64: return plan_op(r, t, kernels_of<Op, std::int64_t>());
      case DType::u8: return plan_op(r, t, kernels_of<Op, std::uint8_t>());
      default: break;
    }
    if constexpr (rule.bools) {
      if (t == DType::boolean) return plan_op(r, t, kernels_of<Op, bool>());
    }
  }
  fail<TypeError>(r.op.name, "no CUDA kernel for this type", name_of(t));
}

// ------------------------------------------------------------------------------ copies, casts

/// How many elements are cast at a time: 16 bytes of the wider type.
template <class To, class From>
inline constexpr int kCastPack = 16 / static_cast<int>(std::max(sizeof(To), sizeof(From)));

// Contiguous to contiguous, the first ones in packs.
template <class To, class From>
__global__ void cast_in_order(To* to, const From* from, i64 packs, i64 n) {
  constexpr int N = kCastPack<To, From>;
  for (i64 i = global_index(); i < packs; i += global_size()) {
    const auto in = reinterpret_cast<const Pack<From, N>*>(from)[i];
    Pack<To, N> out;
    for (int k = 0; k < N; ++k) out.v[k] = convert<To>(in.v[k]);
    reinterpret_cast<Pack<To, N>*>(to)[i] = out;
  }
  for (i64 i = packs * N + global_index(); i < n; i += global_size()) to[i] = convert<To>(from[i]);
}

template <class To, class From>
__global__ void cast_strided(To* to, const From* from, Walk<2> w) {
  for (i64 i = global_index(); i < w.count; i += global_size()) {
    i64 at[2];
    w.offsets(i, at);
    to[at[0]] = convert<To>(from[at[1]]);
  }
}

struct CopyTo {
  enum class Place { output, input } to = Place::output;
  int from = 0;
};

template <class To, class From>
RefPtr<Plan> plan_convert(const Axes<2>& axes, CopyTo where, const char* name) {
  const bool flat =
      axes.rank() == 0 || (axes.rank() == 1 && axes.stride[0][0] == 1 && axes.stride[1][0] == 1);
  return make_plan(name, [w = walk_of(axes), flat, where](const LaunchArgs& l) {
    To* to = static_cast<To*>(where.to == CopyTo::Place::output ? l.out[0] : l.in[0]);
    const From* from = static_cast<const From*>(l.in[where.from]);
    if (!flat) return launch(l, grid_for(w.count, 4), cast_strided<To, From>, to, from, w);
    constexpr int N = kCastPack<To, From>;
    const i64 packs = pack_aligned<N>(to) && pack_aligned<N>(from) ? w.count / N : 0;
    launch(l, grid_for(packs ? packs : w.count, packs ? 2 : 4), cast_in_order<To, From>, to, from,
           packs, w.count);
  });
}

RefPtr<Plan> plan_copy(const TensorDesc& to, const TensorDesc& from, CopyTo where,
                       const char* name) {
  const Axes<2> axes = axes_of<2>(to, std::array{&to, &from});
  if (to.dtype == from.dtype) {
    return visit_size(size_of(to.dtype), [&](auto tag) {
      using U = typename decltype(tag)::type;
      return plan_convert<U, U>(axes, where, name);
    });
  }
  return visit_dtype(to.dtype, [&](auto a) {
    return visit_dtype(from.dtype, [&](auto b) -> RefPtr<Plan> {
      return plan_convert<typename decltype(a)::type, typename decltype(b)::type>(axes, where,
                                                                                  name);
    });
  });
}

// ----------------------------------------------------------------------------------- constants

template <class U>
__global__ void fill_kernel(U* to, U value, Walk<1> w) {
  for (i64 i = global_index(); i < w.count; i += global_size()) {
    i64 at[1] = {i};
    if (w.rank > 1 || (w.rank == 1 && w.stride[0][0] != 1)) w.offsets(i, at);
    to[at[0]] = value;
  }
}

RefPtr<Plan> plan_constant(const TensorDesc& d, const Scalar& value, bool output) {
  if (d.numel() == 0) return empty_plan("cuda:fill");
  const Axes<1> axes = axes_of<1>(d, std::array{&d});
  return visit_dtype(d.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T v = convert<T>(value.to<compute_t<T>>());
    return visit_size(sizeof(T), [&](auto size) -> RefPtr<Plan> {
      using U = typename decltype(size)::type;
      U bits;
      std::memcpy(&bits, &v, sizeof bits);
      return make_plan("cuda:fill", [w = walk_of(axes), bits, output](const LaunchArgs& l) {
        launch(l, grid_for(w.count, 4), fill_kernel<U>,
               static_cast<U*>(output ? l.out[0] : l.in[0]), bits, w);
      });
    });
  });
}

template <class T, class S>
__global__ void arange_kernel(T* out, S begin, S step, i64 n) {
  for (i64 i = global_index(); i < n; i += global_size()) {
    out[i] = convert<T>(math::place_in_range(begin, step, i));
  }
}

}  // namespace

RefPtr<Plan> plan_elementwise(const PlanRequest& r) {
  if (r.out[0].numel() == 0) return empty_plan("cuda:elementwise");
  switch (static_cast<OpId>(r.op.id)) {
    case OpId::copy_:
    case OpId::cast_: return plan_copy(r.out[0], r.in[0], {}, "cuda:copy");
#define TANDEM_CASE(name) \
  case OpId::name##_: return plan_types<OpId::name##_>(r);
      TANDEM_CUDA_FUNCTORS(TANDEM_CASE)
#undef TANDEM_CASE
    default: fail<InternalError>(r.op.name, "is not an elementwise op");
  }
}

RefPtr<Plan> plan_full(const PlanRequest& r) {
  return plan_constant(r.out[0], r.attrs<FullAttrs>().value, true);
}
RefPtr<Plan> plan_fill(const PlanRequest& r) {
  return plan_constant(r.in[0], r.attrs<FillAttrs>().value, false);
}
RefPtr<Plan> plan_assign(const PlanRequest& r) {
  if (r.in[0].numel() == 0) return empty_plan("cuda:assign");
  return plan_copy(r.in[0], r.in[1], {.to = CopyTo::Place::input, .from = 1}, "cuda:assign");
}
RefPtr<Plan> plan_arange(const PlanRequest& r) {
  const auto& a = r.attrs<ArangeAttrs>();
  const bool real = a.begin.kind() == Scalar::Kind::real || a.step.kind() == Scalar::Kind::real;
  const i64 n = a.count;
  if (n == 0) return empty_plan("cuda:arange");
  return visit_dtype(a.dtype, [&](auto tag) -> RefPtr<Plan> {
    using T = typename decltype(tag)::type;
    if (real) {
      return make_plan(
          "cuda:arange", [n, b = a.begin.to_double(), s = a.step.to_double()](const LaunchArgs& l) {
            launch(l, grid_for(n, 4), arange_kernel<T, double>, static_cast<T*>(l.out[0]), b, s, n);
          });
    }
    return make_plan("cuda:arange", [n, b = a.begin.to_int(),
                                     s = a.step.to_int()](const LaunchArgs& l) {
      launch(l, grid_for(n, 4), arange_kernel<T, std::int64_t>, static_cast<T*>(l.out[0]), b, s, n);
    });
  });
}

StridedCopy::StridedCopy(const TensorDesc& to, const TensorDesc& from)
    : plan_(to.numel() == 0 ? empty_plan("cuda:copy") : plan_copy(to, from, {}, "cuda:copy")) {}

void StridedCopy::run(const LaunchArgs& args, void* to, const void* from) const {
  void* in[1] = {const_cast<void*>(from)};
  void* out[1] = {to};
  plan_->launch({in, out, nullptr, args.stream});
}

}  // namespace tandem::cuda
