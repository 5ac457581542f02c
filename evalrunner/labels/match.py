"""Labels matched to the rows of a run: by id, target, epoch and the hash of the answer. What does not fit is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from evalrunner.domain import Row
from evalrunner.labels.file import Binding, Label, answer_hash, parse_label
from evalrunner.prompts import find_value
from evalrunner.stats.corrected import RecordedVerdict, RowLabel

MAX_NAMED: Final = 5  # ids in a notice


@dataclass(frozen=True, slots=True)
class ScorerLabels:
    """The labels of one scorer (or a part of one): those of a file, or a `column` of the dataset. `source` names it."""

    source: str
    binding: Binding
    labels: tuple[Label, ...] = ()
    column: str | None = None

    def judge_notes(self) -> Iterator[str]:
        """What was labeled under other criteria."""
        counts = Counter(text for label in self.labels if (text := self.binding.scorer_changes(label)) is not None)
        for text, count in counts.items():
            yield f"{count:,} stale {'label' if count == 1 else 'labels'} in {self.source} not used: {text}"


@dataclass(slots=True)
class LabelMatcher:
    """Collects the labels of the rows that it sees. `scorers` are the labels by scorer; `matches` by target and scorer."""

    scorers: Mapping[str, ScorerLabels]
    matches: dict[tuple[str, str], dict[tuple[int, int], RowLabel]] = field(default_factory=dict)
    changed: dict[str, dict[Label, None]] = field(default_factory=dict)
    used: dict[str, set[Label]] = field(default_factory=dict)
    tied: Counter[str] = field(default_factory=Counter)
    _by_id: dict[str, dict[str, list[Label]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, scorer in self.scorers.items():
            by_id = self._by_id[name] = {}
            for label in scorer.labels:
                if label.scorer in ("", name) and scorer.binding.scorer_changes(label) is None:
                    by_id.setdefault(label.id, []).append(label)

    def see(self, row: Row) -> None:
        """Note the labels of one row."""
        digest: str | None = None
        for name, scorer in self.scorers.items():
            if scorer.column is not None:
                self._from_column(name, scorer.column, row)
                continue
            labels = [one for one in self._by_id[name].get(row.sample.id, ()) if _is_of(one, row)]
            if not labels:
                continue
            digest = answer_hash(row) if digest is None else digest
            fitting = [one for one in labels if one.answer in ("", digest)]
            self.used.setdefault(name, set()).update(fitting)
            if not fitting:
                self.changed.setdefault(name, {}).update(dict.fromkeys(labels))
                continue
            self._add(name, row, fitting)

    def _from_column(self, name: str, column: str, row: Row) -> None:
        value = find_value(row.sample.metadata, column)
        label = parse_label(str(value)) if isinstance(value, str | int | float) else None
        if label is not None:
            self.matches.setdefault((row.target, name), {})[row.sample.index, row.epoch] = RowLabel(label)

    def _add(self, name: str, row: Row, labels: Iterable[Label]) -> None:
        latest = {one.labeler: one for one in labels}  # a person's later label replaces an earlier one
        values = [one.label for one in latest.values()]
        ranked = Counter(values).most_common(2)
        if len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
            self.tied[name] += 1
            return
        drawn = next((one.probability for one in latest.values() if one.probability is not None), None)
        self.matches.setdefault((row.target, name), {})[row.sample.index, row.epoch] = RowLabel(ranked[0][0], drawn)

    def labels_of(self, target: str, scorer: str) -> Mapping[tuple[int, int], RowLabel] | None:
        """The labels of a target's rows by position and epoch; None for a scorer without labels."""
        return self.matches.get((target, scorer), {}) if scorer in self.scorers else None

    def recorded(self, scorer: str) -> list[RecordedVerdict]:
        """Labels of other answers with the verdict that this judge gave them."""
        source, used = self.scorers[scorer], self.used.get(scorer, set())
        return [
            RecordedVerdict(one.label, one.judge_verdict)
            for one in source.labels
            if one.judge_verdict is not None
            and one.scorer in ("", scorer)
            and one not in used
            and source.binding.judge_changes(one) is None
        ]

    def notices(self) -> Iterator[str]:
        """The labels that are not used, and why."""
        for name, scorer in self.scorers.items():
            yield from (f"{name}: {note}" for note in scorer.judge_notes())
            if gone := [one for one in self.changed.get(name, ()) if one not in self.used.get(name, set())]:
                ids = list(dict.fromkeys(one.id for one in gone))
                more = f" and {len(ids) - MAX_NAMED:,} more" if len(ids) > MAX_NAMED else ""
                yield (
                    f"{name}: {len(gone):,} stale {'label' if len(gone) == 1 else 'labels'} in {scorer.source} not used: "
                    f"the answer changed ({', '.join(ids[:MAX_NAMED])}{more})"
                )
            if count := self.tied[name]:
                yield f"{name}: {count:,} {'row' if count == 1 else 'rows'} not used: the labelers disagree"


def _is_of(label: Label, row: Row) -> bool:
    return label.target in ("", row.target) and label.epoch in (None, row.epoch)
