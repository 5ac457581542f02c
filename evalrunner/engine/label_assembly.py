"""The labels of a suite's scorers: their files, read and bound to the scorers as they are now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalrunner.errors import SuiteError, nearest
from evalrunner.labels.file import Binding, Label, read_labels
from evalrunner.labels.match import LabelMatcher, ScorerLabels
from evalrunner.stats.corrected import has_statistics

if TYPE_CHECKING:
    from evalrunner.engine.plan import PlannedScorer
    from evalrunner.runs.provenance import Provenance
    from evalrunner.runs.record import RunRecord
    from evalrunner.stats.summary import Measure
    from evalrunner.suite.schema import ScorerSpec
    from evalrunner.suite.untrusted import Restrictions
    from evalrunner.suite.yaml import Document


def assemble_labels(
    document: Document, folder: Path, scorers: Iterable[PlannedScorer], provenance: Provenance
) -> dict[str, ScorerLabels]:
    """The labels by scorer and part. Raises SuiteError with every problem of the files."""
    specs = [(scorer.spec, scorer.measures) for scorer in scorers if scorer.spec.labels is not None]
    return labels_of_specs(document, folder, specs, provenance)


def labels_of_specs(
    document: Document, folder: Path, specs: Iterable[tuple[ScorerSpec, tuple[Measure, ...]]], provenance: Provenance
) -> dict[str, ScorerLabels]:
    """The same, by the measures of each scorer."""
    labels: dict[str, ScorerLabels] = {}
    files: dict[str, tuple[Label, ...]] = {}
    known = list(provenance.scorers)
    for spec, measures in specs:
        path = (*spec.key_path, "labels")
        bounded = [measure for measure in measures if has_statistics(measure.declaration)]
        if not bounded:
            document.problem(path, f"correct nothing: the scores of {spec.name!r} have no range")
        if isinstance(spec.labels, Mapping):
            column = _column(document, path, spec.labels)
            for measure in bounded if column is not None else ():
                binding = Binding.of(provenance, measure.name)
                labels[measure.name] = ScorerLabels(f"column {column!r}", binding, column=column)
            continue
        name = spec.labels or ""
        try:
            every = files[name] = files[name] if name in files else read_labels(folder / name)
        except SuiteError as wrong:
            for problem in wrong.problems:
                document.problem(path, str(problem))
            continue
        _refuse_unknown(document, path, name, every, known)
        for measure in bounded:
            own = tuple(one for one in every if one.scorer in ("", measure.name))
            labels[measure.name] = ScorerLabels(name, Binding.of(provenance, measure.name), own)
    document.raise_problems()
    return labels


def _column(document: Document, path: tuple[str | int, ...], labels: Mapping[str, str]) -> str | None:
    if set(labels) == {"column"}:
        return labels["column"]
    document.problem(path, "should be a CSV file, or a column of the dataset: {column: NAME}")
    return None


def _refuse_unknown(
    document: Document, path: tuple[str | int, ...], name: str, labels: Iterable[Label], known: list[str]
) -> None:
    """Report the first label of a scorer that the suite does not have: most likely a typo."""
    for label in labels:
        if label.scorer and label.scorer not in known:
            hint = nearest(label.scorer, known) or f"; it has {', '.join(known)}"
            document.problem(path, f"{name}:{label.line}: no scorer {label.scorer!r} in this suite{hint}")
            return


def label_matcher(labels: Mapping[str, ScorerLabels]) -> LabelMatcher | None:
    """A matcher for one pass over rows; None without labels."""
    return LabelMatcher(labels) if labels else None


def stored_labels(
    run: RunRecord, scorers: Any, folder: Path, restrictions: Restrictions | None = None
) -> dict[str, ScorerLabels]:
    """The labels that the scorers of a suite, as it is written, name for the scorers of a stored run.

    Raises SuiteError for a file that cannot be read, or that an untrusted suite may not read.
    """
    sources: dict[str, ScorerLabels] = {}
    for item in scorers if isinstance(scorers, list | tuple) else ():
        given = item.get("labels") if isinstance(item, Mapping) else None
        if given is None:
            continue
        if restrictions is not None and isinstance(given, str) and (no := restrictions.path_refusal(given, folder)):
            raise SuiteError(f"labels {given!r} {no}; copy it into the folder")
        own = [name for name in run.scorers if name in (item.get("name") or item.get("type"), *item)]
        for name in [*own, *(part for part, one in run.scorers.items() if one.part_of in own)]:
            binding = Binding.of(run.provenance, name)
            if isinstance(given, Mapping):
                column = str(given.get("column"))
                sources[name] = ScorerLabels(f"column {column!r}", binding, column=column)
            else:
                sources[name] = ScorerLabels(str(given), binding, read_labels(folder / str(given)))
    return sources
