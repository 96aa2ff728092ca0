#include "core/tensor.h"

#include <cstring>

#include "core/backend.h"
#include "core/dispatch.h"

namespace tandem {

TensorImpl::TensorImpl(RefPtr<Storage> s, const TensorDesc& d, std::int64_t off)
    : storage(std::move(s)), desc(d), offset(off) {}
TensorImpl::~TensorImpl() = default;

Tensor Tensor::empty(const TensorDesc& desc) {
  checked_numel(desc.shape, "empty");
  return Tensor(
      RefPtr<TensorImpl>(new TensorImpl(Storage::allocate(desc.bytes(), desc.device), desc, 0)));
}

Tensor Tensor::from_host(const void* values, std::size_t count, DType dtype, const Shape& shape,
                         Device device, const SrcLoc& loc) {
  const ErrorSite at(loc);
  const auto n = checked_numel(shape, "from");
  if (static_cast<std::size_t>(n) != count) {
    fail<ShapeError>("from", "as many values as the shape has elements",
                     fmt::format("{} values for shape {}", count, shape.str()), std::to_string(n));
  }
  Tensor t = empty({dtype, device, shape});
  const std::size_t bytes = count * size_of(dtype);
  if (bytes) {
    if (device.is_cpu()) {
      std::memcpy(t.raw_data(), values, bytes);
    } else {
      backend(device).copy(t.raw_data(), device, values, kCPU, bytes);
    }
  }
  Interceptor* i = dispatch::interceptor();
  return i ? i->constant(std::move(t)) : t;
}

void detail::refuse_undefined(const char* op, std::size_t i, std::size_t count, const SrcLoc& loc) {
  const ErrorSite at(loc);
  fail(op, count == 1 ? "the input must be defined" : fmt::format("input {} must be defined", i),
       "an undefined tensor", "a tensor with values");
}

void Tensor::refuse_undefined() {
  fail("tensor", "the tensor must be defined", "an undefined tensor", "a tensor with values");
}

std::int64_t Tensor::dim(int axis, SrcLoc loc) const {
  const ErrorSite at(loc);
  if (rank() == 0) fail<IndexError>("dim", "a 0-dim tensor has no axes", std::to_string(axis));
  return shape()[wrap_axis(axis, rank(), "dim")];
}

void Tensor::refuse_symbolic(const char* what) const {
  fail<CaptureError>(what,
                     "a value of a program being captured has no data: it exists only when the "
                     "compiled program runs (a read of it cannot steer the program)",
                     desc().str());
}

namespace {
// A value read while a program is recorded would be frozen into it, also that of a tensor from
// outside, whose writes so far in this program have not happened.
void refuse_in_capture(const char* what, const Tensor& t) {
  const Interceptor* i = dispatch::interceptor();
  if (!i || !i->records()) return;
  fail<CaptureError>(what,
                     "a captured program cannot read values: replay would not read them again",
                     t.desc().str(), "the tensor as a result, read outside");
}
}  // namespace

void Tensor::expect_values(const char* what) const {
  if (is_symbolic()) refuse_symbolic(what);
  refuse_in_capture(what, *this);
}

void Tensor::check_host(const char* what, DType t, const SrcLoc& loc) const {
  const ErrorSite at(loc);
  refuse_in_capture(what, *this);
  if (dtype() != t) fail<TypeError>(what, "wrong element type", name_of(t), name_of(dtype()));
  if (!device().is_cpu()) {
    fail<DeviceError>(what, "the tensor must be in host memory", device().str(), "cpu");
  }
}

namespace {

// Visits the elements of `d` in row-major order, as element offsets.
template <class F>
void for_each_offset(const TensorDesc& d, F&& f) {
  const std::int64_t n = d.numel();
  if (n == 0) return;
  const int r = d.rank();
  Dims idx(r, 0);
  std::int64_t off = 0;
  for (std::int64_t k = 0;; ++k) {
    f(k, off);
    if (k + 1 == n) return;
    for (int a = r - 1;; --a) {
      off += d.strides[a];
      if (++idx[a] < d.shape[a]) break;
      off -= idx[a] * d.strides[a];
      idx[a] = 0;
    }
  }
}

}  // namespace

void Tensor::copy_to_host(void* out, DType to) const {
  if (!is_symbolic()) refuse_in_capture("to_vector", *this);
  const void* src = raw_data();
  std::vector<char> host;
  if (!device().is_cpu() && numel() > 0) {
    host.resize(desc().bytes());
    backend(device()).copy(host.data(), kCPU, src, device(), host.size());
    src = host.data();
  }
  visit_dtype(dtype(), [&](auto from_tag) {
    using From = typename decltype(from_tag)::type;
    visit_dtype(to, [&](auto to_tag) {
      using To = typename decltype(to_tag)::type;
      const From* s = static_cast<const From*>(src);
      To* o = static_cast<To*>(out);
      for_each_offset(desc(),
                      [&](std::int64_t k, std::int64_t off) { o[k] = convert<To>(s[off]); });
    });
  });
}

std::vector<bool> Tensor::to_bools() const {
  const auto v = to_vector<std::uint8_t>();
  return {v.begin(), v.end()};
}

std::vector<std::uint64_t> Tensor::to_bits() const {
  std::vector<std::uint64_t> v(static_cast<std::size_t>(numel()));
  copy_to_host(v.data(), is_floating(dtype()) ? DType::f64 : DType::i64);
  return v;
}

Scalar Tensor::item_scalar(SrcLoc loc) const {
  const ErrorSite at(loc);
  expect_values("item");
  if (numel() != 1) {
    fail<ShapeError>("item", "the tensor must have exactly one element", desc().str());
  }
  if (is_floating(dtype())) {
    double v;
    copy_to_host(&v, DType::f64);
    return v;
  }
  std::int64_t v;
  copy_to_host(&v, DType::i64);
  return dtype() == DType::boolean ? Scalar(v != 0) : Scalar(v);
}

}  // namespace tandem
