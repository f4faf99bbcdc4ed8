"""The pages people read, and the commands in them."""

import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorials" / "your-own-csv.md"
FENCE = "```"


@dataclass(frozen=True, slots=True)
class Command:
    """One line of an `sh` block."""

    page: Path
    number: int
    text: str

    @property
    def stages(self) -> list[list[str]]:
        """Its words, stage by stage of a pipe."""
        return [shlex.split(stage) for stage in self.text.split(" | ")]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.number}: {self.text}"


def markdown() -> list[Path]:
    """Return every page that is, or is about to be, in the repository."""
    listed = _said("git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md")
    assert listed.returncode == 0, listed.stderr
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).exists()]


def commands(page: Path) -> Iterator[Command]:
    """Yield the commands of a page's `sh` blocks; a block of another kind is only shown."""
    inside = False
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if line.startswith(FENCE):
            inside = line == f"{FENCE}sh"
        elif inside and (text := line.partition(" #")[0].strip()):
            yield Command(page, number, text)


def recipe(target: str) -> list[str]:
    """Return what a make target runs in the end; fails when there is no such target.

    What make would install before is left out: the tests run in what was installed.
    """
    listed = _said("make", "--no-print-directory", "-n", target)
    assert listed.returncode == 0, f"make {target}: {listed.stderr}"
    return shlex.split(listed.stdout.strip().splitlines()[-1])


def _said(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
