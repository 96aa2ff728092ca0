#include "python/src/dlpack.h"

namespace tandem::python {
namespace {

// The C structures of the standard, under its names for them.
struct DLDevice {
  std::int32_t device_type, device_id;
};
struct DLDataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t *shape, *strides;
  std::uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor*);
};
struct DLManagedTensorVersioned {
  std::uint32_t major, minor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned*);
  std::uint64_t flags;
  DLTensor dl_tensor;
};
constexpr std::uint64_t kReadOnly = 1, kCopied = 2;
constexpr std::int32_t kDLCPU = 1, kDLCUDA = 2, kDLCUDAHost = 3;
enum Code : std::uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kBool = 6 };

DLDataType type_of(DType t) {
  const auto bits = static_cast<std::uint8_t>(8 * size_of(t));
  switch (t) {
    case DType::bf16: return {kBfloat, bits, 1};
    case DType::i32:
    case DType::i64: return {kInt, bits, 1};
    case DType::u8: return {kUInt, bits, 1};
    case DType::boolean: return {kBool, bits, 1};
    default: return {kFloat, bits, 1};
  }
}
std::optional<DType> dtype_of(const DLDataType& d) {
  for (int i = 0; i < kNumDTypes; ++i) {
    const DLDataType t = type_of(static_cast<DType>(i));
    if (t.code == d.code && t.bits == d.bits && d.lanes == 1) return static_cast<DType>(i);
  }
  return {};
}

template <class Managed>
class Owner final : public RefCounted {
 public:
  explicit Owner(Managed* m) : managed_(m) {}
  ~Owner() override {
    if (managed_->deleter) managed_->deleter(managed_);
  }

 private:
  Managed* managed_;
};

template <class Managed>
Tensor take(py::handle capsule, const char* name, const char* used, bool& copied) {
  auto* m = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), name));
  if (!m) throw py::error_already_set();
  bool read_only = false;
  if constexpr (std::is_same_v<Managed, DLManagedTensorVersioned>) {
    if (m->major > 1) {
      fail<ValueError>("from_dlpack", "the memory is of a later version of DLPack",
                       fmt::format("{}.{}", m->major, m->minor), "1.x");
    }
    read_only = (m->flags & kReadOnly) != 0;
  }
  const DLTensor& d = m->dl_tensor;
  const auto t = dtype_of(d.dtype);
  if (!t) {
    fail<TypeError>("from_dlpack", "there is no such dtype",
                    fmt::format("code {} of {} bits", int{d.dtype.code}, int{d.dtype.bits}));
  }
  Device device;
  if (d.device.device_type == kDLCUDA) {
    device = {DeviceType::cuda, static_cast<std::uint8_t>(d.device.device_id)};
    backend(device);  // a build without CUDA says so
  } else if (d.device.device_type != kDLCPU && d.device.device_type != kDLCUDAHost) {
    fail<DeviceError>("from_dlpack", "memory of the CPU or of CUDA",
                      fmt::format("DLPack device {}", d.device.device_type));
  }
  if (d.ndim > kMaxRank) {
    fail<ShapeError>("from_dlpack", "at most 8 axes", std::to_string(d.ndim));
  }
  Shape shape;
  for (int i = 0; i < d.ndim; ++i) shape.push_back(d.shape[i]);
  Strides strides = contiguous_strides(shape);
  std::int64_t last = 0;
  for (int i = 0; i < d.ndim; ++i) {
    if (d.strides) strides[i] = d.strides[i];
    if (strides[i] < 0) {
      fail<ValueError>("from_dlpack", "strides must not be negative", strides.str(), "a copy");
    }
    last += std::max<std::int64_t>(shape[i] - 1, 0) * strides[i];
  }
  const TensorDesc desc(*t, device, shape, strides);
  const auto bytes = static_cast<std::size_t>(last + 1) * size_of(*t);
  auto owner = make_ref<Owner<Managed>>(m);
  PyCapsule_SetName(capsule.ptr(), used);  // from here on the memory is ours to let go
  const Tensor over(make_ref<TensorImpl>(
      Storage::import(static_cast<char*>(d.data) + d.byte_offset, bytes, device, owner), desc, 0));
  copied = read_only;
  return read_only ? over.clone(here()) : over;  // tensors can be written to
}

template <class Managed>
struct Exported {
  Managed managed;
  Tensor keep;
  std::int64_t shape[kMaxRank], strides[kMaxRank];
};

template <class Managed>
Exported<Managed>* exported(const Tensor& t) {
  auto* e = new Exported<Managed>();
  e->keep = t;
  for (int i = 0; i < t.rank(); ++i) {
    e->shape[i] = t.dim(i);
    e->strides[i] = t.strides()[i];
  }
  const auto [type, index] = dlpack_device(t.device());
  t.impl()->storage->share();
  e->managed.dl_tensor = {t.raw_data(), {type, index}, t.rank(), type_of(t.dtype()),
                          e->shape,     e->strides,    0};
  e->managed.manager_ctx = e;
  e->managed.deleter = [](Managed* m) { delete static_cast<Exported<Managed>*>(m->manager_ctx); };
  return e;
}

template <class Managed>
void destroy(PyObject* capsule, const char* name) {
  if (!PyCapsule_IsValid(capsule, name)) return;  // somebody took it
  auto* m = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  if (m) m->deleter(m);
}

}  // namespace

std::pair<int, int> dlpack_device(const Device& d) {
  return {d.is_cpu() ? kDLCPU : kDLCUDA, d.index};
}

Tensor from_dlpack(py::handle o, bool* was_copied) {
  bool unused = false;
  bool& copied = was_copied ? *was_copied : unused;
  py::object capsule;
  try {
    capsule = o.attr("__dlpack__")(py::arg("max_version") = py::make_tuple(1, 0));
  } catch (py::error_already_set& e) {
    if (!e.matches(PyExc_TypeError)) throw;
    capsule = o.attr("__dlpack__")();  // from before versions
  }
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    return take<DLManagedTensorVersioned>(capsule, "dltensor_versioned", "used_dltensor_versioned",
                                          copied);
  }
  return take<DLManagedTensor>(capsule, "dltensor", "used_dltensor", copied);
}

py::capsule to_dlpack(const Tensor& t, int max_major_version, bool copy) {
  if (max_major_version >= 1) {
    auto* e = exported<DLManagedTensorVersioned>(copy ? t.clone(here()) : t);
    e->managed.major = 1;
    e->managed.flags = copy ? kCopied : 0;
    return py::reinterpret_steal<py::capsule>(PyCapsule_New(
        &e->managed, "dltensor_versioned",
        [](PyObject* c) { destroy<DLManagedTensorVersioned>(c, "dltensor_versioned"); }));
  }
  auto* e = exported<DLManagedTensor>(copy ? t.clone(here()) : t);
  return py::reinterpret_steal<py::capsule>(PyCapsule_New(
      &e->managed, "dltensor", [](PyObject* c) { destroy<DLManagedTensor>(c, "dltensor"); }));
}

}  // namespace tandem::python
