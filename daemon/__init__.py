"""The service: schedule, capture, measuring, store, messaging, web."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
"""onnxruntime reports to its maker otherwise, and keeps a database for that (docs/Privacy.md of its source)."""
