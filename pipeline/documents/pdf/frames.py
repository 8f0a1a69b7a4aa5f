"""Messages between the keeper of the PDF engine and its process.

A message is a JSON frame, whose `frames` says how many frames of bytes follow it; a frame is its length (four bytes,
big-endian) and that many bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO


@dataclass(frozen=True)
class Message:
    """What is asked or answered, and the bytes that belong to it."""

    head: Mapping[str, Any]
    bodies: Sequence[bytes] = ()


def write_message(stream: BinaryIO, message: Message) -> None:
    """Write `message` whole; raises BrokenPipeError where the other side has gone."""
    frames = [json.dumps({**message.head, "frames": len(message.bodies)}).encode(), *message.bodies]
    for frame in frames:
        stream.write(struct.pack(">I", len(frame)))
        stream.write(frame)
    stream.flush()


def read_message(stream: BinaryIO) -> Message | None:
    """Return the next message; None where the other side has gone, even in the middle of one."""
    raw = _read_frame(stream)
    if raw is None:
        return None
    head: dict[str, Any] = json.loads(raw)
    bodies: list[bytes] = []
    for _ in range(head["frames"]):
        body = _read_frame(stream)
        if body is None:
            return None
        bodies.append(body)
    return Message(head, bodies)


def _read_frame(stream: BinaryIO) -> bytes | None:
    size = stream.read(4)
    if len(size) < 4:
        return None
    (length,) = struct.unpack(">I", size)
    body = stream.read(length)
    return body if len(body) == length else None
