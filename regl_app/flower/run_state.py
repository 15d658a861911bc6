"""Where a ServerApp's state tells its run folder, for whoever started the run."""

from __future__ import annotations

RUN_FOLDER_STATE = "regl.run-folder"
"""ConfigRecord of the ServerApp's state whose key ``path`` tells where the run wrote."""
