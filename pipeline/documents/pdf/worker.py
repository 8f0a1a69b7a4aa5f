"""The process of the PDF engine, the only user of Typst: it sets one document per request, on stdin and stdout.

Values reach Typst as data (JSON in a file), never as source, so Typst never evaluates them. Documents are PDF/A-3b
(ISO 19005-3): all fonts and colour profiles are embedded, and files of data may be attached. Tagged ones are also PDF/UA-1.
"""

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
from importlib.metadata import version
from io import BytesIO
from math import ceil, inf
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Protocol, cast

import typst


@dataclass(frozen=True)
class EngineMessage:
    """A request or a response: its head, and the bytes that belong to it."""

    head: Mapping[str, Any]
    bodies: Sequence[bytes] = ()


def write_message(stream: BinaryIO, message: EngineMessage) -> None:
    """Write the whole message; raises BrokenPipeError if the other side has closed."""
    frames = [json.dumps({**message.head, "frames": len(message.bodies)}).encode(), *message.bodies]
    for frame in frames:
        stream.write(struct.pack(">I", len(frame)))
        stream.write(frame)
    stream.flush()


def read_message(stream: BinaryIO) -> EngineMessage | None:
    """Return the next message, or None if the other side has closed, even in the middle of a message."""
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
    return EngineMessage(head, bodies)


def _read_frame(stream: BinaryIO) -> bytes | None:
    size = stream.read(4)
    if len(size) < 4:
        return None
    (length,) = struct.unpack(">I", size)
    body = stream.read(length)
    return body if len(body) == length else None


class Engine(Protocol):
    """What handles the requests of a process."""

    def handle_request(self, request: EngineMessage) -> EngineMessage:
        """Return the response to one request; raises RuntimeError if the document is at fault."""

    def self_test(self) -> None:
        """Handle a small document; raises RuntimeError or OSError if this machine does not allow it."""


FONTS: Final = Path(__file__).resolve().parents[3] / "templates" / "fonts"

#: What documents depend on beside their templates: this program, and the libraries that set and join them.
PROGRAM: Final = sha256(
    b"%s %s %s" % (Path(__file__).read_bytes(), version("typst").encode(), version("pypdf").encode())
).hexdigest()

_Standard = Literal["a-3b", "ua-1", "1.7"]

#: ISO 19005-3, level b: an archived PDF always looks the same, and may have other files attached.
ARCHIVED: Final[tuple[_Standard, ...]] = ("a-3b",)

#: The same, and ISO 14289-1: a screen reader finds title, language, headings and the header cells of tables.
ARCHIVED_AND_ACCESSIBLE: Final[tuple[_Standard, ...]] = ("a-3b", "ua-1")

#: The address space of the process; Typst reserves far more than it uses.
ADDRESS_SPACE_BYTES = 3 * 1024**3

#: The memory for the longest document that is set whole (240 MB measured) plus what the process may already hold (160 MB),
#: with a margin. With less memory the engine would start, but every large document would kill it.
LEAST_MEMORY_BYTES = 640 * 1024**2

#: The files that belong to one document.
_FILES: Final = ("facts", "attached", "logo")

#: The folder of the files that this process has open.
_OPEN_FILES: Final = "/dev/fd"

#: The page that the self-test sets; like every document it needs fonts, memory, threads and files in memory.
_TEST_PAGE: Final = b'#set text(font: "Inter")\nA page'

#: If memory is short, the system kills this process first, not the worker that waits for it.
_OOM_SCORE = "1000"


