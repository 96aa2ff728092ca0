#!/usr/bin/env bash
# Every struct, class, enum and free function of a public header has a `///` comment above it, or
# above the group it stands in: the declarations that follow one another without an empty line.
# The namespaces `detail`, and `math` and `functor`, which kernels are made of, are not public. Lines
# are read as clang-format lays them out: what is declared in a namespace starts a line.
#
# Public member functions need a comment as well: above, above their group, or behind the
# declaration. Not those that their names explain: constructors, operators, overrides, getters of one
# line, and `fields`, which every struct of attributes has.
#
#   cmake/check_docs.sh [ROOT]        checks the tree
#   cmake/check_docs.sh --self-test   checks that a missing comment is found
set -euo pipefail
# shellcheck source=cmake/check.sh
source "$(dirname "${BASH_SOURCE[0]}")/check.sh"

check() { # ROOT
  local root=$1 files
  mapfile -t files < <(cd "$root" && find core ops autograd graph nn data -name '*.h' | sort)
  ((${#files[@]})) || { echo "check_docs: no headers in $root" >&2; return 1; }
  (cd "$root" && awk '
    FNR == 1 { documented = member_documented = 0; hidden = inside = 0; commented = 0; macro = 0 }
    macro { macro = /\\$/; next }
    /^[ \t]*#/ { macro = /\\$/; next }
    /^$/ { documented = member_documented = 0; next }
    /^namespace ([a-z_:]*:)?(detail|math|functor) \{/ { hidden = 1; next }
    /^\}  \/\/ namespace ([a-z_:]*:)?(detail|math|functor)$/ { hidden = 0; next }
    /^\/\/\// { documented = 1; next }
    hidden { next }

    # Inside a class of the namespace: its members are indented by two.
    /^(class|struct) [A-Za-z_:<>]+.*\{$/ { inside = 1; public = /^struct/ }
    /^\}/ { inside = 0 }
    inside && /^ (public|private|protected):/ { public = /public/; member_documented = 0; next }
    inside && /^  \/\// { member_documented = 1; next }
    inside && public && !member_documented && /^  [A-Za-z_~\[].*\(/ {
      line = FNR
      while (!/[;{}]$|\/\/ / && (getline more) > 0) $0 = $0 more  # to the end of the declaration
      if (/ \/\/ /) { member_documented = 1; next }
      if (/^[^(]* = / || /\(\*/ || /^  std::function</ || / override/ || /operator/ ||
          /= (default|delete);/ || /^  ((constexpr|explicit|TANDEM_HD|requires\(.*\)) ?)*~?[A-Z][A-Za-z0-9]*\(/ ||
          /^  (friend|using|template|static_assert|requires|TANDEM_[A-Z_]+\()/ ||
          / const (noexcept )?\{ return .*; \}$/ || /\(\) \{ return [^;(]*; \}$/ || / fields\(\) \{/) next
      printf "%s:%d: no doc comment: %s\n", FILENAME, line, $0
      failed = 1
      member_documented = 1
      next
    }

    documented { next }
    /^\/\// || /^[ \t}]/ { next }
    /^(namespace|using|template|requires|extern|static_assert|public:|private:|protected:)/ { next }
    /^(class|struct|enum class) [A-Za-z_]+( : [a-z:_]+)?;/ { next }  # declared ahead
    /^(class|struct|enum) / || /^[A-Za-z_\[].*\(/ {
      if (/^TANDEM_[A-Z_]+\(/ || /^[^(]*[A-Za-z]::[A-Za-z_~]+\(/ || /^(inline )?constexpr [^(]* = /) next
      printf "%s:%d: no doc comment: %s\n", FILENAME, FNR, $0
      failed = 1
      documented = 1  # one report for a group
    }
    END { exit failed }
  ' "${files[@]}")
}

self_test() {
  local dir
  dir=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$dir'" EXIT
  mkdir -p "$dir"/{core,ops,autograd,graph,nn,data}
  expect() { # good|bad TEXT
    local verdict=good
    printf '// A header.\n#pragma once\n\nnamespace tandem {\n\n%b\n\n}  // namespace tandem\n' "$2" \
      >"$dir/core/a.h"
    check "$dir" >/dev/null || verdict=bad
    [[ $verdict == "$1" ]] || { echo "self-test: '$2' is $verdict, expected $1" >&2; exit 1; }
  }
  expect good '/// One.\nTensor one(In x);'
  expect good '/// Both.\nTensor one(In x);\nTensor two(In x,\n           int y);'
  expect good 'class Later;\nenum class Kind : int;\nusing A = B;\ninline constexpr int k = f(1);'
  expect good '/// A struct.\nstruct S {\n  int a;\n\n  int b;\n};'
  expect good 'namespace detail {\n\nint one(int x);\n\n}  // namespace detail'
  expect good '#define TWO(x) \\\\\n  f(x);     \\\\\nint g(x)'
  expect good 'inline int S::one() {\n  return 1;\n}'
  local class='/// A class.\nclass C {\n public:\n'
  expect good "$class"'  /// One.\n  int one(int x);\n  int two();\n};'
  expect good "$class"'  int one(int x);  // one more\n};'
  expect good "$class"'  C();\n  explicit C(int x);\n  C(const C\&) = delete;\n  ~C() override;\n};'
  expect good "$class"'  int size() const { return size_; }\n  int f() const override;\n};'
  expect good "$class"'  int size = f(1);\n\n private:\n  int one(int x);\n};'
  expect good "$class"'  /// One.\n  int one() {\n    return two();\n  }\n};'
  expect good '/// A class.\nclass C {\n  int one(int x);\n};'
  expect good "$class"'  int one(int x,\n          int y) override;\n};'
  expect good "$class"'  int* begin() { return v_; }\n};'
  expect bad "$class"'  int one(int x);\n};'
  expect bad "$class"'  int one(int x,\n          int y);\n};'
  expect bad "$class"'  virtual int one() = 0;\n};'
  expect bad "$class"'  /// One.\n  int one();\n\n  int two();\n};'
  expect bad "$class"'  static int one(int x) { return x; }\n};'
  expect bad '/// A struct.\nstruct S {\n  int a;\n  int one() const;\n};'
  expect bad '/// A struct.\ntemplate <class T>\nstruct S {\n  T one() const;\n};'
  expect bad 'Tensor one(In x);'
  expect bad '// Not for readers.\nTensor one(In x);'
  expect bad '/// One.\nTensor one(In x);\n\nTensor two(In x);'
  expect bad 'struct S {\n  int a;\n};'
  expect bad 'template <class T>\nclass C : public B {\n};'
  expect bad 'enum class Kind { a, b };'
  expect bad '[[nodiscard]] int one();'
  expect bad 'inline int one() {\n  return 1;\n}'
  expect bad 'namespace detail {\n\nint one(int x);\n\n}  // namespace detail\n\nint two(int x);'
}

check_main "every public declaration is documented" \
  "the declarations above need a doc comment" "$@"
