"""Words that the project does not use; docs/glossary.md has the field's terms."""

#: Neither a text nor a name has these.
FORBIDDEN_WORDS = ("anew", "lain", "mend", "mended", "mends", "owe", "owed", "owes", "told", "whoever")

#: No name has these either: private words for standard things.
RETIRED_WORDS = frozenset(
    """
    ailing ails beside heed lane lanes lately patience rung rungs setback setbacks wake wakes
    """.split()
).union(FORBIDDEN_WORDS)
