"""XML from elsewhere: elements one at a time, and no document type, with which entities and files come in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from pipeline.ops.verification.treatment import Unreadable


def elements(parts: Iterable[bytes], name: str) -> Iterator[Element]:
    """Yield each whole element `name`, written `{namespace}local`, from XML that comes in parts; then it is let go.

    Neither workbooks (ECMA-376, part 2) nor UBL may have a document type declaration, so that one is refused here,
    before any entity is declared: no entity can grow, and nothing is ever fetched. Raises Unreadable.
    """
    # All XML of ours is UTF-8; another name of an encoding in it is a change, and at worst one that there is not.
    parser = expat.ParserCreate("utf-8", namespace_separator="}")
    parser.buffer_text = True
    reader = _Reader(name)
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    parser.StartDoctypeDeclHandler = _refused
    try:
        for part in parts:
            parser.Parse(part, False)
            yield from reader.taken()
        parser.Parse(b"", True)
        yield from reader.taken()
    except expat.ExpatError as error:
        raise Unreadable(f"it is no XML: {expat.ErrorString(error.code)} in line {error.lineno}") from error


def _refused(*_: Any) -> None:
    raise Unreadable("it has a document type declaration, which no document of ours has")


class _Reader:
    """Builds the wanted elements, and nothing of what is around them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._builder: TreeBuilder | None = None
        self._depth = 0
        self._whole: list[Element] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        full = _full(name)
        if self._builder is None:
            if full != self._name:
                return
            self._builder = TreeBuilder()
        self._builder.start(full, {_full(key): value for key, value in attributes.items()})
        self._depth += 1

    def end(self, name: str) -> None:
        if self._builder is None:
            return
        self._builder.end(_full(name))
        self._depth -= 1
        if self._depth == 0:
            self._whole.append(self._builder.close())
            self._builder = None

    def data(self, text: str) -> None:
        if self._builder is not None:
            self._builder.data(text)

    def taken(self) -> list[Element]:
        whole, self._whole = self._whole, []
        return whole


def _full(name: str) -> str:
    return "{" + name if "}" in name else name
