"""A SuperLink that does nothing but start, answer and end as Flower's does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_SUPERLINK = """#!{python}
import http.server, pathlib, subprocess, sys, time
subprocess.Popen([pathlib.Path(sys.argv[0]).with_name("flower-superexec")], start_new_session=True)
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
address = ("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1]))
http.server.HTTPServer(address, Health).serve_forever()
"""
# Its end takes a while, as Ray's does.
_SUPEREXEC = """#!{python}
import signal, time
def leave(*_):
    time.sleep({patience})
    raise SystemExit
signal.signal(signal.SIGTERM, leave)
time.sleep(300)
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have ``flower-superlink`` and ``flower-superexec`` played; return the folder they are in."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, text in (("flower-superlink", _SUPERLINK), ("flower-superexec", _SUPEREXEC)):
        program = folder / name
        program.write_text(text.format(python=sys.executable, patience=1.0))
        program.chmod(0o755)
    monkeypatch.setattr(
        "regl_app.flower.engines.superlink.find_program", lambda name: str(folder / name)
    )
    return folder
