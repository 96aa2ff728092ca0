#!/usr/bin/env bash
# Installs what is missing, builds everything and runs every test.
#
#   ./test.sh [CTEST ARGS…]                 ./test.sh -R autograd
#   ./test.sh --sanitize [address|thread]   the same under a sanitizer (address: with undefined)
#
# TANDEM_CMAKE_ARGS is passed to CMake; TANDEM_DATA names a folder with MNIST for the test that trains
# on it (without, it is skipped).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=cmake/setup.sh
source "$root/cmake/setup.sh"

dir=$root/build
options=()
case ${1:-} in
  -h | --help)
    sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' "$0"
    exit 0
    ;;
  --sanitize | --sanitize=*)
    kind=address
    if [[ $1 == --sanitize=* ]]; then
      kind=${1#*=}
    elif [[ ${2:-} == address || ${2:-} == thread ]]; then
      kind=$2
      shift
    fi
    shift
    case $kind in
      address) dir=$root/build-asan ;;
      thread) dir=$root/build-tsan ;;
      *) die "--sanitize takes address or thread, not '$kind'" ;;
    esac
    options=("-DTANDEM_SANITIZE=$kind" -DTANDEM_CUDA=OFF -DTANDEM_BUILD_BENCHMARKS=OFF)
    ;;
esac

need "${build_packages[@]}" "${test_packages[@]}"
refuse_unknown "ctest --help" "$(ctest --help)" "$@"
# Named, because run.sh may have made this folder without them.
if [[ $dir == "$root/build" ]]; then
  options=(-DTANDEM_BUILD_TESTS=ON -DTANDEM_BUILD_BENCHMARKS=ON -DTANDEM_CUDA=AUTO)
  if python=$(python_environment "$dir"); then
    add_peers "$dir"
    options+=(-DTANDEM_PYTHON=ON "-DPython_EXECUTABLE=$python")
  else
    say "No virtual environment could be made: the Python package is neither built nor tested."
    options+=(-DTANDEM_PYTHON=OFF)
  fi
fi
read -ra extra <<<"${TANDEM_CMAKE_ARGS:-}"
configure "$dir" "${options[@]}" "${extra[@]}"
build "$dir"
cd "$dir"
exec ctest --output-on-failure --no-tests=error -j "$(parallel_jobs)" "$@"
