"""Somebody who has nothing to do with it: a long download and a long upload, octet for octet."""

from __future__ import annotations

import hashlib
import os
import socket
import threading

from lab.hosts import Host
from lab.http import CLOSE, read_all
from lab.nginx import Nginx

MEBIBYTES = int(os.environ.get("NFQ_MEBIBYTES", "100"))
_MEBIBYTE = 1 << 20


def offer(nginx: Nginx, mebibytes: int = MEBIBYTES) -> str:
    """Put a large file of noise on a server's site; return its hash."""
    noise = os.urandom(_MEBIBYTE)
    digest = hashlib.sha256()
    with (nginx.folder / "site" / "large").open("wb") as file:
        for number in range(mebibytes):
            block = number.to_bytes(4, "big") + noise[4:]
            file.write(block)
            digest.update(block)
    return digest.hexdigest()


class Bystander(threading.Thread):
    """Downloads the large file, then uploads it; `failure` says what went wrong, if anything did."""

    def __init__(
        self, client: Host, address: str, source: str, nginx: Nginx, digest: str, patience: float = 15
    ) -> None:
        super().__init__(name="bystander")
        self._client, self._address, self._source, self._patience = client, address, source, patience
        self._nginx, self._digest = nginx, digest
        self.failure = ""

    def run(self) -> None:
        """Do both, one after the other."""
        try:
            if self._download() != self._digest:
                self.failure = "the download's hash is another"
            if self._upload() != self._digest:
                self.failure = "the upload's hash is another"
        except Exception as error:
            self.failure = repr(error)

    def _connect(self) -> socket.socket:
        return self._client.connect(self._address, source=self._source, timeout=self._patience)

    def _download(self) -> str:
        digest = hashlib.sha256()
        with self._connect() as connection:
            connection.sendall(f"GET /large HTTP/1.1\r\n{CLOSE}\r\n".encode())
            head, _, begin = connection.recv(1 << 16).partition(b"\r\n\r\n")
            assert b" 200 " in head
            digest.update(begin)
            while octets := connection.recv(1 << 20):
                digest.update(octets)
        return digest.hexdigest()

    def _upload(self) -> str:
        folder = self._nginx.folder / "body"
        before = set(folder.iterdir())
        with (
            self._connect() as connection,
            (self._nginx.folder / "site" / "large").open("rb") as file,
        ):
            length = os.fstat(file.fileno()).st_size
            connection.sendall(f"POST /upload HTTP/1.1\r\nContent-Length: {length}\r\n{CLOSE}\r\n".encode())
            connection.sendfile(file)
            head = read_all(connection)
            assert b" 20" in head.split(b"\r\n")[0], head
        (uploaded,) = set(folder.iterdir()) - before
        with uploaded.open("rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        uploaded.unlink()
        return digest
