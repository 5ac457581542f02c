"""The command `init`: ask what is missing, write a suite that runs, and say what was guessed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from evalrunner.errors import SuiteError

IGNORED = "runs/"


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to; created if missing.")] = Path(),
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Your data: CSV, JSON, JSONL or xlsx.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option("--template", metavar="NAME", help="qa, rag, json, classification, compare or ci."),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", metavar="MODEL", help="Model to evaluate; can be repeated.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", metavar="URL", help="OpenAI-compatible server of the model.")
    ] = None,
    key_variable: Annotated[
        str | None, typer.Option("--api-key-env", metavar="NAME", help="Variable with the key of that server.")
    ] = None,
    ci: Annotated[
        Literal["github", "gitlab"] | None, typer.Option("--ci", help="Also write a workflow for CI.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
) -> None:
    """Write a suite that runs at once.

    Asks on a terminal if no option says what to evaluate. With --from, guesses the columns of your data and says so.
    Without --target, uses recorded outputs, the model of an API key that is set, or the embedded model.
    """
    from evalrunner.starter.start import Wish, plan_start

    if key_variable is not None and (base_url is None or not key_variable.isidentifier()):
        raise SuiteError("--api-key-env names a variable, such as LLM_API_KEY, and needs --base-url")
    models, asks = tuple(target or ()), sys.stdin.isatty() and sys.stdout.isatty()
    if asks and source is None and template is None and not models:
        source, template, models, base_url, ci = _ask(ci)
    if template == "ci" and ci is None:
        ci = "github"
    wish = Wish(folder, _repository(Path.cwd()), source, template, models, base_url, key_variable, ci)
    start = plan_start(wish, os.environ)
    _refuse_overwriting(list(start.files), force=force, asks=asks)
    written = _write(start.files, wish.root / ".gitignore")
    for line in start.lines:
        typer.echo(line)
    typer.echo(f"wrote {', '.join(_display(path) for path in written)}")
    typer.echo(f"run it: {start.command}")
    if start.hint:
        typer.echo(start.hint)


def _write(files: Mapping[Path, str], ignore: Path) -> list[Path]:
    """Write the files of a start, and the runs folder into `.gitignore`; the paths written. Raises SuiteError."""
    ignored = _with_ignored(ignore)
    texts = {**files, **({} if ignored is None else {ignore: ignored})}
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as refused:
        raise SuiteError(f"{refused.filename!r} cannot be written: {refused.strerror}") from None
    return list(texts)


def _ask(
    ci: Literal["github", "gitlab"] | None,
) -> tuple[Path | None, str | None, tuple[str, ...], str | None, Literal["github", "gitlab"] | None]:
    """What to evaluate, from questions on the terminal. Enter takes the default of each."""
    from evalrunner.starter.templates import TEMPLATES

    def ask(question: str) -> str:
        return str(typer.prompt(question, default="", show_default=False)).strip()

    source = ask("Data file (CSV, JSON, JSONL or xlsx; Enter for a sample)")
    for item in TEMPLATES.values():
        typer.echo(f"  {item.name:<15}{item.about}")
    template = ask("Template (Enter to guess from the data, or qa)")
    model = ask("Model (Enter for recorded outputs, or one that can run here)")
    base_url = ask("Base URL of its server (Enter for the provider's own)") if model else ""
    system = ci or ask("CI workflow: github or gitlab (Enter for none)")
    if system not in ("", "github", "gitlab"):
        raise SuiteError(f"{system!r}: the workflow is for github or gitlab")
    chosen: Literal["github", "gitlab"] | None = None if not system else "github" if system == "github" else "gitlab"
    return (
        Path(source).expanduser() if source else None,
        template or None,
        (model,) if model else (),
        base_url or None,
        chosen,
    )


def _repository(folder: Path) -> Path:
    """The root of the git repository of a folder, where workflows belong; the folder itself outside of one."""
    root = next((place for place in (folder, *folder.parents) if (place / ".git").exists()), folder)
    return Path() if root == folder else root


def _refuse_overwriting(paths: list[Path], *, force: bool, asks: bool) -> None:
    from evalrunner.starter.templates import PATHS

    existing = [path for path in paths if path.exists()]
    if not existing or force:
        return
    names = ", ".join(_display(path) for path in existing)
    if asks and typer.confirm(f"Overwrite {names}?", default=False):
        return
    verb = "exists" if len(existing) == 1 else "exist"
    workflow = any(
        path.as_posix().endswith(tuple(PATHS.values())) for path in existing
    )  # of the repository, not of DIR
    instead = "add the suite to that workflow" if workflow else "choose another folder (evalrun init DIR)"
    raise SuiteError(f"{names} already {verb}; {instead}, or overwrite with --force")


def _with_ignored(path: Path) -> str | None:
    """The text of `.gitignore` with the folder of runs, None if it has it already."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
    except OSError:
        return None
    if {IGNORED, "/runs/", "runs", "/runs"} & {line.strip() for line in text.splitlines()}:
        return None
    return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{IGNORED}\n"


def _display(path: Path) -> str:
    """A path relative to the working folder if it is below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
