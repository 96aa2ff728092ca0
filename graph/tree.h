// Arguments and results of a compiled function: tensors at the leaves of ordinary C++ values.
#pragma once
#include <array>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace tandem::graph {

template <class T>
concept StaticLeaf = std::is_arithmetic_v<T> || std::is_enum_v<T> || std::is_same_v<T, std::string>;

/// Visits the leaves of `x` in a fixed order: `on_tensor(Tensor&)` for tensors, `on_static(text)`
/// for everything a program is specialised on (numbers, enums, strings, sizes of containers).
/// A struct takes part by a member `auto tree() { return std::tie(a, b); }`.
template <class T, class FT, class FS>
void visit_tree(T& x, FT&& on_tensor, FS&& on_static) {
  using U = std::remove_cvref_t<T>;
  if constexpr (std::is_same_v<U, Tensor>) {
    on_tensor(x);
  } else if constexpr (std::is_same_v<U, std::string>) {
    on_static(fmt::format("{}'{}'", x.size(), x));
  } else if constexpr (std::is_enum_v<U>) {
    on_static(std::to_string(static_cast<long long>(x)));
  } else if constexpr (std::is_floating_point_v<U>) {
    on_static(fmt::format("{:a}", x));
  } else if constexpr (std::is_arithmetic_v<U>) {
    on_static(std::to_string(x));
  } else if constexpr (requires { x.tree(); }) {
    std::apply([&](auto&... f) { (visit_tree(f, on_tensor, on_static), ...); }, x.tree());
  } else if constexpr (requires {
                         x.has_value();
                         *x;
                       }) {  // optional
    on_static(x.has_value() ? "some" : "none");
    if (x.has_value()) visit_tree(*x, on_tensor, on_static);
  } else if constexpr (requires { typename U::mapped_type; }) {
    on_static(fmt::format("map{}", x.size()));
    for (auto& [k, v] : x) {
      auto key = k;
      visit_tree(key, on_tensor, on_static);
      visit_tree(v, on_tensor, on_static);
    }
  } else if constexpr (requires { std::tuple_size<U>::value; }) {  // tuple, pair, array
    std::apply([&](auto&... f) { (visit_tree(f, on_tensor, on_static), ...); }, x);
  } else if constexpr (requires {
                         x.begin();
                         x.size();
                       }) {
    on_static(fmt::format("list{}", x.size()));
    for (auto& e : x) visit_tree(e, on_tensor, on_static);
  } else {
    static_assert(!sizeof(U),
                  "arguments and results of a compiled function are tensors, numbers, strings, "
                  "standard containers of these, or structs with tree()");
  }
}

}  // namespace tandem::graph
