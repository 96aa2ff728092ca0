#!/usr/bin/env bash
# Who may include whom. Each folder sees the folders named for it here, and itself.
#
#   cmake/check_arrows.sh [ROOT]        checks the tree
#   cmake/check_arrows.sh --self-test   checks that a forbidden include is found
set -euo pipefail
# shellcheck source=cmake/check.sh
source "$(dirname "${BASH_SOURCE[0]}")/check.sh"

check() { # ROOT
  local root=$1 files
  mapfile -t files < <(cd "$root" && find core ops cpu cuda autograd graph nn data io tandem python \
    apps benchmarks examples tests -path '*/build' -prune -o -type f \
    \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) -print 2>/dev/null | sort)
  ((${#files[@]})) || { echo "check_arrows: no sources in $root" >&2; return 1; }
  (cd "$root" && awk '
    BEGIN {
      sees["core"] = ""
      sees["ops"] = "core"
      sees["cpu"] = sees["cuda"] = "core ops"  # of ops, see below
      sees["autograd"] = sees["graph"] = "core ops"
      sees["nn"] = "core ops autograd graph"
      sees["data"] = "core ops"
      sees["io"] = "core graph"
      lib = "core ops autograd graph nn data io"
      sees["tandem"] = lib
      sees["apps"] = lib " tandem benchmarks"  # the tradeoff program is a face of benchmarks/tradeoff
      sees["python"] = lib " tandem benchmarks"  # so is tandem.tradeoff
      sees["benchmarks"] = sees["examples"] = lib " tandem"
      sees["tests"] = lib " tandem cpu cuda apps benchmarks"
      for (f in sees) {
        n = split(sees[f] " " f, list, " ")
        for (i = 1; i <= n; ++i) allowed[f, list[i]] = 1
      }
    }
    function bad(why) {
      printf "%s:%d: %s: %s\n", FILENAME, FNR, why, $0
      failed = 1
    }
    /^[ \t]*#[ \t]*include[ \t]*["<]/ {
      folder = FILENAME
      sub(/\/.*/, "", folder)
      quoted = $0 ~ /include[ \t]*"/
      name = $0
      sub(/^[^"<]*["<]/, "", name)
      sub(/[">].*/, "", name)
      if (name ~ /dnnl/ && FILENAME !~ /^(cpu\/onednn_|benchmarks\/peers\/)/ && name != "cpu/onednn.h") {
        bad("only cpu/onednn_* may include oneDNN")
        next
      }
      target = name
      if (!sub(/\/.*/, "", target)) target = ""
      if (!(target in sees)) {
        if (quoted) bad("a project header is named from the root of the tree")
        next
      }
      if (!((folder, target) in allowed)) {
        bad(folder " must not see " target)
      } else if (target == "ops" && (folder == "cpu" || folder == "cuda") &&
                 name ~ /^ops\/(ops|grad_util)\.h$/) {
        bad("a kernel folder sees only the attribute structs of ops")
      }
    }
    END { exit failed }
  ' "${files[@]}")
}

self_test() {
  local dir
  dir=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$dir'" EXIT
  mkdir -p "$dir"/{core,ops,cpu,autograd,graph,nn,tests}
  expect() { # good|bad FILE LINE
    local verdict=good
    printf '#pragma once\n  #  include %s\n' "$3" >"$dir/$2"
    check "$dir" >/dev/null || verdict=bad
    rm "$dir/$2"
    [[ $verdict == "$1" ]] || { echo "self-test: '$3' in $2 is $verdict, expected $1" >&2; exit 1; }
  }
  expect good core/a.h '"core/b.h"'
  expect good core/a.h '<vector>'
  expect good cpu/conv.cpp '"ops/conv.h"'
  expect good nn/a.cpp '"graph/compile.h"'
  expect good tests/a.cpp '"cpu/strided.h"'
  expect good cpu/onednn_conv.cpp '<oneapi/dnnl/dnnl.hpp>'
  expect bad core/a.h '"ops/conv.h"'
  expect bad core/a.h '<ops/conv.h>'
  expect bad graph/a.h '"autograd/node.h"'
  expect bad autograd/a.cpp '"graph/tracer.h"'
  expect bad ops/a.cpp '"cpu/strided.h"'
  expect bad cpu/conv.cpp '"ops/ops.h"'
  expect bad cpu/conv.cpp '"graph/tracer.h"'
  expect bad cpu/conv.cpp '<oneapi/dnnl/dnnl.hpp>'
  expect bad core/a.h '"b.h"'
  expect bad core/a.h '"../ops/conv.h"'
}

check_main "all includes follow the arrows" \
  "the includes above break the arrows (docs/architecture.md)" "$@"
