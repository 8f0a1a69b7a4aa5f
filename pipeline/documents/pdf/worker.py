"""The PDF engine, the only user of Typst: a process of its own that sets one document a request, on stdin and stdout.

Values reach Typst as data (`sys.inputs`), never as source, so nothing in them is ever evaluated. Documents are PDF/A-3b
(ISO 19005-3): every font and colour profile inside, and files of data attached.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import struct
import sys
import tempfile
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from math import ceil, inf
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, cast

import typst


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


TEMPLATES = Path(__file__).resolve().parents[3] / "templates"

#: ISO 19005-3, level b: looks the same for as long as it is kept, and may carry other files.
STANDARD: Final = "a-3b"

#: Address space of the process; Typst reserves far more than it touches.
ADDRESS_SPACE_BYTES = 3 * 1024**3

#: What the largest part of a document takes (330 MB were measured) beside what the process may hold already (220 MB), with
#: room to spare. With less it would start, and each large document would seem to break it.
LEAST_MEMORY_BYTES = 640 * 1024**2

#: What is set before anything is asked: it needs fonts, memory, threads and a folder for temporary files, as all documents do.
_TRIAL: Final = b'#set text(font: "Inter")\nA page'

#: Where memory is short the system ends this process before any other, and not the worker that waits for it.
_ENDED_FIRST = "1000"


class Engine:
    """Typst with the vendored fonts alone, without packages, in a root with nothing in it."""

    def __init__(self) -> None:
        self._fonts = typst.Fonts(
            include_system_fonts=False, include_embedded_fonts=False, font_paths=[str(TEMPLATES / "fonts")]
        )

    def answer(self, asked: Message) -> Message:
        """Return the answer to one request; raises RuntimeError where a document cannot be set."""
        match asked.head["task"]:
            case "set":
                return self._set(asked)
            case "count":
                return Message({"pages": int(self._compiler(asked).query("<end>", field="value", one=True))})
            case "join":
                return _joined(asked)
            case task:
                raise RuntimeError(f"the PDF engine does not know the task {task!r}")

    def try_out(self) -> None:
        """Set one page of no document; raises RuntimeError or OSError where this machine does not let it."""
        _compiled(self._compiler_of(_TRIAL, {}), 0, STANDARD, tagged=True)

    def _set(self, asked: Message) -> Message:
        compiler = self._compiler(asked)
        try:
            body = _compiled(compiler, asked.head["timestamp"], STANDARD, tagged=asked.head["tagged"])
        except typst.TypstError as error:
            if "PDF/A" not in str(error):
                raise
            # A sign that no font can draw in its place: a page with an empty box is better than none.
            body = _compiled(compiler, asked.head["timestamp"], "1.7", tagged=asked.head["tagged"])
        return Message({}, [body])

    def _compiler(self, asked: Message) -> typst.Compiler:
        folder = TEMPLATES / "documents"
        inputs = {
            "facts": asked.bodies[0].decode(),
            "part": json.dumps(asked.head["part"]),
            **({"attached": asked.bodies[1].decode()} if len(asked.bodies) > 1 else {}),
        }
        source = b"\n".join((folder / name).read_bytes() for name in ("page.typ", asked.head["template"]))
        return self._compiler_of(source, inputs)

    def _compiler_of(self, source: bytes, inputs: dict[str, str]) -> typst.Compiler:
        # The root is taken away again at once: there is nothing in it that a document could read.
        with tempfile.TemporaryDirectory() as root:
            return typst.Compiler(
                input=source,
                root=root,
                font_paths=self._fonts,
                ignore_system_fonts=True,
                package_path=root,
                package_cache_path=root,
                sys_inputs=inputs,
            )


def _compiled(compiler: typst.Compiler, timestamp: int, standard: Literal["a-3b", "1.7"], *, tagged: bool) -> bytes:
    body = compiler.compile(format="pdf", timestamp=timestamp, pdf_tags=tagged, pdf_standards=standard)
    if not isinstance(body, bytes):
        raise RuntimeError("the PDF engine gave no single document")
    return body


def _joined(asked: Message) -> Message:
    from pypdf import PdfReader, PdfWriter  # noqa: PLC0415 - only a document in parts needs it
    from pypdf.generic import ArrayObject, ByteStringObject, DecodedStreamObject, NameObject  # noqa: PLC0415

    # The first part's catalogue is the document's: colour profile, language, attached files. Only what says how many
    # pages there are and which document this is has to be said anew.
    first, *others = (PdfReader(BytesIO(body)) for body in asked.bodies)
    writer = PdfWriter(clone_from=first)
    for other in others:
        writer.append(other, import_outline=False)
    identity = b64encode(sha256(b"".join(asked.bodies)).digest()[:16])
    described = cast(DecodedStreamObject, first.root_object["/Metadata"].get_object()).get_data()
    described = re.sub(rb"(<xmpTPg:NPages>)\d+", rb"\g<1>%d" % len(writer.pages), described)
    described = re.sub(rb"(<xmpMM:(?:Instance|Document)ID>)[^<]*", rb"\g<1>" + identity, described)
    metadata = DecodedStreamObject()
    metadata.set_data(described)
    metadata.update({NameObject("/Type"): NameObject("/Metadata"), NameObject("/Subtype"): NameObject("/XML")})
    writer.root_object[NameObject("/Metadata")] = writer._add_object(metadata)  # noqa: SLF001 - no public way
    writer._ID = ArrayObject([ByteStringObject(identity)] * 2)  # noqa: SLF001
    out = BytesIO()
    writer.write(out)
    return Message({}, [out.getvalue()])


def serve(stdin: BinaryIO, stdout: BinaryIO, engine: Engine) -> None:
    """Answer requests until stdin ends.

    A document that cannot be set is answered with `error`, and `unavailable` says what the machine did not give. `spent`
    says that the next document would not have all the processor's time that it may take. `number` is the request's own.
    """
    while (asked := read_message(stdin)) is not None:
        # Should the parent die while Typst works, nobody is left to stop this process but itself.
        signal.setitimer(signal.ITIMER_REAL, asked.head["seconds"])
        _allow_cpu(asked.head["cpu_seconds"])
        try:
            answer = engine.answer(asked)
        except RuntimeError as error:  # typst.TypstError is one
            answer = Message({"error": str(error)})
        except (
            OSError
        ) as error:  # no document names a file: a template is gone, or there is no room for temporary files
            answer = Message({"unavailable": str(error)})
        signal.setitimer(signal.ITIMER_REAL, 0)
        spent = _cpu_left() < asked.head["cpu_seconds"]
        state = {"number": asked.head.get("number"), "resident_bytes": resident_bytes(), "spent": spent}
        write_message(stdout, Message({**answer.head, **state}, answer.bodies))


def resident_bytes() -> int:
    """Return how much memory this process holds now; where the system does not say, the most it has held."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()


