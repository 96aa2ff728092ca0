#!/usr/bin/env bash
# Measures everything docs/performance.md reports for the CPU: writes JSON to benchmarks/results/cpu
# and puts the tables into the document. About 15 minutes; the machine should do nothing else.
#   benchmarks/run_cpu.sh [BUILD_DIR]      default: build
# PyTorch is measured beside it where python3 has it (PYTHON=… takes another interpreter).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=cmake/setup.sh
source "$root/cmake/setup.sh"
dir=${1:-$root/build}
out=$root/benchmarks/results/cpu
python=${PYTHON:-python3}

need "${build_packages[@]}" "${test_packages[@]}"
configured "$dir" || configure "$dir"
build "$dir" tandem-tradeoff bench_overhead bench_kernels bench_step onednn_kernels
mkdir -p "$out"

load=$(cut -d' ' -f1 /proc/loadavg)
awk -v l="$load" 'BEGIN { exit !(l > 0.7) }' &&
  say "Something else is running here (load $load): the figures will not be worth much."

bench() { # NAME [ARGS…]
  say "bench_$1"
  "$dir/benchmarks/bench_$1" --benchmark_out="$out/$1.json" --benchmark_out_format=json \
    --benchmark_min_time=0.3 "${@:2}" >/dev/null
}
bench overhead --benchmark_repetitions=5 --benchmark_report_aggregates_only=true
bench kernels
bench step --benchmark_filter=capture_and_compile

if [[ -x $dir/venv/bin/python && -d $dir/python/tandem ]]; then
  say "python_overhead.py"
  PYTHONPATH=$dir/python "$dir/venv/bin/python" "$root/benchmarks/python_overhead.py" \
    --bench "$dir/benchmarks/bench_overhead" --json "$out/python-overhead.json"
else
  say "The Python package is not built: its figures stay as they are."
fi

say "onednn_kernels"
"$dir/benchmarks/onednn_kernels" >"$out/onednn-kernels.json"

for layout in nchw channels_last; do
  say "tandem-tradeoff lenet $layout"
  "$dir/apps/tandem-tradeoff" --model lenet --layout $layout --json "$out/tradeoff-lenet-$layout.json" \
    >"$out/tradeoff-lenet-$layout.txt"
done

if "$python" -c 'import torch' 2>/dev/null; then
  "$python" "$root/benchmarks/beside_torch.py" --bench "$dir/benchmarks/bench_step" \
    --json "$out/beside-torch.json"
else
  say "$python has no PyTorch: no comparison with it"
fi
"$python" "$root/benchmarks/render_results.py" "$out" "$root/docs/performance.md"
