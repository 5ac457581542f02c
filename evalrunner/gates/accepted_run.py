"""The scores of the run that a model should be as good as: those of the baseline, else those of the last run. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from evalrunner.baselines.file import Baseline, BaselineRow, collect_rows
from evalrunner.domain import Row
from evalrunner.gates.check import expand_slices
from evalrunner.gates.false_alarms import GateScores, Resampling, chance_of_change
from evalrunner.gates.metric_lookup import Gate
from evalrunner.gates.pairing import baseline_side
from evalrunner.gates.regression import is_binary
from evalrunner.stats.summary import ALL_BUILTIN_MEASURES, Measure, Population, builtin_cells
from evalrunner.stats.tally import ANY_SCORE

if TYPE_CHECKING:
    from evalrunner.gates.false_alarms import Floats

CHANGED: Final = 0.1  # assumed share of samples whose score changes between runs, where only one run is known
Rows: TypeAlias = Mapping[tuple[str, str], BaselineRow]
"""By target and sample id."""


def rows_of_run(rows: Iterable[Row], *, epochs: int, streaming: bool = False) -> Rows:
    """The rows of a stored run in the form of a baseline, with their latency, tokens and cost."""
    every = (replace(row, cells={**row.cells, **builtin_cells(row.answer, streaming=streaming)}) for row in rows)
    return collect_rows(every, epochs=epochs)


def planned_gates(
    gates: Iterable[Gate], targets: Sequence[str], population: Population, known: Sequence[Rows]
) -> list[tuple[Gate, str]]:
    """Each gate with each of its targets; a gate on `[column=*]` once for each value of the column.

    Scores that were all 0 or 1 so far are expected to be so again.
    """
    binary: dict[str, bool] = {}

    def observed_binary(measure: Measure) -> bool:
        if not measure.declaration.infer_binary or measure.declaration.binary:
            return False
        if measure.name not in binary:
            scores = {score for rows in known for row in rows.values() for score in row.scores.get(measure.name, ())}
            binary[measure.name] = {None} < scores | {None} <= {0.0, 1.0, None}
        return binary[measure.name]

    return [
        (replace(single, binary=observed_binary(single.measure)), target)
        for gate in gates
        for single in expand_slices(gate, population.slices)
        for target in targets
        if single.spec.target in (None, target)
    ]


@dataclass(frozen=True, slots=True)
class AcceptedRun:
    """What a model should be as good as: the first of the `baselines` that gates name, else the last run.

    `ids` are those of the samples by their position in the dataset. `last` are the rows of the last run, empty without
    one. `targets` are those of the plan. `columns` are the scores that were looked up.
    """

    ids: Sequence[str]
    baselines: Mapping[str, Baseline]
    last: Rows
    targets: Sequence[str]
    population: Population
    columns: dict[Hashable, Floats] = field(default_factory=dict)

    def resampling(
        self, planned: Sequence[tuple[Gate, str]], discordance: Callable[[Gate, str], float | None], *, seed: int
    ) -> Resampling | None:
        """Draws of it for the gates of which all scores are known; None if there are none.

        `discordance` is the share of scores that change for a gate on a baseline, None if only one run is known.
        """
        import numpy

        scores = [one for gate, target in planned if (one := self._scores(gate, target)) is not None]
        if not scores:
            return None
        changed = dict.fromkeys(self.targets, 0.0)
        for one in scores:
            if one.before is not None and not changed[one.target]:
                share = discordance(one.gate, one.target)
                changed[one.target] = chance_of_change(one.values, CHANGED if share is None else share)
        columns = sorted({column for one in scores for column in one.gate.spec.slice or ()})
        groups = [numpy.asarray(self.population.slices[column].codes) for column in columns]
        strata = numpy.unique(numpy.stack(groups), axis=1, return_inverse=True)[1].ravel().tolist() if groups else None
        clusters = None if self.population.clusters is None else list(self.population.clusters.codes)
        return Resampling(
            scores, n=len(self.ids), changed=changed, seed=seed, strata=strata, clusters=clusters
        )  # fmt: skip

    def _scores(self, gate: Gate, target: str) -> GateScores | None:
        import numpy

        baseline = self.baselines.get(gate.spec.baseline or "")
        accepted = next(iter(self.baselines.values()), None)
        if gate.spec.baseline is not None and baseline is None:
            return None
        if accepted is not None and gate.measure not in ALL_BUILTIN_MEASURES:
            values = self._column(gate, accepted.rows, accepted.target_for(target, self.targets))
        else:
            values = self._column(gate, self.last, target)
        if values is None:
            return None
        members = numpy.ones(len(self.ids), dtype=bool)
        for column, text in (gate.spec.slice or {}).items():
            members = numpy.asarray(self.population.slices[column].codes) == self.population.slices[column].code_of(
                text
            )
        members &= ~numpy.isnan(values)
        before = (
            None if baseline is None else self._column(gate, baseline.rows, baseline.target_for(target, self.targets))
        )
        if not members.any() or (baseline is not None and before is None):
            return None
        return GateScores(gate, target, values, members, before, baseline is not None and is_binary(gate, baseline))

    def _column(self, gate: Gate, rows: Rows, target: str | None) -> Floats | None:
        """The score of each sample, NaN without one; None if no sample has one."""
        import numpy

        counts = gate.estimand.is_share or gate.spec.baseline is not None
        rule = gate.spec.per_sample
        key = id(rows), target, gate.measure.name, gate.aggregate, gate.reducer, counts, rule and rule.operator
        values = self.columns.get(key)
        if values is None:
            values = self.columns[key] = numpy.full(len(self.ids), math.nan)
            for place, id_ in enumerate(self.ids):
                row = rows.get((target or "", id_))
                side = None if row is None else baseline_side(gate, row, ANY_SCORE)
                if side is not None and side.value is not None:
                    values[place] = gate.estimand.of_sample(side.value) if counts else side.value
        return None if numpy.isnan(values).all() else values
