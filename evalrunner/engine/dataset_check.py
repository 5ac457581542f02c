"""Checks of a suite against its dataset, in the pass that reads it before the first call.

What no row can satisfy is a problem: scorers without an expected answer, columns of checks that nothing reads. What some
rows lack, or what is likely a slip, is a notice of the plan and of the run.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalrunner.baselines.file import Baseline, SampleKey
from evalrunner.capabilities import SampleFilter, SampleValidator
from evalrunner.datasets.columns import PLAIN_YAML, known_columns
from evalrunner.datasets.source import Scan
from evalrunner.domain import Sample
from evalrunner.endpoints.pricing import unbounded_part
from evalrunner.engine.attached_content import AttachedContent, content_problem
from evalrunner.engine.named_columns import TEMPLATE_CODE, column_names, texts_in, texts_that_name_columns
from evalrunner.engine.plan import PlannedScorer, PlannedTarget
from evalrunner.engine.row_checks import NAME as CHECKS
from evalrunner.engine.row_checks import RowChecks
from evalrunner.errors import PlacedProblem, nearest
from evalrunner.formatting import counted, one_line, plain_text
from evalrunner.gates.metric_lookup import Gate
from evalrunner.plugins import home_of, known_names
from evalrunner.prompts import ABSENT, MESSAGES, SHOTS, find_value
from evalrunner.stats.summary import Design, Groups, Population
from evalrunner.suite.columns import ColumnSpec, is_template
from evalrunner.suite.schema import KeyPath, Suite
from evalrunner.suite.yaml import Document
from evalrunner.targets.conversation import Conversation
from evalrunner.targets.http import HttpTarget
from evalrunner.targets.python import PythonTarget
from evalrunner.targets.recorded import RecordedColumn
from evalrunner.templates import PromptError

MAX_SLICE_VALUES = 100  # a table of more is unreadable, and a column of ids is a mistake
MIN_DISTINCT_ROWS = 20  # from here on, a slice with one row per value is a column of ids
MAX_NAMES = 5  # scorers or targets named in a message
MAX_NAME = 60  # characters of a sample in a message

# Columns of accepted answers in public datasets and in the formats of other evaluation tools, without separators
EXPECTED_NAMES = frozenset(
    {"answer", "answers", "target", "targets", "label", "labels", "reference", "references", "groundtruth", "gold", "ideal",
     "solution", "correct", "correctanswer", "bestanswer", "expectedoutput", "expectedanswer", "expectedresponse",
     "referenceanswer", "goldanswer", "correctresponse", "referenceoutput", "referenceoutputs", "expecteds"}
)  # fmt: skip
# Checks per row in other tools: a column of each assertion (promptfoo's CSV files), or a list of them
CHECK_COLUMN = re.compile(r"(?i)(check|assert|assertion)s?|assert_?set|__(expected|metric|threshold|config)\w*")
NESTED_CHECKS = re.compile(r"asserts?|assertions?", re.IGNORECASE)
TEMPLATE_COMMENT = re.compile(r"\{%-?\s*raw.*?endraw\s*-?%\}|\{\{.*?\}\}|(\{#.*?#\})", re.DOTALL)
WORD = r"\s*([A-Za-z_][\w.]*)\s*"
# What other template languages write for {{ name }}
PLACEHOLDER = re.compile(
    rf"\$\{{{WORD}\}}|\#\{{{WORD}\}}|%\({WORD}\)[sdrf]|(?<![{{$#])\{{{WORD}(?:[!:][^{{}}\n]*)?\}}(?!\}})|<%=?{WORD}%>"
    rf"|\[\[{WORD}\]\]|<<{WORD}>>|\$([A-Za-z_]\w*)|%([A-Za-z_]\w*)%|<{WORD}>|\[{WORD}\]|@([A-Za-z_]\w*)"
)
UNAMBIGUOUS = re.compile(r"[$#]?\{.*\}|%\(.*|\[\[.*|<%.*|<<.*", re.DOTALL)  # no markup, no price, no mention


@dataclass(slots=True)
class DatasetCheck:
    """Sees every sample of the first pass, and reports what is wrong with the suite on this data.

    `rescored`: the samples are those of a stored run. `count` and `without_expected` are those seen so far.
    """

    suite: Suite
    targets: Sequence[PlannedTarget]
    scorers: Sequence[PlannedScorer]
    columns: ColumnCheck
    gates: Sequence[Gate] = ()
    rescored: bool = False
    document: Document | None = None
    row_checks: RowChecks | None = None
    count: int = 0
    without_expected: int = 0
    first_without: str = ""
    attached: AttachedContent = field(default_factory=AttachedContent)
    _requests: list[_Requests] = field(default_factory=list)
    _validators: list[tuple[str, SampleValidator]] = field(default_factory=list)
    _filters: list[_Filter] = field(default_factory=list)

    def __post_init__(self) -> None:
        capped = self.suite.run.max_cost is not None
        for target in self.targets:
            if target.prompt is not None or isinstance(target.call, HttpTarget):
                self._requests.append(_Requests(target, capped, self._templates_of(target.name)))
                if isinstance(target.call, Conversation):
                    self._validators.append(("", target.call))
            elif isinstance(target.call, SampleValidator):
                self._validators.append(("", target.call))
        for scorer in self.scorers:
            function: object = scorer.bound.scorer.function
            if isinstance(function, SampleValidator):
                self._validators.append((f"{scorer.bound.name}: ", function))
            if isinstance(function, SampleFilter):
                self._filters.append(_Filter(scorer, function))

    def _templates_of(self, target: str) -> tuple[tuple[str, str], ...]:
        """The templates of a target's prompt, each with its place in the suite."""
        own = next((spec.prompt for spec in self.suite.targets if spec.name == target), None)
        prompt = own or self.suite.prompt
        if prompt is None or self.document is None:
            return ()
        places = [self.document.problem_at(part.key_path or prompt.key_path, "").where for part in prompt.parts]
        return tuple(zip((part.template for part in prompt.parts), places, strict=True))

    def __call__(self, sample: Sample) -> Sequence[str]:
        """The problems of one sample: a template that cannot be filled in, a missing column, an unbounded cost."""
        self.columns.add(sample)
        self.count += 1
        if not any(map(str.strip, sample.expected)):
            self.without_expected += 1
            self.first_without = self.first_without or _name_of(sample, self.suite)
        else:
            for one in self._filters:
                one.add(sample, self.suite)
        problems: list[str] = []
        for requests in self._requests:
            if problem := requests.add(sample, self.attached):
                problems.append(problem)
        self.attached.end(sample)
        for prefix, validator in self._validators:
            if problem := validator.check(sample):
                problems.append(prefix + problem)
        if self.row_checks is not None:
            problems.extend(self.row_checks.add(sample))
        return list(dict.fromkeys(problems)) if problems else ()

    def report(self, document: Document, scan: Scan, name: str) -> None:
        """Add the problems of the dataset as a whole to the document. `name` is that of the dataset in messages."""
        self.columns.report(document, scan.columns)
        if self.row_checks is not None:
            self.row_checks.report_columns(document, scan.columns)
        self._report_expected(document, scan, name)
        if not self._selects:
            for gate, problem in self.columns.empty_slices(self.gates):
                document.problem(gate.spec.key_path, problem)
        self._report_checks(document, scan.columns, scan.nested)

    def report_unscanned(self, document: Document) -> None:
        """Add what the inline rows show without a scan, which failed, to the document."""
        rows = self.suite.dataset.rows or ()
        columns = dict.fromkeys(str(name) for row in rows for name in row)
        nested = [
            f"{name}.{key}" for row in rows for name, item in row.items() if isinstance(item, Mapping) for key in item
        ]
        self._report_checks(document, columns, dict.fromkeys(nested))

    def _report_checks(self, document: Document, columns: Iterable[str], nested: Iterable[str]) -> None:
        for path, column in self._unread_checks(list(columns), nested):
            document.problem(path, unread_check_problem(column), at_key="rows" in path)

    def notices(self, scan: Scan) -> Iterator[str]:
        """What is likely a slip, though the run can start."""
        names = [scorer.bound.name for scorer in self._need_expected()]
        if names and 0 < self.without_expected < self.count:
            skips = "skips" if len(names) == 1 else "skip"
            verb = "has" if self.without_expected == 1 else "have"
            samples = f"{self.without_expected:,} of {self.count:,} samples {verb} no expected answer"
            hint = nearest("expected", (one for one in scan.columns if one != "expected"))
            hint = hint.replace("did you mean", "is it in the column") if not self._mapped else ""
            yield f"{samples}, so {_listed(names)} {skips} {'it' if self.without_expected == 1 else 'them'} (first: {self.first_without}){hint}"
        takers = [
            one.bound.name
            for one in self.scorers
            if _is_custom("scorers", one.spec.type) and "expected" in one.bound.call.parameters
        ]
        if takers and self.without_expected == self.count:
            yield f"no sample has an expected answer: {_listed(takers)} {'gets' if len(takers) == 1 else 'get'} None for 'expected'"
        yield from (notice for one in self._filters if (notice := one.notice()))
        known = [*scan.columns, "input", *(["expected"] if self.without_expected < self.count else [])]
        texts = {requests.target.name: requests.notice(self.count, known) for requests in self._requests}
        for text, count in Counter(filter(None, texts.values())).items():
            owners = [target for target, own in texts.items() if own == text]
            yield text if count == len(self.targets) else f"target {_quoted(owners)}: {text}"
        if not self.rescored:
            yield from unused_settings(self.suite, self.scorers)
        yield from self.columns.notices()
        yield from self._comments()
        if self._selects:
            yield from (f"gate {gate.spec.text!r}: {why}" for gate, why in self.columns.empty_slices(self.gates))

    def _comments(self) -> Iterator[str]:
        """Templates with a comment, which is not sent: `{# … #}` may have been meant as text."""
        templates = {text for requests in self._requests for text in requests.templates()[0] or ()}
        for text in sorted(templates):
            if (comment := next(filter(None, TEMPLATE_COMMENT.findall(text)), None)) is not None:
                shown = one_line(comment, MAX_NAME)
                yield f"the prompt contains {shown!r}, a comment, which is not sent; write {{{{ '{{#' }}}} for the characters"

    @property
    def _selects(self) -> bool:
        """Whether only some samples of the dataset are used: the others may have what these lack."""
        return self.rescored or bool(self.suite.dataset.where) or self.suite.dataset.limit is not None

    @property
    def _mapped(self) -> bool:
        return self.suite.dataset.columns.expected is not None

    def _need_expected(self) -> list[PlannedScorer]:
        return [scorer for scorer in self.scorers if scorer.bound.scorer.declaration.needs_expected]

    def _report_expected(self, document: Document, scan: Scan, name: str) -> None:
        """Report scorers that would skip every sample, in one problem for each reason."""
        names = [scorer.bound.name for scorer in self._need_expected()]
        if not self.count:
            return
        if names and self.without_expected == self.count:
            needed = f"{_listed(names)} {'needs' if len(names) == 1 else 'need'} it"
            document.problem(*self._expected_problem(scan, name, needed))
            return
        for one in self._filters:
            if problem := one.problem():
                document.problem(one.scorer.spec.key_path, problem)

    def _expected_problem(self, scan: Scan, name: str, needed: str) -> tuple[KeyPath, str]:
        """Where to say that no sample has an expected answer, and how. `needed` names the scorers."""
        dataset, spec = self.suite.dataset, self.suite.dataset.columns.expected
        if self.rescored:
            return dataset.key_path, f"no sample of {name} has an expected answer, but {needed.removesuffix('it')}one"
        names = column_names(spec)
        chosen = "selected samples" if self._selects else "samples"
        if spec is not None or "expected" in scan.columns:
            source = f"the column {_quoted(names)}" if names and any(names) else "columns.expected"
            message = f"{source} is empty in all {self.count:,} {chosen} of {name}, but {needed}"
            return ((*dataset.key_path, "columns", "expected") if spec is not None else dataset.key_path), message
        likely = likely_expected(scan.columns, self._taken())
        example = "COLUMN" if likely is None else likely
        example = example if PLAIN_YAML.fullmatch(example) else json.dumps(example, ensure_ascii=False)
        if dataset.limit is not None:  # the rest was not read
            name = f"the first {counted(self.count, 'sample')} of {name}"
        message = f"no column 'expected' in {name}, but {needed}; it has: {known_columns(scan.columns)}"
        return dataset.key_path, f"{message}. Map the expected answer: columns: {{expected: {example}}}"

    def _taken(self) -> set[str]:
        """Columns that are no expected answer, because they are something else."""
        mapped = self.suite.dataset.columns
        specs = (
            mapped.id or ColumnSpec("id"),
            mapped.input or ColumnSpec("input"),
            mapped.messages or ColumnSpec(MESSAGES),
        )
        calls = [target.call for target in self.targets if isinstance(target.call, RecordedColumn)]
        recorded = [column for call in calls for column in (call.column, call.tool_calls) if column is not None]
        return {*(name for spec in specs for name in column_names(spec)), *recorded, *self.suite.slices}

    def _unread_checks(self, columns: Collection[str], nested: Iterable[str]) -> Iterator[tuple[KeyPath, str]]:
        """Path and name of each column that looks like checks of its row and that nothing reads."""
        names = [name for name in columns if CHECK_COLUMN.fullmatch(name) and name != CHECKS]
        names += [name for name in nested if NESTED_CHECKS.fullmatch(name.rpartition(".")[2])]
        if not names or self.rescored or self._custom_code_reads_samples():
            return
        texts = list(texts_that_name_columns(self.suite))
        for name in names:
            first = name.partition(".")[0] if name not in columns else name
            word = re.compile(rf"(?<![\w]){re.escape(first)}(?!\w)")
            if not any(word.search(text) for text in texts):
                yield self._place_of(name), name

    def _place_of(self, column: str) -> KeyPath:
        """The path of the first inline row with a column; of other datasets their own path."""
        path = self.suite.dataset.key_path
        for number, row in enumerate(self.suite.dataset.rows or ()):
            if column in row:
                return (*path, "rows", number, column)
            outer, _, inner = column.partition(".")
            if isinstance(row.get(outer), Mapping) and inner in row[outer]:
                return (*path, "rows", number, outer, inner)
        return path

    def _custom_code_reads_samples(self) -> bool:
        for scorer in self.scorers:
            if "sample" in scorer.bound.call.parameters and _is_custom("scorers", scorer.spec.type):
                return True
        for target in self.targets:
            call = target.call.target if isinstance(target.call, Conversation) else target.call
            if isinstance(call, PythonTarget):
                if "sample" in call.function.parameters:
                    return True
            elif target.prompt is None and _is_custom("targets", target.kind):
                return True
        return False


