"""What was run: dataset, targets, scorers, judges, seed and epochs, and how two such records differ, in words.

One structure serves resume (is it still the same run?), baselines and comparisons (do the numbers mean the same?) and
`run.json`. Its values are plain JSON data without secrets. What is not in it may change when a run is resumed: where the
dataset lies, cost cap, concurrency, timeouts, retries, cache, streaming, gates, outputs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalrunner.domain import EMPTY
from evalrunner.redact import redact
from evalrunner.secret_names import LOGIN

MAX_VALUE_LENGTH = 60  # characters of a value in a message
CHECKS = "checks"  # the scorer whose judge depends on the rows: the first few may have no check that asks one
LEAD = 16  # of these, how many precede the first difference of two long texts
NAMED_SECTIONS = ("targets", "scorers")
DATASET_FIELDS = (
    "digest",
    "rows",
    "columns",
    "where",
    "shuffle",
    "offset",
    "limit",
    "sample",
    "by",
    "shard",
    "attachments",
)
TARGET_FIELDS = ("type", "model", "host", "params", "options", "args", "files", "prompt")
SCORER_FIELDS = ("type", "options", "args", "version", "backend", "on_no_answer", "files")
JUDGE_FIELDS = ("name", "model", "host", "params")
"""What defines the rows of a run, so that a resumed run must have the same."""

BASELINE_TARGET_FIELDS = ("type", "model", "options", "params", "prompt_digest")
BASELINE_SCORER_FIELDS = (
    "type",
    "options",
    "args",
    "version",
    "backend",
    "range",
    "threshold",
    "on_no_answer",
    "binary",
)
BASELINE_JUDGE_FIELDS = ("model", "params")
"""What makes the numbers of two runs comparable: the files are compared as well, the host is not."""

ABSENT: Any = object()

COMMIT = re.compile(r"[0-9a-f]{40,64}")
COMMIT_VARIABLES = (
    "GITHUB_SHA",
    "CI_COMMIT_SHA",
    "GIT_COMMIT",
    "BUILD_SOURCEVERSION",
    "CIRCLE_SHA1",
    "BITBUCKET_COMMIT",
)
BRANCH_VARIABLES = (
    "GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME", "GIT_BRANCH", "BUILD_SOURCEBRANCHNAME", "CIRCLE_BRANCH",
    "BITBUCKET_BRANCH",
)  # fmt: skip
JOB_URL_VARIABLES = ("CI_JOB_URL", "BUILD_URL", "CIRCLE_BUILD_URL")
MAX_PARENT_FOLDERS = 40  # searched for .git
MAX_GIT_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetProvenance:
    """The samples of a run. `digest` is the sha256 of the samples selected, `rows` how many there are.

    `attachments` is the digest of the images, audio and files that prompts attach to them, None without any. Of a `shard`, such as `2/8`, `whole_rows` and `whole_digest` are those of all shards.
    """

    digest: str
    rows: int
    columns: Mapping[str, Any] = EMPTY
    where: Mapping[str, Any] = EMPTY
    shuffle: int | None = None
    offset: int = 0
    limit: int | None = None
    sample: int | None = None
    by: str | None = None
    shard: str | None = None
    whole_rows: int | None = None
    whole_digest: str | None = None
    attachments: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetProvenance:
    """What a target was. `files` maps custom code to its sha256; `served_models` are the names its answers came under.

    A target that asks a model has `prompt`, its templates by role, and `prompt_digest`, their sha256; `prompt_name` is
    its name among the prompts of the suite. `options` is None for a model.
    """

    type: str
    model: str | None = None
    host: str | None = None
    params: Mapping[str, Any] = EMPTY
    options: Mapping[str, Any] | None = None
    args: Mapping[str, Any] = EMPTY
    files: Mapping[str, str] = EMPTY
    prompt: tuple[Mapping[str, str], ...] | None = None
    prompt_digest: str | None = None
    prompt_name: str | None = None
    served_models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerProvenance:
    """What a scorer was and what it declared of its scores. `files` maps custom code to its sha256.

    `part_of` names the scorer of a part, which has the options, the files and the judge.
    """

    type: str
    options: Mapping[str, Any] = EMPTY
    args: Mapping[str, Any] = EMPTY
    files: Mapping[str, str] = EMPTY
    version: str | None = None
    backend: str | None = None
    on_no_answer: str = "unscored"
    range: tuple[float | None, float | None]
    higher_is_better: bool = True
    binary: bool = False
    infer_binary: bool = False
    unit: str | None = None
    threshold: float | None = None
    needs_answer: bool = True
    needs_expected: bool = False
    aggregates: tuple[str, ...]
    headline: str
    part_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeProvenance:
    """Which judge a scorer asked and how. `mode` says what its sanity check decides: on, warn or off.

    `role` is `judge`, or `model` for one that was asked for embeddings or moderation.
    """

    name: str
    model: str
    host: str | None = None
    mode: str = "on"
    role: str = "judge"
    params: Mapping[str, Any] = EMPTY
    served_models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What was run. Targets, scorers and their parts go by their names, judges by the name of the scorer that asks them."""

    suite: str
    dataset: DatasetProvenance
    targets: Mapping[str, TargetProvenance]
    scorers: Mapping[str, ScorerProvenance]
    judges: Mapping[str, JudgeProvenance] = EMPTY
    seed: int = 0
    epochs: int = 1

    def definition(self, *, scorers: frozenset[str] | None = None) -> dict[str, Any]:
        """What defines the rows, as plain data for `differences`; of `scorers` those that are named, or all.

        Parts follow from their scorers, so these alone are listed, with the names of their parts.
        """
        named = (
            None if scorers is None else {self.scorers[name].part_of or name for name in scorers & self.scorers.keys()}
        )
        return {
            "suite": self.suite,
            "dataset": {
                name: value
                for name, value in select_fields(self.dataset, DATASET_FIELDS).items()
                if name != "attachments" or value is not None
            },
            "targets": {name: select_fields(target, TARGET_FIELDS) for name, target in self.targets.items()},
            "scorers": {
                name: self.scorer_definition(name)
                for name, scorer in self.scorers.items()
                if scorer.part_of is None and (named is None or name in named)
            },
            "seed": self.seed,
            "epochs": self.epochs,
        }

    def scorer_definition(self, name: str) -> dict[str, Any]:
        """What defines the scores of a scorer, its judge included."""
        judges = {
            label: {**select_fields(judge, JUDGE_FIELDS), "judge_check": judge.mode}
            for label, judge in self.judges_of(name).items()
        }
        parts = sorted(part for part, scorer in self.scorers.items() if scorer.part_of == name)
        return {
            **select_fields(self.scorers[name], SCORER_FIELDS),
            **({"parts": parts} if parts else {}),
            "judge": judges[name] if list(judges) == [name] else judges or None,
        }

    def judges_of(self, scorer: str) -> dict[str, JudgeProvenance]:
        """The judges of a scorer by their labels: its name, with that of the judge where it has several."""
        return {label: judge for label, judge in self._scoring() if label.partition(" ")[0] == scorer}

    def _scoring(self) -> list[tuple[str, JudgeProvenance]]:
        return [(label, judge) for label, judge in self.judges.items() if judge.role != "user"]