class TypstEngine:
    """Typst with only the vendored fonts and without packages. It reads sources and inputs from files in memory."""

    def __init__(self) -> None:
        self._fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[str(FONTS)])
        self._inputs = {name: _MemoryFile(name) for name in (*_FILES, "part", "french")}
        self._sources: dict[str, _MemoryFile] = {}
        self._compilers: dict[str, typst.Compiler] = {}

    def handle_request(self, request: EngineMessage) -> EngineMessage:
        """Return the response to one request; raises RuntimeError if Typst cannot set the document."""
        match request.head["task"]:
            case "set":
                return self._set_document(request)
            case "count":
                compiler = self._new_compiler(self._write_sources(request))
                return EngineMessage({"pages": int(compiler.query("<end>", field="value", one=True))})
            case "join":
                return _join(request)
            case task:
                raise RuntimeError(f"the PDF engine does not know task {task!r}")

    def self_test(self) -> None:
        """Set a test page; raises RuntimeError or OSError if this machine does not allow it."""
        page = self._open_source("test page")
        page.write(_TEST_PAGE)
        self._compile(page, 0, ARCHIVED, tagged=True)

    def _set_document(self, request: EngineMessage) -> EngineMessage:
        template, tagged = self._write_sources(request), request.head["tagged"]
        standards = ARCHIVED_AND_ACCESSIBLE if tagged else ARCHIVED
        try:
            body = self._compile(template, request.head["timestamp"], standards, tagged=tagged)
        except typst.TypstError as error:
            if "PDF/A" not in str(error) and "PDF/UA" not in str(error):
                raise
            # No font can draw a character, which both forbid: a plain PDF with an empty box is better than none.
            body = self._compile(template, request.head["timestamp"], ("1.7",), tagged=tagged)
        return EngineMessage({}, [body])

    def _write_sources(self, request: EngineMessage) -> "_MemoryFile":
        """Write all files of the document and return that of its template."""
        given = dict(zip(request.head["files"], request.bodies, strict=True))
        for name in _FILES:
            self._inputs[name].write(given.get(name, b""))  # none of the document before may stay
        part = {**request.head["part"], **{name: name in given for name in ("attached", "logo")}}
        self._inputs["part"].write(json.dumps(part).encode())
        self._inputs["french"].write(given["french.json"])
        self._open_source("page.typ").write(given["page.typ"])
        name = request.head["template"]
        template = self._open_source(name)
        template.write(self._import("page.typ") + given[name])
        return template

    def _open_source(self, name: str) -> "_MemoryFile":
        if name not in self._sources:
            self._sources[name] = _MemoryFile(name)
        return self._sources[name]

    def _import(self, name: str) -> bytes:
        return f'#import "{self._open_source(name).path}": *\n'.encode()

    def _compile(
        self, source: "_MemoryFile", timestamp: int, standards: tuple[_Standard, ...], *, tagged: bool
    ) -> bytes:
        # A compiler keeps what it has parsed, and reads files again that have changed.
        if source.path not in self._compilers:
            self._compilers[source.path] = self._new_compiler(source)
        body = self._compilers[source.path].compile(
            input=_include(source), format="pdf", timestamp=timestamp, pdf_tags=tagged, pdf_standards=list(standards)
        )
        if not isinstance(body, bytes):
            raise RuntimeError("Typst must return a single document, but returned several")
        return body

    def _new_compiler(self, source: "_MemoryFile") -> typst.Compiler:
        # Typst keeps the layouts of texts that do not change from document to document, but only if the places of the
        # sources and the inputs do not change either. A document can read only the files that this process has open.
        return typst.Compiler(
            input=_include(source),
            root=_OPEN_FILES,
            font_paths=self._fonts,
            ignore_system_fonts=True,
            package_path=_OPEN_FILES,
            package_cache_path=_OPEN_FILES,
            sys_inputs={name: file.path for name, file in self._inputs.items()},
        )


def _include(source: "_MemoryFile") -> bytes:
    return f'#include "{source.path}"'.encode()


class _MemoryFile:
    """A file without a name, which ends with this process; `path` is its path below the folder of open files."""

    def __init__(self, name: str) -> None:
        # Linux keeps it in memory, so that an invoice is never written to a disk.
        if sys.platform == "linux":
            self._handle = os.memfd_create(name)
        else:
            with tempfile.TemporaryFile() as file:
                self._handle = os.dup(file.fileno())
        self.path = f"/{self._handle}"

    def write(self, body: bytes) -> None:
        """Replace the content by `body`."""
        os.ftruncate(self._handle, 0)
        with open(self._handle, "wb", closefd=False) as file:
            file.seek(0)
            file.write(body)
            file.seek(0)


