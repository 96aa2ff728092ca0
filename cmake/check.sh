# shellcheck shell=bash
# What the checks of the tree have in common; they source it and end with check_main. Not run by
# itself.

# check_main FINE WRONG [ROOT | --self-test]: runs the checker's check() on ROOT (the tree by
# default) and says which of the two it found, or runs its self_test().
check_main() {
  local name root fine=$1 wrong=$2
  name=$(basename "$0" .sh)
  if [[ ${3:-} == --self-test ]]; then
    self_test
    echo "$name: self-test passed"
    return
  fi
  root=${3:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
  if check "$root"; then
    echo "$name: $fine"
  else
    echo "$name: $wrong" >&2
    return 1
  fi
}
