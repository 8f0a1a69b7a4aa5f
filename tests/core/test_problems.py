"""Problem documents: the names of fields beside their JSON Pointers."""

import pytest

from pipeline.core.errors import ValidationFailed
from pipeline.core.json_input import validation_failed
from pipeline.core.problems import Issue, format_name, problem_document


@pytest.mark.parametrize(
    ("pointer", "name"),
    [
        ("/batchId", "batchId"),
        ("/items/0/items/12/quantity", "items.0.items.12.quantity"),
        ("/query/limit", "limit"),
        ("/header/Idempotency-Key", "Idempotency-Key"),
        ("/metadata/a~1b~0c", "metadata.a/b~c"),
        ("/query", "query"),
        ("Idempotency-Key", "Idempotency-Key"),
        ("", ""),
    ],
)
def test_pointer_becomes_the_name_of_its_field(pointer: str, name: str) -> None:
    assert format_name(pointer) == name


def test_problem_names_each_field_and_points_to_it() -> None:
    issue = Issue(path="/items/0/externalId", message="is required; add it", code="missing")
    problem = problem_document(validation_failed([issue]), "req_1")
    assert (problem.field, problem.pointer) == ("items.0.externalId", "/items/0/externalId")
    assert problem.details == {
        "issues": [issue.model_dump() | {"path": "items.0.externalId", "pointer": "/items/0/externalId"}]
    }


def test_field_without_a_pointer_has_only_a_name() -> None:
    problem = problem_document(ValidationFailed("the key is wrong", field="Idempotency-Key"), "req_1")
    assert (problem.field, problem.pointer) == ("Idempotency-Key", None)
