#include "python/src/indexing.h"

#include "core/dispatch.h"
#include "ops/ops.h"

namespace tandem::python {
namespace {

/// One part of a key.
struct Part {
  enum class Kind : std::uint8_t { ellipsis, new_axis, slice, integer, mask, array } kind;
  py::handle object;
  Tensor tensor;  // of masks and arrays: bool, or integers
  bool host;      // its values may be read
};

/// Positions along one axis, all of them in range or known to the device alone.
struct Index {
  int axis;  // of the view; -1: a mask of no axes, which says whether there is anything
  Shape shape;
  std::vector<std::int64_t> values;
  Tensor tensor;  // i64, in place of the values
};

/// A key split into its basic part (a view) and index arrays by axis of that view.
struct Resolved {
  Tensor view;
  std::vector<Index> arrays;
  Dims flipped;       // axes with a negative step
  int result_at = 0;  // axis of the result at which the arrays' shape stands
};

bool is_list(py::handle o) {
  return PyList_Check(o.ptr()) || PyTuple_Check(o.ptr()) || PyRange_Check(o.ptr());
}

/// Lists of numbers are as good as numbers; tensors and arrays in them are not.
bool numbers_only(py::handle o) {
  if (PyRange_Check(o.ptr())) return true;
  if (!is_list(o)) return !is_tensor(o.ptr()) && !is_array(o);
  for (const py::handle e : o) {
    if (!numbers_only(e)) return false;
  }
  return true;
}

template <class T>
std::vector<T> values_of(const Tensor& t) {
  const dispatch::InterceptorScope outside(nullptr);
  return t.to_vector<T>(here());
}

Part part_of(py::handle p) {
  using Kind = Part::Kind;
  if (p.ptr() == Py_Ellipsis) return {Kind::ellipsis, p, {}, true};
  if (p.is_none()) return {Kind::new_axis, p, {}, true};
  if (PySlice_Check(p.ptr())) return {Kind::slice, p, {}, true};
  if (PyLong_Check(p.ptr()) && !PyBool_Check(p.ptr())) return {Kind::integer, p, {}, true};
  // Of a tensor on another device the host would wait for the values.
  const bool free = dispatch::interceptor() == nullptr;
  Tensor t;
  bool host = true;
  Scalar s;
  if (is_tensor(p.ptr())) {
    t = tensor_of(p.ptr());
    host = free && !t.is_symbolic() && t.device().is_cpu();
  } else if (is_list(p)) {
    const py::object list = PyRange_Check(p.ptr())
                                ? py::object(py::list(py::reinterpret_borrow<py::object>(p)))
                                : py::reinterpret_borrow<py::object>(p);
    host = free || numbers_only(list);
    std::optional<dispatch::InterceptorScope> outside;
    if (host) outside.emplace(nullptr);
    t = to_tensor(list, {}, kCPU);
    if (t.numel() == 0) t = t.to(DType::i64, here());  // []
  } else if (is_array(p)) {
    t = to_tensor(p);
    host = free && t.device().is_cpu();
  } else if (to_scalar(p.ptr(), s) && s.kind() == Scalar::Kind::boolean) {
    const dispatch::InterceptorScope outside(nullptr);
    t = full({}, s, {.dtype = DType::boolean, .device = kCPU}, here());
  } else if (PyIndex_Check(p.ptr())) {
    return {Kind::integer, p, {}, true};
  } else {
    fail<TypeError>("index", "an integer, a slice, '...', None or an array",
                    py::cast<std::string>(py::str(py::type::of(p))));
  }
  if (t.dtype() == DType::boolean) return {Kind::mask, p, t, host};
  if (is_floating(t.dtype())) {
    fail<TypeError>("index", "integers or bools", name_of(t.dtype()));
  }
  // An array of no axes counts as an integer, where its value is known.
  if (t.rank() == 0 && host) return {Kind::integer, p, {}, true};
  return {Kind::array, p, t, host};
}

// Positions of the true elements of a mask, one list per axis. They depend on values, so the host
// reads them.
void add_mask(Resolved& r, const Part& p, int axis) {
  const Tensor& mask = p.tensor;
  for (int d = 0; d < mask.rank(); ++d) {
    if (axis + d >= r.view.rank() || r.view.dim(axis + d) != mask.dim(d)) {
      fail<IndexError>("index", "a mask must have the shape of the axes it stands for",
                       mask.shape().str(), r.view.shape().str());
    }
  }
  const auto values = p.host ? values_of<std::uint8_t>(mask) : mask.to_vector<std::uint8_t>(here());
  if (mask.rank() == 0) {
    const std::int64_t n = values[0] != 0 ? 1 : 0;
    r.arrays.push_back({-1, {n}, std::vector<std::int64_t>(static_cast<std::size_t>(n)), {}});
    return;
  }
  std::vector<std::vector<std::int64_t>> at(static_cast<std::size_t>(mask.rank()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!values[i]) continue;
    auto rest = static_cast<std::int64_t>(i);
    for (int d = mask.rank(); d-- > 0;) {
      at[static_cast<std::size_t>(d)].push_back(rest % mask.dim(d));
      rest /= mask.dim(d);
    }
  }
  for (auto& v : at) {
    const auto n = static_cast<std::int64_t>(v.size());
    r.arrays.push_back({axis++, {n}, std::move(v), {}});
  }
}

/// Negative positions count from the end.
std::int64_t wrapped(std::int64_t i, std::int64_t n, int axis) {
  const std::int64_t at = i < 0 ? i + n : i;
  if (at < 0 || at >= n) {
    fail<IndexError>("index", fmt::format("out of range for axis {}", axis), std::to_string(i),
                     fmt::format("[{}, {})", -n, n));
  }
  return at;
}

void add_array(Resolved& r, const Part& p, int axis) {
  Index index{axis, p.tensor.shape(), {}, {}};
  if (p.host) {
    index.values = values_of<std::int64_t>(p.tensor);
    for (std::int64_t& i : index.values) i = wrapped(i, r.view.dim(axis), axis);
  } else {
    index.tensor = p.tensor.to(DType::i64, here()).to(r.view.device(), here());
  }
  r.arrays.push_back(std::move(index));
}

void take_slice(Resolved& r, py::handle slice, int axis) {
  Py_ssize_t begin, end, step;
  if (PySlice_Unpack(slice.ptr(), &begin, &end, &step) < 0) throw py::error_already_set();
  const Py_ssize_t n = r.view.dim(axis);
  const Py_ssize_t count = PySlice_AdjustIndices(n, &begin, &end, step);
  if (step > 0) {
    r.view = r.view.slice(axis, begin, std::max(begin, end), step, here());
    return;
  }
  // The same elements from the other end, turned round.
  const Py_ssize_t first = begin + (count - 1) * step;
  r.view = count == 0 ? r.view.slice(axis, 0, 0, 1, here())
                      : r.view.slice(axis, first, begin + 1, -step, here());
  r.flipped.push_back(axis);
}

std::int64_t integer_of(py::handle o) {
  const Py_ssize_t i = PyNumber_AsSsize_t(o.ptr(), PyExc_IndexError);
  if (i == -1 && PyErr_Occurred()) throw py::error_already_set();
  return i;
}

Resolved resolve(const Tensor& x, const py::object& key) {
  using Kind = Part::Kind;
  std::vector<Part> parts;
  if (PyTuple_Check(key.ptr())) {
    for (const py::handle p : key) parts.push_back(part_of(p));
  } else {
    parts.push_back(part_of(key));
  }
  int named = 0, ellipses = 0;
  bool any_arrays = false;
  for (const Part& p : parts) {
    any_arrays = any_arrays || p.kind == Kind::mask || p.kind == Kind::array;
    if (p.kind == Kind::mask) {
      named += p.tensor.rank();
    } else if (p.kind == Kind::ellipsis) {
      ++ellipses;
    } else if (p.kind != Kind::new_axis) {
      ++named;
    }
  }
  if (ellipses > 1) fail<IndexError>("index", "at most one '...'", std::to_string(ellipses));
  if (named > x.rank()) {
    fail<IndexError>("index", "more indices than axes", std::to_string(named),
                     std::to_string(x.rank()));
  }
  Resolved r{x, {}, {}, 0};
  int axis = 0;
  // The arrays' shape stands where the first of them does if they are next to each other, else in
  // front. Integers beside arrays are arrays.
  int kept = 0;
  enum { before, among, after, apart } place = before;
  for (const Part& p : parts) {
    const bool array =
        p.kind == Kind::mask || p.kind == Kind::array || (p.kind == Kind::integer && any_arrays);
    if (array && place == before) {
      r.result_at = kept;
      place = among;
    } else if (array && place == after) {
      r.result_at = 0;
      place = apart;
    } else if (!array && place == among) {
      place = after;
    }
    switch (p.kind) {
      case Kind::ellipsis:
        axis += x.rank() - named;
        kept += x.rank() - named;
        break;
      case Kind::new_axis:
        r.view = r.view.unsqueeze(axis++, here());
        ++kept;
        break;
      case Kind::slice:
        take_slice(r, p.object, axis++);
        ++kept;
        break;
      case Kind::integer:
        if (any_arrays) {
          r.arrays.push_back(
              {axis, {}, {wrapped(integer_of(p.object), r.view.dim(axis), axis)}, {}});
          ++axis;
        } else {
          r.view = r.view.select(axis, integer_of(p.object), here());
        }
        break;
      case Kind::mask:
        add_mask(r, p, axis);
        axis += p.tensor.rank();
        break;
      case Kind::array: add_array(r, p, axis++); break;
    }
  }
  return r;
}

/// Index arrays as one: [positions] into the joined leading axes of the view.
struct Flat {
  Tensor index;                      // i64 [n]
  std::vector<std::int64_t> values;  // the same, where the host knows them
  bool known = true;
  Shape shape;      // of the broadcast arrays
  Dims order;       // axes of the view, the indexed ones first
  int indexed = 0;  // how many these are
};

// Element k of the result is `values[k]`, broadcast.
void broadcast_add(std::vector<std::int64_t>& to, const Shape& shape, const Index& index,
                   std::int64_t n) {
  Dims at(static_cast<std::size_t>(shape.size()), 0),
      step(static_cast<std::size_t>(shape.size()), 0);
  std::int64_t stride = 1, offset = 0;
  for (int d = index.shape.size(), e = shape.size(); d-- > 0;) {
    step[--e] = index.shape[d] == 1 ? 0 : stride;
    stride *= index.shape[d];
  }
  for (std::int64_t& v : to) {
    v = v * n + index.values[static_cast<std::size_t>(offset)];
    for (int d = shape.size(); d-- > 0;) {
      offset += step[d];
      if (++at[d] < shape[d]) break;
      offset -= step[d] * shape[d];
      at[d] = 0;
    }
  }
}

// Out of one axis must not mean inside of another: whatever is out of its axis is out of all.
Tensor flatten_on_device(const Resolved& r, const Flat& f) {
  Tensor flat, outside;
  std::int64_t whole = 1;
  for (const Index& a : r.arrays) {
    const std::int64_t n = a.axis < 0 ? 1 : r.view.dim(a.axis);
    whole *= n;
    Tensor at = a.tensor;
    if (!at.defined()) {
      at = Tensor::from(a.values, a.shape, r.view.device());
    } else {
      at = where({lt({at, here()}, 0), here()}, add({at, here()}, n), at);
      if (f.indexed > 1) {
        const Tensor bad = logical_or({lt({at, here()}, 0), here()}, ge({at, here()}, n));
        outside = outside.defined() ? logical_or({outside, here()}, bad) : bad;
      }
    }
    flat = flat.defined() ? add({mul({flat, here()}, n), here()}, at) : at;
  }
  if (outside.defined()) {
    const TensorOptions like{.dtype = DType::i64, .device = r.view.device()};
    flat = where({outside, here()}, full({}, whole, like, here()), flat);
  }
  return flat.expand(f.shape, here()).reshape({numel(f.shape)}, here());
}

Flat flatten(const Resolved& r) {
  Flat f;
  for (const Index& a : r.arrays) {
    f.shape = broadcast_shapes(f.shape, a.shape, "index");
    f.known = f.known && !a.tensor.defined();
    if (a.axis >= 0) f.order.push_back(a.axis);
  }
  f.indexed = f.order.size();
  if (f.known) {
    f.values.resize(static_cast<std::size_t>(numel(f.shape)));
    for (const Index& a : r.arrays) {
      if (!f.values.empty())
        broadcast_add(f.values, f.shape, a, a.axis < 0 ? 1 : r.view.dim(a.axis));
    }
    f.index = Tensor::from(f.values, {numel(f.shape)}, r.view.device());
  } else {
    f.index = flatten_on_device(r, f);
  }
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
  if (f.indexed == 0) return p.unsqueeze(0, here());
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
  if (r.result_at > 0) {
    Dims order;
    const int inner = f.shape.size();
    for (int i = 0; i < r.result_at; ++i) order.push_back(inner + i);
    for (int i = 0; i < inner; ++i) order.push_back(i);
    for (int i = inner + r.result_at; i < y.rank(); ++i) order.push_back(i);
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
  // Leading axes of size 1 mean nothing to a value.
  const auto fitted = [&](const Shape& to) {
    while (v.rank() > to.size() && v.dim(0) == 1) v = v.squeeze(0, here());
    return v.expand(to, here());
  };
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
    v = fitted(r.view.shape());
    write(r.view, r.flipped.size() > 0 ? flip({v, here()}, r.flipped) : v);
    return;
  }
  const Tensor target = r.view;
  if (r.flipped.size() > 0) r.view = flip({r.view, here()}, r.flipped);
  const Flat f = flatten(r);
  // The value as [positions, others...].
  Shape others, whole;
  for (int i = f.indexed; i < f.order.size(); ++i) {
    others.push_back(r.view.dim(static_cast<int>(f.order[i])));
  }
  for (int i = 0; i < r.result_at; ++i) whole.push_back(others[i]);
  for (std::int64_t n : f.shape) whole.push_back(n);
  for (int i = r.result_at; i < others.size(); ++i) whole.push_back(others[i]);
  Tensor values = fitted(whole).to(x.dtype(), here());
  if (r.result_at > 0) {
    Dims order;
    for (int i = 0; i < f.shape.size(); ++i) order.push_back(r.result_at + i);
    for (int i = 0; i < r.result_at; ++i) order.push_back(i);
    for (int i = r.result_at + f.shape.size(); i < whole.size(); ++i) order.push_back(i);
    values = values.permute(order, here());
  }
  // For each row of the joined axes the last position that names it, if any: chosen on the host.
  const Tensor rows = joined(r.view, f);
  const auto index = f.known ? f.values : f.index.to_vector<std::int64_t>(here());
  std::vector<std::int64_t> from(static_cast<std::size_t>(rows.dim(0)), 0);
  std::unique_ptr<bool[]> named(new bool[from.size() + 1]());
  for (std::size_t i = 0; i < index.size(); ++i) {
    if (index[i] < 0 || index[i] >= rows.dim(0)) {
      fail<IndexError>("index", "out of range", std::to_string(index[i]),
                       fmt::format("[0, {})", rows.dim(0)));
    }
    from[static_cast<std::size_t>(index[i])] = static_cast<std::int64_t>(i);
    named[static_cast<std::size_t>(index[i])] = true;
  }
  if (index.empty()) return;
  Shape flat = others;
  flat.insert(0, f.index.dim(0));
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
  for (std::int64_t d : others) apart.push_back(d);
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
