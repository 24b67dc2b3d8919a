"""The pages and the code say the same: links lead somewhere, the commands' options are those of the parser."""

import argparse
import re
from pathlib import Path

import pytest

from foretell.cli.main import _parser

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(found.choices)


@pytest.mark.parametrize("name", ["predict", "convert", "inspect", "check", "serve", "bench"])
def test_options_are_those_of_the_parser(name: str) -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    (usage,) = re.findall(rf"^    foretell {name} (.*(?:\n        .*)*)$", page, re.MULTILINE)
    written = set(re.findall(r"--?[a-z][a-z-]*", usage))
    options = [a.option_strings for a in commands()[name]._actions if a.option_strings]
    known = {o for strings in options for o in strings} - {"-h", "--help", "--debug"}
    assert written <= known
    for strings in options:
        if not set(strings) & {"--help", "--debug"}:
            assert set(strings) & written, f"{strings} is not in the usage of {name}"


def test_exit_codes_are_written_down() -> None:
    from foretell.cli.main import _CODES

    page = (ROOT / "docs" / "commands.md").read_text()
    for code in {code for _, code in _CODES} | {0}:
        assert f"| {code} |" in page
