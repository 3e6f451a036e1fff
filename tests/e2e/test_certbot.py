"""The real certbot, a real authority, a real and busy web server."""

from __future__ import annotations

import ipaddress
import signal
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from scapy.utils import rdpcap

from lab.certbot import Certbot
from lab.interceptor import CLIENTS, EBPF, VARIANTS
from lab.processes import UNMEASURED, running, wait_until
from tests.e2e.conftest import Internet

NAMES = ("four.example.com", "six.example.com", "both.example.com")


def alternative_names(path: Path) -> x509.SubjectAlternativeName:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def serial_number(path: Path) -> int:
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


def test_a_certificate_for_three_names_is_issued_and_renewed(undisturbed: Internet, certbot: Certbot) -> None:
    """One name has an IPv4 address, one an IPv6 address, one both."""
    result = certbot.certonly(*NAMES)
    assert result.returncode == 0, result.stdout
    certificate = certbot.certificate(NAMES[0])
    assert set(alternative_names(certificate).get_values_for_type(x509.DNSName)) == set(NAMES)
    first = serial_number(certificate)
    result = certbot.renew()
    assert result.returncode == 0, result.stdout
    assert serial_number(certificate) != first


@pytest.mark.firewall
@pytest.mark.essential
@pytest.mark.parametrize("variant", [*VARIANTS, *EBPF])
def test_a_certificate_is_issued_over_both_families_by_each_firewall(
    everybody: Internet, certbot: Certbot, variant: str
) -> None:
    """Without a load, which takes an emulated processor for itself."""
    result = certbot.certonly(*NAMES, options=(f"--standalone-nfq-capture={variant}",))
    assert result.returncode == 0, result.stdout
    assert f"Packets to port 80 are captured by {variant}, as it was asked for" in certbot.log


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("client", "selection"), [*((client, "prefilter") for client in CLIENTS), ("netlink", "port")])
def test_options_work_and_are_kept_for_renewal(
    undisturbed: Internet, certbot: Certbot, variant: str, client: str, selection: str
) -> None:
    options = {
        "capture": variant,
        "queue-client": client,
        "queue-num": "4711",
        "mark": "0x6",
        "selection": selection,
    }
    arguments = tuple(f"--standalone-nfq-{name}={value}" for name, value in options.items())
    result = certbot.certonly("four.example.com", options=arguments)
    assert result.returncode == 0, result.stdout
    result = certbot.renew()
    assert result.returncode == 0, result.stdout
    assert (
        f"by {variant}, queue 4711, marks 0x6, selection {selection}"
        in certbot.log.split("Arguments: ['--force-renewal'")[-1]
    )


def test_a_dry_run_changes_nothing_and_succeeds(undisturbed: Internet, certbot: Certbot) -> None:
    result = certbot.certonly("both.example.com", options=("--dry-run",))
    assert result.returncode == 0, result.stdout
    assert "The dry run was successful" in result.stdout
    assert not certbot.certificate("both.example.com").exists()


def test_a_capture_file_holds_whole_connections_in_order(
    undisturbed: Internet, certbot: Certbot, tmp_path: Path
) -> None:
    file = tmp_path / "validation.pcap"
    result = certbot.certonly("four.example.com", options=(f"--standalone-nfq-pcap={file}",))
    assert result.returncode == 0, result.stdout
    connections: dict[int, list[str]] = {}
    for packet in rdpcap(str(file)):
        tcp = packet["TCP"]
        connections.setdefault(tcp.sport if tcp.dport == 80 else tcp.dport, []).append(str(tcp.flags))
    whole = [flags for flags in connections.values() if flags[:4] == ["S", "SA", "PA", "FPA"]]
    assert len(whole) >= 3, connections  # Pebble asks three times