def _join(request: EngineMessage) -> EngineMessage:
    from pypdf import PdfReader, PdfWriter  # noqa: PLC0415 - only a document in parts needs it
    from pypdf.generic import ArrayObject, ByteStringObject, DecodedStreamObject, NameObject  # noqa: PLC0415

    # The document takes its catalogue (colour profile, language, attached files) from the first part. Only the number of
    # pages and the identity of the document must be written again.
    first, *others = (PdfReader(BytesIO(body)) for body in request.bodies)
    writer = PdfWriter(clone_from=first)
    for other in others:
        writer.append(other, import_outline=False)
    identity = b64encode(sha256(b"".join(request.bodies)).digest()[:16])
    metadata_xml = cast(DecodedStreamObject, first.root_object["/Metadata"].get_object()).get_data()
    metadata_xml = re.sub(rb"(<xmpTPg:NPages>)\d+", rb"\g<1>%d" % len(writer.pages), metadata_xml)
    metadata_xml = re.sub(rb"(<xmpMM:(?:Instance|Document)ID>)[^<]*", rb"\g<1>" + identity, metadata_xml)
    metadata = DecodedStreamObject()
    metadata.set_data(metadata_xml)
    metadata.update({NameObject("/Type"): NameObject("/Metadata"), NameObject("/Subtype"): NameObject("/XML")})
    writer.root_object[NameObject("/Metadata")] = writer._add_object(metadata)  # noqa: SLF001 - no public way
    writer._ID = ArrayObject([ByteStringObject(identity)] * 2)  # noqa: SLF001
    out = BytesIO()
    writer.write(out)
    return EngineMessage({}, [out.getvalue()])


def serve(stdin: BinaryIO, stdout: BinaryIO, engine: Engine) -> None:
    """Handle requests until stdin ends.

    The response has `error` if Typst cannot set the document, and `unavailable` if the machine lacks something. `spent`
    means that too little processor time is left for the next document. `number` repeats the number of the request.
    """
    while (request := read_message(stdin)) is not None:
        # If the parent dies while Typst works, only this timer stops the process.
        signal.setitimer(signal.ITIMER_REAL, request.head["seconds"])
        _allow_cpu(request.head["cpu_seconds"])
        try:
            response = engine.handle_request(request)
        except RuntimeError as error:  # typst.TypstError is one
            response = EngineMessage({"error": str(error)})
        except OSError as error:  # not caused by the document: a file does not fit
            response = EngineMessage({"unavailable": str(error)})
        signal.setitimer(signal.ITIMER_REAL, 0)
        spent = _cpu_left() < request.head["cpu_seconds"]
        state = {"number": request.head.get("number"), "resident_bytes": resident_bytes(), "spent": spent}
        write_message(stdout, EngineMessage({**response.head, **state}, response.bodies))


def resident_bytes() -> int:
    """Return the memory that this process holds now, or its peak if the system does not report the current value."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()


def _allow_cpu(seconds: int) -> None:
    """Allow this process `seconds` more of processor time; the system kills it after that."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (_within_limit(_cpu_used() + seconds, hard_limit), hard_limit))


def _cpu_used() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return ceil(used.ru_utime + used.ru_stime)


def _cpu_left() -> float:
    """Return how many seconds of processor time this process can still get."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_CPU)
    return inf if hard_limit == resource.RLIM_INFINITY else hard_limit - _cpu_used()


def _within_limit(value: int, limit: int) -> int:
    # Root could exceed a hard limit, but the limit is meant for root too.
    return value if limit == resource.RLIM_INFINITY else min(value, limit)


def limit_resources() -> None:
    """Limit the memory of this process, and disable core dumps, because its memory holds invoices.

    Raises RuntimeError if the process may use less memory than a document may need.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _, hard_limit = resource.getrlimit(resource.RLIMIT_AS)
        space = _within_limit(ADDRESS_SPACE_BYTES, hard_limit)
        data, _ = resource.getrlimit(resource.RLIMIT_DATA)
        for name, limit in (("address space (RLIMIT_AS)", space), ("data (RLIMIT_DATA)", data)):
            if limit != resource.RLIM_INFINITY and limit < LEAST_MEMORY_BYTES:
                raise RuntimeError(
                    f"this process may use {limit // 1024**2} MB of {name}, but a document may need"
                    f" {LEAST_MEMORY_BYTES // 1024**2} MB; raise the limit"
                )
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)


def main(make: Callable[[], Engine] = TypstEngine) -> None:
    """Limit the process, set a test page, then handle requests on stdin and stdout.

    The first message names the `program` if the test page was set, or has `unavailable` with the reason.
    """
    # Ctrl-C reaches the whole foreground group: the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Output that a library prints must not get between two frames.
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        limit_resources()
        engine = make()
        engine.self_test()
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        write_message(stdout, EngineMessage({"unavailable": str(error) or type(error).__name__}))
        return
    write_message(stdout, EngineMessage({"program": PROGRAM}))
    serve(sys.stdin.buffer, stdout, engine)


if __name__ == "__main__":
    main()
