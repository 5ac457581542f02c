"""The checks of a run: those of the suite and of each row, compiled, and their cells for one answer.

Rows are compiled as they come; rows with the same checks share what was compiled.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from evalrunner.capabilities import SampleValidator
from evalrunner.datasets.columns import known_columns
from evalrunner.datasets.conditions import SearchFailed, compile_where
from evalrunner.domain import Cell, Completion, Failure, NoAnswer, Sample
from evalrunner.engine.compiled_checks import (
    Branch,
    CheckShape,
    CheckShapes,
    CompiledChecks,
    Leaf,
    ReadyCheck,
    check_text,
    write_texts,
)
from evalrunner.errors import PlacedProblem, nearest
from evalrunner.plugins import NEGATION, ReferenceProblem, SignatureError
from evalrunner.prompts import ABSENT, find_value, read_turns, turn_of
from evalrunner.scorers.call import UNDEFINED_RESULT, BoundScorer, call_async, call_sync, cell_without_call, offer
from evalrunner.scorers.checks import (
    NO_CHECKS,
    NO_TURN,
    NOT_NAMED,
    AnyResult,
    CheckResult,
    GroupResult,
    PassRule,
    RowVerdict,
)
from evalrunner.scorers.instances import OptionProblem, ScorerInstances
from evalrunner.scorers.option_templates import names_of
from evalrunner.suite.checks import MAX_CHECKS, ChecksReader, is_type
from evalrunner.suite.conditions import condition_columns, has_pattern
from evalrunner.suite.schema import AnyCheck, CheckGroup, CheckSpec, ChecksSpec, KeyPath, ModelSpec
from evalrunner.suite.yaml import Document, dotted
from evalrunner.templates import PromptError

if TYPE_CHECKING:
    from evalrunner.engine.judge import JudgeRole
    from evalrunner.engine.panel import JudgePanel

NAME: Final = "checks"
SHARE: Final = "share"
MAX_ROWS: Final = 2_048  # distinct lists of checks that stay compiled
MAX_ITEMS: Final = 2_048  # distinct checks of lists that do not recur
MAX_KEPT: Final = 32_768  # characters of such a list
MAX_NAMES: Final = 200  # metrics; more are a column of ids
CODE_TYPES: Final = frozenset({"python", "mlflow"})
MAX_CONDITIONS = 1_000  # kept compiled
PROBLEMS = (OptionProblem, ReferenceProblem, SignatureError, PromptError, ValueError)


class CheckProblem(ValueError):
    """A check that cannot be made for a row; the message is empty if its cause is reported elsewhere."""


@dataclass(slots=True)
class RowChecks:
    """The checks of a run. `find_judge` is the session of a judge for a check; a problem is its CheckProblem.

    `places` says where a check of the suite is. `allows_code`: rows may name user-defined code, as the suite may.
    `taken` are the names of other metrics. `names` and `judges` are what the samples so far have.
    `turns` is the column of a conversation, `max_turns` how long one with a simulated user can be.
    """

    instances: ScorerInstances
    row_instances: ScorerInstances
    find_judge: Callable[[ModelSpec | str | None, str, BoundScorer, JudgeRole], JudgePanel]
    on_no_answer: NoAnswer
    allows_code: bool
    places: Callable[[KeyPath], str]
    taken: Mapping[str, str] = field(default_factory=dict)
    turns: str | None = None
    max_turns: int | None = None
    suite: CompiledChecks = CompiledChecks()
    names: dict[str, None] = field(default_factory=dict)
    present: bool = False
    has_patterns: bool = False
    columns: dict[str, KeyPath] = field(default_factory=dict)
    check_code: dict[str, None] = field(default_factory=dict)  # references to user-defined code
    _rows: OrderedDict[str, CompiledChecks] = field(default_factory=OrderedDict)
    _items: OrderedDict[tuple[int, str], Leaf] = field(default_factory=OrderedDict)
    _is_mixed: bool = False  # the last list had checks of no shape: the next one is looked up as a whole
    _shapes: CheckShapes = field(default_factory=CheckShapes)

    def use(self, spec: ChecksSpec, report: Callable[[KeyPath, str], None]) -> None:
        """Take the checks of the suite; problems that every row would have are reported."""
        self.suite = CompiledChecks(self._compile(spec.checks, report, of_suite=True), spec.threshold)
        self.present = self.present or bool(self.suite.items)
        for leaf in self.suite.leaves():
            self._note_columns(leaf.spec.where, (*leaf.spec.key_path, "where"))
            if leaf.templates.fill is None:
                try:
                    self.make(leaf, None)
                except CheckProblem as wrong:
                    if str(wrong):
                        report(leaf.spec.key_path, str(wrong))
        for item in _items(spec.checks):
            if isinstance(item, CheckGroup):
                self._note_columns(item.where, (*item.key_path, "where"))

    def _note_columns(self, where: Mapping[str, Any], path: KeyPath) -> None:
        self.has_patterns = self.has_patterns or has_pattern(where)
        for column in condition_columns(where):
            self.columns.setdefault(column, (*path, column))

    def _compile(
        self, items: Iterable[AnyCheck], report: Callable[[KeyPath, str], None], *, of_suite: bool
    ) -> tuple[Leaf | Branch, ...]:
        compiled: list[Leaf | Branch] = []
        for item in items:
            if item.name is not None:
                self._add_name(item.name, (*item.key_path, "name"), report)
            if isinstance(item, CheckGroup):
                compiled.append(Branch(item, self._compile(item.checks, report, of_suite=of_suite)))
                continue
            if not of_suite and not self.allows_code and (item.type in CODE_TYPES or ":" in item.type):
                report(item.key_path, f"{item.type!r} runs code, which data cannot name; put the check into the suite")
                continue
            reference = item.options.get("function") if item.type == "python" else item.type
            if isinstance(reference, str) and ":" in reference:
                self.check_code[reference] = None
            instances = self.instances if of_suite else self.row_instances
            try:
                templates = instances.templates(item.type, item.options)
            except PROBLEMS as wrong:
                report(item.key_path, str(wrong))
                continue
            compiled.append(Leaf(item, templates, of_suite))
        return tuple(compiled)

    def _add_name(self, name: str, path: KeyPath, report: Callable[[KeyPath, str], None]) -> None:
        if name in self.taken:
            report(path, f"{name!r} is also {self.taken[name]}; choose another name")
        elif name not in self.names:
            if len(self.names) >= MAX_NAMES:
                report(path, f"there are more than {MAX_NAMES} names of checks; each is a metric of its own")
                return
            self.names[name] = None

    def of_row(self, sample: Sample) -> CompiledChecks | None:
        """The row's own checks, None if it has none. Raises CheckProblem."""
        if sample.checks is None:
            return None
        if not self._is_mixed:
            row = self._shapes.find_all(sample.checks)
            if row is not None:
                return row
        key = repr(sample.checks)
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
            return row
        row = self._assemble(sample.checks) or self._read(sample.checks)
        self._is_mixed = any(isinstance(item, Branch) or item.shape is None for item in row.items)
        if len(key) > MAX_KEPT:
            return row
        self._rows[key] = row
        if len(self._rows) > MAX_ROWS:
            self._rows.popitem(last=False)
        return row

    def _read(self, data: Any) -> CompiledChecks:
        """The checks in the data of a row. Raises CheckProblem."""
        problems: list[str] = []

        def report(path: KeyPath, message: str) -> None:
            problems.append(f"{dotted((NAME, *path))}: {message}")

        spec = ChecksReader(report).read(data)
        row = CompiledChecks(self._compile(spec.checks, report, of_suite=False), spec.threshold)
        if problems:
            plain = not isinstance(data, list | dict) or all(isinstance(one, str) and not is_type(one) for one in data)
            hint = "; if the column holds no checks, set columns: {checks: ''}" if plain else ""
            raise CheckProblem("; ".join(problems) + hint)
        return row

    def _assemble(self, data: Any) -> CompiledChecks | None:
        """The same for a list without groups, most of whose checks are of known shapes; None if it is no such list or wrong."""
        if type(data) is not list or len(data) > MAX_CHECKS:
            return None
        leaves: list[Leaf] = []
        for place, item in enumerate(data):
            leaf = self._shapes.find(item) or self._leaf(item, place)
            if leaf is None:
                return None
            leaves.append(leaf)
        return CompiledChecks(tuple(leaves))

    def _leaf(self, item: Any, place: int) -> Leaf | None:
        """A check of a list; None for a group, and for one with a problem."""
        key = place, repr(item)
        leaf = self._items.get(key)
        if leaf is not None:
            return leaf
        problems: list[str] = []

        def report(path: KeyPath, message: str) -> None:
            problems.append(message)

        spec = ChecksReader(report).item(item, (place,), 0)
        if not isinstance(spec, CheckSpec) or problems:
            return None
        compiled = self._compile((spec,), report, of_suite=False)
        if problems:
            return None
        made = compiled[0]
        assert isinstance(made, Leaf)  # a group is no CheckSpec
        if made.templates.fill is None and self.row_instances.factory(spec.type).accepts is not None:
            try:
                self._shapes.add(item, self.make(made, None), made.templates, self.row_instances)
            except CheckProblem:  # reported with the sample
                return made
        if len(key[1]) > MAX_KEPT:
            return made
        self._items[key] = made
        if len(self._items) > MAX_ITEMS:
            self._items.popitem(last=False)
        return made

    def make(self, leaf: Leaf, names: dict[str, Any] | None) -> ReadyCheck:
        """The check for a row with these names. Raises CheckProblem."""
        if leaf.ready is not None:
            return leaf.ready
        is_constant = leaf.templates.fill is None
        if leaf.shape is not None and is_constant:
            leaf.ready = leaf.shape.make(leaf.value)
            return leaf.ready
        spec = leaf.spec
        try:
            options = leaf.templates.of(names or {})
            if leaf.shape is not None and (value := leaf.shape.value_of(options)) is not None:
                return leaf.shape.make(value)
            instances = self.instances if leaf.of_suite else self.row_instances
            scorer = instances.make(spec.type, options, spec.args, filled=not is_constant)
            bound = instances.bind(
                NAME, scorer, on_no_answer=spec.on_no_answer or self.on_no_answer, extract=spec.extract
            )
            rule = PassRule.of(scorer.declaration, spec.threshold)
            if rule is None:
                raise CheckProblem(f"{spec.type!r} gives a number; add the threshold from which it passes")
            judge = self._session(spec, bound)
        except PROBLEMS as wrong:
            raise CheckProblem(str(wrong)) from None
        ready = ReadyCheck(spec, bound, rule, options, judge)
        if is_constant:
            leaf.ready = ready
        elif leaf.shape is None:
            leaf.shape = CheckShape.of(ready, instances)
        return ready

    def _session(self, spec: CheckSpec, bound: BoundScorer) -> JudgePanel | None:
        """The judge or the model that a check asks. Raises CheckProblem."""
        if spec.judge is not None and not bound.wants_judge:
            raise CheckProblem(f"{spec.type!r} does not use a judge; remove 'judge'")
        if spec.model is not None and not bound.wants_model:
            raise CheckProblem(f"{spec.type!r} asks no model; remove 'model'")
        model = self.find_judge(spec.model, spec.type, bound, "model") if bound.wants_model else None
        if not bound.wants_judge:
            return model
        panel = self.find_judge(spec.judge, spec.type, bound, "judge")
        if model is None:
            return panel
        return replace(panel, sessions=tuple(replace(one, companion=model.sessions[0]) for one in panel.sessions))

    def add(self, sample: Sample) -> list[str]:
        """The problems of a sample, before the first call."""
        try:
            row = self.of_row(sample)
            if self.has_patterns:
                for _ in self.active(sample):  # searches in every text before the first call
                    pass
        except CheckProblem as wrong:
            return [str(wrong)]
        for column in [name for name in self.columns if find_value(sample.metadata, name) is not ABSENT]:
            del self.columns[column]
        problems: list[str] = []
        if row is not None and row.items:
            self.present = True
        names: dict[str, Any] = {}
        for checks in (self.suite, row):
            for leaf in checks.leaves() if checks is not None and not checks.is_settled else ():
                if leaf.is_settled and not leaf.lacks_answer(sample) and leaf.spec.turn is None:
                    continue
                if leaf.spec.where and not applies(leaf.spec.where, sample):
                    continue
                names = names or names_of(sample)
                if problem := self._problem(leaf, sample, names):
                    problems.append(problem)
        return problems

    def _check_turn(self, leaf: Leaf, sample: Sample) -> None:
        """Raises CheckProblem for a check of a turn that there cannot be, or that the row that names it does not have."""
        turn = leaf.spec.turn
        if turn is None:
            return
        if self.max_turns is not None:
            if turn > self.max_turns:
                raise CheckProblem(f"turn is {turn}, but max_turns of the user is {self.max_turns}")
            return
        if self.turns is None:
            raise CheckProblem("'turn' is for conversations; set 'turns' or 'user' in the suite")
        if not leaf.of_suite:
            try:
                count = len(read_turns(sample, self.turns))
            except ValueError:  # reported by the target
                return
            if turn > count:
                raise CheckProblem(f"turn is {turn}, but the conversation has {count}")

    def _problem(self, leaf: Leaf, sample: Sample, names: dict[str, Any]) -> str | None:
        path = leaf.spec.key_path
        try:
            self._check_turn(leaf, sample)
            ready = self.make(leaf, names)
            function: object = ready.bound.scorer.function
            problem = function.check(sample) if isinstance(function, SampleValidator) else None
            if leaf.lacks_answer(sample):
                kind = leaf.spec.type
                problem = f"{kind!r} is empty, and the row has no expected answer; write {{{kind}: TEXT}}, in quotes if it begins with a sign"
        except CheckProblem as wrong:
            problem = str(wrong)
        if not problem:  # that of a judge is reported at the judge
            return None
        if leaf.of_suite:
            return PlacedProblem(f"{dotted(path)}: {problem}", self.places(path))
        return f"{dotted((NAME, *path))}: {problem}"

    def report_columns(self, document: Document, columns: Iterable[str]) -> None:
        """Report the columns of `where:` that no sample has."""
        known = list(columns)
        for name, path in self.columns.items():
            hint = nearest(name, known) or f"; it has {known_columns(known)}"
            document.problem(path, f"no sample has the column {name!r}{hint}")

    def judged(self, sample: Sample) -> Iterator[ReadyCheck]:
        """The checks of a sample that ask a judge."""
        names = names_of(sample)
        for leaf in self.active(sample):
            ready = self.make(leaf, names)
            if ready.judge is not None:
                yield ready

    def active(self, sample: Sample) -> Iterator[Leaf]:
        """The checks that apply to a sample by their `where`."""
        for checks in (self.suite, self.of_row(sample)):
            yield from _active(checks.items if checks is not None else (), sample)

    def evaluate(self, sample: Sample, answer: Completion | Failure) -> Evaluation:
        """The checks of one answer, with the cells of all that are cheap."""
        return Evaluation(self, sample, answer)


