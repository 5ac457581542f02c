"""The command `doctor`: what evalrun finds on this machine. No network, and never the value of a secret."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import typer

from evalrunner.cli import options
from evalrunner.errors import SuiteError

EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "hf": ("huggingface_hub", "pyarrow"),
    "local": ("xllamacpp", "alt-profanity-check"),
    "litellm": ("litellm",),
    "mlflow": ("mlflow",),
    "parquet": ("pyarrow",),
    "png": ("resvg-py",),
    "readability": ("textstat",),
    "text": ("rouge-score", "sacrebleu"),
    "toxicity-hf": ("transformers", "torch"),
    "xlsx": ("openpyxl",),
    "zstd": ("zstandard",),
}
"""The packages of each extra whose versions are shown. `torch` is installed by the user."""
TRANSPORTS: Final = ("pyreqwest", "httpx")
PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
ENV_FILES: Final = (".env", "evals/.env", "suites/.env")


def doctor(json: options.Json = False) -> None:
    """Show version, extras, keys, proxies and folders.

    Contacts no host and prints no key: variables are listed by name. Exits with 2 if a folder that a run needs cannot be
    written to or a .env file is wrong, else with 0.
    """
    from evalrunner.formatting import escape_controls, for_log, json_for_log

    found = findings()
    if json:
        typer.echo(json_for_log(found))
    else:
        for line in _lines(found):
            typer.echo(for_log(escape_controls(line)))
    raise typer.Exit(2 if found["problems"] else 0)


def findings() -> dict[str, Any]:
    """Everything that `doctor` shows, as JSON data. Sizes are in bytes."""
    from evalrunner import __version__
    from evalrunner.endpoints.local import weights_path
    from evalrunner.storage import cache_folder

    cache, weights = cache_folder(), weights_path()
    folders = {"runs": _folder(Path("runs")), "cache": _folder(cache)}
    advice = "choose another folder with --output-dir or EVALRUN_CACHE_DIR"
    problems = [
        f"{name}: {folder['path']} cannot be written to; {advice}"
        for name, folder in folders.items()
        if not folder["writable"]
    ]
    file_keys: dict[str, list[str]] = {}
    for name in ENV_FILES:
        if Path(name).is_file():
            file_keys[name], wrong = _keys_in_file(Path(name))
            problems += wrong
    return {
        "version": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "transports": {name: _version(name) for name in TRANSPORTS},
        "extras": {extra: {name: _version(name) for name in names} for extra, names in EXTRAS.items()},
        "keys": sorted(_keys(os.environ)),
        "proxies": dict(_proxies(os.environ)),
        "env_files": list(file_keys),
        "env_file_keys": file_keys,
        "folders": folders,
        "cache_size": _size(cache),
        "weights": {"path": str(weights), "downloaded": weights.is_file()},
        "terminal": _terminal(),
        "problems": problems,
    }


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    from evalrunner.formatting import size

    yield f"evalrunner {found['version']}, Python {found['python']} ({found['executable']})"
    yield f"system       {found['platform']}"
    yield f"transports   {', '.join(_with_versions(found['transports']))}"
    yield "extras"
    for extra, packages in found["extras"].items():
        have = ", ".join(_with_versions(packages))
        yield f"  {extra:<13}{have or f'not installed: pip install {chr(39)}evalrunner[{extra}]{chr(39)}'}"
    yield f"keys set     {', '.join(found['keys']) or 'none'}"
    files = [f"{name} ({', '.join(names) or 'no key'})" for name, names in found["env_file_keys"].items()]
    yield f".env files   {', '.join(files) or 'none'}"
    proxies = [f"{name} {address}" for name, address in found["proxies"].items()]
    yield f"proxies      {', '.join(proxies) or 'none'}"
    for name, folder in found["folders"].items():
        state = "writable" if folder["writable"] else "not writable"
        extra = f", {size(found['cache_size'])}" if name == "cache" else ""
        yield f"{name:<13}{folder['path']} ({state}{extra})"
    state = "downloaded" if found["weights"]["downloaded"] else "not downloaded (93 MB, at the first use)"
    yield f"local model  {state}"
    shown = found["terminal"]
    kind = f"{shown['columns']} columns" if shown["is_terminal"] else "output is not a terminal"
    colors = "colors" if shown["colors"] else "no colors"
    yield f"terminal     {kind}, {colors}, {shown['encoding']}"
    for problem in found["problems"]:
        yield f"problem: {problem}"


def _with_versions(packages: Mapping[str, str | None]) -> list[str]:
    return [f"{name} {version}" for name, version in packages.items() if version is not None]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _keys(environ: Mapping[str, str]) -> set[str]:
    """The names of variables with the API keys of providers and of trackers."""
    from evalrunner.suite.environment import PROVIDER_KEYS

    known = {name for names in PROVIDER_KEYS.values() for name in names}
    return {name for name, value in environ.items() if value and (name in known or name.upper().endswith("_API_KEY"))}


def _keys_in_file(path: Path) -> tuple[list[str], list[str]]:
    """The names of the keys in a `.env` file, and what is wrong with the file."""
    from evalrunner.suite.environment import suite_environment
    from evalrunner.suite.options import RunOptions

    try:
        variables = suite_environment(path.parent, RunOptions(env_files=[str(path)]))
    except SuiteError as wrong:
        return [], list(map(str, wrong.problems)) or [str(wrong)]
    return sorted(_keys({name: value for file in variables.files for name, value in file.values.items()})), []


def _proxies(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Variables of proxies with their addresses, without logins."""
    from evalrunner.redact import redact, register_environment
    from evalrunner.secret_names import LOGIN

    register_environment(environ)
    for name, value in sorted(environ.items()):
        if name.upper() in PROXIES and value:
            address = LOGIN.sub("://", value) if "://" in value else value.rpartition("@")[2]
            yield name, redact(address)


def _folder(path: Path) -> dict[str, Any]:
    """A folder and whether it, or the nearest folder above that exists, can be written to. Nothing is left behind."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            writable = True
    except OSError:
        writable = False
    return {"path": str(path), "writable": writable}


def _size(folder: Path) -> int:
    """The bytes of all files below a folder."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).stat().st_size
            except OSError:
                continue
    return total


def _terminal() -> dict[str, Any]:
    """Width, colors and encoding of standard output."""
    is_terminal = sys.stdout.isatty()
    return {
        "is_terminal": is_terminal,
        "columns": shutil.get_terminal_size().columns,
        "colors": is_terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") not in (None, "dumb"),
        "encoding": sys.stdout.encoding,
    }
