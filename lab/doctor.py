"""The doctor, run as users run it: as a program."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from lab.hosts import Host

Found = dict[str, str]
NAME = "www.example.com"
_SCHEMA = Path(__file__).parent.parent / "docs" / "doctor.schema.json"


@dataclass
class Report:
    """What a run of the doctor came to."""

    status: int
    findings: list[Found]
    seconds: float
    marker: str = ""
    """What is in the environment of all processes of the run."""

    def survivors(self) -> list[int]:
        """Return the processes of the run that are there still."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.marker.encode() in (process / "environ").read_bytes():
                    found.append(int(process.name))
        return found

    def seen(self, check: str, status: str = "") -> str:
        """Return what a check saw, with the cures, of all its findings or of those of a status."""
        return "\n".join(
            f"{found['seen']} {found['cure']}".strip()
            for found in self.findings
            if found["check"] == check and status in ("", found["status"])
        )

    @property
    def bad(self) -> list[str]:
        """The findings that are no pass."""
        return [
            f"{found['status']} {found['check']}: {found['seen']}"
            for found in self.findings
            if found["status"] != "pass"
        ]


def run(
    host: Host, *arguments: str, wrapper: tuple[str, ...] = (), path: str = "", marker: str = ""
) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run the doctor on a host; return the finished process and the seconds it took."""
    environment = {**os.environ, "PATH": path or f"{os.environ['PATH']}:/usr/sbin:/sbin", "NFQ_RUN": marker}
    command = host.command(*wrapper, sys.executable, "-m", "certbot_standalone_nfq", "doctor", *arguments)
    begin = time.monotonic()
    process = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)
    return process, time.monotonic() - begin


def examine(host: Host, *arguments: str, wrapper: tuple[str, ...] = (), path: str = "") -> Report:
    """Run the doctor on a host and read its report."""
    marker = secrets.token_hex(16)
    process, seconds = run(host, "--json", *arguments, wrapper=wrapper, path=path, marker=marker)
    if process.stderr or process.returncode not in (0, 1):
        raise RuntimeError(f"status {process.returncode}: {process.stderr}")
    report = json.loads(process.stdout)
    validate(report)
    return Report(process.returncode, report["findings"], seconds, marker)


def validate(report: Any) -> None:
    """Check that what is printed for programs is as users are told, and nothing more."""
    schema = json.loads(_SCHEMA.read_text())
    need = schema["$defs"]["certificate"]["properties"]["needs"]["items"]
    for each in (schema, *schema["$defs"].values(), need):
        if "properties" in each:
            each["additionalProperties"] = False
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(report)
