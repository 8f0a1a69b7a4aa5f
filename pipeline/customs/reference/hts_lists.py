"""Dated lists of HTS provisions: their content on a day, and the lists that a code is on by its longest prefix."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from pipeline.customs.reference.base import Chapter, Metal, ReferenceData, ReferenceRow, without_dots

_PROVISION = re.compile(r"^\d{4}(\.\d{2}(\.\d{2}(\d{2})?)?)?$")


def _check_provision(code: str) -> str:
    if not _PROVISION.match(code):
        raise ValueError(f"{code!r} is not an HTS provision such as 7323, 7323.93, 7323.93.00 or 7323.93.0045")
    return code


Provision = Annotated[str, AfterValidator(_check_provision)]


class ListVersion(ReferenceRow):
    """The content of a list in one period: all of its codes, or the changes to the version before.

    `add_lists` adds the codes of other lists. `except_codes` are provisions that are excluded from a listed one.
    """

    codes: tuple[Provision, ...] = ()
    except_codes: tuple[Provision, ...] = ()
    add: tuple[Provision, ...] = ()
    remove: tuple[Provision, ...] = ()
    add_lists: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _whole_or_changes(self) -> Self:
        if bool(self.codes) == bool(self.add or self.remove or self.add_lists):
            raise ValueError("a version must give either its codes or its changes to the version before")
        for name in ("codes", "add", "remove"):
            given = getattr(self, name)
            twice = sorted({code for code in given if given.count(code) > 1}) if len(set(given)) < len(given) else []
            if twice:
                raise ValueError(f"{name} has {', '.join(twice)} twice")
        return self


class HtsList(ReferenceData):
    """A list of provisions with its versions over time; a list of a metal names the metal."""

    id: str
    title: str
    metal: Metal | None = None
    kind: Literal["articles", "derivative"] | None = None
    chapters: frozenset[Chapter]
    versions: tuple[ListVersion, ...]

    @model_validator(mode="after")
    def _chapters_hold(self) -> Self:
        # The published text has had a code in the wrong list: so each list gives its chapters, which are checked.
        for version in self.versions:
            for code in (*version.codes, *version.add, *version.except_codes):
                if code[:2] not in self.chapters:
                    raise ValueError(f"list {self.id} has {code}, which is not in one of its chapters")
        return self


class ListFile(ReferenceData):
    """A file of lists."""

    lists: tuple[HtsList, ...]


@dataclass(frozen=True, slots=True)
class ListMatch:
    """A list that a code is on: the version in force, the matching provision, and the version that added it (`source`)."""

    list: HtsList
    version: ListVersion
    code: str
    source: ListVersion


@dataclass(frozen=True, slots=True)
class ResolvedList:
    """A version with all changes applied: `codes` maps digits to the dotted code, `excepted` holds the excluded digits.

    `sources` gives by dotted code the version that added it: a later version that only keeps it is not its source.
    """

    list: HtsList
    version: ListVersion
    codes: Mapping[str, str]
    excepted: frozenset[str]
    sources: Mapping[str, ListVersion]

    def match(self, hts_code: str) -> str | None:
        """Return the longest listed provision that the HTS code begins with, or None."""
        for length in (10, 8, 6, 4):
            beginning = hts_code[:length]
            if beginning in self.excepted:
                return None
            if beginning in self.codes:
                return self.codes[beginning]
        return None


_ORDER_REMEDY = "End each version on the day before the next begins, and write them in that order."


def resolve_versions(lists: tuple[HtsList, ...]) -> tuple[tuple[ResolvedList, ...], list[tuple[str, str]]]:
    """Return every version with its full content, and the errors: a list's id, and a sentence with its remedy."""
    resolved: dict[str, list[ResolvedList]] = {}
    errors: list[tuple[str, str]] = []
    # Lists that add other lists come last.
    for hts_list in sorted(lists, key=lambda listed: any(version.add_lists for version in listed.versions)):
        if hts_list.id in resolved:
            errors.append((hts_list.id, "is defined twice. Give one of them another id."))
            continue
        versions: list[ResolvedList] = []
        resolved[hts_list.id] = versions
        for version in hts_list.versions:
            before = versions[-1] if versions else None
            if before is not None and not _follows(before.version, version):
                since = version.effective_from
                errors.append(
                    (
                        hts_list.id,
                        f"has a version from {since} that begins before the one above it ends. {_ORDER_REMEDY}",
                    )
                )
            if version.codes:
                codes = MappingProxyType({without_dots(code): code for code in version.codes})
                excepted = frozenset(without_dots(code) for code in version.except_codes)
                sources = MappingProxyType(dict.fromkeys(version.codes, version))
                versions.append(ResolvedList(hts_list, version, codes, excepted, sources))
            elif before is None:
                errors.append(
                    (hts_list.id, "has only changes in its first version. Give that version all of its codes.")
                )
            else:
                versions.append(_apply_changes(before, version, resolved, errors))
    return tuple(version for versions in resolved.values() for version in versions), errors


def _apply_changes(
    before: ResolvedList,
    version: ListVersion,
    resolved: Mapping[str, list[ResolvedList]],
    errors: list[tuple[str, str]],
) -> ResolvedList:
    name = before.list.id
    codes = dict(before.codes)
    errors += [
        (name, f"removes {code}, which it does not have. Delete it from `remove`.")
        for code in version.remove
        if codes.pop(without_dots(code), None) is None
    ]
    errors += [
        (name, f"adds {code}, which it already has. Delete it from `add`.")
        for code in version.add
        if without_dots(code) in codes
    ]
    codes |= {without_dots(code): code for code in version.add}
    for other in version.add_lists:
        if resolved.get(other):
            codes |= resolved[other][-1].codes
        else:
            errors.append((name, f"adds list {other}, which is not defined. Define it, or correct the name."))
    excepted = before.excepted | {without_dots(code) for code in version.except_codes}
    sources = {code: before.sources.get(code, version) for code in codes.values()} | dict.fromkeys(version.add, version)
    return ResolvedList(before.list, version, MappingProxyType(codes), excepted, MappingProxyType(sources))


def find_matching_lists(resolved: tuple[ResolvedList, ...], hts_code: str, on: date) -> tuple[ListMatch, ...]:
    """Return the lists that the HTS code is on, on the day `on`, the longest matching provision first."""
    found = [
        ListMatch(version.list, version.version, code, version.sources[code])
        for version in resolved
        if version.version.in_force(on) and (code := version.match(hts_code)) is not None
    ]
    return tuple(sorted(found, key=lambda listed: -len(listed.code)))


def _follows(before: ReferenceRow, after: ReferenceRow) -> bool:
    return (
        before.effective_to is not None
        and after.effective_from is not None
        and before.effective_to < after.effective_from
    )
