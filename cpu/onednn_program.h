// What the files that make plans of oneDNN's primitives share: how a primitive is described, in
// the API before 3.0 and since (nothing else knows the difference), and the plan that runs it.
#pragma once
#include <atomic>
#include <dnnl.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cpu/onednn.h"
#include "cpu/operand.h"

namespace tandem::cpu::onednn {

using Memory = dnnl::memory::desc;
using Layout = dnnl::memory::dims;

const dnnl::engine& engine();
const dnnl::stream& stream();

/// Throws for a status that is not success.
void check(dnnl_status_t s);

/// Tells OpenMP of this thread the number of threads that is set: oneDNN asks there.
void agree_on_threads();

// ------------------------------------------------------------------- the API, before 3.0 and since

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

// Since 3.0 pooling knows dilation, and normalisation a layout of its own for what it writes.

inline auto describe_pooling(const dnnl::primitive_attr& attr, dnnl::algorithm how,
                             const Memory& from, const Memory& to, const Layout& stride,
                             const Layout& kernel, const Layout& before, const Layout& after) {
  const auto kind = dnnl::prop_kind::forward_inference;
#if DNNL_VERSION_MAJOR >= 3
  return describe<dnnl::pooling_forward>(attr, kind, how, from, to, stride, kernel, Layout{0, 0},
                                         before, after);
#else
  return describe<dnnl::pooling_forward>(attr, kind, how, from, to, stride, kernel, before, after);
#endif
}
inline auto describe_pooling_grad(const dnnl::primitive_attr& attr,
                                  const dnnl::pooling_forward::primitive_desc& hint,
                                  dnnl::algorithm how, const Memory& from, const Memory& to,
                                  const Layout& stride, const Layout& kernel, const Layout& before,
                                  const Layout& after) {
  using P = dnnl::pooling_backward;
#if DNNL_VERSION_MAJOR >= 3
  return describe_backward<P>(attr, hint, how, from, to, stride, kernel, Layout{0, 0}, before,
                              after);
#else
  return describe_backward<P>(attr, hint, how, from, to, stride, kernel, before, after);
#endif
}

inline const auto kScaleAndShift =
    dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift;

inline auto describe_layer_norm(const dnnl::primitive_attr& attr, const Memory& rows,
                                const Memory& statistics, float eps) {
  using P = dnnl::layer_normalization_forward;
  const auto kind = dnnl::prop_kind::forward_training;
#if DNNL_VERSION_MAJOR >= 3
  return describe<P>(attr, kind, rows, rows, statistics, eps, kScaleAndShift);
#else
  return describe<P>(attr, kind, rows, statistics, eps, kScaleAndShift);
#endif
}
inline auto describe_layer_norm_grad(const dnnl::primitive_attr& attr,
                                     const dnnl::layer_normalization_forward::primitive_desc& hint,
                                     const Memory& rows, const Memory& statistics, float eps) {
  using P = dnnl::layer_normalization_backward;
  const auto kind = dnnl::prop_kind::backward;
#if DNNL_VERSION_MAJOR >= 3
  return describe_backward<P>(attr, hint, kind, rows, rows, rows, statistics, eps, kScaleAndShift);
#else
  return describe_backward<P>(attr, hint, kind, rows, rows, statistics, eps, kScaleAndShift);
#endif
}

/// Scratch memory from the plan's workspace; `relu`: of the result.
dnnl::primitive_attr attributes(const Policy& policy = {}, bool relu = false);

// Of NaN the library's ReLU makes 0.
inline constexpr Exactness kEpilogue = Exactness::approximate;

// ---------------------------------------------------------------------------------- descriptions

inline bool known(DType t) {
  return t == DType::f32 || t == DType::bf16;
}
inline dnnl::memory::data_type type_of(DType t) {
  return t == DType::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}
inline Memory memory_of(const TensorDesc& d) {
  return {d.shape.vec(), type_of(d.dtype), d.strides.vec()};
}

/// The layout an image is computed in. `blocked` leaves it to the library.
enum class Inner : std::uint8_t { contiguous, channels_last, blocked };

inline Memory image(const TensorDesc& d, Inner layout) {
  using Tag = dnnl::memory::format_tag;
  return {d.shape.vec(), type_of(d.dtype),
          layout == Inner::contiguous      ? Tag::nchw
          : layout == Inner::channels_last ? Tag::nhwc
                                           : Tag::any};
}

/// The library has no kernel for the case, only code that shows what one should compute.
template <class Desc>
bool is_reference(const Desc& d) {
  return std::string_view(d.impl_info_str()).substr(0, 3) == "ref";
}
template <class Desc>
std::string name_of_plan(const Desc& d) {
  return std::string("onednn:") + d.impl_info_str();
}

// ------------------------------------------------------------------------------------------ plans

/// A few primitives run one after the other on inputs, outputs and pieces of the workspace.
class Program final : public Plan {
 public:
  enum class Place : std::uint8_t { input, output, workspace };

  ~Program() override;

  /// Input i is read in the dense layout `want`.
  void add_input(const TensorDesc& d, const Strides& want) {
    inputs_.emplace_back(d, want, workspace_bytes);
  }
  int input(int i, const Memory& m) { return add({m, Place::input, i}); }
  int output(const Memory& m, int i = 0) { return add({m, Place::output, i}); }
  int temporary(const Memory& m);

  using Args = std::vector<std::pair<int, int>>;  // dnnl argument -> memory
  template <class Desc>
  void run(const dnnl::primitive& p, const Desc& d, Args args) {
    const Memory scratch = d.scratchpad_desc();
    if (scratch.get_size() > 0) args.emplace_back(DNNL_ARG_SCRATCHPAD, temporary(scratch));
    steps_.push_back({p, std::move(args)});
  }
  void reorder(int from, int to);
  /// Memory `m` in the layout `want`, reordered now if it is in another.
  int converted(int m, const Memory& want);
  /// Where to write what shall end up in `m`; `reorder` it when it differs from `m`.
  int writable(int m, const Memory& have) { return slots_[m].desc == have ? m : temporary(have); }

  /// Builds what a launch needs, so that the first one allocates nothing either.
  void finish() { put_back(std::make_unique<Session>(*this)); }

  void launch(const LaunchArgs& a) const override;

 private:
  static constexpr std::size_t kMaxInputs = 5;
  struct Slot {
    Memory desc;
    Place place;
    std::int64_t at;  // number of the input or output, or workspace offset
  };
  struct Step {
    dnnl::primitive primitive;
    Args args;
  };

  // Memory objects remember their pointer, so no two launches at a time may share them.
  struct Session {
    explicit Session(const Program& p);
    std::vector<dnnl::memory> memories;
    std::vector<void*> pointers;
    std::vector<std::vector<dnnl_exec_arg_t>> args;
  };

  int add(Slot s) {
    slots_.push_back(std::move(s));
    return static_cast<int>(slots_.size()) - 1;
  }
  std::unique_ptr<Session> take_session() const;
  void put_back(std::unique_ptr<Session> s) const;

  std::vector<Operand> inputs_;
  std::vector<Slot> slots_;
  std::vector<Step> steps_;
  mutable std::atomic<Session*> idle_[8] = {};
};

}  // namespace tandem::cpu::onednn
