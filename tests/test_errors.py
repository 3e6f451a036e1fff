"""Each error says what is wrong and what to do; and no handler of errors takes a signal for one."""

from __future__ import annotations

import ast
import contextlib
import errno
import gc
import inspect
import os
import re
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from certbot_standalone_nfq import errors

PACKAGE = Path(errors.__file__).parent
CURES_BEGIN = re.compile("Allow|Choose|Convert|Find|Give|Install|Load|Reinstall|Report|Run|See|Start|Update|Use|Wait")
ALL_ERRORS: dict[object, list[errors.Error]] = {
    errors.NoFirewallTool: [errors.NoFirewallTool("iptables", "iptables")],
    errors.KernelSupportMissing: [
        errors.KernelSupportMissing("packet queue", "nfnetlink_queue", "CONFIG_NETFILTER_NETLINK_QUEUE", place)
        for place in errors.Place
    ],
    errors.FirewallRefused: [errors.FirewallRefused("iptables-restore", "no")],
    errors.FirewallLockDenied: [errors.FirewallLockDenied("iptables-restore")],
    errors.MarksInUse: [errors.MarksInUse("-A OUTPUT -j CONNMARK --restore-mark")],
    errors.not_linux: [errors.not_linux("darwin")],
    errors.wsl1: [errors.wsl1()],
    errors.not_privileged: [errors.not_privileged("CAP_NET_RAW")],
    errors.may_not_watch: [errors.may_not_watch()],
    errors.root_confined: [errors.root_confined("CAP_NET_RAW", place) for place in errors.Place],
    errors.foreign_network: [errors.foreign_network()],
    errors.socket_refused: [errors.socket_refused("raw", "Operation not permitted")],
    errors.firewall_locked: [errors.firewall_locked("iptables-restore", 10)],
    errors.firewall_hangs: [errors.firewall_hangs("iptables-restore", 30)],
    errors.no_free_queue: [errors.no_free_queue("Queue number 28080 is in use.")],
    errors.mark_in_use: [errors.mark_in_use(0x30000000, "-A INPUT -j MARK")],
    errors.queue_in_use: [errors.queue_in_use(7)],
    errors.invalid_option: [errors.invalid_option("mark", "0x1", "two bits")],
    errors.queue_client_missing: [errors.queue_client_missing()],
    errors.package_unusable: [errors.package_unusable("scapy", "it is not installed")],
    errors.system_refused: [
        errors.system_refused(words)
        for words in ("can't start new thread", "no such luck", *map(os.strerror, (errno.EMFILE, errno.ENOMEM)))
    ],
    errors.not_inherited: [errors.not_inherited()],
    errors.unexpected: [errors.unexpected(OSError("no such luck"))],
}


@pytest.mark.parametrize("made", ALL_ERRORS.values(), ids=[getattr(maker, "__name__", "") for maker in ALL_ERRORS])
def test_every_error_is_a_sentence_of_cause_and_one_of_cure(made: list[errors.Error]) -> None:
    for error in made:
        assert re.fullmatch(r"[A-Zin-][^\n]+[.]", error.cause), error.cause
        assert ".." not in error.cause
        assert CURES_BEGIN.fullmatch(error.cure.split()[0])
        assert error.cure.endswith((".", "'."))
        assert str(error) == f"{error.cause} {error.cure}"


def test_no_error_is_forgotten_above() -> None:
    """Neither one that a function returns, nor a class that says in its constructor what is wrong."""
    mine = [each for each in vars(errors).values() if getattr(each, "__module__", "") == errors.__name__]
    functions = {each for each in mine if inspect.isfunction(each) and hasattr(errors, each.__annotations__["return"])}
    classes = {
        each for each in mine if inspect.isclass(each) and issubclass(each, errors.Error) and "__init__" in vars(each)
    }
    assert set(ALL_ERRORS) == functions | classes - {errors.Error}


@pytest.fixture
def signal(monkeypatch: pytest.MonkeyPatch) -> type[Exception]:
    """A class of exceptions that end the program, for this test alone."""

    class Signal(Exception):
        """Raised wherever the program is."""

    monkeypatch.setattr(errors, "interruptions", [Signal])
    return Signal


def test_an_interruption_is_raised_again_and_nothing_else_is(signal: type[Exception]) -> None:
    errors.raise_interruption(ValueError())
    errors.raise_interruption(SystemExit())
    with pytest.raises(signal):
        errors.raise_interruption(signal())


def test_an_interruption_that_is_raised_again_keeps_nothing_open(signal: type[Exception]) -> None:
    """Whatever the interrupted code had just opened, and had not yet noted, is closed as soon as it is dropped."""
    opened: list[weakref.ref[set[int]]] = []

    def interrupted() -> None:
        just_opened = {1}
        opened.append(weakref.ref(just_opened))
        raise signal

    gc.disable()
    try:
        with contextlib.suppress(signal):
            try:
                interrupted()
            except Exception as error:
                errors.raise_interruption(error)
        assert opened[0]() is None
    finally:
        gc.enable()


def broad_handlers() -> Iterator[tuple[str, ast.ExceptHandler]]:
    """Yield all handlers in the package that catch every Exception, and where each is."""
    for source in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ExceptHandler) and is_broad(node.type):
                yield f"{source.relative_to(PACKAGE)}:{node.lineno}", node


def is_broad(kind: ast.expr | None) -> bool:
    names = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(name is None or ast.unparse(name) in ("Exception", "BaseException") for name in names)


HANDLERS = dict(broad_handlers())


@pytest.mark.parametrize("where", HANDLERS)
def test_whatever_handles_every_exception_lets_interruptions_through(where: str) -> None:
    """First of all, or as it raises whatever it was again in the end."""
    handler = HANDLERS[where]
    first, last = handler.body[0], handler.body[-1]
    lets_through = ast.unparse(first) == f"errors.raise_interruption({handler.name})"
    raises_again = isinstance(last, ast.Raise) and last.exc is None
    assert lets_through or raises_again


def test_the_handlers_of_every_exception_are_found() -> None:
    assert len(HANDLERS) > 10
    assert any(where.startswith("authenticator.py") for where in HANDLERS)


def test_no_exception_at_all_is_suppressed_unseen() -> None:
    for source in PACKAGE.rglob("*.py"):
        assert not re.search(r"suppress\((Base)?Exception", source.read_text()), source
