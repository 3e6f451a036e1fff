"""The options: defined once, and the same wherever they are shown."""

from __future__ import annotations

import argparse
import textwrap

import pytest

import certbot_standalone_nfq
from certbot_standalone_nfq import errors
from certbot_standalone_nfq.authenticator import Authenticator
from certbot_standalone_nfq.capture.nfqueue.allocation import Selection
from certbot_standalone_nfq.settings import AUTO, OPTIONS, SELECTIONS, Option, Settings


def described(option: Option) -> str:
    """Return an option as the package's docstring describes it."""
    value = "|".join(option.choices) or option.metavar
    head = f"``--standalone-nfq-{option.name}{' ' * bool(value)}{value}``"
    return f"{head}\n{textwrap.fill(option.help, 120, initial_indent='    ', subsequent_indent='    ')}\n"


def test_the_package_describes_all_options_in_the_words_of_the_help() -> None:
    assert certbot_standalone_nfq.__doc__
    assert "".join(map(described, OPTIONS)) in certbot_standalone_nfq.__doc__


def test_without_options_everything_has_the_default_of_settings() -> None:
    parser = argparse.ArgumentParser()
    Authenticator.inject_parser_options(parser, "standalone-nfq")
    parsed = vars(parser.parse_args([]))
    chosen = Settings.chosen(80, None, lambda name: parsed[f"standalone_nfq_{name.replace('-', '_')}"])
    assert chosen == Settings()


def test_each_value_that_can_be_chosen_is_there() -> None:
    assert tuple(selection.value for selection in Selection) == SELECTIONS


@pytest.mark.parametrize("mask", [0x3, 0xC0000000, 0x80000001])
def test_any_two_of_32_bits_can_be_chosen(mask: int) -> None:
    values = {"mark": mask, "capture": AUTO}
    assert Settings.chosen(80, "", values.get).mark == mask


@pytest.mark.parametrize("mask", [-3, 0, 1, 7, 0x1_8000_0000])
def test_any_other_mask_is_refused(mask: int) -> None:
    with pytest.raises(errors.BadOption, match="Give a mask of exactly two of 32 bits"):
        Settings.chosen(80, "", {"mark": mask}.get)
