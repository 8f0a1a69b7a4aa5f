"""The build of the package `exports_client`: `pipeline.client` and the modules of the service that it imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE: Final = "exports_client"

#: The service's package, with the client or without.
_SERVICE: Final = r"pipeline(\.client)?(?=\.|$|\s)"


class ClientBuildHook(BuildHookInterface[Any]):
    """Adds the package to the wheel and to the source distribution, which then needs no file of the service."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if (Path(self.root) / PACKAGE).is_dir():
            return  # an unpacked source distribution has it
        self._folder = TemporaryDirectory()  # it exists as long as this hook
        write_package(Path(self.root).parents[1], Path(self._folder.name))
        build_data["force_include"][self._folder.name] = PACKAGE


def write_package(source: Path, package: Path) -> None:
    """Write the files of the package, from the service's source folder to the folder `package`."""
    pending, known = ["pipeline.client"], {"pipeline"}
    while pending:
        module = pending.pop()
        if module in known:
            continue
        known.add(module)
        file = _find_file(source, module)
        text = file.read_text(encoding="utf-8")
        pending += [module.rpartition(".")[0], *_list_imports(source, text)]
        inside = file.relative_to(source / "pipeline")
        target = package / (inside.relative_to("client") if inside.parts[0] == "client" else inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(
            re.sub(rf"^(\s*from ){_SERVICE}", rf"\g<1>{PACKAGE}", text, flags=re.MULTILINE), encoding="utf-8"
        )
    (package / "py.typed").touch()


def _list_imports(source: Path, text: str) -> list[str]:
    """Return the service's modules that a file imports, for its types as well."""
    return [
        name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pipeline"
        for name in (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))
        if _find_file(source, name).is_file()
    ]


def _find_file(source: Path, module: str) -> Path:
    path = source.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
