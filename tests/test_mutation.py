"""What scripts/mutate changes, and that it tells what the tests notice from what they do not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab.processes import run
from scripts.mutation.__main__ import PURE
from scripts.mutation.equivalent import Entry, entries
from scripts.mutation.mutants import mutants

ROOT = Path(__file__).parent.parent
SMALL = "certbot_standalone_nfq/wire/sequence.py"
SOURCES = {
    str(path.relative_to(ROOT)): path
    for folder in PURE
    for path in (ROOT / "certbot_standalone_nfq" / folder).rglob("*.py")
}


def mutate(*arguments: str, may_fail: bool = False) -> str:
    program = f"import sys; from scripts.mutation.__main__ import main; sys.exit(main() not in (0, {int(may_fail)}))"
    return run([sys.executable, "-c", program, *arguments], cwd=ROOT)


def test_a_change_that_the_tests_notice_is_killed() -> None:
    printed = mutate(SMALL, "--tests", "tests/wire/test_sequence.py")
    assert "| wire | 18 | 1 | 0 | 100.0% |" in printed


def test_a_change_that_the_tests_do_not_notice_is_shown() -> None:
    printed = mutate(SMALL, "--tests", "tests/wire/test_proxy_protocol.py", may_fail=True)
    assert "\n+    return None\n" in printed
    assert "| all | 18 | 1 | 17 | 0.0% |" in printed


@pytest.mark.parametrize(
    ("source", "changed"),
    [
        ("a < b", {"a <= b", "a >= b"}),
        ("(a) == (b)", {"(a) != (b)"}),
        ("a < b is c", {"a <= b is c", "a >= b is c", "a < b is not c"}),
        ("a and b or c", {"True and b or c", "a and True or c", "a and b or False", "False or c"}),
        ("not (a in b)", {"(a in b)", "not (a not in b)"}),
        ("a + b % c", {"a - b % c", "a + b // c"}),
        ("a -= 1", {"a += 1", "a -= 2", "a -= 0", "pass"}),
        ("a = True, 7, 0.5, b'az', 'text', None", {
            "a = False, 7, 0.5, b'az', 'text', None",
            "a = True, 8, 0.5, b'az', 'text', None",
            "a = True, 6, 0.5, b'az', 'text', None",
            "a = True, 7, 1.0, b'az', 'text', None",
            "a = True, 7, 0.25, b'az', 'text', None",
            "a = True, 7, 0.5, b\"`z\", 'text', None",
        }),
        ("a = min(b, c) if d else any(e)", {
            "a = max(b, c) if d else any(e)",
            "a = min(b, c) if not d else any(e)",
            "a = min(b, c) if d else all(e)",
        }),
        ("a = [b for b in c if d()]", {"a = [b for b in c if not d()]"}),
        ("a.b = c", {"pass"}),
        ("a()", {"pass"}),
        ("raise a", {"pass"}),
        ("while a:\n    break", {"while not a:\n    break", "while a:\n    continue"}),
        ("def a():\n    return b", {"def a():\n    return None"}),
        ("def a():\n    return", {"def a():\n    pass"}),
        ("'é' if a else b; c()", {"'é' if not a else b; c()", "'é' if a else b; pass"}),
    ],
)  # fmt: skip
def test_each_change_is_small(source: str, changed: set[str]) -> None:
    assert {mutant.source for mutant in mutants("file.py", source)} == changed


@pytest.mark.parametrize(
    "source",
    [
        "'a docstring'",
        "import a",
        "a: Literal[1]",
        "@a(1)\ndef b(): ...",
        "class A(enum.Enum):\n    B = 1",
        "f'{1:>3}'",
        "a = 0.0",
        "if TYPE_CHECKING: ...",
    ],
)
def test_what_decides_nothing_is_left_as_it_is(source: str) -> None:
    assert mutants("file.py", source) == []


def test_a_mutant_is_known_by_its_function_and_its_lines() -> None:
    (mutant, *_) = mutants("file.py", "class A:\n    def b(self):\n        return 1 < self.c\n")
    entry = Entry.of("file.py A.b\n- return 1 < self.c\n+ return None\n  For\n  a reason.")
    assert entry.reason == "For a reason."
    assert entry.matches(mutant)
    assert not Entry.of("file.py A.c\n- return 1 < self.c\n+ return None\n  No.").matches(mutant)


@pytest.mark.parametrize("paragraph", ["file.py A.b", "file.py A.b\n- a\n+ b", "file.py\n- a\n  Why."])
def test_an_entry_without_its_change_or_its_reason_is_none(paragraph: str) -> None:
    with pytest.raises(ValueError, match="not an entry"):
        Entry.of(paragraph)


def test_each_mutant_that_is_called_equivalent_is_there() -> None:
    made = [mutant for name, path in SOURCES.items() for mutant in mutants(name, path.read_text())]
    for entry in entries():
        assert {mutant.change[1][0] for mutant in made if entry.matches(mutant)} == set(entry.after), entry
