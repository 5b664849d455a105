"""What leaves in a standard format: models and tables."""

import daemon  # noqa: F401 - before onnxruntime, which it keeps from reporting to its maker
