"""onnxruntime, told before it is loaded not to report to its maker.

From 1.29 on it keeps a number of the machine and a database of what it has yet to report, and decides for good when it
is loaded (docs/Privacy.md of its source). So nothing else may load it first, and this is the one place that sets a
variable of the environment.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]
