"""A new installation makes at once what an older one has come to step by step."""

from __future__ import annotations

from typing import Any

from django.db.migrations.loader import MigrationLoader

BEFORE = "0014_quick_looks"
AT_ONCE = "0001_squashed_0014"


def tables(migration: str, *, replaced: bool) -> dict[str, Any]:
    """What trading's models are after `migration`; `replaced`: by the squashed ones."""
    loader = MigrationLoader(None, replace_migrations=replaced)
    state = loader.project_state(("trading", migration))
    return {
        name: (
            {field: value.deconstruct()[1:] for field, value in model.fields.items()},
            {
                option: sorted(map(repr, value)) if isinstance(value, list) else value
                for option, value in model.options.items()
                if value
            },
        )
        for (app, name), model in state.models.items()
        if app == "trading"
    }


def test_the_squashed_migration_makes_the_tables_of_those_that_it_replaces() -> None:
    assert tables(AT_ONCE, replaced=True) == tables(BEFORE, replaced=False)
