#!/usr/bin/env bash
# Gradescope runs this once, as root, when it builds the container: Python and the pinned packages.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
apt-get update
for version in 3.13 3.12 3.11; do
  if apt-get install -y --no-install-recommends "python$version" "python$version-venv"; then break; fi
done
"python$version" -m venv /opt/fmcourse
pip="/opt/fmcourse/bin/python -m pip install --quiet --no-cache-dir"
# torch for CPUs has an index of its own; the one on PyPI brings gigabytes for GPUs.
$pip --index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}" "$(grep '^torch==' /autograder/source/requirements.txt)"
$pip --no-deps --requirement <(grep -v '^torch==' /autograder/source/requirements.txt)
chmod 700 /autograder/source