UNKNOWN_NAME = re.compile(r"the template uses '([^']+)', which this sample does not have")


@dataclass(slots=True)
class _Requests:
    """What a target sends for each sample, and whether that is always the same."""

    target: PlannedTarget
    capped: bool
    templates_at: Sequence[tuple[str, str]] = ()  # the text of each template, and its place in the suite
    first: Any = None
    varies: bool = False

    def add(self, sample: Sample, attached: AttachedContent) -> str | None:
        """The problem with one sample, if its request cannot be rendered; what it attaches is added to `attached`."""
        prompt, call = self.target.prompt, self.target.call
        try:
            if prompt is not None:
                sent: Any = prompt.render(sample)
                attached.add(sent)
                if (problem := content_problem(self.target, sent)) is not None:
                    return problem
                if self.capped and (kind := unbounded_part(sent)) is not None:
                    return (
                        f"max_cost is set, but the cost of a part of type {kind!r} is not bounded; remove one of them"
                    )
            else:
                assert isinstance(call, HttpTarget)  # there is no other kind
                sent = call.requests.render(sample)
        except PromptError as broken:
            return self._placed(str(broken))
        if not self.varies:
            if self.first is None:
                self.first = sent
            self.varies = sent != self.first
        return None

    def _placed(self, problem: str) -> str:
        """The problem with the place of the template that uses an unknown name."""
        if unknown := UNKNOWN_NAME.match(problem):
            word = re.compile(rf"\b{re.escape(unknown[1])}\b")
            for text, where in self.templates_at:
                if word.search(text):
                    return PlacedProblem(problem, where)
        return problem

    def notice(self, count: int, columns: Sequence[str]) -> str | None:
        """That the prompt is the same for every sample, or that it sends the placeholder of another template language."""
        templates, what = self.templates()
        if templates is None or self.first is None:
            return None
        literal = [text for text in templates if "{% raw" not in text]
        if self.varies or count < 2:
            for text, name in _placeholders(literal, columns):
                if UNAMBIGUOUS.fullmatch(text):
                    return f"{what} contains {text!r}, which is sent unchanged; a column is written {{{{ {name} }}}}"
            return None
        same = f"{what} is the same for all {count:,} samples"
        for text, name in _placeholders(literal, columns):
            return f"{same}: {text!r} is sent unchanged; a column is written {{{{ {name} }}}}"
        for text in literal:  # the name of no column, as a prompt from elsewhere has it
            for match in PLACEHOLDER.finditer(text):
                if UNAMBIGUOUS.fullmatch(match[0]):
                    return f"{same}: {match[0]!r} is sent unchanged; a column is written {{{{ input }}}}"
        code = " ".join(part for text in templates for part in TEMPLATE_CODE.findall(text))
        if re.search(r"\binput\b", code):
            return f"{same}, as the values that it inserts are"
        if code:
            return f"{same}, as what it inserts does not change; {{{{ input }}}} inserts the input"
        return f"{same}, as it uses no column; {{{{ input }}}} inserts the input"

    def templates(self) -> tuple[list[str] | None, str]:
        """The texts of the request, None if it has none of its own; and what to call it."""
        prompt, call = self.target.prompt, self.target.call
        if prompt is not None:
            own = prompt.parts is not None and MESSAGES not in prompt.roles
            return ([text for role, text in prompt.parts or () if role != SHOTS] if own else None), "the prompt"
        assert isinstance(call, HttpTarget)  # there is no other kind
        return list(texts_in([call.requests.definition["path"], call.requests.definition["body"]])), "the request"


