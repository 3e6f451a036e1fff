"""Certbot beside a service that answers any token of another account, for the same names."""

from __future__ import annotations

import pytest

from lab.answerer import THUMBPRINT, answerer
from lab.certbot import Certbot
from lab.interceptor import BY_RULES, EBPF
from tests.e2e.conftest import Internet

NAMES = ("four.example.com", "six.example.com")


@pytest.mark.parametrize("variant", [BY_RULES, *EBPF])
def test_certbot_answers_for_its_own_tokens(everybody: Internet, certbot: Certbot, variant: str) -> None:
    arguments = ("--thumbprint", THUMBPRINT, "--capture", variant)
    with answerer(everybody.server, *NAMES, arguments=arguments) as running:
        result = certbot.certonly(*NAMES)
        assert result.returncode == 0, result.stdout
        assert running.answered == []
    if variant in EBPF:
        assert "captured by ebpf, as a service on this machine answers any token ahead of rules" in certbot.log
