#!/bin/sh
# with-flower.sh COMMAND...: give Flower a copy of its configuration that it can write beside.
set -eu
mkdir -p "$FLWR_HOME"
cp /etc/regl/flower/config.toml "$FLWR_HOME/config.toml"
exec "$@"
