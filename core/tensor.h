// Tensor: a handle to (storage, description, offset). Copying a Tensor copies the handle.
#pragma once
#include <initializer_list>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

#include "core/desc.h"
#include "core/scalar.h"
#include "core/storage.h"

namespace tandem {

class Tensor;

/// What autograd hangs on a tensor (core/grad_meta.h).
struct GradMeta;

/// What a Tensor points to.
struct TensorImpl final : public RefCounted, public Pooled<TensorImpl> {
  TensorImpl(RefPtr<Storage> s, const TensorDesc& d, std::int64_t off);
  ~TensorImpl() override;

  RefPtr<Storage> storage;
  TensorDesc desc;
  std::int64_t offset;           // bytes from the storage's start
  RefPtr<RefCounted> grad_meta;  // a GradMeta, or null while autograd has no interest
  // Symbolic tensors only: the value of the captured program, and the version of the storage at
  // which that value was current (graph/tracer.h).
  std::int32_t trace_value = -1;
  std::uint32_t trace_version = 0;
};

/// Of what type a new tensor is, and where.
struct TensorOptions {
  DType dtype = DType::f32;
  Device device = default_device();
};

/// A handle: copies are the same tensor. Views (slice, permute, …) share memory.
class Tensor {
 public:
  /// Undefined: no impl. Asking for anything but defined() is a ValueError.
  Tensor() = default;
  explicit Tensor(RefPtr<TensorImpl> impl) : impl_(std::move(impl)) {}