def _items(items: Iterable[AnyCheck]) -> Iterator[AnyCheck]:
    for item in items:
        yield item
        if isinstance(item, CheckGroup):
            yield from _items(item.checks)


def _active(items: Iterable[Leaf | Branch], sample: Sample) -> Iterator[Leaf]:
    for item in items:
        if item.spec.where and not applies(item.spec.where, sample):
            continue
        if isinstance(item, Branch):
            yield from _active(item.members, sample)
        else:
            yield item


def applies(where: Mapping[str, Any], sample: Sample) -> bool:
    """Whether a sample meets conditions; text also matches as it is written. Raises CheckProblem for a slow pattern."""
    compiled = _conditions.get(id(where))
    if compiled is None:
        if len(_conditions) >= MAX_CONDITIONS:
            _conditions.clear()
        compiled = _conditions[id(where)] = where, compile_where(where, "either")
    try:
        return compiled[1](sample.metadata)
    except SearchFailed as slow:
        raise CheckProblem(f"where: {slow}") from None


_conditions: dict[int, tuple[Mapping[str, Any], Callable[[Mapping[str, Any]], bool]]] = {}
"""Compiled conditions with the mappings that they are of, by the identity of these."""


class Evaluation:
    """The checks of one answer while they are called. `cells` are the results once nothing is pending."""

    def __init__(self, checks: RowChecks, sample: Sample, answer: Completion | Failure) -> None:
        self.checks, self.sample, self.answer = checks, sample, answer
        self.threshold: float | None = None
        self.pending: list[tuple[int, ReadyCheck]] = []
        self.results: list[Cell | None] = []
        self.ready: list[ReadyCheck | str] = []
        self._names: dict[str, Any] | None = None
        self._offered: Mapping[str, Any] | None = offer(sample, answer) if isinstance(answer, Completion) else None
        self._leaves: dict[int, int] = {}
        row = checks.of_row(sample)  # the first pass has seen that it can be read
        self.items: list[Leaf | Branch] = []
        for source in (checks.suite, row):
            if source is not None:
                self.items += source.items
                self.threshold = source.threshold if source.threshold is not None else self.threshold
        for leaf in _active(self.items, sample):
            self._start(leaf)

    def _start(self, leaf: Leaf) -> None:
        """Call a cheap check at once; the others are pending."""
        place = len(self.results)
        self._leaves[id(leaf)] = place
        ready = leaf.ready
        if ready is None:
            if self._names is None and leaf.templates.fill is not None:
                self._names = names_of(self.sample)
            try:
                ready = self.checks.make(leaf, self._names)
            except CheckProblem as wrong:  # a template of a changed suite, over stored answers
                self.ready.append(check_text(leaf.spec, leaf.spec.options))
                self.results.append(Cell("error", reason=str(wrong), cause="function"))
                return
        self.ready.append(ready)
        answer = self._answer_for(ready)
        cell = NO_TURN if answer is None else cell_without_call(ready.bound, self.sample, answer)
        if cell is None:
            offered = (
                self._offered
                if answer is self.answer
                else offer(self.sample, answer)
                if isinstance(answer, Completion)
                else None
            )
            if offered is not None and ready.bound.is_inline(offered["output"]):
                cell = call_sync(ready.bound, offered)
            else:
                self.pending.append((place, ready))
        self.results.append(cell)

    def _answer_for(self, ready: ReadyCheck) -> Completion | Failure | None:
        """The answer that a check sees: that of its turn, None if the conversation has none."""
        turn = ready.spec.turn
        return self.answer if turn is None or isinstance(self.answer, Failure) else turn_of(self.answer, turn)

    async def finish(self, row: str, run: Callable[[Callable[[], Any]], Any], is_canceled: Callable[[], bool]) -> None:
        """Call the pending checks, those that are awaited at the same time; `run` calls a function in a thread.

        `is_canceled` says whether a CancelledError is the runner's own.
        """
        if not isinstance(self.answer, Completion):
            return
        answer = self.answer
        slow = [(place, ready) for place, ready in self.pending if not ready.bound.is_async]
        awaited = [(place, ready) for place, ready in self.pending if ready.bound.is_async]

        async def call(place: int, ready: ReadyCheck) -> None:
            try:
                turn = self._answer_for(ready)
                assert isinstance(turn, Completion)  # the others have a cell
                self.results[place] = await self._call_awaited(ready, turn, row)
            except asyncio.CancelledError:
                if is_canceled():
                    raise
                self.results[place] = Cell("error", reason=f"{ready.text} raised CancelledError", cause="function")

        async def call_slow() -> None:
            offered = offer(self.sample, answer)
            turns = [self._answer_for(ready) for _, ready in slow]
            each = [
                offered if turn is answer else offer(self.sample, turn)
                for turn in turns
                if isinstance(turn, Completion)
            ]
            cells = await run(lambda: [call_sync(ready.bound, one) for (_, ready), one in zip(slow, each, strict=True)])
            for (place, _), cell in zip(slow, cells, strict=True):
                self.results[place] = cell

        if not awaited:
            await call_slow()
        else:
            await asyncio.gather(*[call(place, ready) for place, ready in awaited], *([call_slow()] if slow else []))

    async def _call_awaited(self, ready: ReadyCheck, answer: Completion, row: str) -> Cell:
        if ready.judge is None:
            return await call_async(ready.bound, self.sample, answer, None)
        cells = await ready.judge.cells(ready.bound, self.sample, answer, row)
        return cells[ready.bound.name]

    def give_up(self, failure: Failure) -> None:
        """End the checks that have no cell."""
        self.results = [Cell.of_failure(failure) if cell is None else cell for cell in self.results]

    def cells(self, names: Iterable[str]) -> dict[str, Cell]:
        """The cells of the row: `checks`, its share, and one for each of the names."""
        share = f"{NAME}/{SHARE}"
        if not self.results:
            return {NAME: NO_CHECKS, share: NO_CHECKS, **dict.fromkeys(names, NOT_NAMED)}
        write_texts(self.ready)
        verdict = RowVerdict(tuple(self._results(self.items)), self.threshold)
        named = verdict.named()
        if isinstance(self.answer, Failure):
            failed = Cell.of_failure(self.answer)
            return {NAME: failed, share: failed, **{name: failed if name in named else NOT_NAMED for name in names}}
        return {NAME: verdict.cell(), share: verdict.share(), **{name: named.get(name, NOT_NAMED) for name in names}}

    def _results(self, items: Iterable[Leaf | Branch]) -> Iterator[AnyResult]:
        for item in items:
            if item.spec.where and not applies(item.spec.where, self.sample):
                continue
            spec = item.spec
            if isinstance(item, Branch):
                members = tuple(self._results(item.members))
                if members:
                    text = f"{item.spec.rule} of {len(item.spec.checks)}"
                    yield GroupResult(item.spec.rule, members, text, spec.name, spec.weight, spec.threshold)
                continue
            place = self._leaves[id(item)]
            ready, cell = self.ready[place], self.results[place]
            assert cell is not None  # nothing is pending
            name = f"{NEGATION}{item.spec.type}" if item.spec.negated else item.spec.type
            if isinstance(ready, str):
                yield CheckResult(name, ready, cell, None, spec.name, spec.weight)
                continue
            if cell.value is not None and (problem := ready.rule.problem(cell.value)) is not None:
                cell = Cell("error", reason=problem, calls=cell.calls, cause="function")
            passed = _passes(ready, cell, negated=item.spec.negated)
            yield CheckResult(name, ready.text, cell, passed, spec.name, spec.weight)


def _passes(ready: ReadyCheck, cell: Cell, *, negated: bool) -> bool | None:
    """Whether a check passes by its cell. A missing answer that counts as zero passes nothing."""
    if cell.state != "scored" or cell.value is None:
        return None
    if cell.detail is not None and cell.detail.get(UNDEFINED_RESULT) is True:
        return False  # neither a check nor its opposite passes
    return cell.cause is None and ready.rule(cell.value) != negated
