"""A PDF engine that never says that it is ready, until its stdin ends."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.stdin.buffer.read()
