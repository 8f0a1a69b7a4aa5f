"""The inputs of the console's forms: label, help, what was typed, and the error beside it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.core.errors import Refused
from pipeline.interfaces.pages.pages import Form

# Messages of validation follow the pointer of their field, and have no subject of their own.
_PREDICATE = re.compile(r"(?:is|are|must|has|have|needs|exists|cannot|may|does)\b")


@dataclass(frozen=True)
class Choice:
    """One option of an input. `help` is one sentence."""

    value: str
    label: str
    help: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class Input:
    """One input of a form. `kind` is text, area, password, secret (several lines), number, date, checkbox, checkboxes, radio or select.

    `value` is what was typed, or what is stored; it is always empty for a credential. `error` is empty if there is none.
    `at` is the JSON Pointer of its errors, if that is not its name.
    """

    name: str
    label: str
    kind: str = "text"
    value: str = ""
    help: str = ""
    error: str = ""
    required: bool = False
    choices: Sequence[Choice] = ()
    at: str = ""

    @property
    def problem(self) -> str:
        """Its error as a sentence, empty if there is none; the label stands beside it."""
        return f"this field {self.error}" if _PREDICATE.match(self.error) else self.error

    @property
    def dense(self) -> bool:
        """Whether its choices are short enough for columns."""
        return not any(each.help for each in self.choices)


@dataclass(frozen=True)
class FormError:
    """One error of a form, and the input that it belongs to, empty if it belongs to none."""

    message: str
    input: str = ""


@dataclass(frozen=True)
class InputForm:
    """The inputs of a form with what was typed, and its errors."""

    inputs: Sequence[Input]
    errors: Sequence[FormError]


def fill_form(declared: Sequence[Input], fields: Form, errors: Mapping[str, str]) -> InputForm:
    """Return the form with what was typed, and with each error at its input."""
    inputs = fill_inputs(declared, fields, errors)
    return InputForm(inputs, list_errors(inputs, errors))


def fill_inputs(declared: Sequence[Input], fields: Form, errors: Mapping[str, str]) -> list[Input]:
    """Return the inputs with what was typed and their errors. The declared value counts if nothing was typed."""
    filled = []
    for each in declared:
        typed = fields.get_all(each.name) or [each.value]
        choices = [replace(choice, chosen=choice.value in typed) for choice in each.choices]
        error = errors.get(each.at or f"/{each.name}", "")
        filled.append(replace(each, value="" if choices else typed[0], choices=choices, error=error))
    return filled


def read_text_lines(text: str) -> list[str]:
    """Return the lines of a text that are not empty, without the spaces around them."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_whole_number(text: str, least: int, most: int) -> int | None:
    """Return the whole number of a text; None if it is not a number from `least` to `most`."""
    # Digits of other scripts, and numbers of any length, are also numbers for `int`.
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most:
        return int(text)
    return None


def read_errors(refused: Refused | None) -> dict[str, str]:
    """Return the messages of a refusal by JSON Pointer; one that names no place has the pointer `""`."""
    if refused is None:
        return {}
    issues = (refused.details or {}).get("issues", ())
    if issues:
        return {str(issue["path"]): str(issue["message"]) for issue in issues}
    return {refused.field or "": refused.message}


def list_errors(inputs: Sequence[Input], errors: Mapping[str, str]) -> list[FormError]:
    """Return what to show at the top of a form: each error with a link to its input, and those that no input shows."""
    shown = [FormError(f"{each.label}: {each.problem}", each.name) for each in inputs if each.error]
    at_inputs = {each.error for each in inputs}
    return shown + [
        FormError(f"{pointer} {message}".strip()) for pointer, message in errors.items() if message not in at_inputs
    ]
