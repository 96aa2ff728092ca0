#!/usr/bin/env bash
# PyTorch's figures on a GPU machine: the experiments' training steps, eager, as a whole-step CUDA
# graph, and compiled. Needs a python3 with a CUDA build of PyTorch (2.1 or newer), nothing else.
#
#   benchmarks/peers/gpu_baseline.sh [RESULT_DIR] [ONLY]
#
# RESULT_DIR  default: $OUT, else benchmarks/results. Gets torch_baseline.json (one list, rewritten
#             after every case, so that a run cut short keeps what it has) and torch_baseline.log.
# ONLY        an extended regular expression: run only the cases whose name matches.
#
# Environment: BASELINE_SECONDS  for everything together (default 460)
#              PYTHON            default python3
#
# Each case is a process of its own with a time limit, so a slow compilation or a crash costs no
# other case; its failure is recorded. Cases stand in the order of their importance: what no time
# is left for is recorded as skipped.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-${OUT:-$here/../results}}
only=${2:-.}
total=${BASELINE_SECONDS:-460}
python=${PYTHON:-python3}
device=${BASELINE_DEVICE:-cuda} # cpu: to try the script itself
start=$SECONDS

mkdir -p "$out"
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
log=$out/torch_baseline.log
: >"$log"
export PYTHONUNBUFFERED=1
# Compiled cases share what they compiled; nothing from earlier runs is used.
export TORCHINDUCTOR_CACHE_DIR=$parts/inductor

say() { printf '%s\n' "$*" | tee -a "$log"; }

merge() {
  "$python" - "$parts" "$out/torch_baseline.json" <<'PY'
import glob, json, os, sys
records = [json.load(open(p)) for p in sorted(glob.glob(os.path.join(sys.argv[1], "*.json")))]
tmp = sys.argv[2] + ".tmp"
with open(tmp, "w") as f:
    json.dump(records, f, indent=1)
os.replace(tmp, sys.argv[2])
PY
}

index=0
# run LIMIT NAME SCRIPT ARGS…
run() {
  local limit=$1 name=$2 script=$3
  shift 3
  [[ $name =~ $only ]] || return 0
  index=$((index + 1))
  local json left status=0 began=$SECONDS error=""
  json=$parts/$(printf '%02d' "$index").json
  left=$((total - (SECONDS - start)))
  if ((left < 15)); then
    error="skipped: no time left"
  else
    ((limit < left)) || limit=$left
    timeout -k 5 "$limit" "$python" "$here/$script" "$@" --json "$json" >>"$log" 2>&1 || status=$?
    if ((status == 124 || status == 137)); then error="stopped at its limit of $limit s"; fi
    if [[ -z $error && $status -ne 0 ]]; then error="exit status $status"; fi
  fi
  "$python" - "$json" "$name" "$error" "$*" "$((SECONDS - began))" <<'PY' | tee -a "$log"
import json, os, sys
path, name, error, args, seconds = sys.argv[1:]
record = json.load(open(path)) if os.path.exists(path) else {}
record = {"name": name, "args": args, "wall_s": int(seconds), **record}
if error and "error" not in record:
    # A record with times was written before something optional (the profiler) went wrong.
    record["note" if "ms" in record else "error"] = error
with open(path, "w") as f:
    json.dump(record, f, indent=1)
if "ms" in record:
    ms, prof = record["ms"], record.get("profile", {})
    text = (f"{ms['median']:9.3f} ms [{ms['low']:.3f}, {ms['high']:.3f}]  "
            f"{record['images_per_s']:9.0f} img/s  issue {record['issue_ms']['median']:.3f} ms  "
            f"busy {prof.get('device_busy_ms', float('nan')):.3f} ms  "
            f"kernels {prof.get('device_events_per_step', float('nan')):.0f}  "
            f"first {record['first_step_s']:.1f} s")
elif "ns_per_add" in record:
    text = "  ".join(f"{k} {v['median']:.0f} ns" for k, v in record["ns_per_add"].items())
else:
    text = "FAILED: " + record.get("error", "no result")[:300]
print(f"{name:34s} {text}  ({seconds} s)")
PY
  merge
}

# step LIMIT MODEL DTYPE LAYOUT MODE [ARGS…]: one training step.
step() {
  local limit=$1 model=$2 dtype=$3 layout=$4 mode=$5
  shift 5
  local batch=64 suffix=""
  [[ $model == resnet18-cifar ]] && batch=128
  [[ $model == resnet50 ]] && batch=256
  [[ $# -gt 0 ]] && suffix=-${*: -1} suffix=${suffix/---/-}
  run "$limit" "$model-$dtype-$layout-$mode$suffix" torch_step.py --model "$model" \
    --batch "${BASELINE_BATCH:-$batch}" --dtype "$dtype" --layout "$layout" --device "$device" \
    --mode "$mode" --seconds "${BASELINE_STEP_SECONDS:-2}" --profile "$@"
}

say "# $(date -u +%FT%TZ) budget $total s"
nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,temperature.gpu --format=csv \
  >>"$log" 2>&1 || say "# nvidia-smi says nothing"

# The experiments as the issue measures them: bf16 autocast, channels-last.
for model in lenet vgg-cifar resnet50 resnet18-cifar; do
  step 45 "$model" bf16 nhwc eager
  step 45 "$model" bf16 nhwc cudagraph
done
# The small nets as they were published, in f32 (TF32 products), in both layouts.
for model in lenet vgg-cifar; do
  step 30 "$model" tf32 nhwc eager
  step 30 "$model" tf32 nhwc cudagraph
  step 30 "$model" tf32 nchw cudagraph
done
run 30 add-overhead-cpu torch_overhead.py --device cpu --seconds 1
run 30 add-overhead-cuda torch_overhead.py --device "$device" --seconds 1
# Compiled. The compiled net inside a whole-step graph is usually PyTorch's best.
for model in lenet vgg-cifar; do
  step 75 "$model" bf16 nhwc compile
  step 60 "$model" bf16 nhwc compile_cudagraph
done
step 120 resnet50 bf16 nhwc compile_cudagraph --compile-mode default
step 240 resnet50 bf16 nhwc compile_cudagraph
step 240 resnet50 bf16 nhwc compile
step 120 resnet18-cifar bf16 nhwc compile_cudagraph
step 60 lenet tf32 nhwc compile_cudagraph
step 60 vgg-cifar tf32 nhwc compile_cudagraph
step 45 resnet50 bf16 nhwc eager --expandable-segments

say "# done in $((SECONDS - start)) s: $out/torch_baseline.json"
