"""Check the inputs before anything is installed, and say where pip caches and under which key."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from workflow import read_flag, read_input, read_words, refuse, suite_files, write_output

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
FAIL_ON = ("fail", "untrusted", "inconclusive")


def main() -> None:
    """Raise SystemExit with 2 for the first wrong input; else set the outputs of the step."""
    if not suite_files():
        refuse("suites is empty; name suite files, such as suites/*.yaml")
    read_words("args")
    for flag in ("untrusted", "comment", "cache"):
        read_flag(flag)
    if (fail_on := read_input("fail-on")) not in FAIL_ON:
        refuse(f"fail-on should be fail, untrusted or inconclusive, not {fail_on!r}")
    if (baseline := read_input("baseline")) and not NAME.fullmatch(baseline):
        refuse(f"baseline should be a name such as main, not {baseline!r}")
    if sys.version_info < (3, 11):  # noqa: UP036  the job's own Python may be older than what evalrun supports
        refuse(f"evalrun needs Python 3.11 or newer; this is {sys.version.split()[0]}. Set python-version")
    pip = subprocess.run(
        [sys.executable, "-P", "-m", "pip", "cache", "dir"], capture_output=True, text=True, check=False
    )
    write_output("pip-cache", pip.stdout.strip() if pip.returncode == 0 else "")
    write_output("pip-key", pip_key())


def pip_key() -> str:
    """What installed packages depend on: the requirements of evalrun, the extras, Python and the machine."""
    requirements = (Path(os.environ["ACTION_PATH"]) / "pyproject.toml").read_bytes()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(b"\0".join([requirements, read_input("extras").encode()])).hexdigest()[:16]
    return f"evalrun-pip-{sys.platform}-{os.environ.get('RUNNER_ARCH', '')}-{version}-{digest}"


if __name__ == "__main__":
    main()
