#!/usr/bin/env bash
# demo.sh [KEY=VALUE]...: build the image, make data for three clinics, run a federation over their
# containers, say where its report is, and take everything down again. Exits as the run ended.
# TLS=1 adds compose.tls.yaml and makes the keys, REGL_CHECKPOINT=<folder> compose.checkpoint.yaml, KEEP=1
# leaves the containers running.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

die() { echo "docker-demo: $*" >&2; exit 1; }
docker info > /dev/null 2>&1 ||
  die "no container engine answers to 'docker info': start one, or set DOCKER_HOST to where it is"
docker compose version > /dev/null 2>&1 ||
  die "'docker compose' is absent: install Compose 2.20 or newer (Debian: docker-compose-plugin)"

# The containers write to folders of this machine as whoever calls, but never as root.
REGL_UID=${REGL_UID:-$(id -u)} REGL_GID=${REGL_GID:-$(id -g)}
[ "$REGL_UID" != 0 ] || REGL_UID=10001 REGL_GID=10001
export REGL_UID REGL_GID REGL_IMAGE=${REGL_IMAGE:-regl-app}
export REGL_DATA=${REGL_DATA:-$PWD/data/digits}
export REGL_KEYS=${REGL_KEYS:-$PWD/keys}
export REGL_RUNS=${REGL_RUNS:-$PWD/../runs/docker}
mkdir -p "$REGL_RUNS"
REGL_RUNS=$(cd "$REGL_RUNS" && pwd)
# Paths outside docker/ are the caller's to make writable; what root made here is handed over.
own() { [ "$(id -u)" != 0 ] || chown "$REGL_UID:$REGL_GID" "$@"; }
own "$REGL_RUNS"

files=(-f compose.yaml)
[ -z "${TLS:-}" ] || files+=(-f compose.tls.yaml)
[ -z "${REGL_CHECKPOINT:-}" ] || files+=(-f compose.checkpoint.yaml)
compose() { docker compose "${files[@]}" "$@"; }
# A single command of ours, with one folder of this machine and no network.
tool() {
  local folder=$1
  shift
  docker run --rm --init --network none --user "$REGL_UID:$REGL_GID" -v "$folder:/made" \
    "$REGL_IMAGE" "$@"
}

echo "docker-demo: building the image $REGL_IMAGE (the first time: some GB, minutes)"
compose build --quiet superlink

if [ ! -d "$REGL_DATA" ]; then
  echo "docker-demo: writing the clinics' images to $REGL_DATA"
  parent=$(dirname "$REGL_DATA")
  mkdir -p "$parent"
  own "$parent"
  tool "$parent" regl partition --clients 3 --out /tmp/partition.png \
    --export "/made/$(basename "$REGL_DATA")" partition.beta=0.5 > /dev/null
fi
if [ -n "${TLS:-}" ] && [ -e "$REGL_KEYS/superlink.crt" ]; then
  tool "$REGL_KEYS" openssl x509 -in /made/superlink.crt -noout -checkhost gate | grep -q 'does match' ||
    die "$REGL_KEYS/superlink.crt does not name 'gate': move it and superlink.key away, call this again"
fi
if [ -n "${TLS:-}" ] && [ ! -e "$REGL_KEYS/superlink.crt" ]; then
  echo "docker-demo: making certificates and keys in $REGL_KEYS"
  mkdir -p "$REGL_KEYS"
  own "$REGL_KEYS"
  tool "$REGL_KEYS" regl keys /made --host gate --host superlink --host localhost \
    --node clinic-a --node clinic-b --node clinic-c > /dev/null
fi

log=$(mktemp)
finish() {
  rm -f "$log"
  [ -n "${KEEP:-}" ] || compose --profile submit down --volumes --remove-orphans > /dev/null 2>&1 ||
    echo "docker-demo: 'docker compose down' failed: something may be left" >&2
}
trap finish EXIT

echo "docker-demo: starting the SuperLink, its gate and three clinics${TLS:+, with TLS and keys}"
status=0
compose run --rm -T submit "$@" < /dev/null | tee "$log" || status=$?
run=$(sed -n 's|^run folder: /runs/||p' "$log" | tail -n 1)
if [ "$status" != 0 ]; then
  compose logs --tail 20 >&2 || true
  die "the run failed (exit status $status)${run:+; its folder: $REGL_RUNS/$run}"
fi
[ -f "$REGL_RUNS/$run/report.html" ] || die "the run wrote no report to $REGL_RUNS/$run"
echo "docker-demo: report: $REGL_RUNS/$run/report.html"
