"""The keys by which an export of the same goods is found, and who approved and sent an export's plan."""

import sqlalchemy as sa
from alembic import op

from pipeline.core.db import Instant

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_KEY_IN_USE = sa.text("control_number_key IS NOT NULL AND NOT released")
_HAS_INVOICE = sa.text("invoice_key IS NOT NULL")

#: Both databases read a member of a unit's document, and the documents of purged units have none.
_MEMBERS = {"postgresql": "units.document::json #>> '{{{}}}'", "sqlite": "json_extract(units.document, '$.{}')"}
_LOWER = {"postgresql": 'lower({} COLLATE "C")', "sqlite": "lower({})"}

_SET_INVOICE_KEYS = """
UPDATE units SET invoice_key = {key}
FROM exports WHERE exports.id = units.export_id AND units.invoice_number IS NOT NULL
"""

#: Of exports with the same number, the newest has the key. It counts for three years, so older exports need none.
_SET_CONTROL_NUMBER_KEYS = """
UPDATE units SET control_number_key = newest.number
FROM (
    SELECT export_id, unit_no, number,
        row_number() OVER (PARTITION BY account_id, number ORDER BY accepted_at DESC, export_id DESC, unit_no) AS place
    FROM (
        SELECT units.account_id, units.export_id, units.unit_no, exports.accepted_at,
            {scac} || ' ' || upper(CASE WHEN substr({number}, 1, length({scac})) = {scac}
                THEN substr({number}, length({scac}) + 1) ELSE {number} END)
                || coalesce(' ' || {part}, '') AS number
        FROM units JOIN exports ON exports.id = units.export_id
        WHERE NOT units.released AND NOT exports.test AND exports.state <> 'cancelled' AND units.invoice_number IS NOT NULL
    ) AS numbered
    WHERE number IS NOT NULL
) AS newest
WHERE newest.place = 1 AND units.export_id = newest.export_id AND units.unit_no = newest.unit_no
"""


def upgrade() -> None:
    """Add the columns, write the keys of all exports that are not purged, and add the indexes."""
    op.add_column("exports", sa.Column("approved_by", sa.String(), nullable=True))
    op.add_column("exports", sa.Column("approved_at", Instant(), nullable=True))
    op.add_column("exports", sa.Column("sent_by", sa.String(), nullable=True))
    op.add_column("units", sa.Column("control_number_key", sa.String(), nullable=True))
    op.add_column("units", sa.Column("invoice_key", sa.String(), nullable=True))
    dialect = op.get_context().dialect.name
    if dialect == "postgresql":
        op.execute("SET LOCAL exports.account = '*'")  # a printed script has no account, and would see no row
    for statement in _fill_keys(dialect):
        op.execute(sa.text(statement))
    op.create_index(
        "uq_units_control_number_key",
        "units",
        ["account_id", "control_number_key"],
        unique=True,
        postgresql_where=_KEY_IN_USE,
        sqlite_where=_KEY_IN_USE,
    )
    op.create_index(
        "ix_units_invoice_key",
        "units",
        ["account_id", "invoice_key"],
        postgresql_where=_HAS_INVOICE,
        sqlite_where=_HAS_INVOICE,
    )


def downgrade() -> None:
    """Drop them; the same goods are then not found."""
    op.drop_index("ix_units_invoice_key", table_name="units")
    op.drop_index("uq_units_control_number_key", table_name="units")
    op.drop_column("units", "invoice_key")
    op.drop_column("units", "control_number_key")
    for name in ("sent_by", "approved_at", "approved_by"):
        op.drop_column("exports", name)


def _fill_keys(dialect: str) -> list[str]:
    """Return the statements that write the keys, as `pipeline/customs/checks/same_goods.py` does."""

    def member(*names: str) -> str:
        return "(" + _MEMBERS[dialect].format((",", ".")[dialect == "sqlite"].join(names)) + ")"

    mode = "CASE WHEN exports.test THEN 'test ' ELSE 'live ' END"
    seller = member("parties", "seller", "name")
    return [
        _SET_INVOICE_KEYS.format(key=_LOWER[dialect].format(f"({mode} || units.invoice_number || ' of ' || {seller})")),
        _SET_CONTROL_NUMBER_KEYS.format(
            scac=member("entry", "carrierScac"),
            number=member("entry", "shipmentControlNumber"),
            part=member("entry", "part", "number"),
        ),
    ]
