"""LambdaML: distributed machine-learning training on serverless functions, communicating through storage."""

from __future__ import annotations

__version__ = "0.1.0"
