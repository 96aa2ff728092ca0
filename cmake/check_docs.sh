#!/usr/bin/env bash
# Every struct, class, enum and free function of a public header has a `///` comment above it, or
# above the group it stands in: the declarations that follow one another without an empty line.
# The namespaces `detail`, and `math` and `functor`, which kernels are made of, are not public. Lines are read as clang-format lays them out: what is
# declared in a namespace starts a line.
#
#   cmake/check_docs.sh [ROOT]        checks the tree
#   cmake/check_docs.sh --self-test   checks that a missing comment is found
set -euo pipefail

check() { # ROOT
  local root=$1 files
  mapfile -t files < <(cd "$root" && find core ops autograd graph nn data -name '*.h' | sort)
  ((${#files[@]})) || { echo "check_docs: no headers in $root" >&2; return 1; }
  (cd "$root" && awk '
    FNR == 1 { documented = 0; hidden = 0; commented = 0; macro = 0 }
    macro { macro = /\\$/; next }
    /^[ \t]*#/ { macro = /\\$/; next }
    /^$/ { documented = 0; next }
    /^namespace ([a-z_:]*:)?(detail|math|functor) \{/ { hidden = 1; next }
    /^\}  \/\/ namespace ([a-z_:]*:)?(detail|math|functor)$/ { hidden = 0; next }
    /^\/\/\// { documented = 1; next }
    hidden || documented { next }
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
  expect bad 'Tensor one(In x);'
  expect bad '// Not for readers.\nTensor one(In x);'
  expect bad '/// One.\nTensor one(In x);\n\nTensor two(In x);'
  expect bad 'struct S {\n  int a;\n};'
  expect bad 'template <class T>\nclass C : public B {\n};'
  expect bad 'enum class Kind { a, b };'
  expect bad '[[nodiscard]] int one();'
  expect bad 'inline int one() {\n  return 1;\n}'
  expect bad 'namespace detail {\n\nint one(int x);\n\n}  // namespace detail\n\nint two(int x);'
  echo "check_docs: self-test passed"
}

case ${1:-} in
  --self-test) self_test ;;
  *)
    root=${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
    if check "$root"; then
      echo "check_docs: every public declaration is documented"
    else
      echo "check_docs: the declarations above need a doc comment" >&2
      exit 1
    fi
    ;;
esac