def _allow_cpu(seconds: int) -> None:
    """Allow this process so much more of the processor's time; beyond it the system ends it, whatever it is doing."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (_at_most(_cpu_used() + seconds, most), most))


def _cpu_used() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return ceil(used.ru_utime + used.ru_stime)


def _cpu_left() -> float:
    """Return how many seconds of the processor's time this process may still be allowed."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    return inf if most == resource.RLIM_INFINITY else most - _cpu_used()


def _at_most(wanted: int, most: int) -> int:
    # Only root may go beyond a hard limit, and whoever set it meant it for root as well.
    return wanted if most == resource.RLIM_INFINITY else min(wanted, most)


def confine() -> None:
    """Bound what this process may take, and leave no image of its memory behind, which holds invoices.

    Raises RuntimeError where it was started with less memory than a document may take.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        space = _at_most(ADDRESS_SPACE_BYTES, most)
        data, _ = resource.getrlimit(resource.RLIMIT_DATA)
        for name, given in (("address space (RLIMIT_AS)", space), ("data (RLIMIT_DATA)", data)):
            if given != resource.RLIM_INFINITY and given < LEAST_MEMORY_BYTES:
                raise RuntimeError(
                    f"this process may have {given // 1024**2} MB of {name}, and a document may take"
                    f" {LEAST_MEMORY_BYTES // 1024**2} MB; raise the limit"
                )
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_ENDED_FIRST)


def main(make: Callable[[], Engine] = Engine) -> None:
    """Serve on stdin and stdout, within bounds, once a page could be set; the first message says so, or why not."""
    # Ctrl-C reaches the whole foreground group: the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever a library prints must not end up between two frames.
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        confine()
        engine = make()
        engine.try_out()
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        write_message(stdout, Message({"unavailable": str(error) or type(error).__name__}))
        return
    write_message(stdout, Message({}))
    serve(sys.stdin.buffer, stdout, engine)


if __name__ == "__main__":
    main()
