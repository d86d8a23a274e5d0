"""The demo: what the fine-tuned model knows that the base model does not, side by side."""

from __future__ import annotations

from setup.demo.compare import run_demo

__all__ = ["run_demo"]
