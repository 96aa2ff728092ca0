// What is sorted in place of values of any type, on every device: integers that order as the values
// do, with the positions the values had. No two items are equal, so any sort is stable.
#pragma once
#include <bit>
#include <cstdint>
#include <type_traits>

#include "core/half.h"

namespace tandem {

/// An integer that orders as the value does. A NaN comes last (first, descending), the zeros are
/// one.
template <class T>
TANDEM_HD auto order_key(T v, bool descending) {
  using C = compute_t<T>;
  using Key = std::conditional_t<sizeof(C) == 8, std::uint64_t, std::uint32_t>;
  constexpr Key sign = Key{1} << (8 * sizeof(Key) - 1);
  const C c = static_cast<C>(v);
  Key key;
  if constexpr (std::is_floating_point_v<C>) {
    key = std::bit_cast<Key>(c + C{0});
    key = key & sign ? ~key : key | sign;
    if (c != c) key = ~Key{0};
  } else {
    key = static_cast<Key>(static_cast<std::int64_t>(c)) ^ (std::is_signed_v<C> ? sign : 0);
  }
  return descending ? static_cast<Key>(~key) : key;
}

/// Keys and positions below 2^32: the two halves compare as one number.
struct NarrowItem {
  std::uint64_t v;
  NarrowItem() = default;
  TANDEM_HD NarrowItem(std::uint64_t key, std::int64_t i)
      : v(key << 32 | static_cast<std::uint64_t>(i)) {}
  /// Not before any other.
  TANDEM_HD static NarrowItem last() { return NarrowItem(0xffffffffu, 0xffffffffu); }
  TANDEM_HD std::uint64_t key() const { return v >> 32; }
  TANDEM_HD std::int64_t index() const { return static_cast<std::int64_t>(v & 0xffffffffu); }
  TANDEM_HD bool operator<(const NarrowItem& o) const { return v < o.v; }
};

/// Keys or positions of more bits: compared one after the other.
struct WideItem {
  std::uint64_t k;
  std::int64_t i;
  WideItem() = default;
  TANDEM_HD WideItem(std::uint64_t key, std::int64_t at) : k(key), i(at) {}
  TANDEM_HD static WideItem last() { return WideItem(~std::uint64_t{0}, INT64_MAX); }  // as above
  TANDEM_HD std::uint64_t key() const { return k; }
  TANDEM_HD std::int64_t index() const { return i; }
  TANDEM_HD bool operator<(const WideItem& o) const { return k != o.k ? k < o.k : i < o.i; }
};

}  // namespace tandem
