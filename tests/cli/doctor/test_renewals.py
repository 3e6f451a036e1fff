"""What the doctor says of Certbot's certificates, by files as Certbot writes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from certbot_standalone_nfq.cli.doctor import renewals
from certbot_standalone_nfq.cli.doctor.finding import Finding, Status
from certbot_standalone_nfq.cli.doctor.need import Need
from certbot_standalone_nfq.cli.main import main
from lab.doctor import validate
from lab.lineages import DAY, certificate, write

pytestmark = pytest.mark.anywhere

NOW = datetime(2026, 11, 26, 12, tzinfo=timezone.utc)
NAMES = ("www.example.com", "example.com")
HOOKED = "authenticator = standalone-nfq\nrenew_hook = true"


def valid(left: timedelta, lifetime: timedelta = 90 * DAY, names: tuple[str, ...] = NAMES) -> bytes:
    """Return a certificate that is valid for some time."""
    return certificate(names, NOW + left - lifetime, NOW + left)


def look(folder: Path) -> list[renewals.Renewal]:
    return renewals.renewals(folder, NOW)


def found(folder: Path) -> list[Finding]:
    return [finding for renewal in look(folder) for finding in renewals.findings(renewal)]


def the(folder: Path) -> Finding:
    (finding,) = found(folder)
    return finding


def test_what_is_renewed_in_time_passes_with_all_there_is_to_know(tmp_path: Path) -> None:
    write(tmp_path, "example.com", valid(61 * DAY), HOOKED)
    assert the(tmp_path) == Finding(
        "renewal",
        Status.PASS,
        "example.com: valid for 61 days; renewed by standalone-nfq (http-01 on port 80); "
        "for www.example.com, example.com; then runs true.",
    )


@pytest.mark.parametrize(
    ("lifetime", "due"),
    [(90 * DAY, 22.5 * DAY), (45 * DAY, 11.25 * DAY), (6 * DAY, 2.25 * DAY), (398 * DAY, 99.5 * DAY)],
)
def test_it_warns_once_a_quarter_of_the_time_for_renewing_is_gone(
    tmp_path: Path, lifetime: timedelta, due: timedelta
) -> None:
    write(tmp_path, "early", valid(due + timedelta(hours=1), lifetime), HOOKED)
    write(tmp_path, "late", valid(due, lifetime), HOOKED)
    early, late = found(tmp_path)
    assert early.status is Status.PASS
    assert late.status is Status.WARN
    assert late.cure.startswith("Certbot should have renewed it. Run 'certbot renew --cert-name late'")


@pytest.mark.parametrize(
    ("interval", "status"),
    [("8 days", Status.PASS), ("8", Status.PASS), ("20 days", Status.WARN), ("3 weeks", Status.PASS)],
)
def test_an_interval_of_the_administrators_own_counts(tmp_path: Path, interval: str, status: Status) -> None:
    write(tmp_path, "example.com", valid(12 * DAY), HOOKED, above=f"renew_before_expiry = {interval}\n")
    assert the(tmp_path).status is status


def test_what_has_expired_fails(tmp_path: Path) -> None:
    write(tmp_path, "example.com", valid(-4 * DAY), HOOKED)
    assert the(tmp_path).status is Status.FAIL
    assert the(tmp_path).seen.startswith("example.com: expired 4 days ago; ")


def test_what_is_valid_for_a_short_time_is_told_in_hours(tmp_path: Path) -> None:
    write(tmp_path, "example.com", valid(timedelta(hours=50), 6 * DAY), HOOKED)
    write(tmp_path, "example.net", valid(timedelta(hours=1), 6 * DAY), HOOKED)
    assert [finding.seen.partition(";")[0] for finding in found(tmp_path)] == [
        "example.com: valid for 50 hours",
        "example.net: valid for 1 hour",
    ]


def test_what_is_not_renewed_automatically_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "example.com", valid(61 * DAY), f"{HOOKED}\nautorenew = False")
    assert the(tmp_path).status is Status.WARN
    assert "not renewed automatically" in the(tmp_path).seen


def test_without_a_deploy_hook_it_warns_that_servers_keep_the_old_certificate(tmp_path: Path) -> None:
    write(tmp_path, "example.com", valid(61 * DAY))
    state, hook = found(tmp_path)
    assert state.status is Status.PASS
    assert hook.status is Status.WARN
    assert hook.seen == "example.com: there is no deploy hook, so that servers keep the old certificate."
    assert f"{tmp_path}/renewal-hooks/deploy" in hook.cure


@pytest.mark.parametrize(
    "options",
    [
        HOOKED,
        "authenticator = a\ndeploy_hook = true",
        "authenticator = webroot\npost_hook = true",
        "authenticator = nginx\ninstaller = nginx",
    ],
)
def test_what_reloads_the_server_by_other_means_needs_no_deploy_hook(tmp_path: Path, options: str) -> None:
    write(tmp_path, "example.com", valid(61 * DAY), options)
    assert the(tmp_path).status is Status.PASS


def test_a_hook_for_all_certificates_is_one_if_it_can_be_executed(tmp_path: Path) -> None:
    write(tmp_path, "example.com", valid(61 * DAY))
    hook = tmp_path / "renewal-hooks" / "deploy" / "reload"
    hook.parent.mkdir(parents=True)
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o644)
    assert found(tmp_path)[1].status is Status.WARN
    hook.chmod(0o755)
    assert the(tmp_path).seen.endswith(f"then runs {hook}.")


@pytest.mark.parametrize("kind", ["pre_hook", "post_hook", "renew_hook"])
def test_a_hook_that_certbot_will_not_find_fails_as_it_refuses_to_renew(tmp_path: Path, kind: str) -> None:
    options = {"authenticator": "standalone-nfq", "renew_hook": "true", kind: "no-such-program now"}
    write(tmp_path, "example.com", valid(61 * DAY), "\n".join(f"{name} = {options[name]}" for name in options))
    assert "a hook's program is not found: no-such-program." in found(tmp_path)[1].seen
    assert found(tmp_path)[1].status is Status.FAIL


def test_options_for_every_run_win_over_renewal_files(tmp_path: Path) -> None:
    write(tmp_path, "example.com", valid(61 * DAY), "authenticator = webroot")
    (tmp_path / "cli.ini").write_text(
        "# for all\nauthenticator = standalone-nfq\ndeploy-hook = 'true --all'\nagree-tos\n"
        "preferred-challenges: tls-alpn-01, http\nstandalone-nfq-tls-alpn-01-port 8443\n"
    )
    assert the(tmp_path).seen.endswith("then runs true --all.")
    (renewal,) = look(tmp_path)
    assert renewal.needs == (Need(8443, "tls-alpn-01", NAMES),)


def test_what_a_renewal_needs_depends_on_names_preferences_ports_and_capture(tmp_path: Path) -> None:
    options = f"{HOOKED}\npref_challs = http,\nhttp01_port = 8080\nstandalone_nfq_capture = nftables"
    write(tmp_path, "example.com", valid(61 * DAY, names=("example.com", "*.example.com", "192.0.2.1")), options)
    (renewal,) = look(tmp_path)
    assert renewal.needs == (
        Need(8080, "http-01", ("example.com", "192.0.2.1"), "nftables"),
        Need(53, "dns-01", ("*.example.com",), "nftables"),
    )


def test_other_authenticators_need_nothing_of_this_plugin(tmp_path: Path) -> None:
    write(tmp_path, "example.com", valid(61 * DAY), "authenticator = webroot\nrenew_hook = true")
    (renewal,) = look(tmp_path)
    assert renewal.needs == ()
    assert "renewed by webroot; " in the(tmp_path).seen


def test_needs_on_one_port_are_one() -> None:
    needs = [Need(80, "http-01", ("a", "b")), Need(53, "dns-01", ("*.a",)), Need(80, "http-01", ("b", "c"))]
    assert renewals.merged(needs) == [Need(80, "http-01", ("a", "b", "c")), Need(53, "dns-01", ("*.a",))]


def test_of_many_names_some_are_shown(tmp_path: Path) -> None:
    write(tmp_path, "example.com", valid(61 * DAY, names=tuple(f"{each}.example.com" for each in "abcde")), HOOKED)
    assert "for a.example.com, b.example.com, c.example.com and 2 more;" in the(tmp_path).seen


BROKEN = {
    "nothing": ("", "lacks cert, privkey, chain, fullchain, renewalparams"),
    "no options": ("cert = a\nprivkey = a\nchain = a\nfullchain = a\n", "lacks renewalparams"),
    "options that are no section": (
        "cert = a\nprivkey = a\nchain = a\nfullchain = a\nrenewalparams = a\n",
        "lacks renewalparams",
    ),
    "a section that is no path": ("privkey = a\nchain = a\nfullchain = a\n[cert]\n[renewalparams]\n", "lacks cert"),
    "garbage": ("\x00\x01[[[\n= =\n", ""),
    "no authenticator": (
        "cert = a\nprivkey = a\nchain = a\nfullchain = a\n[renewalparams]\n",
        "names no authenticator",
    ),
    "no certificate": (
        "cert = /none/cert.pem\nprivkey = a\nchain = a\nfullchain = a\n[renewalparams]\nauthenticator = nginx\n",
        "/none/cert.pem: No such file or directory",
    ),
    "a wrong port": (
        "cert = a\nprivkey = a\nchain = a\nfullchain = a\n[renewalparams]\nauthenticator = a\nhttp01_port = many\n",
        "http01_port is no number: many",
    ),
    "no end of a list": ("cert = a\n[renewalparams\n", ""),
    "a value that refers to none": (
        "cert = %(x)s\nprivkey = a\nchain = a\nfullchain = a\n[renewalparams]\nauthenticator = a\n",
        "",
    ),
    "other than text": ("\xff\xfe", ""),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_renewal_file_fails_in_words_and_the_rest_is_shown(tmp_path: Path, kind: str) -> None:
    write(tmp_path, "example.com", valid(61 * DAY), HOOKED)
    content, words = BROKEN[kind]
    (tmp_path / "renewal" / "broken.conf").write_bytes(content.encode("latin-1"))
    broken, good = found(tmp_path)
    assert broken.status is Status.FAIL
    assert broken.seen.startswith("broken: Certbot skips it: ")
    assert words in broken.seen
    assert broken.seen.isprintable()
    assert good.status is Status.PASS


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_certificate_that_is_none_fails_in_words(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, "example.com", content, HOOKED)
    assert the(tmp_path).status is Status.FAIL


def test_a_folder_in_place_of_a_renewal_file_fails_in_words(tmp_path: Path) -> None:
    (tmp_path / "renewal" / "folder.conf").mkdir(parents=True)
    path = f"{tmp_path}/renewal/folder.conf"
    assert the(tmp_path).seen == f'folder: Certbot skips it: {path}: Config file not found: "{path}".'


def test_a_link_that_leads_nowhere_fails_in_words(tmp_path: Path) -> None:
    write(tmp_path, "example.com", valid(61 * DAY), HOOKED)
    (tmp_path / "archive" / "example.com" / "cert1.pem").unlink()
    assert "live/example.com/cert.pem: No such file or directory" in the(tmp_path).seen


def test_nothing_is_changed(tmp_path: Path) -> None:
    write(tmp_path, "example.com", valid(61 * DAY), HOOKED)
    (tmp_path / "live" / "example.com" / "previous_cert.pem").symlink_to("cert.pem")

    def state() -> list[tuple[str, int, int]]:
        paths = sorted(tmp_path.rglob("*"))
        return [(str(path), path.lstat().st_mtime_ns, path.lstat().st_size) for path in paths]

    before = state()
    assert found(tmp_path)
    assert state() == before


def printed(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str) -> tuple[int, Any]:
    """Run the doctor and return its exit status and what it printed for programs."""
    status = main(["doctor", "--renewals", "--json", "--config-dir", str(folder), *arguments])
    report = json.loads(capsys.readouterr().out)
    validate(report)
    return status, report


def now(left: timedelta) -> bytes:
    return certificate(NAMES, datetime.now(timezone.utc) + left - 90 * DAY, datetime.now(timezone.utc) + left)


def test_a_timer_is_told_before_a_certificate_expires(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "authenticator = webroot\nrenew_hook = true"
    write(tmp_path, "good", now(61 * DAY), options)
    assert printed(capsys, tmp_path, "--strict")[0] == 0
    write(tmp_path, "late", now(9 * DAY), options)
    assert printed(capsys, tmp_path)[0] == 0
    status, report = printed(capsys, tmp_path, "--strict")
    assert status == 1
    assert [(each["name"], each["overdue"], round(each["days_left"])) for each in report["certificates"]] == [
        ("good", False, 61),
        ("late", True, 9),
    ]


def test_what_is_broken_is_shown_to_programs_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "renewal").mkdir()
    (tmp_path / "renewal" / "broken.conf").touch()
    status, report = printed(capsys, tmp_path)
    assert status == 1
    (broken,) = report["certificates"]
    assert broken["problem"].endswith("broken.conf lacks cert, privkey, chain, fullchain, renewalparams")
    assert broken["not_after"] is None


def test_those_with_one_of_the_names_given_are_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        write(tmp_path, name, now(61 * DAY), "authenticator = webroot\nrenew_hook = true")
    for given, names in {"one": ["one"], NAMES[0]: ["one", "two"], "three": []}.items():
        _, report = printed(capsys, tmp_path, "-d", given)
        assert [each["name"] for each in report["certificates"]] == names


def test_without_certbots_files_it_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, report = printed(capsys, tmp_path)
    assert status == 0
    assert report["findings"][0]["seen"] == f"There are no files of Certbot's in {tmp_path}: No such file or directory."


def test_without_configobj_it_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "example.com", now(61 * DAY))
    monkeypatch.setitem(sys.modules, "configobj", None)
    status, report = printed(capsys, tmp_path)
    assert status == 1
    assert report["findings"][0]["seen"].startswith("configobj, which reads Certbot's files, cannot be loaded: ")
    assert report["findings"][0]["cure"] == "Install configobj."


@pytest.mark.root
def test_a_user_who_may_not_read_certbots_files_is_told_so_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path, name, now(61 * DAY))
    os.chown(tmp_path / "archive", 65534, 65534)
    (tmp_path / "archive").chmod(0o700)
    command = [sys.executable, "-m", "certbot_standalone_nfq", "doctor", "--renewals", "--config-dir", str(tmp_path)]
    powerless = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    finished = subprocess.run([*powerless, *command], check=False, capture_output=True, text=True)
    assert finished.stdout.splitlines()[0] == "warn  renewal: This user may not read Certbot's files. Run this as root."
    assert finished.stdout.count("renewal:") == 1


def test_challenge_and_port_are_not_the_users_to_choose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--renewals", "--port", "8080"]) == 2
    assert "are those of Certbot's renewal files" in capsys.readouterr().err
