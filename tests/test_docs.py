"""The documentation is true: the site builds strictly, and what it tells to run, runs."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/pages").glob("*.md"))]
PAGE_OF = {"sample": "sampling"}  # sample.md is about the sample scene
FENCE = re.compile(
    r'^```(console|python)(?: title="exit status (\d+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL
)


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Language, exit status where it is not 0, and text of each block that can be run."""
    return FENCE.findall(page.read_text(encoding="utf-8"))


@pytest.fixture
def beside_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "docs/sample", tmp_path / "docs/sample")
    shutil.copytree(ROOT / "recipes/smoke", tmp_path / "recipes/smoke")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda page: page.stem)
def test_what_a_page_tells_to_run_runs(page: Path, beside_the_sample: Path) -> None:
    names: dict[str, Any] = {}
    for language, status, text in blocks(page):
        if language == "python":
            exec(compile(text, str(page), "exec"), names)  # noqa: S102  (our own page)
            continue
        commands = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
        assert commands, f"a console block of {page.name} holds no command"
        for command in commands:
            program, *arguments = shlex.split(command)
            assert program == "geoseg"
            done = subprocess.run(
                [sys.executable, "-W", "error", "-m", "geoseg.cli", *arguments],
                capture_output=True, check=False, text=True,
            )  # fmt: skip
            assert done.returncode == int(status or 0), f"{command}: {done.stderr}"


def test_every_page_that_should_has_something_to_run() -> None:
    runnable = {page.stem for page in PAGES if blocks(page)}
    assert {"README", "index", "predict", "models", "info", "bundle"} <= runnable


def test_every_key_of_a_job_has_its_place() -> None:
    from geoseg.jobs.job_file import job_schema

    page = (ROOT / "docs/pages/job.md").read_text(encoding="utf-8")
    assert [key for key in job_schema()["properties"] if f"`{key}`" not in page] == []


def test_every_verb_and_option_has_its_place() -> None:
    from geoseg.cli import cli

    for name, command in cli.commands.items():
        page = (ROOT / f"docs/pages/{PAGE_OF.get(name, name)}.md").read_text(encoding="utf-8")
        below = list(command.commands.values()) if isinstance(command, click.Group) else []
        for parameter in (each for one in (command, *below) for each in one.params):
            if parameter.param_type_name == "option":
                assert f"`{parameter.opts[-1]}" in page, f"{name}.md lacks {parameter.opts[-1]}"


@pytest.mark.filterwarnings("ignore")  # of the site's builder, which runs in a process of its own
def test_the_site_builds_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the site's builder is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet",
         "-f", ROOT / "docs/mkdocs.yml", "-d", tmp_path / "site"],
        capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site/reference/index.html").read_text(encoding="utf-8")
    assert 'id="geoseg.prediction.predict"' in reference
    assert (tmp_path / "site/images/raleigh_preview.png").is_file()