  /// Uninitialised memory. Not an operation: never recorded.
  static Tensor empty(const TensorDesc& desc);
  /// Copies host values to the device. Inside a capture this is a constant of the program.
  /// ShapeError unless there are as many as the shape has elements.
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape,
                     Device device = default_device(), SrcLoc loc = SrcLoc::current()) {
    return from_host(values.data(), values.size(), dtype_of<T>::value, shape, device, loc);
  }
  template <class T>
  static Tensor from(std::initializer_list<T> values, const Shape& shape,
                     Device device = default_device(), SrcLoc loc = SrcLoc::current()) {
    return from_host(values.begin(), values.size(), dtype_of<T>::value, shape, device, loc);
  }
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape,
                     Device device = default_device(), SrcLoc loc = SrcLoc::current()) {
    return from_host(values.data(), values.size(), dtype_of<T>::value, shape, device, loc);
  }

  bool defined() const { return static_cast<bool>(impl_); }
  const TensorDesc& desc() const { return checked().desc; }
  const Shape& shape() const { return desc().shape; }
  const Strides& strides() const { return desc().strides; }
  /// Size of an axis; a negative one counts from the end. Throws IndexError.
  std::int64_t dim(int axis, SrcLoc loc = SrcLoc::current()) const;
  int rank() const { return desc().rank(); }
  std::int64_t numel() const { return desc().numel(); }
  DType dtype() const { return desc().dtype; }
  Device device() const { return desc().device; }
  bool is_contiguous() const { return desc().is_contiguous(); }
  bool is_channels_last() const { return desc().is_channels_last(); }
  bool is_symbolic() const { return checked().storage->is_symbolic(); }

  /// Address of the first element, on whatever device it lives. CaptureError on a symbolic tensor.
  void* raw_data() const {
    if (is_symbolic()) refuse_symbolic("data");
    return static_cast<char*>(impl_->storage->data()) + impl_->offset;
  }
  /// Host pointer to elements of type T. Throws TypeError, DeviceError, CaptureError.
  template <class T>
  T* data(SrcLoc loc = SrcLoc::current()) const {
    check_host("data", dtype_of<T>::value, loc);
    return static_cast<T*>(raw_data());
  }
  /// Throws CaptureError inside a capture, where values cannot be read: `what` wants to.
  void expect_values(const char* what) const;
  /// The value of a one-element tensor. Throws ShapeError; CaptureError inside a capture.
  template <class T = double>
  T item(SrcLoc loc = SrcLoc::current()) const {
    const Scalar s = item_scalar(loc);
    return s.to<T>();
  }
  Scalar item_scalar(SrcLoc loc = SrcLoc::current()) const;
  /// All elements in row-major order, converted to T. Copies from the device when needed.
  template <class T>
  std::vector<T> to_vector(SrcLoc loc = SrcLoc::current()) const {
    const ErrorSite at(loc);
    std::vector<T> out(static_cast<std::size_t>(numel()));
    copy_to_host(out.data(), dtype_of<T>::value);
    return out;
  }
  std::vector<bool> to_bools() const;
  /// Each element as 64 bits: those of its double, of integers and bools those of its i64. Equal
  /// only for equal values; -0 differs from 0. As to_vector.
  std::vector<std::uint64_t> to_bits() const;

  std::string str() const;  // values, shape and dtype, as people read them

  // --- autograd (defined in autograd/)
  bool requires_grad() const;
  /// Marks a leaf. TypeError unless floating. Returns *this.
  Tensor& set_requires_grad(bool on = true, SrcLoc loc = SrcLoc::current());
  bool is_leaf() const;
  /// The accumulated gradient, undefined when there is none.
  Tensor grad() const;
  /// Replaces it; an undefined `g` drops it. ShapeError unless `g` has this shape and dtype.
  void set_grad(const Tensor& g, SrcLoc loc = SrcLoc::current());
  /// Accumulates d(this)/d(leaf) into every leaf's grad. `seed` defaults to 1 for one element.
  void backward(const Tensor& seed = {}, bool retain_graph = false, bool create_graph = false,
                SrcLoc loc = SrcLoc::current()) const;
  /// The same values, cut off from the tape.
  Tensor detach() const;

  // --- shape: views of the same storage, no copy unless it says so (defined in ops/). Axes may be
  // negative, counting from the end; IndexError for one that is not there.

  /// The elements in row-major order under another shape; one size may be -1. Copies if strides
  /// cannot express it. ShapeError unless the number of elements stays.
  Tensor reshape(const Shape& shape, SrcLoc loc = SrcLoc::current()) const;
  /// reshape that never copies: ShapeError where it would have to.
  Tensor view(const Shape& shape, SrcLoc loc = SrcLoc::current()) const;
  /// Axes start … end joined into one, copying as reshape does. ValueError if start > end.
  Tensor flatten(int start = 0, int end = -1, SrcLoc loc = SrcLoc::current()) const;
  /// Two axes exchanged.
  Tensor transpose(int a, int b, SrcLoc loc = SrcLoc::current()) const;
  /// The last two axes exchanged. ShapeError if there are none.
  Tensor t(SrcLoc loc = SrcLoc::current()) const;
  /// Axis i of the result is axis axes[i]. ShapeError unless each is named once.
  Tensor permute(const Dims& axes, SrcLoc loc = SrcLoc::current()) const;
  /// Without an axis of size 1; ShapeError for another size.
  Tensor squeeze(int axis, SrcLoc loc = SrcLoc::current()) const;
  /// With an axis of size 1 put in before `axis`. ShapeError beyond eight axes.
  Tensor unsqueeze(int axis, SrcLoc loc = SrcLoc::current()) const;
  /// Axes of size 1 (and new ones in front) repeated with stride 0; -1 keeps a size. ShapeError
  /// where the shapes do not broadcast.
  Tensor expand(const Shape& shape, SrcLoc loc = SrcLoc::current()) const;
  /// Elements begin, begin + step, … before `end` of one axis; bounds are cut to it, negative ones
  /// count from its end. ValueError unless step >= 1.
  Tensor slice(int axis, std::int64_t begin, std::int64_t end, std::int64_t step = 1,
               SrcLoc loc = SrcLoc::current()) const;
  /// One index of an axis, which goes; a negative one counts from the end. IndexError outside.
  Tensor select(int axis, std::int64_t index, SrcLoc loc = SrcLoc::current()) const;

  // --- conversion (defined in ops/): *this where nothing changes, else a copy

  /// Values converted: floating to integral truncates, anything but 0 (also NaN) is true.
  Tensor to(DType dtype, SrcLoc loc = SrcLoc::current()) const;
  /// On another device. Throws DeviceError.
  Tensor to(Device device, SrcLoc loc = SrcLoc::current()) const;
  /// In another memory order. ShapeError: channels_last needs four axes.
  Tensor to(MemoryFormat format, SrcLoc loc = SrcLoc::current()) const;
  /// Row-major and without gaps.
  Tensor contiguous(SrcLoc loc = SrcLoc::current()) const;
  /// Always a copy, dense, in the same memory order.
  Tensor clone(SrcLoc loc = SrcLoc::current()) const;

  // --- reductions and in-place writes people expect as methods (defined in ops/)

  /// See sum and mean of ops/reduce.h.
  Tensor sum(const Dims& axes = {}, bool keepdim = false, SrcLoc loc = SrcLoc::current()) const;
  Tensor mean(const Dims& axes = {}, bool keepdim = false, SrcLoc loc = SrcLoc::current()) const;
  /// *this := *this op other. `other` broadcasts to this shape (ShapeError) and the result is
  /// converted to this dtype (TypeError: floating into integral). AutogradError where the tape
  /// cannot follow the write.
  Tensor& add_(const Tensor& other, SrcLoc loc = SrcLoc::current());
  Tensor& sub_(const Tensor& other, SrcLoc loc = SrcLoc::current());
  Tensor& mul_(const Tensor& other, SrcLoc loc = SrcLoc::current());
  Tensor& mul_(Scalar s, SrcLoc loc = SrcLoc::current());
  Tensor& add_(Scalar s, SrcLoc loc = SrcLoc::current());
  /// Overwrites all elements with `src`, broadcast and converted to this dtype. AutogradError while
  /// the tape records either.
  Tensor& copy_(const Tensor& src, SrcLoc loc = SrcLoc::current());
  /// Overwrites all elements with one value. ValueError if the dtype cannot hold it; AutogradError
  /// while the tape records *this.
  Tensor& fill_(Scalar value, SrcLoc loc = SrcLoc::current());
  Tensor& zero_(SrcLoc loc = SrcLoc::current());

  TensorImpl* impl() const { return impl_.get(); }
  const RefPtr<TensorImpl>& impl_ref() const { return impl_; }
  bool same_as(const Tensor& o) const { return impl_ == o.impl_; }

 private:
  static Tensor from_host(const void* values, std::size_t count, DType dtype, const Shape& shape,
                          Device device, const SrcLoc& loc);
  void check_host(const char* what, DType t, const SrcLoc& loc) const;
  void copy_to_host(void* out, DType dtype) const;
  const TensorImpl& checked() const {
    if (!impl_) [[unlikely]]
      refuse_undefined();
    return *impl_;
  }
  [[noreturn]] static void refuse_undefined();
  [[noreturn]] void refuse_symbolic(const char* what) const;

  RefPtr<TensorImpl> impl_;
};

