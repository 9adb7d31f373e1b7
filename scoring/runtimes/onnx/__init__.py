"""onnxruntime, and nothing else imports it: sessions from bytes, and what they take and give as tensors of numpy."""

from __future__ import annotations

from scoring.runtimes.onnx.session import Session, load_onnx

__all__ = ["Session", "load_onnx"]
