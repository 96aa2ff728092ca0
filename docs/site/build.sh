#!/usr/bin/env bash
# Builds the documentation site. Its examples are run by tests/python/test_site.py.
#   docs/site/build.sh [OUT]      OUT: build/site
# PYTHON names an interpreter that has docs/site/requirements.txt and finds tandem.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/../../build/site}
# Every warning is an error. Sphinx's caches lie beside the pages, not in the tree.
PYTHONDONTWRITEBYTECODE=1 "${PYTHON:-python3}" -m sphinx -q -W --keep-going -b html \
  -d "$out/.cache" "$here" "$out"
echo "$out/index.html"
