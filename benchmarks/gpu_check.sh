#!/usr/bin/env bash
# Builds with CUDA, runs the tests on the GPU, under compute-sanitizer too, and measures: unattended,
# in under ten minutes, without a network.
#
#   benchmarks/gpu_check.sh [RESULT_DIR] [DEPENDENCIES]
#
# RESULT_DIR    default: $OUT, else benchmarks/results/<gpu>. One JSON per program, and status.json.
# DEPENDENCIES  a folder with what the machine lacks, each as a folder of sources or headers:
#               googletest, benchmark, cudnn-frontend, fmt, CLI11, json.
#
# Every step has a time limit and its own line in status.json (name, exit status, seconds): what
# fails or is cut short costs no other step.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1 | tr ' /' '--')
if [[ -z $gpu ]]; then
  echo "gpu_check: there is no NVIDIA GPU here" >&2
  exit 77
fi
out=${1:-${OUT:-$root/benchmarks/results/$gpu}}
need=${2:-$root/dependencies}
build=${BUILD:-/tmp/tandem-gpu-build}
jobs=$(nproc)
mkdir -p "$out"
out=$(cd "$out" && pwd)
: >"$out/status.txt"

step() { # NAME LIMIT_SECONDS COMMAND…
  local name=$1 limit=$2 start=$SECONDS status
  shift 2
  timeout "$limit" "$@" >"$out/$name.log" 2>&1
  status=$?
  printf '%s %d %d\n' "$name" "$status" $((SECONDS - start)) >>"$out/status.txt"
  printf '%-24s exit %d, %d s\n' "$name" "$status" $((SECONDS - start))
  return $status
}

options=(-DCMAKE_BUILD_TYPE=Release -DTANDEM_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native)
declare -A fetched=([googletest]=GOOGLETEST [benchmark]=BENCHMARK [fmt]=FMT [CLI11]=CLI11
  [json]=NLOHMANN_JSON [cudnn-frontend]=CUDNN_FRONTEND)
for folder in "${!fetched[@]}"; do
  [[ -d $need/$folder ]] && options+=("-DFETCHCONTENT_SOURCE_DIR_${fetched[$folder]}=$need/$folder")
done

nvidia-smi >"$out/nvidia-smi.txt" 2>&1
cd "$root" || exit 1
step configure 60 cmake -S . -B "$build" -G Ninja "${options[@]}" || exit 1
step build 240 cmake --build "$build" -j "$jobs" || exit 1

tests=$build/tests
step test_ops 90 "$tests/test_ops" --device cuda --gtest_output=json:"$out/test_ops.json"
step test_graph 60 "$tests/test_graph" --device cuda --gtest_output=json:"$out/test_graph.json"
step test_nn 30 "$tests/test_nn" --device cuda --gtest_output=json:"$out/test_nn.json"
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    step "sanitizer-$tool" 60 compute-sanitizer --tool "$tool" --error-exitcode 9 \
      "$tests/test_graph" --device cuda --gtest_filter='DeviceGraph*'
  done
fi
for model in lenet vgg resnet50; do
  for layout in nchw channels_last; do
    step "tradeoff-$model-$layout" 40 "$build/apps/tandem-tradeoff" --device cuda --model "$model" \
      --layout "$layout" --seconds 10 --json "$out/tradeoff-$model-$layout.json"
  done
done
step peers 120 env BASELINE_SECONDS=110 "$root/benchmarks/peers/gpu_baseline.sh" "$out"

awk 'BEGIN { print "[" } { printf "%s  {\"step\": \"%s\", \"exit\": %d, \"seconds\": %d}",
  (NR > 1 ? ",\n" : ""), $1, $2, $3 } END { print "\n]" }' "$out/status.txt" >"$out/status.json"
rm -f "$out/status.txt"
! grep -q '"exit": [1-9]' "$out/status.json"
