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
  /// Undefined: no impl. Only defined() may be asked.
  Tensor() = default;
  explicit Tensor(RefPtr<TensorImpl> impl) : impl_(std::move(impl)) {}

  /// Uninitialised memory. Not an operation: never recorded.
  static Tensor empty(const TensorDesc& desc);
  /// Copies host values to the device. Inside a capture this is a constant of the program.
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape,
                     Device device = default_device()) {
    return from_host(values.data(), values.size(), dtype_of<T>::value, shape, device);
  }
  template <class T>
  static Tensor from(std::initializer_list<T> values, const Shape& shape,
                     Device device = default_device()) {
    return from_host(values.begin(), values.size(), dtype_of<T>::value, shape, device);
  }
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape,
                     Device device = default_device()) {
    return from_host(values.data(), values.size(), dtype_of<T>::value, shape, device);
  }

  bool defined() const { return static_cast<bool>(impl_); }
  const TensorDesc& desc() const { return impl_->desc; }
  const Shape& shape() const { return impl_->desc.shape; }
  const Strides& strides() const { return impl_->desc.strides; }
  std::int64_t dim(int axis) const;  // negative counts from the end
  int rank() const { return impl_->desc.rank(); }
  std::int64_t numel() const { return impl_->desc.numel(); }
  DType dtype() const { return impl_->desc.dtype; }
  Device device() const { return impl_->desc.device; }
  bool is_contiguous() const { return impl_->desc.is_contiguous(); }
  bool is_channels_last() const { return impl_->desc.is_channels_last(); }
  bool is_symbolic() const { return impl_->storage->is_symbolic(); }

  /// Address of the first element, on whatever device it lives. CaptureError on a symbolic tensor.
  void* raw_data() const {
    if (impl_->storage->is_symbolic()) refuse_symbolic("data");
    return static_cast<char*>(impl_->storage->data()) + impl_->offset;
  }
  /// Host pointer to elements of type T. Throws TypeError, DeviceError, CaptureError.
  template <class T>
  T* data(SrcLoc loc = SrcLoc::current()) const {
    check_host("data", dtype_of<T>::value, loc);
    return static_cast<T*>(raw_data());
  }
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

  std::string str() const;  // values, shape and dtype, as people read them

  // --- autograd (defined in autograd/)
  bool requires_grad() const;
  /// Marks a leaf. TypeError unless floating. Returns *this.
  Tensor& set_requires_grad(bool on = true);
  bool is_leaf() const;
  /// The accumulated gradient, undefined when there is none.
  Tensor grad() const;
  void set_grad(const Tensor& g);
  /// Accumulates d(this)/d(leaf) into every leaf's grad. `seed` defaults to 1 for one element.
  void backward(const Tensor& seed = {}, bool retain_graph = false, bool create_graph = false,
                SrcLoc loc = SrcLoc::current()) const;
  /// The same values, cut off from the tape.
  Tensor detach() const;

  // --- shape: views of the same storage, no copy unless it says so (defined in ops/)
  Tensor reshape(const Shape& shape, SrcLoc loc = SrcLoc::current()) const;  // copies if it must
  Tensor view(const Shape& shape, SrcLoc loc = SrcLoc::current()) const;     // never copies
  Tensor flatten(int start = 0, int end = -1, SrcLoc loc = SrcLoc::current()) const;
  Tensor transpose(int a, int b, SrcLoc loc = SrcLoc::current()) const;
  Tensor t(SrcLoc loc = SrcLoc::current()) const;  // transpose of the last two axes
  Tensor permute(const Dims& axes, SrcLoc loc = SrcLoc::current()) const;
  Tensor squeeze(int axis, SrcLoc loc = SrcLoc::current()) const;
  Tensor unsqueeze(int axis, SrcLoc loc = SrcLoc::current()) const;
  Tensor expand(const Shape& shape, SrcLoc loc = SrcLoc::current()) const;
  Tensor slice(int axis, std::int64_t begin, std::int64_t end, std::int64_t step = 1,
               SrcLoc loc = SrcLoc::current()) const;
  Tensor select(int axis, std::int64_t index, SrcLoc loc = SrcLoc::current()) const;

  // --- conversion (defined in ops/)
  Tensor to(DType dtype, SrcLoc loc = SrcLoc::current()) const;
  Tensor to(Device device, SrcLoc loc = SrcLoc::current()) const;
  Tensor to(MemoryFormat format, SrcLoc loc = SrcLoc::current()) const;
  Tensor contiguous(SrcLoc loc = SrcLoc::current()) const;  // *this if it already is
  Tensor clone(SrcLoc loc = SrcLoc::current()) const;

  // --- reductions and in-place writes people expect as methods (defined in ops/)
  Tensor sum(const Dims& axes = {}, bool keepdim = false, SrcLoc loc = SrcLoc::current()) const;
  Tensor mean(const Dims& axes = {}, bool keepdim = false, SrcLoc loc = SrcLoc::current()) const;
  Tensor& add_(const Tensor& other, SrcLoc loc = SrcLoc::current());
  Tensor& sub_(const Tensor& other, SrcLoc loc = SrcLoc::current());
  Tensor& mul_(const Tensor& other, SrcLoc loc = SrcLoc::current());
  Tensor& mul_(Scalar s, SrcLoc loc = SrcLoc::current());
  Tensor& add_(Scalar s, SrcLoc loc = SrcLoc::current());
  Tensor& copy_(const Tensor& src, SrcLoc loc = SrcLoc::current());
  Tensor& fill_(Scalar value, SrcLoc loc = SrcLoc::current());
  Tensor& zero_(SrcLoc loc = SrcLoc::current());

  TensorImpl* impl() const { return impl_.get(); }
  const RefPtr<TensorImpl>& impl_ref() const { return impl_; }
  bool same_as(const Tensor& o) const { return impl_ == o.impl_; }

 private:
  static Tensor from_host(const void* values, std::size_t count, DType dtype, const Shape& shape,
                          Device device);
  void check_host(const char* what, DType t, const SrcLoc& loc) const;
  void copy_to_host(void* out, DType dtype) const;
  [[noreturn]] void refuse_symbolic(const char* what) const;

  RefPtr<TensorImpl> impl_;
};

std::ostream& operator<<(std::ostream& os, const Tensor& t);

/// The first tensor argument of a public operation: carries the caller's line along.
struct In {
  const Tensor& t;
  SrcLoc loc;
  In(const Tensor& tensor, SrcLoc l = SrcLoc::current()) : t(tensor), loc(l) {}
  operator const Tensor&() const { return t; }
  const Tensor* operator->() const { return &t; }
};

}  // namespace tandem
