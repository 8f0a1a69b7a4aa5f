"""Checks what a command printed with `--json` by the command's own schema."""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from jsonschema_rs import Draft202012Validator, validator_for
from pydantic import TypeAdapter

from pipeline.interfaces.cli.output_schemas import LINES, OUTPUTS


def check_output(arguments: Sequence[str], stdout: str, exit_code: int) -> None:
    """Check each JSON document on standard output by the schema of the command; of a failed one, also by that of errors."""
    command = find_command(arguments)
    documents = list(read_documents(stdout))
    if command not in LINES:
        assert len(documents) <= 1, f"{command} printed {len(documents)} documents"
    for document in documents:
        if exit_code and isinstance(document, dict) and "errorCode" in document:
            read_validator("error").validate(document)
        else:
            read_validator(command).validate(document)


def find_command(arguments: Sequence[str]) -> str:
    """Return the words of the command in the arguments."""
    words = list(arguments)
    if words[0] == "--profile":
        del words[:2]
    two = " ".join(words[:2])
    if words[0] == "artifacts" and two not in OUTPUTS:
        return "artifacts list"
    return two if two in OUTPUTS else words[0]


def read_documents(text: str) -> Iterator[Any]:
    """Yield the JSON documents of the text."""
    place = 0
    decoder = json.JSONDecoder()
    while text[place:].strip():
        place += len(text[place:]) - len(text[place:].lstrip())
        document, place = decoder.raw_decode(text, place)
        yield document


@cache
def read_validator(command: str) -> Draft202012Validator:
    """Return the validator of what this version prints: unlike the published schema, it allows no unknown member."""
    found = validator_for(TypeAdapter(OUTPUTS[command]).json_schema(mode="serialization"))
    assert isinstance(found, Draft202012Validator)
    return found
