"""The dated codes of ports of entry and of modes of transport."""

from datetime import date
from typing import Annotated, Final, Literal

from pydantic import Field

from pipeline.customs.reference.base import ReferenceData, ReferenceRow
from pipeline.customs.reference.content import RulesContent, load_once, parse_file

_NAMED: Final = 3


class Ports(ReferenceRow):
    """The ports of entry, by code. A name ends in the port's State, or in its States with `/` between them."""

    ports: dict[Annotated[str, Field(pattern=r"^[0-9]{4}$")], Annotated[str, Field(pattern=r" [A-Z]{2}(/[A-Z]{2})*$")]]

    def find_states(self, code: str) -> list[str]:
        """Return the States in which the port is; empty for an unknown port."""
        return self.ports[code].rpartition(" ")[2].split("/") if code in self.ports else []

    def describe(self, code: str) -> str:
        """Return the code with the port's name, such as `0901 Buffalo-Niagara Falls NY`; the code alone if it is unknown."""
        return f"{code} {self.ports[code]}" if code in self.ports else code

    def find_similar(self, code: str) -> list[str]:
        """Return code and name of ports whose codes have the same digits, or one other digit: the most similar first."""
        found: list[tuple[bool, int, str]] = []
        for port in self.ports:
            moved = sorted(port) == sorted(code)
            if moved or sum(ours != theirs for ours, theirs in zip(port, code, strict=True)) == 1:
                found.append((not moved, abs(int(port) - int(code)), port))
        return [f"{port} {self.ports[port]}" for *_, port in sorted(found)[:_NAMED]]


ModeCode = Annotated[str, Field(pattern=r"^[0-9]{2}$")]


class Modes(ReferenceRow):
    """The codes of each mode of transport: loose goods, then goods in a container if that has a code of its own."""

    codes: dict[str, tuple[ModeCode] | tuple[ModeCode, ModeCode]]

    def find_code(self, mode: str, *, in_container: bool) -> str | None:
        """Return the code of the mode; None if it has none."""
        codes = self.codes.get(mode)
        return None if codes is None else codes[-1 if in_container else 0]


class PortRules(ReferenceData):
    """The codes with which an entry says where and how its goods cross."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    as_of: date
    ports: Ports
    modes: Modes


@load_once
def port_rules(content: RulesContent) -> PortRules:
    """Return the codes of ports and of modes of transport."""
    return parse_file(content, PortRules, "ports.yaml")
