"""docs/settings.md has every flag of `foretell serve` and every setting, with its default."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import pytest
from tests.docs.tables import names, number, rows

from foretell.cli.main import _parser
from foretell.engine.limits import Limits
from foretell.server.settings import ServerSettings

PAGE = "settings.md"
PYTHON = {"Engine": Limits, "Doors": ServerSettings}
NOTHING = {"off", "none", "all", "by cost", "by processors", "no limit"}


def flags() -> dict[str, argparse.Action]:
    (commands,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    actions = commands.choices["serve"]._actions
    return {a.option_strings[-1]: a for a in actions if a.option_strings and "--help" not in a.option_strings}


def settings() -> list[tuple[str, str, str]]:
    """Every row with a setting: (flag or empty, setting, default)."""
    return [
        (names(flag)[0].split()[0] if flag else "", names(setting)[0], default)
        for flag, setting, default, _ in (row for row in rows(PAGE, "flag") if len(row) == 4)
    ]


def default_of(cell: str) -> Any:
    """Return the default a cell tells of: a number, a text, or None for what a word says."""
    if cell in NOTHING:
        return None
    found = number(cell)
    return names(cell)[0] if found is None else found


def test_every_setting_is_told_with_its_default() -> None:
    fields = [f for kind in PYTHON.values() for f in dataclasses.fields(kind)]
    assert sorted(setting for _, setting, _ in settings()) == sorted(f.name for f in fields)
    told = {(setting, default_of(default)) for _, setting, default in settings()}
    for field in fields:
        expected = None if field.default is False or field.default == () else field.default
        assert (field.name, expected) in told, field.name


def test_every_flag_is_told() -> None:
    told = [names(row[0])[0].split()[0] for row in rows(PAGE, "flag") if row[0]]
    assert sorted(told) == sorted(flags())


@pytest.mark.parametrize(("flag", "setting", "default"), [s for s in settings() if s[0]], ids=lambda v: v)
def test_a_flag_is_its_setting(flag: str, setting: str, default: str) -> None:
    action = flags()[flag]
    assert setting.startswith(action.dest), f"{flag} is not {setting}"
    if action.default not in (None, False, []):
        assert action.default == default_of(default)


def test_a_flag_takes_what_the_page_says() -> None:
    for row in rows(PAGE, "flag"):
        if not row[0]:
            continue
        flag, *takes = names(row[0])[0].split()
        action = flags()[flag]
        if action.nargs == 0:
            assert not takes, flag
        elif action.choices:
            assert takes == ["|".join(action.choices)], flag
        else:
            assert takes == [action.metavar or "ADDRESS"], flag
