#!/usr/bin/env bash
# Refuses to begin an installation that the disk cannot hold: pip itself fails minutes later.
# GiB, measured with torch's CUDA build: 7 for the environment, 3 for the wheels while they unpack.
set -euo pipefail

environment=$1 wheels=${TMPDIR:-/tmp}
place() { df -Pk "$1" | awk 'NR == 2 { print $NF }'; }
free() { df -Pk "$1" | awk 'NR == 2 { print int($4 / 1048576) }'; }
require() {
  [ "$(free "$1")" -ge "$2" ] && return
  echo "make: $3 needs $2 GiB on $(place "$1"), which has $(free "$1") free ($4)" >&2
  exit 1
}

if [ "$(place "$environment")" = "$(place "$wheels")" ]; then
  require "$environment" 10 "the installation" "free some space, or set TMPDIR to another disk"
else
  require "$environment" 7 "the virtual environment" "free some space, or set VENV to another disk"
  require "$wheels" 3 "unpacking the packages" "free some space, or set TMPDIR to another disk"
fi
