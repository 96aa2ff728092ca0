#!/usr/bin/env bash
# Builds with CUDA, runs the tests on the GPU, under compute-sanitizer too, and measures: unattended,
# in under ten minutes, without a network.
#
#   benchmarks/gpu_check.sh [RESULT_DIR] [DEPENDENCIES]
#   benchmarks/gpu_check.sh --collect DEPENDENCIES     (with a network, on Debian or Ubuntu)
#   benchmarks/gpu_check.sh --self-test                (its stages, with stand-ins for all programs)
#
# RESULT_DIR    default: $OUT, else benchmarks/results/<gpu>. Gets at most ten files:
#               status.json      every stage: verdict, exit status, seconds; every test program:
#                                tests, failures, names of what failed
#               gpu_check.log    what the stages printed
#               tradeoff-*.json  host, device and idle time of each arm
#               bench_*.json     kernels that move memory beside a plain copy; an operation beside
#                                its bare launch
#               train.json       a run of tandem-train in both modes
#               torch_baseline.json  the same nets in PyTorch
# DEPENDENCIES  a folder with what the machine lacks. Looked for in it: usr/ (packages unpacked, as
#               --collect makes it); folders of sources googletest, benchmark, fmt, CLI11, json;
#               cudnn-frontend/include. Default: dependencies/ at the top of the tree.
#
# Environment: GPU_CHECK_SECONDS  for everything together (default 560)
#              GPU_CHECK_BUILD    the build's folder (default /tmp/tandem-gpu-build), used again
#
# Every stage has a time limit; what fails, is cut short or lacks a GPU costs no other stage.
# status.json is written anew after each, so that a run that is killed keeps what it has. The exit
# status is 0 when the script came to its end, whatever it found.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

# --shards N PROGRAM ARGS…: the tests of a program in N processes; "@" in ARGS becomes the shard.
if [[ ${1:-} == --shards ]]; then
  export GTEST_TOTAL_SHARDS=$2
  shift 2
  worst=0
  pids=()
  trap 'kill "${pids[@]}" 2>/dev/null' EXIT
  for ((k = 0; k < GTEST_TOTAL_SHARDS; ++k)); do
    GTEST_SHARD_INDEX=$k OMP_NUM_THREADS=2 "${@//@/$k}" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid"
    status=$?
    # 77 (no such device) is no failure of the others.
    ((status <= worst)) || worst=$status
  done
  pids=()
  exit "$worst"
fi