EMPTY_PROVENANCE = Provenance(suite="", dataset=DatasetProvenance(digest="", rows=0), targets={}, scorers={})
"""The provenance where nothing was run."""


def select_fields(part: object, names: Sequence[str]) -> dict[str, Any]:
    """The named fields of a part, as plain data."""
    values = {name: getattr(part, name) for name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def scorer_changes(before: Provenance, now: Provenance, name: str, *, judges: bool = True) -> list[str]:
    """Why the scores of a scorer mean something else than before: `version: 'v1' → 'v2'`. Both must have the scorer."""
    changed = part_differences(_comparable_scorer(before, name), _comparable_scorer(now, name))
    if judges:
        owners = [(provenance, provenance.scorers[name].part_of or name) for provenance in (before, now)]
        settings = [_comparable_judges(provenance, owner) for provenance, owner in owners]
        if {} in settings and before.scorers[name].type == CHECKS:
            settings = []
        changed += [f"judge.{line}" for line in part_differences(*settings)] if settings else []
    return changed


def _comparable_scorer(provenance: Provenance, name: str) -> dict[str, Any]:
    scorer = provenance.scorers[name]
    owner = provenance.scorers.get(scorer.part_of, scorer) if scorer.part_of is not None else scorer
    files = {name: digest for name, digest in owner.files.items() if name.endswith(".py")}  # not of installed packages
    made_by = {"options": owner.options, "args": owner.args, "files": files}
    return {**select_fields(scorer, BASELINE_SCORER_FIELDS), **made_by}


def _comparable_judges(provenance: Provenance, scorer: str) -> dict[str, Any]:
    """The fields of a scorer's judge; of several, or with the model that it asks besides, by their labels."""
    judges = {
        label: select_fields(judge, BASELINE_JUDGE_FIELDS) for label, judge in provenance.judges_of(scorer).items()
    }
    return judges[scorer] if list(judges) == [scorer] else judges


def target_changes(old: TargetProvenance, new: TargetProvenance) -> list[str]:
    """How two targets differ: `params.temperature: 0 → 1`; of a prompt only that it changed."""
    before, now = (select_fields(target, BASELINE_TARGET_FIELDS) for target in (old, new))
    prompts = before.pop("prompt_digest"), now.pop("prompt_digest")
    changed = part_differences(before, now)
    if prompts[0] != prompts[1]:
        changed.append("prompt")
    if old.model == new.model and old.served_models and new.served_models:
        changed += part_differences({"served_models": old.served_models}, {"served_models": new.served_models})
    return changed


def without_prompts(provenance: Provenance) -> Provenance:
    """The provenance with the digests of prompts only, as a baseline stores it."""
    targets = {name: replace(target, prompt=None) for name, target in provenance.targets.items()}
    return replace(provenance, targets=targets)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A line for each difference between two definitions, with its old and its new value; none if a run can be resumed.

    More epochs than before are no difference. Values are shortened and keys redacted.
    """
    lines: list[str] = []
    for section in dict.fromkeys([*before, *now]):
        old, new = before.get(section, ABSENT), now.get(section, ABSENT)
        if section == "epochs":
            lines.extend(_of_epochs(old, new))
        elif section == "dataset":
            lines.extend(_of_dataset(old, new))
        elif section in NAMED_SECTIONS:
            lines.extend(_of_named(section, old, new))
        else:
            lines.extend(_of_values(section, old, new))
    return lines


def part_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The differences of two targets or scorers of a definition: `params.temperature: 0 → 1`."""
    return [line.lstrip(".: ") for line in _of_part("", old, new)]


def _of_epochs(old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, int) and isinstance(new, int) and new >= old:
        return
    yield f"epochs: {_value_text(old)} → {_value_text(new)} (more epochs are allowed, fewer are not)"


def _of_dataset(old: Any, new: Any) -> Iterator[str]:
    old, new = _mapping(old), _mapping(new)
    if old.get("digest") != new.get("digest"):
        counts = [data["rows"] for data in (old, new) if isinstance(data.get("rows"), int)]
        rows = " → ".join(f"{count:,}" for count in dict.fromkeys(counts))
        yield f"dataset: its rows changed ({rows or '?'} {'row' if counts[-1:] == [1] else 'rows'}, other content)"
    if old.get("attachments") != new.get("attachments") and (old.get("attachments") or new.get("attachments")):
        yield "dataset: the images, audio or files that prompts attach changed"
    hidden = ("digest", "rows", "attachments")
    yield from _of_values("dataset", _without(old, hidden), _without(new, hidden))


def _of_named(section: str, old: Any, new: Any) -> Iterator[str]:
    old, new = _mapping(old), _mapping(new)
    for name in dict.fromkeys([*old, *new]):
        if name not in new:
            yield f"{section}: {_value_text(name)} was removed"
        elif name not in old:
            yield f"{section}: {_value_text(name)} was added"
        else:
            one, other = _mapping(old[name]), _mapping(new[name])
            if CHECKS in (one.get("type"), other.get("type")) and None in (one.get("judge"), other.get("judge")):
                one, other = _without(one, ("judge",)), _without(other, ("judge",))
            yield from _of_part(f"{section} {_value_text(name)}", one, other)


def _of_part(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """The differences of one target or scorer: of files only the name, of everything else the values."""
    files_before, files = _mapping(old.get("files")), _mapping(new.get("files"))
    for name in dict.fromkeys([*files_before, *files]):
        if name in files_before and name in files and files_before[name] != files[name]:
            yield f"{path}: the code in {_value_text(name)} changed"
    yield from _of_values(path, _without(old, ("files",)), _without(new, ("files",)))


def _of_values(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*old, *new]):
            yield from _of_values(f"{path}.{_name(name)}", old.get(name, ABSENT), new.get(name, ABSENT))
    elif _is_list(old) and _is_list(new) and len(old) == len(new):
        for place, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _of_values(f"{path}[{place}]", one, other)
    elif not _same(old, new):
        yield f"{path}: {' → '.join(_value_texts(old, new))}"


def _same(old: Any, new: Any) -> bool:
    return bool(old == new) and isinstance(old, bool) == isinstance(new, bool)  # True == 1, which is another value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _without(data: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: item for name, item in data.items() if name not in names}


def _name(name: Any) -> str:
    text = str(name)
    return text if text.isprintable() and len(text) <= MAX_VALUE_LENGTH else _value_text(text)


def _value_texts(old: Any, new: Any) -> tuple[str, str]:
    """Both values; of long texts the part around their first difference."""
    if not isinstance(old, str) or not isinstance(new, str) or max(len(old), len(new)) <= MAX_VALUE_LENGTH:
        return _value_text(old), _value_text(new)
    shared = next(
        (place for place, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
    )
    start = max(0, shared - LEAD)
    return _value_text(old, start), _value_text(new, start)


def _value_text(value: Any, start: int = 0) -> str:
    """A value on one line, shortened, with keys redacted and control characters escaped."""
    if value is ABSENT:
        return "not set"
    if not isinstance(value, str):
        text = json.dumps(value) if isinstance(value, int | float | None) else redact(repr(value))
        return text if len(text) <= MAX_VALUE_LENGTH else text[:MAX_VALUE_LENGTH] + "…"
    text = redact(value)
    cut = text[start : start + MAX_VALUE_LENGTH]
    return ("…" if start else "") + repr(cut) + ("…" if start + MAX_VALUE_LENGTH < len(text) else "")


def source_of(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """`commit`, `branch` and `ci_url` as far as known: from the repository around `folder`, else from CI variables."""
    commit, branch = _checked_out(folder)
    values = {
        "commit": commit or _first(environ, COMMIT_VARIABLES),
        "branch": branch or _first(environ, BRANCH_VARIABLES),  # CI checks out a commit without a branch
        "ci_url": _job(environ),
    }
    return {name: value for name, value in values.items() if value}


def _first(environ: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)


def _job(environ: Mapping[str, str]) -> str | None:
    if environ.get("GITHUB_RUN_ID"):
        server = environ.get("GITHUB_SERVER_URL", "https://github.com")
        return f"{server}/{environ.get('GITHUB_REPOSITORY', '')}/actions/runs/{environ['GITHUB_RUN_ID']}"
    url = _first(environ, JOB_URL_VARIABLES)
    return None if url is None else LOGIN.sub("://", url)


def _checked_out(folder: Path) -> tuple[str | None, str | None]:
    """Commit and branch of the checkout around a folder."""
    try:
        git = _git_folder(folder.resolve())
        if git is None:
            return None, None
        head = _read(git / "HEAD")
        if not head.startswith("ref:"):
            return (head if COMMIT.fullmatch(head) else None), None
        name = head.removeprefix("ref:").strip()
        return _commit_of(git, name), name.removeprefix("refs/heads/")
    except (OSError, ValueError):  # a file of git that is missing or unreadable: unknown
        return None, None


def _git_folder(folder: Path) -> Path | None:
    for place in (folder, *folder.parents[:MAX_PARENT_FOLDERS]):
        git = place / ".git"
        if git.is_dir():
            return git
        if git.is_file():  # a worktree or a submodule refers to its folder
            return place / _read(git).removeprefix("gitdir:").strip()
    return None


def _commit_of(git: Path, name: str) -> str | None:
    """The commit of a branch, from its own file or from packed-refs; worktrees share those of the main folder."""
    shared = git / _read(git / "commondir") if (git / "commondir").is_file() else git
    for place in (git / name, shared / name):
        if place.is_file() and COMMIT.fullmatch(_read(place)):
            return _read(place)
    packed = shared / "packed-refs"
    for line in _read(packed).splitlines() if packed.is_file() else ():
        commit, _, ref = line.partition(" ")
        if ref == name and COMMIT.fullmatch(commit):
            return commit
    return None


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MAX_GIT_FILE_BYTES).decode().strip()
