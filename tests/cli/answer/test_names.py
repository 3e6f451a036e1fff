from __future__ import annotations

from pathlib import Path

import pytest

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.cli.answer.names import MAX_NAMES, wanted

A, B = "a" * 43, "b" * 43


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "names"


def test_names_of_the_command_line_have_its_thumbprint() -> None:
    assert wanted(["Example.com", "192.0.2.1", "[2001:DB8::1]"], A, None) == {
        "example.com": A,
        "192.0.2.1": A,
        "2001:db8::1": A,
    }


def test_a_file_has_a_name_and_perhaps_a_thumbprint_on_each_line(file: Path) -> None:
    file.write_text(f"# ours\nexample.com\n\n  other.example {B}  # theirs\nexample.com {A}\n")
    assert wanted(["www.example.com"], A, file) == {"www.example.com": A, "example.com": A, "other.example": B}
    assert wanted([], A, file) == {"example.com": A, "other.example": B}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (f"example.com {A} {A}", "Line 1 of {file} has more than two words."),
        (f"\nexample.com {A}x", "Line 2 of {file} has '" + A + "x', which is no account's thumbprint."),
        ("example.com", "Line 1 of {file} names example.com without a thumbprint."),
        (f"example.com {A}\nEXAMPLE.com {B}", "Line 2 of {file} names EXAMPLE.com with a second thumbprint."),
        (f"*.example.com {A}", "Line 1 of {file} names *.example.com, a wildcard."),
        (f"https://example.com {A}", "Line 1 of {file} names 'https://example.com', which is no domain name."),
        (f"bücher.example {A}", "Line 1 of {file} names 'bücher.example', which is no domain name."),
        ("# nothing", "There is no name to answer for."),
        ("".join(f"n{number}.example {A}\n" for number in range(MAX_NAMES + 1)), f"There are {MAX_NAMES + 1} names."),
        ("#" * (1 << 20) + "\n", "{file} has more than 1048576 characters."),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(file: Path, text: str, cause: str) -> None:
    file.write_text(text)
    with pytest.raises(errors.BadOption) as raised:
        wanted([], "", file)
    assert raised.value.cause == cause.format(file=file)


def test_a_file_that_cannot_be_read_is_named(file: Path) -> None:
    with pytest.raises(errors.BadOption, match="names cannot be read: No such file or directory"):
        wanted([], A, file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(errors.BadOption, match="names cannot be read: 'utf-8' codec"):
        wanted([], A, file)
