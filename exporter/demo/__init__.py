"""The demo that `tracekeep demo` starts: a small shop, its customers, and tracekeep inside."""

from __future__ import annotations

from .runner import run_demo

__all__ = ["run_demo"]
