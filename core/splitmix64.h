// A small generator for what needs well-mixed words on the host and no tensor.
#pragma once
#include <cstdint>

namespace tandem {

/// The next word of the sequence whose state is `state`; any state will do (Steele, Lea and Flood,
/// "Fast splittable pseudorandom number generators", OOPSLA 2014). Unlike those of the standard
/// library's distributions and std::shuffle, its words are the same everywhere.
inline std::uint64_t splitmix64(std::uint64_t& state) {
  std::uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace tandem
