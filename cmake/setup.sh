# Shared by run.sh, test.sh and .ci/run (sourced, not run): installs what is missing, configures,
# builds. Needs `root`, the top of the tree.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # used and set by those who source this

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
die() {
  printf '\033[1;31merror:\033[0m %s\n' "$*" >&2
  exit 1
}

# The colours are for people.
if [[ ! -t 2 ]]; then
  say() { printf '%s\n' "$*" >&2; }
  die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
  }
fi

# refuse_unknown HELP TEXT ARG…: dies of the first ARG that looks like an option and is none in TEXT;
# HELP says where they are listed. Checked before a long build; the programs could only say so after it.
refuse_unknown() {
  local help=$1 text=$2 arg option
  shift 2
  for arg in "$@"; do
    option=${arg%%=*}
    [[ $option == --* ]] || option=${option%%[0-9]*} # -j4
    [[ $option == -[[:alpha:]-]* ]] || continue
    grep -qE -- "(^|[^[:alnum:]-])$option([^[:alnum:]-]|\$)" <<<"$text" ||
      die "there is no option $option (see $help)"
  done
}

as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "installing needs root, and there is no sudo; as root run: $*"
  fi
}

build_packages=(g++ cmake ninja-build libdnnl-dev libfmt-dev libcli11-dev nlohmann-json3-dev
  zlib1g-dev)
test_packages=(libgtest-dev libbenchmark-dev)
python_packages=("pybind11>=2.12" "numpy>=1.22" pytest mypy tqdm tensorboard matplotlib)
# Libraries that tensors are shared with. Tests of those that are not there are left out.
peer_packages=(jax)

# need PACKAGE…: installs those that are missing (Debian, Ubuntu); elsewhere says what to install.
need() {
  local missing=() p
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    local stamp=$root/build/.packages-hint
    [[ -e $stamp ]] && return 0
    say "This is no Debian or Ubuntu system, so nothing is installed for you. Needed, under the" \
      "names of your system: $*."
    if ! command -v cmake >/dev/null; then die "there is no cmake"; fi
    mkdir -p "$root/build" && touch "$stamp"
    return 0
  fi
  for p in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null) == installed ]] || missing+=("$p")
  done
  ((${#missing[@]})) || return 0
  say "Installing what is missing, with apt-get: ${missing[*]}"
  local log
  log=$(mktemp)
  # The lists of a fresh machine are empty, those of an old one name versions that are gone: update
  # when the first try fails.
  if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
    --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
    say "Updating apt's package lists"
    as_root apt-get update -q >"$log" 2>&1 || { cat "$log" >&2; die "apt-get update failed"; }
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
      "${missing[@]}" >"$log" 2>&1 || {
      cat "$log" >&2
      rm -f "$log"
      die "apt-get could not install: ${missing[*]}"
    }
  fi
  rm -f "$log"
}

# Compilers of the larger sources take over 1 GB each.
parallel_jobs() {
  local cores kb
  cores=$(nproc 2>/dev/null || echo 2)
  kb=$(awk '/^MemAvailable/ {print $2}' /proc/meminfo 2>/dev/null || echo 4000000)
  local by_memory=$((kb / 1300000))
  ((by_memory >= 1)) || by_memory=1
  echo $((cores < by_memory ? cores : by_memory))
}

# configured DIR: it was, for this tree (a folder copied from elsewhere is refused by CMake).
configured() {
  [[ -e $1/.configured ]] &&
    grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$1/CMakeCache.txt" 2>/dev/null
}

# configure DIR [CMAKE ARGS…]: only when it was not yet, or with other arguments; ninja itself sees
# to changed CMake files.
configure() {
  local dir=$1 stamp=$1/.configured generator=()
  shift
  if configured "$dir"; then
    [[ $(cat "$stamp") == "$*" ]] && return 0
  else
    rm -rf "$dir/CMakeCache.txt" "$dir/CMakeFiles"
    if command -v ninja >/dev/null; then generator=(-G Ninja); fi
  fi
  rm -f "$stamp"
  say "Configuring ${dir#"$root"/}"
  cmake -S "$root" -B "$dir" "${generator[@]}" "$@" >&2
  printf '%s' "$*" >"$stamp"
}

# add_peers DIR: the libraries that tests share tensors with, where there are such.
add_peers() {
  local env=$1/venv
  [[ -e $env/.peers ]] && return 0
  "$env/bin/python" -m pip install --quiet --disable-pip-version-check "${peer_packages[@]}" >&2 ||
    say "Tests go on without ${peer_packages[*]}."
  touch "$env/.peers"
}

# build DIR [TARGET…]
build() {
  local dir=$1
  shift
  local targets=()
  (($#)) && targets=(--target "$@")
  say "Building ${dir#"$root"/}"
  cmake --build "$dir" -j "$(parallel_jobs)" "${targets[@]}" >&2
}

# python_environment DIR: a virtual environment of the build's own, with what the Python package and
# its tests take. Prints its interpreter.
python_environment() {
  local env=$1/venv
  local python=$env/bin/python
  if [[ $(cat "$env/.ready" 2>/dev/null) != "${python_packages[*]}" ]]; then
    if ! command -v python3 >/dev/null; then need python3; fi
    if ! python3 -c 'import sys; exit(sys.version_info < (3, 11))'; then
      say "$(python3 --version) is too old: the package is for Python 3.11 and later"
      return 1
    fi
    python3 -c 'import ensurepip, venv' 2>/dev/null || need python3-venv
    python3 -c 'import os, sysconfig as s; exit(not os.path.exists(s.get_path("include") + "/Python.h"))' ||
      need python3-dev
    say "Making a virtual environment in ${env#"$root"/}"
    python3 -m venv "$env" >&2 || return 1
    "$python" -m pip install --quiet --disable-pip-version-check "${python_packages[@]}" >&2 ||
      return 1
    echo "${python_packages[*]}" >"$env/.ready"
  fi
  echo "$python"
}
