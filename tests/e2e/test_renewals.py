"""What the doctor finds in the files of the real certbot."""

from __future__ import annotations

import json

from lab import doctor
from lab.certbot import Certbot
from lab.dns import dns
from tests.e2e.conftest import Internet

NAMES = ("four.example.com", "both.example.com")
OPTIONS = ("--deploy-hook", "true now", "--preferred-challenges", "http", "--standalone-nfq-capture", "iptables-nft")


def test_what_certbot_will_renew_is_examined(everybody: Internet, certbot: Certbot) -> None:
    server = everybody.server
    result = certbot.certonly(*NAMES, options=OPTIONS)
    assert result.returncode == 0, result.stdout
    with dns(server) as named:
        for name in NAMES:
            named.address(name, server.ipv4)
        process, _ = doctor.run(server, "--renewals", "--config-dir", str(certbot.configuration), "--json")
    report = json.loads(process.stdout)
    doctor.validate(report)
    (certificate,) = report["certificates"]
    assert (certificate["name"], certificate["problem"]) == (NAMES[0], None)
    assert sorted(certificate["names"]) == sorted(NAMES)
    assert certificate["days_left"] > 1
    assert (certificate["overdue"], certificate["automatic"]) == (False, True)
    assert (certificate["authenticator"], certificate["installer"]) == ("standalone-nfq", None)
    assert certificate["hooks"] == ["true now"]
    (need,) = certificate["needs"]
    assert (need["challenge"], need["port"], need["capture"]) == ("http-01", 80, "iptables-nft")
    found = doctor.Report(process.returncode, report["findings"], 0)
    assert "iptables-nft, as it was asked for" in found.seen("capture", "pass")
    assert "a challenge was answered" in found.seen("self-test", "pass")
    for name in NAMES:
        assert f"{name} has A {server.ipv4}, an address of this machine" in found.seen("name", "pass")
    assert process.returncode == 0
