"""The gate: nginx before a SuperLink, which lets nodes in and nobody to the controls.

Flower serves what nodes need (``/v1/fleet/``), what operators need (``/v1/control/``: start a run,
register a node, ...) and what its own processes need on one port, and asks nobody who he is at the
second. So the SuperLink listens where only operators are, and this stands at the public port.
"""

from __future__ import annotations

from dataclasses import dataclass

PUBLIC_PORT = 8000
"""Where nodes connect to."""
CONTROL_PORT = 8001
"""Where the SuperLink listens, on its machine alone."""
MAX_BODY = 8 * 1024**2
"""Bytes of a request: arrays come in pieces of 5 MiB, all else of a reply in less than 1 MiB."""

GREETING = "gate"
"""What it answers at ``/health``."""

NODE_CALLS = (
    "activate-node",
    "confirm-message-received",
    "deactivate-node",
    "get-fab",
    "get-run",
    "pull-messages",
    "pull-object",
    "push-messages",
    "push-object",
    "send-node-heartbeat",
)
"""What a registered node calls, below ``/v1/fleet/``."""
OPEN_CALLS = ("register-node", "unregister-node")
"""What a node without a key of its own calls besides: it makes itself known."""


@dataclass(frozen=True)
class Gate:
    """What a gate stands at; relative paths are nginx's: files beside the configuration."""

    port: int = PUBLIC_PORT
    superlink: str = f"127.0.0.1:{CONTROL_PORT}"
    tls: bool = True
    """Nodes come with TLS, and so does the gate to the SuperLink; both by the same certificate."""


def gate_configuration(gate: Gate) -> str:
    """Return nginx's configuration of ``gate``.

    A client that is slow, idle or of many connections, or a request that is too large, costs
    the gate something and the SuperLink nothing. What is over a limit is answered by 503, which
    nodes take for 'later'; any other refusal would end them.
    """
    scheme = "https" if gate.tls else "http"
    calls = NODE_CALLS if gate.tls else (*NODE_CALLS, *OPEN_CALLS)
    return _TEMPLATE.format(
        listen=f"{gate.port} ssl" if gate.tls else f"{gate.port}",
        server_tls=_SERVER_TLS if gate.tls else "",
        upstream_tls=_UPSTREAM_TLS if gate.tls else "",
        superlink=gate.superlink,
        scheme=scheme,
        calls="|".join(sorted(calls)),
        body=f"{MAX_BODY // 1024**2}m",
        greeting=GREETING,
    )


_SERVER_TLS = """
    ssl_certificate superlink.crt;
    ssl_certificate_key superlink.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20;
    ssl_session_cache shared:tls:4m;
    ssl_session_tickets off;
"""

_UPSTREAM_TLS = """
      proxy_ssl_trusted_certificate ca.crt;
      proxy_ssl_verify on;
      proxy_ssl_name localhost;
      proxy_ssl_session_reuse on;
"""

_TEMPLATE = """\
# The gate of a federation: nodes pass, the SuperLink's controls are out of reach.
# Written by `regl keys`. Beside the SuperLink, by a user who may read superlink.key:
#   mkdir -p run && nginx -p run -e stderr -c "$PWD/gate.conf"
# Not by root: its workers are nobody's, who can write to run/ only if all folders above let him.
# Certificates are read from this file's folder.
worker_processes 2;
worker_rlimit_nofile 16384;
pid gate.pid;
error_log stderr error;  # not each request that is kept in a file

events {{
  worker_connections 4096;
}}

http {{
  access_log off;  # refusals stand in the error log
  server_tokens off;
  default_type text/plain;
  client_body_temp_path body;
  proxy_temp_path answers;
  fastcgi_temp_path unused;
  uwsgi_temp_path unused;
  scgi_temp_path unused;

  # Idle and slow clients: seconds until a request's head is complete, and between two pieces of
  # its body or of its answer. A site of 1 Mbit/s stays far below.
  client_header_timeout 10s;
  client_body_timeout 30s;
  send_timeout 60s;
  keepalive_timeout 30s;
  reset_timedout_connection on;

  # Bodies: whole before the SuperLink hears of them, and never larger than a run's.
  client_max_body_size {body};
  client_body_buffer_size 256k;
  large_client_header_buffers 4 8k;
  proxy_request_buffering on;
  # Answers, which hold models, are never put on this disk.
  proxy_max_temp_file_size 0;
  proxy_buffers 16 64k;
  proxy_buffer_size 64k;

  # By address, so all sites behind one NAT share these.
  limit_req_zone $binary_remote_addr zone=calls:4m rate=200r/s;
  limit_conn_zone $binary_remote_addr zone=one:4m;
  limit_conn_zone $server_name zone=all:1m;
  limit_req_status 503;
  limit_conn_status 503;

  upstream superlink {{
    server {superlink} max_fails=0;
    keepalive 32;
    keepalive_timeout 2s;  # before uvicorn's own 5
  }}

  server {{
    listen {listen};
    server_name gate;
{server_tls}
    limit_req zone=calls burst=2000 nodelay;
    limit_conn one 64;
    limit_conn all 1024;

    location ~ ^/v1/fleet/(?<call>{calls})$ {{
      limit_except POST {{ deny all; }}
      # The path as it was understood here, not as it was sent.
      proxy_pass {scheme}://superlink/v1/fleet/$call;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_connect_timeout 5s;
      proxy_read_timeout 120s;
      proxy_next_upstream off;
{upstream_tls}    }}

    # That the gate is there, not that the SuperLink is.
    location = /health {{
      return 200 "{greeting}\\n";
    }}

    location / {{
      deny all;
    }}
  }}
}}
"""
