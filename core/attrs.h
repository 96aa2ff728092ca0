// Attribute structs of ops. A struct names its fields once:
//
//   struct PoolAttrs {
//     Dims kernel, stride;
//     static constexpr auto fields() {
//       return std::tuple{Field{"kernel", &PoolAttrs::kernel},
//                         Field{"stride", &PoolAttrs::stride}};
//     }
//   };
//
// and that list gives equality, hash, print and copies.
#pragma once
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "core/desc.h"
#include "core/scalar.h"

namespace tandem {

/// One field of an attribute struct.
template <class S, class M>
struct Field {
  const char* name;
  M S::*member;
};

namespace detail {

inline std::uint64_t mix(std::uint64_t h, std::uint64_t v) {
  h = (h ^ v) * 0x9e3779b97f4a7c15ull;
  return h ^ (h >> 29);
}

// clang-format off
inline std::uint64_t hash_field(std::uint64_t h, std::uint64_t v) { return mix(h, v); }
inline std::uint64_t hash_field(std::uint64_t h, std::int64_t v) { return mix(h, static_cast<std::uint64_t>(v)); }
inline std::uint64_t hash_field(std::uint64_t h, bool v) { return mix(h, v ? 1u : 2u); }
inline std::uint64_t hash_field(std::uint64_t h, double v) { return mix(h, Scalar(v).bits()); }
inline std::uint64_t hash_field(std::uint64_t h, DType v) { return mix(h, static_cast<std::uint64_t>(v)); }
inline std::uint64_t hash_field(std::uint64_t h, MemoryFormat v) { return mix(h, static_cast<std::uint64_t>(v)); }
inline std::uint64_t hash_field(std::uint64_t h, Device v) { return mix(h, static_cast<std::uint64_t>(v.type) * 256 + v.index); }
inline std::uint64_t hash_field(std::uint64_t h, const Scalar& v) {
  return mix(mix(h, static_cast<std::uint64_t>(v.kind())), v.bits());
}
// clang-format on
inline std::uint64_t hash_field(std::uint64_t h, const Dims& v) {
  h = mix(h, static_cast<std::uint64_t>(v.size()));
  for (auto x : v) h = mix(h, static_cast<std::uint64_t>(x));
  return h;
}
inline std::uint64_t hash_field(std::uint64_t h, const std::vector<std::int64_t>& v) {
  h = mix(h, v.size());
  for (auto x : v) h = mix(h, static_cast<std::uint64_t>(x));
  return h;
}
inline std::uint64_t hash_field(std::uint64_t h, const std::string& v) {
  h = mix(h, v.size());
  for (unsigned char c : v) h = mix(h, c);
  return h;
}

inline bool same(double a, double b) {
  return Scalar(a) == Scalar(b);
}
template <class T>
bool same(const T& a, const T& b) {
  return a == b;
}

// clang-format off
inline std::string print_field(bool v) { return v ? "true" : "false"; }
inline std::string print_field(std::int64_t v) { return std::to_string(v); }
inline std::string print_field(double v) { return Scalar(v).str(); }
inline std::string print_field(DType v) { return name_of(v); }
inline std::string print_field(MemoryFormat v) { return name_of(v); }
inline std::string print_field(Device v) { return v.str(); }
inline std::string print_field(const Dims& v) { return v.str(); }
inline std::string print_field(const Scalar& v) { return v.str(); }
inline std::string print_field(const std::string& v) { return v; }
// clang-format on
inline std::string print_field(const std::vector<std::int64_t>& v) {
  std::string s = "[";
  for (std::size_t i = 0; i < v.size(); ++i) s += (i ? ", " : "") + std::to_string(v[i]);
  return s + "]";
}

}  // namespace detail

/// What can be done with an attribute struct whose C++ type is not known.
struct AttrType {
  bool (*equal)(const void*, const void*);
  std::uint64_t (*hash)(const void*);
  std::string (*print)(const void*);  // "stride=[1, 1], padding=[2, 2]"
  std::shared_ptr<void> (*clone)(const void*);
  std::shared_ptr<void> (*make_default)();
};

namespace detail {

// Calls f(name, member) for each field.
template <class A, class F>
void each_field(F&& f) {
  std::apply([&](auto... field) { (f(field.name, field.member), ...); }, A::fields());
}

template <class A>
struct AttrOperations {
  static bool equal(const void* a, const void* b) {
    bool equal = true;
    each_field<A>([&](const char*, auto m) {
      equal = equal && same(static_cast<const A*>(a)->*m, static_cast<const A*>(b)->*m);
    });
    return equal;
  }
  static std::uint64_t hash(const void* a) {
    std::uint64_t h = 0x51ed270b7a1f39c5ull;
    each_field<A>([&](const char*, auto m) { h = hash_field(h, static_cast<const A*>(a)->*m); });
    return h;
  }
  static std::string print(const void* a) {
    std::string s;
    each_field<A>([&](const char* name, auto m) {
      s += (s.empty() ? "" : ", ") + std::string(name) + "=" +
           print_field(static_cast<const A*>(a)->*m);
    });
    return s;
  }
  static std::shared_ptr<void> clone(const void* a) {
    return std::make_shared<A>(*static_cast<const A*>(a));
  }
  static std::shared_ptr<void> make_default() { return std::make_shared<A>(); }
};

}  // namespace detail

/// The AttrType of attribute struct A.
template <class A>
inline constexpr AttrType attr_type_v = {
    detail::AttrOperations<A>::equal,        detail::AttrOperations<A>::hash,
    detail::AttrOperations<A>::print,        detail::AttrOperations<A>::clone,
    detail::AttrOperations<A>::make_default,
};

/// For ops without attributes.
struct NoAttrs {
  static constexpr auto fields() { return std::tuple<>{}; }
};

/// A borrowed attribute struct.
struct AttrRef {
  const AttrType* type = &attr_type_v<NoAttrs>;
  const void* data = nullptr;

  AttrRef() = default;
  AttrRef(const AttrType* t, const void* d) : type(t), data(d) {}
  template <class A>
  requires requires { A::fields(); }
  AttrRef(const A& a) : type(&attr_type_v<A>), data(&a) {}
};

/// An owned, shared, immutable attribute struct.
class AttrBox {
 public:
  AttrBox() = default;
  explicit AttrBox(AttrRef r) : type_(r.type), data_(r.data ? r.type->clone(r.data) : nullptr) {}
  AttrRef ref() const { return {type_, data_.get()}; }
  template <class A>
  const A& as() const {  // A: what it was made of
    return *static_cast<const A*>(data_.get());
  }
  std::string str() const { return data_ ? type_->print(data_.get()) : std::string(); }

 private:
  const AttrType* type_ = &attr_type_v<NoAttrs>;
  std::shared_ptr<void> data_;
};

}  // namespace tandem
