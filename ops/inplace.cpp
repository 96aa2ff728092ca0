// Tensor's in-place methods. Where the op's result has exactly the description of the tensor, the
// kernel writes over it, and the tape follows. Otherwise (another type, a view with gaps) the
// result is computed and assigned, which the tape cannot follow and which is refused when it would
// have to.
#include "core/dispatch.h"
#include "ops/create.h"
#include "ops/elementwise.h"

namespace tandem {

namespace {

bool on_tape(const Tensor& t) {
  return grad_enabled() && t.requires_grad();
}

void refuse_on_tape(const char* name, const Tensor& self, const Tensor* src) {
  if (on_tape(self) || (src && on_tape(*src))) {
    fail<AutogradError>(name,
                        "the tape does not follow copies and fills in place, nor in-place "
                        "arithmetic into a view with gaps or of another dtype",
                        self.desc().str(), "the out-of-place operation, or no_grad");
  }
}

/// self := op(self, other…)
Tensor& write(Tensor& self, const OpDef& op, const char* name, const Tensor* other,
              const BinaryAttrs& attrs, const SrcLoc& loc) {
  const FunctionSite at(name, loc);
  expect_defined(name, {&self, other ? other : &self}, loc);
  const TensorDesc* descs[2] = {&self.desc(), other ? &other->desc() : nullptr};
  const std::size_t n = other ? 2 : 1;
  const TensorDesc result = dispatch::prepare(op, {descs, n}, attrs).out[0];
  if (!(result.shape == self.shape())) {
    fail<ShapeError>(name, "an in-place operation cannot change the tensor's shape",
                     result.shape.str(), self.desc().str());
  }
  if (is_floating(result.dtype) && !is_floating(self.dtype())) {
    fail<TypeError>(name, "a floating result does not fit into an integral tensor",
                    name_of(result.dtype), name_of(self.dtype()));
  }
  // Another view of self's own memory would be read after parts of it were written.
  Tensor copied;
  if (other && !other->same_as(self) &&
      other->impl()->storage->same_memory(*self.impl()->storage)) {
    copied = copy({*other, loc});
    other = &copied;
  }
  if (result == self.desc()) {
    if (other) {
      dispatch::call_inplace(op, {&self, other}, attrs, loc);
    } else {
      dispatch::call_inplace(op, {&self}, attrs, loc);
    }
    return self;
  }
  refuse_on_tape(name, self, other);
  const Tensor r = other ? dispatch::call(op, {&self, other}, attrs, loc)[0]
                         : dispatch::call(op, {&self}, attrs, loc)[0];
  assign(self, r, loc);
  return self;
}

}  // namespace

Tensor& update(Tensor& self, const OpDef& op, const Tensor& other, SrcLoc loc) {
  return write(self, op, op.name, &other, {}, loc);
}
Tensor& update(Tensor& self, const OpDef& op, Scalar other, SrcLoc loc) {
  return write(self, op, op.name, nullptr, {other, false}, loc);
}

Tensor& Tensor::add_(const Tensor& other, SrcLoc loc) {
  return write(*this, op::add, "add_", &other, {}, loc);
}
Tensor& Tensor::sub_(const Tensor& other, SrcLoc loc) {
  return write(*this, op::sub, "sub_", &other, {}, loc);
}
Tensor& Tensor::mul_(const Tensor& other, SrcLoc loc) {
  return write(*this, op::mul, "mul_", &other, {}, loc);
}
Tensor& Tensor::add_(Scalar s, SrcLoc loc) {
  return write(*this, op::add, "add_", nullptr, {s, false}, loc);
}
Tensor& Tensor::mul_(Scalar s, SrcLoc loc) {
  return write(*this, op::mul, "mul_", nullptr, {s, false}, loc);
}

Tensor& Tensor::copy_(const Tensor& src, SrcLoc loc) {
  const FunctionSite at("copy_", loc);
  expect_defined("copy_", {this, &src}, loc);
  refuse_on_tape("copy_", *this, &src);
  assign(*this, src, loc);
  return *this;
}
Tensor& Tensor::fill_(Scalar value, SrcLoc loc) {
  const FunctionSite at("fill_", loc);
  expect_defined("fill_", {this}, loc);
  refuse_on_tape("fill_", *this, nullptr);
  fill(*this, value, loc);
  return *this;
}
Tensor& Tensor::zero_(SrcLoc loc) {
  const FunctionSite at("zero_", loc);
  return fill_(0, loc);
}

}  // namespace tandem