if [[ ${1:-} == --collect ]]; then
  into=${2:?where to?}
  set -e
  mkdir -p "$into"
  cd "$into"
  packages=(libfmt-dev libcli11-dev nlohmann-json3-dev zlib1g-dev libgtest-dev libbenchmark-dev)
  # The libraries behind the headers.
  mapfile -t behind < <(apt-cache depends "${packages[@]}" |
    awk '/Depends: (libfmt|libbenchmark)[0-9][0-9a-z.]*$/ {print $2}')
  apt-get download -q "${packages[@]}" "${behind[@]}"
  for package in ./*.deb; do dpkg -x "$package" .; done
  rm -f ./*.deb
  rm -rf usr/share/doc
  # Links to what another system has under another name (libz.so.1.2.13); libz.a is taken then.
  find usr -lname '/*' -delete
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    "nvidia-cudnn-frontend==$(sed -n 's/^set(tandem_cudnn_frontend_wheel \(.*\))$/\1/p' \
      "$root/cmake/cuda_libraries.cmake")"
  mkdir -p cudnn-frontend
  python3 -m zipfile -e ./nvidia_cudnn_frontend-*.whl cudnn-frontend
  rm -rf ./nvidia_cudnn_frontend-*.whl cudnn-frontend/cudnn
  du -sh "$PWD"
  exit
fi

# Whether every kind of verdict is reached and reported: half a minute, without a GPU or a build.
if [[ ${1:-} == --self-test ]]; then
  set -e
  at=$(mktemp -d)
  trap 'rm -rf "$at"' EXIT
  mkdir "$at/bin" "$at/out"
  cat >"$at/bin/nvidia-smi" <<'SH'
#!/usr/bin/env bash
case "$*" in *compute_cap*) echo 9.0 ;; *name*) echo 'Stand-in GPU' ;; esac
SH
  # Every program there is: says what it is called, and behaves by that name.
  cat >"$at/bin/program" <<'SH'
#!/usr/bin/env bash
name=$(basename "$0")
echo "$name $*"
[[ $name != test_ops ]] || exit 77
for word; do
  if [[ $word == --gtest_output=json:* ]]; then
    why=''
    [[ $name == test_nn ]] && why=', "failures": [{"failure": "as it should"}]'
    printf '{"testsuites": [{"testsuite": [{"status": "RUN", "classname": "A", "name": "b"%s}]}]}' \
      "$why" >"${word#*json:}"
  fi
done
[[ $name != test_nn ]]
SH
  cat >"$at/bin/compute-sanitizer" <<'SH'
#!/usr/bin/env bash
[[ $* != *racecheck* ]] || exec sleep 100
SH
  cat >"$at/bin/cmake" <<SH
#!/usr/bin/env bash
mkdir -p "$at/build/tests" "$at/build/apps" "$at/build/benchmarks"
touch "$at/build/CMakeCache.txt"
for word; do
  case \$word in
    tandem-*) cp "$at/bin/program" "$at/build/apps/\$word" ;;
    bench_overhead) ;; # did not get built
    bench_*) cp "$at/bin/program" "$at/build/benchmarks/\$word" ;;
    test_*) cp "$at/bin/program" "$at/build/tests/\$word" ;;
  esac
done
SH
  chmod +x "$at"/bin/*
  PATH=$at/bin:$PATH GPU_CHECK_BUILD=$at/build GPU_CHECK_SECONDS=30 bash "$0" "$at/out" "$at/none"
  python3 - "$at/out/status.json" <<'PY'
import json, sys

status = json.load(open(sys.argv[1], encoding="utf-8"))
verdict = {s["name"]: s["verdict"] for s in status["stages"]}
assert status["gpu"] == "Stand-in-GPU", status
for name in ("machine", "configure", "build", "build-tests", "test_cuda", "test_graph",
             "tradeoff-lenet-nchw", "bench_kernels", "train", "sanitizer-memcheck"):
    assert verdict[name] == "ok", (name, verdict)
assert verdict["test_ops"] == "skipped by itself", verdict
assert verdict["test_nn"] == "failed", verdict
assert verdict["bench_overhead"] == "skipped: no bench_overhead", verdict
assert verdict["sanitizer-racecheck"].startswith("stopped at"), verdict
assert verdict["peers"] == "skipped: no time left", verdict
assert status["tests"]["test_cuda"]["tests"] == 4, status["tests"]  # one a shard
nn = status["tests"]["test_nn"]
assert nn["failed"] == 4 and nn["failures"][0]["says"] == "as it should", nn
PY
  echo 'gpu_check: every kind of verdict was reached'
  exit
fi

if [[ ${1:-} == -* ]]; then
  sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' "$0"
  exit 2
fi

gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1 | tr ' /' '--')
out=${1:-${OUT:-$root/benchmarks/results/${gpu:-none}}}
need=${2:-$root/dependencies}
build=${GPU_CHECK_BUILD:-/tmp/tandem-gpu-build}
total=${GPU_CHECK_SECONDS:-560}
jobs=$(nproc)
start=$SECONDS
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
log=$out/gpu_check.log
: >"$log"
: >"$parts/stages"

remaining() { echo $((total - (SECONDS - start))); }

# status.json from the stages so far and the test programs' own reports.
write_status() {
  python3 - "$parts" "$out/status.json" "${gpu:-none}" "$((SECONDS - start))" <<'PY'
import glob, json, os, sys

parts, path, gpu, seconds = sys.argv[1:]
stages = []
with open(os.path.join(parts, "stages"), encoding="utf-8") as f:
    for line in f:
        name, verdict, status, took = line.split("\t")
        stages.append({"name": name, "verdict": verdict, "exit": int(status), "seconds": int(took)})
programs = {}
for report in sorted(glob.glob(os.path.join(parts, "*.gtest.json"))):
    name = os.path.basename(report).split(".")[0]
    p = programs.setdefault(name, {"tests": 0, "failed": 0, "skipped": 0, "failures": []})
    try:
        with open(report, encoding="utf-8") as f:
            suites = json.load(f)["testsuites"]
    except (ValueError, KeyError):
        continue  # cut short while it was written
    for test in (t for s in suites for t in s["testsuite"] if t["status"] == "RUN"):
        p["tests"] += 1
        p["skipped"] += test.get("result") == "SKIPPED"
        if "failures" in test:
            p["failed"] += 1
            if len(p["failures"]) < 100:
                p["failures"].append({"test": f"{test['classname']}.{test['name']}",
                                      "says": test["failures"][0]["failure"][:600]})
with open(path + ".part", "w", encoding="utf-8") as f:
    json.dump({"gpu": gpu, "seconds": int(seconds), "stages": stages, "tests": programs}, f, indent=1)
    f.write("\n")
os.replace(path + ".part", path)
PY
}

# stage NAME LIMIT NEEDS COMMAND…: NEEDS is "gpu", a file, both, or "-".
stage() {
  local name=$1 limit=$2 needs=$3 began=$SECONDS status=0 verdict=ok left word
  shift 3
  left=$(remaining)
  for word in $needs; do
    if [[ $word == gpu && -z $gpu ]]; then verdict="skipped: no GPU"; fi
    if [[ $word == /* && ! -e $word ]]; then verdict="skipped: no ${word##*/}"; fi
  done
  if [[ $verdict == ok ]] && ((left < 5)); then verdict="skipped: no time left"; fi
  if [[ $verdict == ok ]]; then
    ((limit <= left)) || limit=$left
    timeout -k 5 "$limit" "$@" >"$parts/output" 2>&1
    status=$?
    case $status in
      0) ;;
      77) verdict="skipped by itself" ;;
      124 | 137) verdict="stopped at $limit s" ;;
      *) verdict=failed ;;
    esac
    {
      printf '\n===== %s: %s, exit %d, %d s: %s\n' "$name" "$verdict" "$status" \
        $((SECONDS - began)) "$*"
      # Of very long outputs the two ends.
      if (($(wc -c <"$parts/output") > 400000)); then
        head -c 150000 "$parts/output"
        printf '\n… cut …\n'
        tail -c 250000 "$parts/output"
      else
        cat "$parts/output"
      fi
    } >>"$log"
  fi
  printf '%-28s %s (%d s)\n' "$name" "$verdict" $((SECONDS - began)) | tee -a "$log"
  printf '%s\t%s\t%d\t%d\n' "$name" "$verdict" "$status" $((SECONDS - began)) >>"$parts/stages"
  write_status
  [[ $verdict == ok ]]
}

