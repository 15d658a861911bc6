"""One thread of a process makes modules at a time.

While diffusers and transformers load a checkpoint they change how every module of the process is
made (its parameters have no content, nothing is initialized) and put it back afterwards. Two loads
at once can leave it changed for good, and a module made meanwhile has no weights.
"""

from __future__ import annotations

import threading

MAKING_MODULES = threading.RLock()
"""Held while a checkpoint is loaded, and while layers are made."""
