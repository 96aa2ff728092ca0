#include "python/src/tensor_object.h"

#include <structmember.h>

#include <memory>
#include <new>

#include "core/dispatch.h"
#include "ops/ops.h"
#include "python/src/fetch_ahead.h"
#include "python/src/imported.h"

namespace tandem::python {

PyTypeObject* tensor_type = nullptr;

// ------------------------------------------------------------------------------ the object

namespace {

// Tensors come and go at every operation.
constexpr int kMaxFree = 64;
TensorObject* free_objects[kMaxFree];
int free_count = 0;

TANDEM_EVERY_CALL void dealloc(PyObject* self) {
  auto* o = reinterpret_cast<TensorObject*>(self);
  if (o->weakrefs) PyObject_ClearWeakRefs(self);
  o->tensor.~Tensor();
  if (Py_TYPE(self) == tensor_type && free_count < kMaxFree) {
    free_objects[free_count++] = o;
    return;
  }
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* refuse_new(PyTypeObject*, PyObject*, PyObject*) {
  PyErr_SetString(PyExc_TypeError,
                  "[Tensor] tensors are made by functions; got a call of the class; expected "
                  "tandem.tensor(…), zeros(…), asarray(…)");
  return nullptr;
}

}  // namespace

TANDEM_EVERY_CALL PyObject* wrap(Tensor t) {
  if (!t.defined()) Py_RETURN_NONE;
  TensorObject* o;
  if (free_count > 0) {
    o = free_objects[--free_count];
    Py_SET_REFCNT(reinterpret_cast<PyObject*>(o), 1);
  } else {
    o = reinterpret_cast<TensorObject*>(tensor_type->tp_alloc(tensor_type, 0));
    if (!o) return nullptr;
  }
  new (&o->tensor) Tensor(std::move(t));
  o->weakrefs = nullptr;
  return reinterpret_cast<PyObject*>(o);
}

// ------------------------------------------------------------------------------- numbers

void refuse_big_integer(const char* op, PyObject* o) {
  PyErr_Format(PyExc_OverflowError,
               "[%s] an integer must fit 64 bits; got %R; expected -2**63 to 2**63 - 1", op, o);
  throw py::error_already_set();
}

bool to_scalar(PyObject* o, Scalar& s) {
  if (PyBool_Check(o)) {
    s = o == Py_True;
    return true;
  }
  if (PyFloat_Check(o)) {  // NumPy's float64 is one
    s = PyFloat_AS_DOUBLE(o);
    return true;
  }
  if (PyLong_Check(o)) {
    int overflow = 0;
    const long long v = PyLong_AsLongLongAndOverflow(o, &overflow);
    if (overflow) {
      refuse_big_integer("scalar", o);
    }
    s = static_cast<std::int64_t>(v);
    return true;
  }
  if (is_tensor(o)) return false;
  // NumPy's scalars: numbers without a length. Its bools are integers, too, before NumPy 2.1.
  PyTypeObject* type = Py_TYPE(o);
  static const char* const numpy_scalars[] = {"numpy.float32", "numpy.float16", "numpy.bool",
                                              "numpy.bool_"};
  for (const char* name : numpy_scalars) {
    if (std::string_view(type->tp_name) != name) continue;
    const double v = PyFloat_AsDouble(o);
    if (std::string_view(name).starts_with("numpy.bool")) {
      s = v != 0;
    } else {
      s = v;
    }
    return true;
  }
  if (type->tp_as_number && PyIndex_Check(o)) {
    PyObject* i = PyNumber_Index(o);
    if (!i) {
      PyErr_Clear();  // an array of several elements
      return false;
    }
    const bool ok = to_scalar(i, s);
    Py_DECREF(i);
    return ok;
  }
  return false;
}

bool is_array(py::handle o) {
  if (PyFloat_Check(o.ptr()) || PyLong_Check(o.ptr()) || is_tensor(o.ptr())) return false;
  if (!py::hasattr(o, "__array__") || !py::hasattr(o, "ndim")) return false;
  // NumPy's scalars have all of an array's attributes, but can be hashed.
  return PyObject_CheckBuffer(o.ptr()) ? Py_TYPE(o.ptr())->tp_hash == PyObject_HashNotImplemented
                                       : true;
}

// ------------------------------------------------------------------------------ operators

namespace {

// Runs `f` and turns what it throws into a Python exception.
template <class F>
PyObject* guarded(F&& f) noexcept {
  const ErrorSite site(kCaller);
  try {
    return f();
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

// Operands of the other types that arithmetic with arrays takes.
bool like_array(PyObject* o) {
  return PyObject_HasAttrString(o, "__array__") || PyObject_HasAttrString(o, "__dlpack__");
}

template <class TT, class TS, class ST>
PyObject* binary(PyObject* a, PyObject* b, TT&& tensors, TS&& right_number, ST&& left_number) {
  return guarded([&]() -> PyObject* {
    const bool ta = is_tensor(a), tb = is_tensor(b);
    if (ta && tb) {
      const Tensor &x = tensor_of(a), &y = tensor_of(b);
      return wrap(without_gil(x.numel() + y.numel(), [&] { return tensors(x, y); }));
    }
    Scalar s;
    if (ta && to_scalar(b, s)) {
      const Tensor& x = tensor_of(a);
      return wrap(without_gil(x.numel(), [&] { return right_number(x, s); }));
    }
    if (tb && to_scalar(a, s)) {
      const Tensor& y = tensor_of(b);
      return wrap(without_gil(y.numel(), [&] { return left_number(s, y); }));
    }
    if (like_array(ta ? b : a)) {
      const Tensor x = to_tensor(a), y = to_tensor(b);
      return wrap(without_gil(x.numel() + y.numel(), [&] { return tensors(x, y); }));
    }
    Py_RETURN_NOTIMPLEMENTED;
  });
}

In at(const Tensor& t) {
  return {t, here()};
}

// Lists and text are no operands, on neither side: left to Python, list * tensor would repeat the
// list, and tensor == list be False.
PyObject* refusing_sequences(const char* op, PyObject* a, PyObject* b, PyObject* result) {
  if (result == Py_NotImplemented) {
    for (PyObject* o : {a, b}) {
      const bool is_list = PyList_CheckExact(o) || PyTuple_CheckExact(o),
                 is_text = PyUnicode_Check(o) || PyBytes_Check(o) || PyByteArray_Check(o);
      if (!is_list && !is_text) continue;
      Py_DECREF(result);
      return PyErr_Format(PyExc_TypeError, "[%s] %s; got a %s; expected %s", op,
                          is_list ? "lists are no operands" : "text is no operand",
                          Py_TYPE(o)->tp_name,
                          is_list ? "tandem.tensor() of it" : "a tensor or a number");
    }
  }
  return result;
}

// `mirrored` is what `number op tensor` means.
#define TANDEM_SLOT(slot, name, mirrored)                                      \
  PyObject* slot(PyObject* a, PyObject* b) {                                   \
    PyObject* result = binary(                                                 \
        a, b, [](const Tensor& x, const Tensor& y) { return name(at(x), y); }, \
        [](const Tensor& x, Scalar y) { return name(at(x), y); },              \
        [](Scalar x, const Tensor& y) { return mirrored; });                   \
    return refusing_sequences(#name, a, b, result);                            \
  }
TANDEM_SLOT(nb_add, add, add(at(y), x))
TANDEM_SLOT(nb_subtract, sub, sub(x, at(y)))
TANDEM_SLOT(nb_multiply, mul, mul(at(y), x))
TANDEM_SLOT(nb_true_divide, div, div(x, at(y)))
TANDEM_SLOT(nb_floor_divide, floor_divide, floor_divide(x, at(y)))
TANDEM_SLOT(nb_remainder, remainder, remainder(x, at(y)))
#undef TANDEM_SLOT

PyObject* nb_power(PyObject* a, PyObject* b, PyObject* modulus) {
  if (modulus != Py_None) {
    PyErr_SetString(PyExc_TypeError, "[pow] tensors take no modulus");
    return nullptr;
  }
  return binary(
      a, b, [](const Tensor& x, const Tensor& y) { return pow(at(x), y); },
      [](const Tensor& x, Scalar y) { return pow(at(x), y); },
      [](Scalar x, const Tensor& y) { return pow(x, at(y)); });
}

PyObject* nb_matrix_multiply(PyObject* a, PyObject* b) {
  for (PyObject* o : {a, b}) {
    if (!is_tensor(o) && !like_array(o)) Py_RETURN_NOTIMPLEMENTED;
  }
  return guarded([&] {
    const auto as_tensor = [](PyObject* o) { return is_tensor(o) ? tensor_of(o) : to_tensor(o); };
    const Tensor x = as_tensor(a), y = as_tensor(b);
    return wrap(without_gil((x.numel() + y.numel()) * 8, [&] { return matmul(at(x), y); }));
  });
}

Tensor like(const Tensor& t, Scalar s) {
  return full({}, s, {.dtype = promote(t.dtype(), s), .device = t.device()}, here());
}

// &, | and ^ are logic on bool tensors; there is no arithmetic on bits.
void check_bools(const char* op, const Tensor& x, const Tensor& y) {
  if (x.dtype() != DType::boolean || y.dtype() != DType::boolean) {
    fail<TypeError>(op, "takes bool tensors",
                    fmt::format("{} and {}", name_of(x.dtype()), name_of(y.dtype())));
  }
}
template <class F>
PyObject* logic(const char* op, PyObject* a, PyObject* b, F&& f) {
  const auto tensors = [&](const Tensor& x, const Tensor& y) {
    check_bools(op, x, y);
    return f(x, y);
  };
  return binary(
      a, b, tensors, [&](const Tensor& x, Scalar y) { return tensors(x, like(x, y)); },
      [&](Scalar x, const Tensor& y) { return tensors(like(y, x), y); });
}
PyObject* nb_and(PyObject* a, PyObject* b) {
  return logic("and", a, b, [](const Tensor& x, const Tensor& y) { return logical_and(at(x), y); });
}
PyObject* nb_or(PyObject* a, PyObject* b) {
  return logic("or", a, b, [](const Tensor& x, const Tensor& y) { return logical_or(at(x), y); });
}
PyObject* nb_xor(PyObject* a, PyObject* b) {
  return logic("xor", a, b, [](const Tensor& x, const Tensor& y) { return ne(at(x), y); });
}

template <class F>
PyObject* unary(PyObject* a, F&& f) {
  return guarded([&] {
    const Tensor& x = tensor_of(a);
    return wrap(without_gil(x.numel(), [&] { return f(at(x)); }));
  });
}
PyObject* nb_negative(PyObject* a) {
  return unary(a, [](In x) { return neg(x); });
}
PyObject* nb_positive(PyObject* a) {
  return Py_NewRef(a);
}
PyObject* nb_absolute(PyObject* a) {
  return unary(a, [](In x) { return abs(x); });
}
PyObject* nb_invert(PyObject* a) {
  return unary(a, [](In x) {
    check_bools("invert", x, x);
    return logical_not(x);
  });
}

// x += y changes x itself, as NumPy's and PyTorch's do.
PyObject* in_place(PyObject* a, PyObject* b, const OpDef& op) {
  return guarded([&]() -> PyObject* {
    Scalar s;
    Tensor& x = tensor_of(a);
    if (!is_tensor(b) && to_scalar(b, s)) {
      without_gil(x.numel(), [&] { update(x, op, s, here()); });
    } else if (is_tensor(b) || like_array(b)) {
      const Tensor y = to_tensor(b);
      without_gil(x.numel(), [&] { update(x, op, y, here()); });
    } else {
      Py_RETURN_NOTIMPLEMENTED;
    }
    return Py_NewRef(a);
  });
}
#define TANDEM_SLOT(slot, name)              \
  PyObject* slot(PyObject* a, PyObject* b) { \
    return in_place(a, b, op::name);         \
  }
TANDEM_SLOT(nb_inplace_add, add)
TANDEM_SLOT(nb_inplace_subtract, sub)
TANDEM_SLOT(nb_inplace_multiply, mul)
TANDEM_SLOT(nb_inplace_true_divide, div)
TANDEM_SLOT(nb_inplace_floor_divide, floor_divide)
TANDEM_SLOT(nb_inplace_remainder, remainder)
#undef TANDEM_SLOT

PyObject* nb_inplace_power(PyObject* a, PyObject* b, PyObject*) {
  return in_place(a, b, op::pow);
}

PyObject* compare(PyObject* a, PyObject* b, int op) {
  PyObject* result = nullptr;
  const char* called = "";
#define TANDEM_COMPARE(name)                                                            \
  called = #name;                                                                       \
  result = binary(                                                                      \
      a, b, [](const Tensor& x, const Tensor& y) { return name(at(x), y); },            \
      [](const Tensor& x, Scalar y) { return name(at(x), y); },                         \
      [](Scalar, const Tensor&) -> Tensor { fail<InternalError>(#name, "mirrored"); }); \
  break
  switch (op) {
    case Py_EQ: TANDEM_COMPARE(eq);
    case Py_NE: TANDEM_COMPARE(ne);
    case Py_LT: TANDEM_COMPARE(lt);
    case Py_LE: TANDEM_COMPARE(le);
    case Py_GT: TANDEM_COMPARE(gt);
    default: TANDEM_COMPARE(ge);
  }
#undef TANDEM_COMPARE
  // Of text people ask whether it is the same, and it is not.
  const bool asks = (op == Py_EQ || op == Py_NE) && !PyList_CheckExact(b) && !PyTuple_CheckExact(b);
  return asks ? result : refusing_sequences(called, a, b, result);
}

// ------------------------------------------------------------------------------- conversion

Scalar value_of(PyObject* a) {
  return tensor_of(a).item_scalar(here());
}
int nb_bool(PyObject* a) {
  int r = -1;
  guarded([&]() -> PyObject* {
    const Tensor& t = tensor_of(a);
    if (t.numel() != 1) {
      fail<ShapeError>("bool", "the truth of a tensor is that of its one element", t.desc().str(),
                       ".all() or .any()");
    }
    r = value_of(a).to<bool>();
    return nullptr;
  });
  return r;
}
PyObject* nb_float(PyObject* a) {
  return guarded([&] { return PyFloat_FromDouble(value_of(a).to_double()); });
}
PyObject* nb_int(PyObject* a) {
  return guarded([&] {
    const Scalar s = value_of(a);
    return s.kind() == Scalar::Kind::real ? PyLong_FromDouble(s.to_double())
                                          : PyLong_FromLongLong(s.to_int());
  });
}
PyObject* nb_index(PyObject* a) {
  return guarded([&] {
    if (is_floating(tensor_of(a).dtype())) {
      fail<TypeError>("index", "only an integer tensor can be an index", tensor_of(a).desc().str());
    }
    return PyLong_FromLongLong(value_of(a).to_int());
  });
}

Py_ssize_t length(PyObject* a) {
  const Tensor& t = tensor_of(a);
  if (t.rank() == 0) {
    PyErr_SetString(PyExc_TypeError, "[len] a 0-dim tensor has no length");
    return -1;
  }
  return t.dim(0);
}
// A tensor is itself only: == gives a tensor of truths.
Py_hash_t hash(PyObject* a) {
  return static_cast<Py_hash_t>(reinterpret_cast<std::uintptr_t>(tensor_of(a).impl()) >> 4);
}

// ---------------------------------------------------------------------------------- buffers

// What PEP 3118 asks for while a buffer is exported.
struct BufferShape {
  Tensor keep;
  Py_ssize_t shape[kMaxRank], strides[kMaxRank];
};

const char* buffer_format(DType t) {
  switch (t) {
    case DType::f32: return "f";
    case DType::f64: return "d";
    case DType::f16: return "e";
    case DType::i32: return "i";
    case DType::i64: return "q";
    case DType::u8: return "B";
    case DType::boolean: return "?";
    default: return nullptr;
  }
}

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  view->obj = nullptr;
  const PyObject* ok = guarded([&]() -> PyObject* {
    const Tensor& t = tensor_of(self);
    t.expect_values("buffer");
    if (t.requires_grad()) {
      fail<AutogradError>("buffer", "the tape does not follow into other memory",
                          "a tensor that wants a gradient", ".detach()");
    }
    if (!t.device().is_cpu()) {
      fail<DeviceError>("buffer", "the tensor must be on the CPU", t.device().str(), ".to('cpu')");
    }
    const char* format = buffer_format(t.dtype());
    if (!format) {
      fail<TypeError>("buffer", "Python's buffers know no such type", name_of(t.dtype()),
                      "another dtype: .to(tandem.float32)");
    }
    if (!(flags & PyBUF_STRIDES) && !t.is_contiguous()) {
      fail<ValueError>("buffer", "who asks wants row-major memory", t.desc().str(),
                       ".contiguous()");
    }
    auto shape = std::make_unique<BufferShape>();
    shape->keep = t;
    const auto size = static_cast<Py_ssize_t>(size_of(t.dtype()));
    for (int i = 0; i < t.rank(); ++i) {
      shape->shape[i] = t.dim(i);
      shape->strides[i] = t.strides()[i] * size;
    }
    t.impl()->storage->share();
    view->buf = t.raw_data();
    view->len = t.numel() * size;
    view->itemsize = size;
    view->readonly = 0;
    view->ndim = t.rank();
    view->format = flags & PyBUF_FORMAT ? const_cast<char*>(format) : nullptr;
    view->shape = flags & PyBUF_ND ? shape->shape : nullptr;
    view->strides = flags & PyBUF_STRIDES ? shape->strides : nullptr;
    view->suboffsets = nullptr;
    view->internal = shape.release();
    view->obj = Py_NewRef(self);
    return Py_None;
  });
  if (ok) return 0;
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  static Imported capture_error("tandem._core", "CaptureError");
  if (PyErr_GivenExceptionMatches(type, capture_error().ptr())) {  // is to be seen as one
    PyErr_Restore(type, value, trace);
    return -1;
  }
  // Python wants this exception of a buffer that cannot be had.
  PyErr_NormalizeException(&type, &value, &trace);
  PyErr_Format(PyExc_BufferError, "%S", value);
  Py_XDECREF(type), Py_XDECREF(value), Py_XDECREF(trace);
  return -1;
}
void release_buffer(PyObject*, Py_buffer* view) {
  delete static_cast<BufferShape*>(view->internal);
}

template <class F>
PyType_Slot slot(int id, F* f) {
  return {id, reinterpret_cast<void*>(f)};
}

}  // namespace

void make_tensor_type(py::module_& m) {
  static PyMemberDef members[] = {
      {"__weaklistoffset__", T_PYSSIZET, offsetof(TensorObject, weakrefs), READONLY, nullptr}, {}};
  static char doc[] =
      "An array of numbers of one type on one device, which the tape can follow.\n\n"
      "Assigning a tensor gives it another name; slices and the like are views of the same\n"
      "memory. Operators work elementwise with NumPy's broadcasting and docs/types.md's types.";
  PyType_Slot slots[] = {slot(Py_tp_dealloc, dealloc),
                         slot(Py_tp_new, refuse_new),
                         slot(Py_tp_hash, hash),
                         slot(Py_tp_richcompare, compare),
                         {Py_tp_members, members},
                         {Py_tp_doc, doc},
                         slot(Py_nb_add, nb_add),
                         slot(Py_nb_subtract, nb_subtract),
                         slot(Py_nb_multiply, nb_multiply),
                         slot(Py_nb_true_divide, nb_true_divide),
                         slot(Py_nb_floor_divide, nb_floor_divide),
                         slot(Py_nb_remainder, nb_remainder),
                         slot(Py_nb_power, nb_power),
                         slot(Py_nb_matrix_multiply, nb_matrix_multiply),
                         slot(Py_nb_and, nb_and),
                         slot(Py_nb_or, nb_or),
                         slot(Py_nb_xor, nb_xor),
                         slot(Py_nb_negative, nb_negative),
                         slot(Py_nb_positive, nb_positive),
                         slot(Py_nb_absolute, nb_absolute),
                         slot(Py_nb_invert, nb_invert),
                         slot(Py_nb_inplace_add, nb_inplace_add),
                         slot(Py_nb_inplace_subtract, nb_inplace_subtract),
                         slot(Py_nb_inplace_multiply, nb_inplace_multiply),
                         slot(Py_nb_inplace_true_divide, nb_inplace_true_divide),
                         slot(Py_nb_inplace_floor_divide, nb_inplace_floor_divide),
                         slot(Py_nb_inplace_remainder, nb_inplace_remainder),
                         slot(Py_nb_inplace_power, nb_inplace_power),
                         slot(Py_nb_bool, nb_bool),
                         slot(Py_nb_float, nb_float),
                         slot(Py_nb_int, nb_int),
                         slot(Py_nb_index, nb_index),
                         slot(Py_mp_length, length),
                         slot(Py_bf_getbuffer, get_buffer),
                         slot(Py_bf_releasebuffer, release_buffer),
                         {}};
  PyType_Spec spec = {"tandem.Tensor", sizeof(TensorObject), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};
  tensor_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  if (!tensor_type) throw py::error_already_set();
  m.add_object("Tensor", py::handle(reinterpret_cast<PyObject*>(tensor_type)));
}

}  // namespace tandem::python