architecture=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 |
  tr -d '. ')
options=(-DCMAKE_BUILD_TYPE=Release -DTANDEM_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=${architecture:-90}"
  -DTANDEM_BUILD_EXAMPLES=OFF)
command -v ninja >/dev/null && options+=(-G Ninja)
if [[ -d $need ]]; then
  need=$(cd "$need" && pwd)
  [[ -d $need/usr ]] && options+=("-DCMAKE_PREFIX_PATH=$need/usr")
  declare -A fetched=([googletest]=GOOGLETEST [benchmark]=BENCHMARK [fmt]=FMT [CLI11]=CLI11
    [json]=NLOHMANN_JSON)
  for folder in "${!fetched[@]}"; do
    [[ -d $need/$folder ]] &&
      options+=("-DFETCHCONTENT_SOURCE_DIR_${fetched[$folder]}=$need/$folder")
  done
  [[ -e $need/cudnn-frontend/include/cudnn_frontend.h ]] &&
    options+=("-DTANDEM_cudnn_frontend_INCLUDE_DIR=$need/cudnn-frontend/include")
fi

stage machine 20 - bash -c 'nvidia-smi; nvcc --version; python3 -c "import torch; print(torch.__version__)"; nproc; free -g'
stage configure 90 - cmake -S "$root" -B "$build" "${options[@]}"
# The programs first, so that something can be measured should the tests take too long to build.
stage build 240 "$build/CMakeCache.txt" cmake --build "$build" -j "$jobs" --target \
  tandem-tradeoff tandem-train bench_kernels bench_overhead
