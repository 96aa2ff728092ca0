#!/usr/bin/env bash
# Installs what is missing, builds, and runs the main job: trains the LeNet of experiment E1 eagerly
# and compiled, then prints the table that says where the difference comes from.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=cmake/setup.sh
source "$root/cmake/setup.sh"

usage() {
  cat <<'TXT'
usage: ./run.sh [--data DIR | --download] [--quick] [ARGS…]

  --data DIR   MNIST's four IDX files, gzipped or not (also: TANDEM_DATA=DIR)
  --download   fetch MNIST from a public mirror into ~/.cache/tandem/mnist, check its md5, use it
  --quick      a short run that shows that everything works
  ARGS         passed on to tandem-train: --epochs 5, --batch 64, … (build/apps/tandem-train --help)

Without data, a built-in generated set of digits is used. It is not MNIST: its accuracy means nothing.
TXT
}

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

download() { # DIR
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

data=${TANDEM_DATA:-}
quick=""
fetch_data=""
args=()
while (($#)); do
  case $1 in
    -h | --help)
      usage
      exit 0
      ;;
    --data)
      (($# >= 2)) || die "--data needs a folder"
      data=$2
      shift
      ;;
    --data=*) data=${1#*=} ;;
    --download) fetch_data=yes ;;
    --quick) quick=yes ;;
    *) args+=("$1") ;;
  esac
  shift
done

if [[ -n $fetch_data ]]; then
  data=${XDG_CACHE_HOME:-$HOME/.cache}/tandem/mnist
  download "$data"
fi
[[ -z $data || -d $data ]] || die "there is no folder '$data' (--data or TANDEM_DATA)"

need "${build_packages[@]}"
# test.sh uses the same folder: whatever it configured stays as it is.
if ! configured "$root/build"; then
  options=(-DTANDEM_BUILD_TESTS=OFF -DTANDEM_BUILD_BENCHMARKS=OFF)
  if command -v nvcc >/dev/null && [[ ! -e /dev/nvidiactl && ! -e /dev/dxg ]]; then
    say "There is nvcc but no GPU: building for the CPU alone (./test.sh builds all)"
    options+=(-DTANDEM_CUDA=OFF)
  fi
  configure "$root/build" "${options[@]}"
fi
build "$root/build" tandem-train tandem-tradeoff

train=(--model lenet --mode both)
tradeoff=(--model lenet)
if [[ -n $data ]]; then
  train+=(--data-set mnist --data "$data")
else
  train+=(--data-set synthetic-digits)
  say "No data given: using generated digits (synthetic; --download gets MNIST)"
fi
if [[ -n $quick ]]; then
  train+=(--quick)
  tradeoff+=(--quick)
fi

"$root/build/apps/tandem-train" "${train[@]}" "${args[@]}"
echo
"$root/build/apps/tandem-tradeoff" "${tradeoff[@]}"
