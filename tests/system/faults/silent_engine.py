"""A PDF engine that never becomes ready, until its stdin ends."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.stdin.buffer.read()