tests=(cuda ops graph nn autograd benchmarks)
stage build-tests 150 "$build/CMakeCache.txt" cmake --build "$build" -j "$jobs" --target \
  "${tests[@]/#/test_}"

at=$build/tests
# tests_on_gpu NAME LIMIT SHARDS ARGS…
tests_on_gpu() {
  local name=$1 limit=$2 shards=$3
  shift 3
  stage "test_$name" "$limit" "gpu $at/test_$name" bash "$0" --shards "$shards" "$at/test_$name" \
    "$@" "--gtest_output=json:$parts/test_$name.@.gtest.json" --gtest_brief=1
}
tests_on_gpu cuda 45 4
tests_on_gpu ops 60 8 --device cuda
tests_on_gpu graph 35 4 --device cuda
tests_on_gpu nn 35 4 --device cuda

tradeoff() { # NAME LIMIT ARGS…
  local name=$1 limit=$2
  shift 2
  stage "tradeoff-$name" "$limit" "gpu $build/apps/tandem-tradeoff" "$build/apps/tandem-tradeoff" \
    --device cuda "$@" --json "$out/tradeoff-$name.json"
}
tradeoff lenet-nchw 25 --model lenet --layout nchw --seconds 6
# As PyTorch is measured beside it: mixed precision, the fastest convolutions found by trying.
fast=(--layout channels_last --autocast bf16 --search 8 --inexact)
tradeoff lenet-channels_last 25 --model lenet "${fast[@]}" --seconds 6
tradeoff vgg-cifar-channels_last 35 --model vgg-cifar "${fast[@]}" --seconds 8
tradeoff resnet50-channels_last 60 --model resnet50 --batch 256 "${fast[@]}" --seconds 10 \
  --no-leave-outs

bench() { # NAME LIMIT FILTER
  stage "bench_$1" "$2" "gpu $build/benchmarks/bench_$1" "$build/benchmarks/bench_$1" --device cuda \
    --benchmark_filter="$3" --benchmark_min_time=0.05 --benchmark_out="$out/bench_$1.json" \
    --benchmark_out_format=json
}
bench kernels 25 'memory/|optimiser_step'
bench overhead 15 'add_|chain_|replay_'
tests_on_gpu autograd 25 4 --device cuda
tests_on_gpu benchmarks 20 1 --device cuda
stage train 25 "gpu $build/apps/tandem-train" "$build/apps/tandem-train" --device cuda \
  --model lenet --mode both --quick --json "$out/train.json"

# Both stand before PyTorch's figures, which may take all that is left. Some minutes: what a
# sanitizer does to the whole table, gradients too, takes hours.
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
for tool in memcheck racecheck; do
  stage "sanitizer-$tool" 50 "gpu $sanitizer $at/test_cuda" bash "$0" --shards 8 "$sanitizer" \
    --tool "$tool" --error-exitcode 9 "$at/test_cuda" --gtest_brief=1
  stage "sanitizer-$tool-ops" 50 "gpu $sanitizer $at/test_ops" bash "$0" --shards 8 "$sanitizer" \
    --tool "$tool" --error-exitcode 9 "$at/test_ops" --device cuda --gtest_filter='*Forward*' \
    --gtest_brief=1
  stage "sanitizer-$tool-graphs" 25 "gpu $sanitizer $at/test_graph" "$sanitizer" --tool "$tool" \
    --error-exitcode 9 "$at/test_graph" --device cuda --gtest_filter='DeviceGraph*' --gtest_brief=1
done

left=$(($(remaining) - 10))
stage peers "$((left + 5))" gpu env BASELINE_SECONDS="$left" "$here/peers/gpu_baseline.sh" "$out"
# Its log is in ours.
rm -f "$out/torch_baseline.log"
printf 'done in %d s: %s\n' $((SECONDS - start)) "$out/status.json"
