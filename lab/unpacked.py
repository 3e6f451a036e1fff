"""Servers as Debian packages them, for a systemd of a test's.

They are unpacked, not installed: Postfix would replace this machine's mail server.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lab.processes import run
from lab.systemd import Systemd
from scripts import packages

_ADD_USER = """\
add_user() {
    echo "$1:x:$2:$2::/nonexistent:/usr/sbin/nologin" >>/etc/passwd
    echo "$1:x:$2:" >>/etc/group
}
"""
_POSTFIX = """\
add_user postfix 990
add_user postdrop 991
cd /usr/share/postfix
cp dynamicmaps.cf makedefs.out /etc/postfix
for file in main master; do cp $file.cf.dist /etc/postfix/$file.cf.proto; done
cp main.cf.debian /etc/postfix/main.cf
cp master.cf.dist /etc/postfix/master.cf
postfix set-permissions
postconf -M 'submissions/inet = submissions inet n - y - - smtpd -o smtpd_tls_wrappermode=yes'
/lib/systemd/system-generators/postfix-instance-generator /etc/systemd/system
"""
_DOVECOT = """\
add_user dovecot 992
add_user dovenull 993
cd /usr/share/dovecot
cp -r dovecot.conf conf.d /etc/dovecot
echo 'protocols = imap' >/etc/dovecot/local.conf
cd /etc/dovecot/private
openssl req -x509 -newkey rsa:2048 -noenc -subj /CN=made-at-installation -keyout dovecot.key -out dovecot.pem
"""
_APACHE = """\
mkdir -p /run/lock
ln -s /run/lock /var
a2enmod -q mpm_event authz_core dir
a2ensite -q 000-default
"""
SERVERS = {
    "apache2": (("apache2",), _APACHE),
    "dovecot": (("dovecot-core", "dovecot-imapd"), _DOVECOT),
    "postfix": (("postfix",), _POSTFIX),
}
"""What each service is of: its packages, and what the scripts of these do at installation."""


def unpack(services: Sequence[str], folder: Path) -> Path:
    """Unpack what services are of, and what that needs and this machine does not have; return where."""
    suite = run(["sh", "-euc", ". /etc/os-release; echo $VERSION_CODENAME"]).strip()
    archive = packages.archive(suite, folder / "apt", installed=Path("/var/lib/dpkg/status"))
    wanted = (package for service in services for package in SERVERS[service][0])
    archive.unpack(archive.missing(*wanted), folder / "unpacked")
    return folder / "unpacked"


def settle(made: Systemd, service: str) -> None:
    """Do what the scripts of its packages do, on a systemd that these are laid over; it is not started."""
    run(made.command("sh", "-euc", _ADD_USER + SERVERS[service][1]))
    for unit in (made.disk / "usr/lib/systemd/system").glob(f"{service}*.service"):
        made.add(unit.name, unit.read_text())
