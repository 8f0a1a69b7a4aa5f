"""The PDF engine, the only user of Typst: a process of its own that sets one document a request, read from stdin.

A request and a reply are each a JSON frame, whose `frames` says how many frames of bytes follow; a frame is its length
(four bytes, big-endian) and that many bytes. Values reach Typst as data (`sys.inputs`), never as source.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
import tempfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
FONTS = TEMPLATES / "fonts"
SHARED = "page.typ"

#: Address space of the process; Typst reserves far more than it touches.
ADDRESS_SPACE_BYTES = 3 * 1024**3


def write_message(stream: BinaryIO, head: dict[str, Any], bodies: Sequence[bytes]) -> None:
    """Write one message: `head` as JSON, then `bodies`."""
    frames = [json.dumps({**head, "frames": len(bodies)}).encode(), *bodies]
    for frame in frames:
        stream.write(struct.pack(">I", len(frame)))
        stream.write(frame)
    stream.flush()


def read_message(stream: BinaryIO) -> tuple[dict[str, Any], list[bytes]] | None:
    """Return the next message's head and bodies; None where the other side has gone."""
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
    return head, bodies


def _read_frame(stream: BinaryIO) -> bytes | None:
    size = stream.read(4)
    if len(size) < 4:
        return None
    (length,) = struct.unpack(">I", size)
    body = stream.read(length)
    return body if len(body) == length else None


class Engine:
    """Typst with the vendored fonts alone, in a root with nothing in it, without packages."""

    def __init__(self) -> None:
        import typst

        self._typst = typst
        self._fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[str(FONTS)])

    def set(self, head: dict[str, Any], bodies: Sequence[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Return the PDF of the template with the facts."""
        body = self._compiler(head, bodies).compile(
            format="pdf",
            timestamp=head["timestamp"],
            # Tags make the file about ten times as large, past what carriers take; the web page is the accessible form.
            pdf_tags=False,
        )
        assert isinstance(body, bytes)
        return {}, [body]

    def count(self, head: dict[str, Any], bodies: Sequence[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Return how many pages the template with the facts has."""
        return {"pages": int(self._compiler(head, bodies).query("<end>", field="value", one=True))}, []

    def join(self, head: dict[str, Any], bodies: Sequence[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Return the PDFs as one."""
        from pypdf import PdfReader, PdfWriter

        writer = PdfWriter()
        for body in bodies:
            writer.append(PdfReader(BytesIO(body)), import_outline=False)
        writer.metadata = PdfReader(BytesIO(bodies[0])).metadata
        out = BytesIO()
        writer.write(out)
        return {}, [out.getvalue()]

    def _compiler(self, head: dict[str, Any], bodies: Sequence[bytes]) -> Any:
        folder = TEMPLATES / "documents"
        # The root is taken away again at once: there is nothing in it that a document could read.
        with tempfile.TemporaryDirectory() as root:
            return self._typst.Compiler(
                input=(folder / SHARED).read_bytes() + b"\n" + (folder / head["template"]).read_bytes(),
                root=root,
                font_paths=self._fonts,
                ignore_system_fonts=True,
                package_path=root,
                package_cache_path=root,
                sys_inputs={"facts": bodies[0].decode(), "part": json.dumps(head["part"])},
            )


def serve(stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Answer requests until stdin ends; a document that cannot be set is answered with `error`."""
    engine = Engine()
    tasks: dict[str, Callable[..., tuple[dict[str, Any], list[bytes]]]] = {
        "set": engine.set,
        "count": engine.count,
        "join": engine.join,
    }
    while (message := read_message(stdin)) is not None:
        head, bodies = message
        # Should the parent die while Typst works, nobody is left to stop this process but itself.
        signal.setitimer(signal.ITIMER_REAL, head["seconds"])
        try:
            reply, results = tasks[head["task"]](head, bodies)
        except RuntimeError as error:  # typst.TypstError is one
            reply, results = {"error": str(error)}, []
        signal.setitimer(signal.ITIMER_REAL, 0)
        write_message(stdout, {**reply, "resident_bytes": resident_bytes()}, results)


def resident_bytes() -> int:
    """Return how much memory this process holds now; where the system does not say, its peak."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()


def main() -> None:
    """Serve on stdin and stdout, within the address space allowed."""
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    # Ctrl-C reaches the whole foreground group: the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever a library prints must not end up between two frames.
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, stdout)


if __name__ == "__main__":
    main()