@dataclass(slots=True)
class _Filter:
    """A scorer that applies to some samples only, and why it does not apply to the others."""

    scorer: PlannedScorer
    function: SampleFilter
    applies: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    first: str = ""

    def add(self, sample: Sample, suite: Suite) -> None:
        """Count one sample with an expected answer."""
        reason = self.function.skip_reason(sample)
        if reason is None:
            self.applies += 1
            return
        self.first = self.first or _name_of(sample, suite)
        self.reasons[reason] += 1

    def problem(self) -> str | None:
        """That the scorer applies to no sample with an expected answer."""
        if self.applies or not self.reasons:
            return None
        reason, count = self.reasons.most_common(1)[0]
        return f"{self.scorer.bound.name!r} applies to no sample: {reason} (all {count:,}; first: {self.first})"

    def notice(self) -> str | None:
        if not self.applies or not self.reasons:
            return None
        skipped = self.reasons.total()
        reason = self.reasons.most_common(1)[0][0]
        return (
            f"{self.scorer.bound.name} does not apply to {counted(skipped, 'sample')}: {reason} (first: {self.first})"
        )


@dataclass(slots=True)
class ColumnCheck:
    """Collects the values of cluster and slice columns during the scan, and reports unusable columns.

    `conversations` are the columns that messages come from. A sample may lack one: it is the first turn.
    """

    design: Design
    conversations: Mapping[KeyPath, str] = field(default_factory=dict)
    groups: list[tuple[KeyPath, Groups, set[str]]] = field(default_factory=list)
    samples: int = 0
    population: Population = field(init=False)
    unseen: dict[KeyPath, str] = field(init=False)

    def __post_init__(self) -> None:
        self.unseen = dict(self.conversations)
        self.population = Population.of(self.design)
        if self.design.cluster is not None:
            self.groups.append((("dataset", "cluster"), Groups(self.design.cluster), set()))
        for place, column in enumerate(self.design.slices):
            self.groups.append((("slices", place), Groups(column), set()))

    def add(self, sample: Sample) -> None:
        """Collect the values of one sample."""
        self.samples += 1
        self.population.add(sample)
        for path in [path for path, name in self.unseen.items() if find_value(sample.metadata, name) is not ABSENT]:
            del self.unseen[path]
        for _, groups, texts in self.groups:
            if len(texts) <= MAX_SLICE_VALUES:
                texts.add(groups.text_of(sample))

    def report(self, document: Document, columns: tuple[str, ...]) -> None:
        """Add the problems to the document. `columns` are those of the dataset."""
        for path, name in self.unseen.items():
            known = nearest(name, columns) or f"; it has {known_columns(columns)}"
            document.problem(path, f"no sample has the column {name!r}{known}")
        for path, groups, texts in self.groups:
            if texts <= {""} and self.samples:
                known = nearest(groups.column, columns) or f"; it has {', '.join(columns)}"
                document.problem(path, f"no sample has a value of {groups.column!r}{known}")
            elif path[0] == "slices" and len(texts) > MAX_SLICE_VALUES:
                document.problem(
                    path, f"{groups.column!r} has over {MAX_SLICE_VALUES} values; slices are for columns with a few"
                )

    def notices(self) -> Iterator[str]:
        """Slices of one sample each: a column of ids."""
        for path, groups, texts in self.groups:
            if path[0] == "slices" and len(texts) == self.samples >= MIN_DISTINCT_ROWS:
                yield f"slices: {groups.column!r} has a different value in each of the {self.samples:,} samples"

    def empty_slices(self, gates: Sequence[Gate]) -> Iterator[tuple[Gate, str]]:
        """The gates on a value that no sample has, each with what the column has. A baseline may have had the value."""
        for gate in gates:
            if gate.spec.slice is None or gate.spec.baseline is not None:
                continue
            ((column, wanted),) = gate.spec.slice.items()
            texts = next((texts for _, groups, texts in self.groups if groups.column == column), {wanted})
            if wanted in texts or wanted == "*" or len(texts) > MAX_SLICE_VALUES:
                continue
            listed = sorted(filter(None, texts))
            hint = nearest(wanted, listed) or f"; it has {known_columns(listed)}"
            yield gate, f"no sample has {wanted!r} in {column!r}{hint}"


