"""What every test runs under: offline, quiet, and without deadlines that a busy machine would miss."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from hypothesis import settings

settings.register_profile("superlink", deadline=None, print_blob=True)
settings.load_profile("superlink")
