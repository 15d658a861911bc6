"""``python -m regl_app.cli`` is ``regl``."""

from regl_app.cli import app

app()
