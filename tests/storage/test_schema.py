from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from tracekeep.storage import ddl, schema


def statements(metadata):
    """What SQLAlchemy makes of the schema, in one line each."""
    dialect = sqlite.dialect()
    made = []
    for table in metadata.sorted_tables:
        made.append(CreateTable(table).compile(dialect=dialect))
        made += [
            CreateIndex(each).compile(dialect=dialect) for each in sorted(table.indexes, key=lambda i: str(i.name))
        ]
    return tuple(" ".join(str(each).split()) for each in made)


def test_the_sql_is_what_the_schema_says():
    """Files are made by the SQL and queried by the schema: the two can't differ."""
    assert statements(schema.aggregates) == ddl.AGGREGATES
    assert statements(schema.history) == ddl.HISTORY
