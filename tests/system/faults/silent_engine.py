"""A PDF engine that never becomes ready, until its stdin ends."""

import sys

if __name__ == "__main__":
    sys.stdin.buffer.read()