/// The values, as Tensor::str() shows them.
std::ostream& operator<<(std::ostream& os, const Tensor& t);

namespace detail {
[[noreturn]] void refuse_undefined(const char* op, std::size_t i, std::size_t count,
                                   const SrcLoc& loc);
}

/// ValueError naming `op`, and which of its inputs, if one is undefined. For functions that look at
/// their tensors before they are dispatched, where the same is checked.
inline void expect_defined(const char* op, std::initializer_list<const Tensor*> inputs,
                           const SrcLoc& loc) {
  std::size_t i = 0;
  for (const Tensor* t : inputs) {
    if (!t->defined()) [[unlikely]]
      detail::refuse_undefined(op, i, inputs.size(), loc);
    ++i;
  }
}
inline void expect_defined(const char* op, std::span<const Tensor> inputs, const SrcLoc& loc) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) [[unlikely]]
      detail::refuse_undefined(op, i, inputs.size(), loc);
  }
}

/// The first tensor argument of a public operation: carries the caller's line along.
struct In {
  const Tensor& t;
  SrcLoc loc;
  In(const Tensor& tensor, SrcLoc l = SrcLoc::current()) : t(tensor), loc(l) {}
  operator const Tensor&() const { return t; }
  const Tensor* operator->() const { return &t; }
};

}  // namespace tandem
