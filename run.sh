#!/usr/bin/env bash
# Installs what is missing, builds, and runs the main job: trains the LeNet of experiment E1 eagerly
# and compiled, then prints the table that says where the difference comes from.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=cmake/setup.sh
source "$root/cmake/setup.sh"
# shellcheck source=cmake/mnist.sh
source "$root/cmake/mnist.sh"

usage() {
  cat <<'TXT'
usage: ./run.sh [--data DIR | --download] [--quick] [--python] [ARGS…]

  --data DIR   MNIST's four IDX files, gzipped or not (also: TANDEM_DATA=DIR)
  --download   fetch MNIST from a public mirror into ~/.cache/tandem/mnist, check its md5, use it
  --quick      a short run that shows that everything works
  --python     the same with the Python package, built in a virtual environment of its own
  ARGS         passed on to tandem-train: --epochs 5, --batch 64, … (build/apps/tandem-train --help)

Without data, a built-in generated set of digits is used. It is not MNIST: its accuracy means nothing.
TXT
}

data=${TANDEM_DATA:-}
quick=""
fetch_data=""
python=""
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
    --python) python=yes ;;
    *) args+=("$1") ;;
  esac
  shift
done

sources=(apps/{train,console}.cpp)
[[ -z $python ]] || sources=(python/tandem/{train,_console}.py)
refuse_unknown "./run.sh --help" "$(cd "$root" && cat "${sources[@]}")" "${args[@]}"

if [[ -n $fetch_data ]]; then
  data=${XDG_CACHE_HOME:-$HOME/.cache}/tandem/mnist
  download_mnist "$data"
fi
[[ -z $data || -d $data ]] || die "there is no folder '$data' (--data or TANDEM_DATA)"

need "${build_packages[@]}"
# test.sh uses the same folder: whatever it configured stays as it is.
options=()
if ! configured "$root/build"; then
  options=(-DTANDEM_BUILD_TESTS=OFF -DTANDEM_BUILD_BENCHMARKS=OFF)
  if command -v nvcc >/dev/null && [[ ! -e /dev/nvidiactl && ! -e /dev/dxg ]]; then
    say "There is nvcc but no GPU: building for the CPU alone (./test.sh builds all)"
    options+=(-DTANDEM_CUDA=OFF)
  fi
fi
if [[ -n $python ]]; then
  interpreter=$(python_environment "$root/build") || die "no virtual environment could be made"
  grep -qx 'TANDEM_PYTHON:BOOL=ON' "$root/build/CMakeCache.txt" 2>/dev/null ||
    options+=(-DTANDEM_PYTHON=ON "-DPython_EXECUTABLE=$interpreter")
fi
((${#options[@]} == 0)) || configure "$root/build" "${options[@]}"
if [[ -n $python ]]; then
  build "$root/build" tandem_python tandem_python_files
  program() { PYTHONPATH=$root/build/python "$interpreter" -m "tandem.$1" "${@:2}"; }
else
  build "$root/build" tandem-train tandem-tradeoff
  program() { "$root/build/apps/tandem-$1" "${@:2}"; }
fi

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

program train "${train[@]}" "${args[@]}"
echo
program tradeoff "${tradeoff[@]}"