def conversations_of(suite: Suite) -> dict[KeyPath, str]:
    """The columns that messages come from, by the place in the suite that names them."""
    prompts = [spec.prompt or suite.prompt for spec in suite.targets if spec.model is not None]
    parts = [part for prompt in prompts if prompt is not None for part in prompt.parts if part.role == MESSAGES]
    columns = {part.key_path: part.template.strip() for part in parts}
    mapped = suite.dataset.columns.messages
    if mapped is not None and isinstance(mapped.column, str) and mapped.column and not is_template(mapped.column):
        columns = {path: name for path, name in columns.items() if name != MESSAGES}
        columns["dataset", "columns", "messages"] = mapped.column
    return columns


def unread_check_problem(column: str) -> str:
    """What to do about a column of checks that nothing reads."""
    return (
        f"the column {column!r} looks like checks of each row in another format, but nothing reads it; write them in the "
        f"column 'checks', such as [{{contains: 30 days}}], or remove the column"
    )


def unused_settings(suite: Suite, scorers: Sequence[PlannedScorer]) -> Iterator[str]:
    """Notices of the suite's prompt, parameters, judge and prices where nothing uses them."""
    typed = [f"{target.name!r} ({target.type})" for target in suite.targets if target.type is not None]
    if suite.params and len(typed) == len(suite.targets):
        yield f"{'params' if suite.tools is None else 'tools'} are not used: no target is a model"
    if suite.judge is not None and all(not one.judges or one.spec.judge is not None for one in scorers):
        yield "the judge of the suite is not used: no scorer asks it"
    asked = [model for one in scorers for model in (one.spec.judge, one.spec.model)]
    models = (*(target.model for target in suite.targets), suite.judge, *asked)
    names = {member.model for spec in models if spec is not None for member in spec.members}
    known = names | {name.partition("/")[2] for name in names if "/" in name}
    for name in suite.prices:
        if name not in known and (hint := nearest(name, known)):
            yield f"prices: no model {name!r} in this suite{hint}"
    if (suite.prompt is not None or suite.prompts) and typed:
        plural = "s" if len(typed) > 1 else ""
        yield f"the prompt is not sent to target{plural} {_listed(typed)}; prompts are for models"
    elif suite.prompt is not None and all(target.prompt is not None for target in suite.targets):
        yield "the prompt of the suite is not used: every target has its own"


