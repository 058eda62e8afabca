"""Shared by all tests: one thread per process, so that parallel workers do not fight for two cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("REELFORGE_TRACKING", "off")
os.environ.setdefault("DO_NOT_TRACK", "1")
