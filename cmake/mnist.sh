#!/usr/bin/env bash
# Fetches MNIST from public mirrors and checks it. To be sourced after setup.sh; gives
# `download_mnist DIR`. Run with --self-test it tries that on files and mirrors of its own.

# The md5 sums of the original distribution.
mnist_files=(
  f68b3c2dcbeaaa9fbdd348bbdeb94873:train-images-idx3-ubyte.gz
  d53e105ee54ea40749a09fcbcd1e9432:train-labels-idx1-ubyte.gz
  9fb629c4189551a2d022fa330f9573f3:t10k-images-idx3-ubyte.gz
  ec29112dd5afa0611ce80d1b7f02629c:t10k-labels-idx1-ubyte.gz
)
mnist_mirrors=(
  https://ossci-datasets.s3.amazonaws.com/mnist
  https://storage.googleapis.com/cvdf-datasets/mnist
  http://yann.lecun.com/exdb/mnist
)

fetch() { # URL FILE
  if command -v curl >/dev/null; then
    curl -fsSL --connect-timeout 15 --retry 1 -o "$2" "$1"
  elif command -v wget >/dev/null; then
    wget -q --timeout=15 --tries=2 -O "$2" "$1"
  else
    need curl ca-certificates
    curl -fsSL --connect-timeout 15 --retry 1 -o "$2" "$1"
  fi
}

md5_is() { # SUM FILE
  [[ -f $2 && $(md5sum <"$2") == "$1  -" ]]
}

download_mnist() { # DIR
  local dir=$1 entry sum file mirror got
  mkdir -p "$dir"
  for entry in "${mnist_files[@]}"; do
    sum=${entry%%:*} file=${entry#*:} got=""
    md5_is "$sum" "$dir/$file" && continue
    for mirror in "${TANDEM_MIRROR:-${mnist_mirrors[0]}}" "${mnist_mirrors[@]:1}"; do
      say "Downloading $mirror/$file"
      if fetch "$mirror/$file" "$dir/$file.part"; then
        if md5_is "$sum" "$dir/$file.part"; then
          mv "$dir/$file.part" "$dir/$file"
          got=yes
          break
        fi
        say "  its md5 is wrong: trying the next mirror"
      fi
    done
    rm -f "$dir/$file.part"
    [[ -n $got ]] || die "no mirror gave $file with md5 $sum. Put MNIST's four files into a folder \
yourself and run: ./run.sh --data FOLDER"
  done
}

# Mirrors that are folders: one with a wrong and a missing file, one with all.
self_test() {
  local dir said file
  dir=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$dir'" EXIT
  mkdir "$dir"/{poor,good}
  mnist_files=()
  for file in a b c; do
    echo "content of $file" >"$dir/good/$file.gz"
    mnist_files+=("$(md5sum <"$dir/good/$file.gz" | cut -d' ' -f1):$file.gz")
  done
  echo "something else" >"$dir/poor/a.gz"
  cp "$dir/good/c.gz" "$dir/poor/"
  fetch() { cp "$1" "$2" 2>/dev/null; }
  mnist_mirrors=("$dir/poor" "$dir/good")

  said=$(download_mnist "$dir/got" 2>&1)
  for file in a b c; do
    cmp "$dir/good/$file.gz" "$dir/got/$file.gz" || fail_test "$file.gz did not come"
  done
  [[ $said == *"md5 is wrong"* ]] || fail_test "a wrong file was not mentioned"
  [[ $said != *"$dir/good/c.gz"* ]] || fail_test "a good file was fetched twice"
  said=$(download_mnist "$dir/got" 2>&1)
  [[ -z $said ]] || fail_test "what is there was fetched again"
  echo "broken" >"$dir/got/b.gz"
  (download_mnist "$dir/got") >/dev/null 2>&1
  cmp "$dir/good/b.gz" "$dir/got/b.gz" || fail_test "a broken file was left"

  mnist_mirrors=("$dir/poor")
  if said=$(download_mnist "$dir/none" 2>&1); then fail_test "no mirror had it, and nobody said so"; fi
  [[ $said == *"--data FOLDER"* ]] || fail_test "it does not say what to do"
  [[ -z $(find "$dir/none" -type f) ]] || fail_test "a file that is none of MNIST's was left"
  (
    TANDEM_MIRROR=$dir/good
    mnist_mirrors=("$dir/nowhere")
    download_mnist "$dir/mine"
  ) >/dev/null 2>&1 || fail_test "TANDEM_MIRROR was not used"
  echo "mnist: self-test passed"
}
fail_test() {
  echo "mnist: self-test: $1" >&2
  exit 1
}

if [[ ${1:-} == --self-test && ${BASH_SOURCE[0]} == "$0" ]]; then
  set -euo pipefail
  # shellcheck source=cmake/setup.sh
  source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
  self_test
fi