def foreign_baselines(baselines: Iterable[Baseline], keys: Iterable[SampleKey]) -> Iterator[str]:
    """Notices of baselines that have none of the samples: they are of another dataset."""
    ids = {key.id for key in keys}
    for baseline in {baseline.label: baseline for baseline in baselines}.values():
        if baseline.rows and not any(sample in ids for _, sample in baseline.rows):
            yield f"the baseline {baseline.label!r} has none of the {counted(len(ids), 'sample')}: it is of another dataset"


def likely_expected(columns: Iterable[str], taken: Iterable[str]) -> str | None:
    """The column that most likely holds the expected answer, None if none stands out."""
    free = [name for name in columns if name not in set(taken)]
    plain = {re.sub(r"[\W_]+", "", name).lower(): name for name in reversed(free)}
    for known in ("expected", *sorted(EXPECTED_NAMES & plain.keys(), key=list(plain).index, reverse=True)):
        if known in plain:
            return plain[known]
    near = difflib.get_close_matches("expected", plain, n=1)
    if near:
        return plain[near[0]]
    return free[0] if len(free) == 1 else None


def _placeholders(texts: Iterable[str], columns: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Placeholders of other template languages that name a column, each with the column."""
    known = {name.lower(): name for name in columns}
    for text in texts:
        for match in PLACEHOLDER.finditer(TEMPLATE_CODE.sub("", text)):
            path = next(filter(None, match.groups()))
            for name in (path, path.rpartition(".")[2]):
                if name.lower() in known:
                    yield match[0], known[name.lower()]
                    break


def _name_of(sample: Sample, suite: Suite) -> str:
    """The id of a sample where the dataset gives it, else the start of its input."""
    names = column_names(suite.dataset.columns.id or ColumnSpec("id"))
    value = (
        sample.id if not names or (names[0] and find_value(sample.metadata, names[0]) is not ABSENT) else sample.input
    )
    return repr(one_line(plain_text(value), MAX_NAME))


def _is_custom(group: Any, kind: str) -> bool:
    """Whether a type is user-defined code, which may read any column."""
    home = home_of(kind) if group == "scorers" else known_names(group).get(kind, kind)
    return kind in ("python", "not_python") or not (home.startswith("evalrunner.") or kind == CHECKS)


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    named = [*names[:MAX_NAMES], *([f"{len(names) - MAX_NAMES} more"] if len(names) > MAX_NAMES else [])]
    return " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)


def _quoted(names: Sequence[str]) -> str:
    return _listed([repr(name) for name in names])
