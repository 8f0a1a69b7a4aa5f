"""The pages that links lead to, and their forms."""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser

import httpx
from fastapi.routing import APIRoute
from starlette.routing import compile_path

from pipeline.interfaces.app import ROUTERS


class FormReader(HTMLParser):
    """The forms of a page that are sent by POST: address -> fields, as a browser without changes would send them."""

    def __init__(self, page: str, address: str) -> None:
        super().__init__()
        self.forms: dict[str, dict[str, list[str]]] = {}
        self._fields: dict[str, list[str]] | None = None
        self._address, self._select, self._area = address, "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and given.get("method", "").lower() == "post":
            self._fields = self.forms.setdefault(given.get("action", self._address), {})
        elif self._fields is not None:
            self._read_field(tag, given)

    def _read_field(self, tag: str, given: Mapping[str, str]) -> None:
        assert self._fields is not None
        if "formaction" in given:
            self.forms.setdefault(given["formaction"], self._fields)
        chosen = given.get("type") not in {"checkbox", "radio"} or "checked" in given
        if tag == "input" and "name" in given and chosen:
            self._fields.setdefault(given["name"], []).append(given.get("value", "on"))
        elif tag == "select":
            self._select = given["name"]
        elif tag == "option" and self._select and ("selected" in given or self._select not in self._fields):
            self._fields[self._select] = [given.get("value", "")]
        elif tag == "textarea":
            self._area = given["name"]

    def handle_data(self, data: str) -> None:
        if self._area and self._fields is not None:
            self._fields[self._area] = [data.removeprefix("\n")]

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._fields = None
        elif tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._area = ""


def list_routes(method: str) -> Iterator[str]:
    """Yield the paths of all routes with this method."""
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and method in (route.methods or ()):
                yield route.path


def find_route(address: str, method: str) -> str | None:
    """Return the route of an address; an action of a partner is named in it. None if there is no such page."""
    path = address.partition("?")[0].partition("#")[0]
    for route in list_routes(method):
        match = compile_path(route)[0].fullmatch(path)
        if match and "{path" not in route:
            return route.replace("{action}", match.groupdict().get("action", ""))
    return None


def crawl(client: httpx.Client, starts: Sequence[str], *, most: int = 3) -> Iterator[tuple[str, str]]:
    """Yield the address and the text of the pages that links lead to, at most so many pages of each route."""
    waiting, seen, visits = list(starts), set(starts), dict[str, int]()
    while waiting:
        address = waiting.pop()
        route = find_route(address, "GET") or ""
        visits[route] = visits.get(route, 0) + 1
        if address not in starts and visits[route] > most:
            continue
        page = client.get(address)
        if not page.headers["content-type"].startswith("text/html"):
            continue
        yield address, page.text
        links = {html.unescape(link) for link in re.findall(r'href="(/(?:console|portal)[^"#]*)"', page.text)} - seen
        waiting += [
            each for each in sorted(links) if not re.search(r"/(assets|artifacts)/|\.zip|\.json|/content", each)
        ]
        seen |= links


def find_forms(client: httpx.Client, starts: Sequence[str]) -> set[str]:
    """Return the routes of all forms on the pages that links lead to."""
    found = set()
    for address, page in crawl(client, starts):
        for action in FormReader(page, address).forms:
            posted = find_route(action, "POST")
            assert posted is not None, f"{address} has a form for {action}, which no route serves"
            found.add(posted)
    return found
