"""A hundred slow clients, as a program of its own: `python -m benchmarks.slow_clients ADDRESS SECONDS`.

Prints requests a second, the median and the 99th percentile of their durations in milliseconds, and the failures.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time

from benchmarks.site import PAGE, PAGE_OCTETS
from benchmarks.table import percentile

_CLIENTS = 100
_CHUNK = 8 << 10
_PAUSE = 0.05
_HEAD = f"GET /{PAGE} HTTP/1.1\r\n", "Host: site\r\n\r\n"


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for piece in _HEAD:
        writer.write(piece.encode())
        await asyncio.sleep(_PAUSE)
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head:
        raise ConnectionError(head.decode())
    for _ in range(PAGE_OCTETS // _CHUNK):
        await reader.readexactly(_CHUNK)
        await asyncio.sleep(_PAUSE)


async def _client(address: str, until: float, durations: list[float], failures: list[str]) -> None:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CHUNK)  # so that the server has to wait for us
    connection.connect((address, 80))
    reader, writer = await asyncio.open_connection(sock=connection, limit=_CHUNK)
    while time.monotonic() < until:
        begin = time.monotonic()
        try:
            await asyncio.wait_for(_ask(reader, writer), 30)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            failures.append(repr(error))
            break
        durations.append((time.monotonic() - begin) * 1000)
    writer.close()


async def _main(address: str, seconds: float) -> None:
    durations: list[float] = []
    failures: list[str] = []
    until = time.monotonic() + seconds
    await asyncio.gather(*(_client(address, until, durations, failures) for _ in range(_CLIENTS)))
    print(len(durations) / seconds, percentile(durations, 50), percentile(durations, 99), len(failures))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], float(sys.argv[2])))
