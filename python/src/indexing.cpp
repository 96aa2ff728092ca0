#include "python/src/indexing.h"

#include "core/dispatch.h"
#include "ops/ops.h"

namespace tandem::python {
namespace {

/// What is left of a key after its basic part (a view) was taken: index arrays by axis of the view.
struct Resolved {
  Tensor view;
  std::vector<std::pair<int, Tensor>> arrays;  // i64 each
  Dims flipped;                                // axes with a negative step
};

// Positions of the true elements of a mask, one list per axis. They depend on values, so the host
// reads them.
std::vector<Tensor> nonzero(const Tensor& mask) {
  const auto values = mask.to_vector<std::uint8_t>(here());
  std::vector<std::vector<std::int64_t>> at(static_cast<std::size_t>(mask.rank()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!values[i]) continue;
    auto rest = static_cast<std::int64_t>(i);
    for (int d = mask.rank(); d-- > 0;) {
      at[static_cast<std::size_t>(d)].push_back(rest % mask.dim(d));
      rest /= mask.dim(d);
    }
  }
  std::vector<Tensor> r;
  for (const auto& v : at) {
    r.push_back(Tensor::from(v, {static_cast<std::int64_t>(v.size())}, mask.device()));
  }
  return r;
}

Resolved resolve(const Tensor& x, const py::object& key) {
  py::tuple parts =
      PyTuple_Check(key.ptr()) ? py::reinterpret_borrow<py::tuple>(key) : py::make_tuple(key);
  int named = 0, ellipses = 0;
  for (const py::handle p : parts) {
    if (p.ptr() == Py_Ellipsis) {
      ++ellipses;
    } else if (is_tensor(p.ptr()) && tensor_of(p.ptr()).dtype() == DType::boolean) {
      named += tensor_of(p.ptr()).rank();
    } else if (!p.is_none()) {
      ++named;
    }
  }
  if (ellipses > 1) fail<IndexError>("index", "at most one '...'", std::to_string(ellipses));
  Resolved r{x, {}, {}};
  int axis = 0;
  for (const py::handle p : parts) {
    if (p.ptr() == Py_Ellipsis) {
      axis += x.rank() - named;
      continue;
    }
    if (p.is_none()) {
      r.view = r.view.unsqueeze(axis++, here());
      continue;
    }
    if (axis >= r.view.rank()) {
      fail<IndexError>("index", "more indices than axes", std::to_string(named),
                       std::to_string(x.rank()));
    }
    if (PySlice_Check(p.ptr())) {
      Py_ssize_t begin, end, step;
      if (PySlice_Unpack(p.ptr(), &begin, &end, &step) < 0) throw py::error_already_set();
      const Py_ssize_t n = r.view.dim(axis);
      const Py_ssize_t count = PySlice_AdjustIndices(n, &begin, &end, step);
      if (step > 0) {
        r.view = r.view.slice(axis, begin, std::max(begin, end), step, here());
      } else {
        // The same elements from the other end, turned round.
        const Py_ssize_t first = begin + (count - 1) * step;
        r.view = count == 0 ? r.view.slice(axis, 0, 0, 1, here())
                            : r.view.slice(axis, first, begin + 1, -step, here());
        r.flipped.push_back(axis);
      }
      ++axis;
    } else if ((is_array(p) || is_tensor(p.ptr()) || PyList_Check(p.ptr())) &&
               !(is_tensor(p.ptr()) && tensor_of(p.ptr()).rank() == 0 &&
                 tensor_of(p.ptr()).dtype() != DType::boolean)) {
      Tensor t = to_tensor(p);
      if (t.numel() == 0 && !is_tensor(p.ptr())) t = t.to(DType::i64, here());  // []
      if (t.dtype() == DType::boolean) {
        for (int d = 0; d < t.rank(); ++d) {
          if (axis + d >= r.view.rank() || r.view.dim(axis + d) != t.dim(d)) {
            fail<IndexError>("index", "a mask must have the shape of the axes it stands for",
                             t.shape().str(), r.view.shape().str());
          }
        }
        for (const Tensor& i : nonzero(t)) r.arrays.emplace_back(axis++, i);
      } else {
        if (is_floating(t.dtype())) {
          fail<TypeError>("index", "integers or bools", name_of(t.dtype()));
        }
        r.arrays.emplace_back(axis++, t.to(DType::i64, here()).to(x.device(), here()));
      }
    } else if (PyIndex_Check(p.ptr())) {
      const Py_ssize_t i = PyNumber_AsSsize_t(p.ptr(), PyExc_IndexError);
      if (i == -1 && PyErr_Occurred()) throw py::error_already_set();
      r.view = r.view.select(axis, i, here());
    } else {
      fail<TypeError>("index", "an integer, a slice, '...', None or an array",
                      py::cast<std::string>(py::str(py::type::of(p))));
    }
  }
  return r;
}

/// Index arrays as one: [positions] into the joined leading axes of `x`, and the shape they give.
struct Flat {
  Tensor index;   // i64 [n]
  Shape shape;    // of the broadcast arrays
  Dims order;     // axes of the view, the indexed ones first
  int indexed;    // how many these are
  int result_at;  // axis of the result at which `shape` stands
};

Flat flatten(const Resolved& r) {
  Flat f;
  f.indexed = static_cast<int>(r.arrays.size());
  for (const auto& a : r.arrays) {
    f.shape = broadcast_shapes(f.shape, a.second.shape(), "index");
    f.order.push_back(a.first);
  }
  bool adjacent = true;
  for (int i = 1; i < f.indexed; ++i) adjacent = adjacent && f.order[i] == f.order[i - 1] + 1;
  f.result_at = adjacent ? static_cast<int>(f.order[0]) : 0;
  Tensor at;
  for (const auto& [axis, index] : r.arrays) {
    const std::int64_t n = r.view.dim(axis);
    // Negative positions count from the end. What is still outside is found by the kernel.
    const Tensor positive = where({lt({index, here()}, 0), here()}, add({index, here()}, n), index);
    // Out of one axis must not mean inside of another.
    if (f.indexed > 1 && !index.is_symbolic()) {
      for (std::int64_t i : positive.to_vector<std::int64_t>(here())) {
        if (i < 0 || i >= n) {
          fail<IndexError>("index", fmt::format("out of range for axis {}", axis),
                           std::to_string(i), fmt::format("[{}, {})", -n, n));
        }
      }
    }
    at = at.defined() ? add({mul({at, here()}, n), here()}, positive) : positive;
  }
  f.index = at.expand(f.shape, here()).reshape({numel(f.shape)}, here());
  for (int d = 0; d < r.view.rank(); ++d) {
    bool taken = false;
    for (int i = 0; i < f.indexed; ++i) taken = taken || f.order[i] == d;
    if (!taken) f.order.push_back(d);
  }
  return f;
}

/// [joined indexed axes, the others...].
Tensor joined(const Tensor& view, const Flat& f) {
  const Tensor p = view.permute(f.order, here());
  return f.indexed > 1 ? p.flatten(0, f.indexed - 1, here()) : p;
}

}  // namespace

Tensor get_item(const Tensor& x, const py::object& key) {
  Resolved r = resolve(x, key);
  if (r.flipped.size() > 0) r.view = flip({r.view, here()}, r.flipped);
  if (r.arrays.empty()) return r.view;
  const Flat f = flatten(r);
  const Tensor rows = index_select({joined(r.view, f), here()}, 0, f.index);
  // [positions, others...] -> others before, positions' own shape, others after.
  Shape shape = f.shape;
  for (int d = 1; d < rows.rank(); ++d) shape.push_back(rows.dim(d));
  Tensor y = rows.reshape(shape, here());
  if (f.result_at > 0) {
    Dims order;
    const int inner = f.shape.size();
    for (int i = 0; i < f.result_at; ++i) order.push_back(inner + i);
    for (int i = 0; i < inner; ++i) order.push_back(i);
    for (int i = inner + f.result_at; i < y.rank(); ++i) order.push_back(i);
    y = y.permute(order, here());
  }
  return y;
}

void set_item(Tensor x, const py::object& key, const py::object& value) {
  Resolved r = resolve(x, key);
  Scalar s;
  Tensor v = is_tensor(value.ptr()) ? tensor_of(value.ptr())
             : to_scalar(value.ptr(), s)
                 ? full({}, s, {.dtype = x.dtype(), .device = x.device()}, here())
                 : to_tensor(value).to(x.device(), here());
  if (r.flipped.size() > 0 && r.arrays.empty()) {
    v = flip({v.expand(r.view.shape(), here()), here()}, r.flipped);
  }
  // As `x[...] = v` writes to x: through the tape where that can follow, which says so if not.
  const auto write = [&](Tensor to, const Tensor& what) {
    if (grad_enabled() && (x.requires_grad() || what.requires_grad())) {
      if (to.same_as(x)) {
        to.copy_(what, here());
        return;
      }
      fail<AutogradError>("setitem", "the tape cannot follow a write to part of a tensor",
                          x.desc().str(), "where(mask, new, old), or no_grad()");
    }
    assign(to, what, here());
  };
  if (r.arrays.empty()) {
    write(r.view, v);
    return;
  }
  const Tensor target = r.view;
  if (r.flipped.size() > 0) r.view = flip({r.view, here()}, r.flipped);
  // For each row of the joined axes the last position that names it, if any: chosen on the host.
  const Flat f = flatten(r);
  Tensor rows = joined(r.view, f);
  std::vector<std::int64_t> from(static_cast<std::size_t>(rows.dim(0)), 0);
  std::unique_ptr<bool[]> named(new bool[from.size() + 1]());
  const auto index = f.index.to_vector<std::int64_t>(here());
  for (std::size_t i = 0; i < index.size(); ++i) {
    if (index[i] < 0 || index[i] >= rows.dim(0)) {
      fail<IndexError>("index", "out of range", std::to_string(index[i]),
                       fmt::format("[0, {})", rows.dim(0)));
    }
    from[static_cast<std::size_t>(index[i])] = static_cast<std::int64_t>(i);
    named[static_cast<std::size_t>(index[i])] = true;
  }
  if (index.empty()) return;
  // The value as [positions, others...].
  Shape whole;
  for (int i = 0; i < f.result_at; ++i) whole.push_back(r.view.dim(i));
  for (std::int64_t n : f.shape) whole.push_back(n);
  for (int i = f.indexed + f.result_at; i < f.order.size(); ++i) {
    whole.push_back(r.view.dim(static_cast<int>(f.order[i])));
  }
  if (f.result_at == 0) {
    whole = f.shape;
    for (int i = f.indexed; i < f.order.size(); ++i) {
      whole.push_back(r.view.dim(static_cast<int>(f.order[i])));
    }
  }
  Tensor values = v.to(x.dtype(), here()).expand(whole, here());
  if (f.result_at > 0) {
    Dims order;
    for (int i = 0; i < f.shape.size(); ++i) order.push_back(f.result_at + i);
    for (int i = 0; i < f.result_at; ++i) order.push_back(i);
    for (int i = f.result_at + f.shape.size(); i < whole.size(); ++i) order.push_back(i);
    values = values.permute(order, here());
  }
  Shape flat = {f.index.dim(0)};
  for (int d = 1; d < rows.rank(); ++d) flat.push_back(rows.dim(d));
  values = values.reshape(flat, here());
  const auto n = static_cast<std::int64_t>(from.size());
  Shape mask_shape = {n};
  for (int d = 1; d < rows.rank(); ++d) mask_shape.push_back(1);
  const Tensor mask =
      Tensor::from<bool>(std::span<const bool>(named.get(), from.size()), mask_shape, x.device());
  const Tensor chosen = index_select({values, here()}, 0, Tensor::from(from, {n}, x.device()));
  const Tensor merged = where({mask, here()}, chosen, rows);
  // Back into the axes of the view, which need not be joinable memory.
  Shape apart;
  for (int i = 0; i < f.indexed; ++i) apart.push_back(r.view.dim(static_cast<int>(f.order[i])));
  for (int d = 1; d < merged.rank(); ++d) apart.push_back(merged.dim(d));
  Tensor result = merged.reshape(apart, here());
  if (r.flipped.size() > 0) {
    Dims axes;  // where the turned axes are now
    for (std::int64_t axis : r.flipped) {
      for (int i = 0; i < f.order.size(); ++i) {
        if (f.order[i] == axis) axes.push_back(i);
      }
    }
    result = flip({result, here()}, axes);
  }
  write(target.permute(f.order, here()), result);
}

}  // namespace tandem::python