def test_a_validation_that_goes_elsewhere_fails_with_a_hint_and_a_clean_machine(
    undisturbed: Internet, certbot: Certbot
) -> None:
    result = certbot.certonly("elsewhere.example.com", "four.example.com")
    assert result.returncode == 1
    assert "Hint: elsewhere.example.com: no challenge request arrived here. The name resolves to" in result.stdout
    assert "four.example.com:" not in result.stdout.split("Hint:")[1]
    assert "Traceback" not in result.stdout


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_an_address_is_certified(undisturbed: Internet, certbot: Certbot, family: str) -> None:
    """By a request of ours, as Pebble 2.4 writes an address into the subject, which certbot then takes for a name."""
    address = ipaddress.ip_address(getattr(undisturbed.server, family))
    certbot.folder.mkdir()
    signing_request = certbot.folder / "request.pem"
    signing_request.write_bytes(
        x509.CertificateSigningRequestBuilder(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(address)]), critical=True)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    paths = [f"--{name}-path={certbot.folder / name}.pem" for name in ("cert", "chain", "fullchain")]
    result = certbot.run("certonly", "-a", "standalone-nfq", "--csr", str(signing_request), *paths, *certbot.account())
    assert result.returncode == 0, result.stdout
    assert alternative_names(certbot.folder / "cert.pem").get_values_for_type(x509.IPAddress) == [address]


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_certbots_option_for_addresses_gets_a_certificate(undisturbed: Internet, certbot: Certbot, family: str) -> None:
    """Which is saved before Certbot finds fault with the subject that Pebble 2.4 gives it."""
    address = getattr(undisturbed.server, family)
    certbot.run("certonly", "-a", "standalone-nfq", "--ip-address", address, *certbot.account())
    (certificate,) = certbot.folder.glob("config/live/*/cert.pem")
    certified = alternative_names(certificate).get_values_for_type(x509.IPAddress)
    assert certified == [ipaddress.ip_address(address)]
    assert "acme-challenge" not in undisturbed.nginx.access_log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_in_the_middle_leaves_the_machine_clean(
    undisturbed: Internet, certbot: Certbot, number: signal.Signals
) -> None:
    """Challenges wait for a key that nobody presses, until the signal comes."""
    server = undisturbed.server
    before = server.rules()
    pause = ("--debug-challenges", "--force-interactive")
    arguments = ("certonly", "-a", "standalone-nfq", "-d", "four.example.com", *certbot.account(), *pause)
    command = [each for each in certbot.by(*UNMEASURED).command(*arguments) if each != "--non-interactive"]
    silent = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with running(command, **silent) as process:
        wait_until(lambda: "-j NFQUEUE" in server.rules(), "the challenges are pending")
        process.send_signal(number)
        wait_until(lambda: server.rules() == before, "the rules are gone")
        process.wait(30)


def test_listing_plugins_changes_nothing_and_names_ours(undisturbed: Internet, certbot: Certbot) -> None:
    result = certbot.run("plugins", "--prepare", "--authenticators")
    assert result.returncode == 0, result.stdout
    listed = result.stdout.split("* standalone-nfq")[1]
    assert "Prep: True" in listed.split("* webroot")[0]


def test_root_without_its_powers_is_told_what_is_missing(everybody: Internet, certbot: Certbot) -> None:
    command = everybody.server.command("setpriv", "--bounding-set=-net_admin,-net_raw")
    result = subprocess.run(
        [*command, *certbot.command("certonly", "-a", "standalone-nfq", "-d", "x.example.com", *certbot.account())[4:]],
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert "without CAP_NET_ADMIN and CAP_NET_RAW, which root lacks here. Start" in result.stderr + result.stdout
    assert "Traceback" not in result.stderr + result.stdout


def test_the_two_capabilities_suffice(everybody: Internet, certbot: Certbot) -> None:
    """Root, without any other of its powers over the network."""
    command = everybody.server.command("setpriv", "--bounding-set=-all,+net_admin,+net_raw,+dac_override")
    arguments = certbot.command("certonly", "-a", "standalone-nfq", "-d", "both.example.com", *certbot.account())
    result = subprocess.run([*command, *arguments[4:]], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_other_authenticators_work_with_the_plugin_installed(everybody: Internet, certbot: Certbot) -> None:
    site = everybody.nginx.folder / "site"
    result = certbot.run(
        "certonly", "-a", "webroot", "-w", str(site), "-d", "both.example.com", *certbot.account(), "--dry-run"
    )
    assert result.returncode == 0, result.stdout
