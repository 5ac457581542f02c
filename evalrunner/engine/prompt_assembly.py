"""Prompts of a suite to compiled ones, with their worked examples read from files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Final

from evalrunner.attachments import AttachmentReader
from evalrunner.datasets.resolve import open_dataset
from evalrunner.domain import Sample
from evalrunner.errors import SuiteError
from evalrunner.limits import Limits
from evalrunner.prompts import Content, Prompt, Shots, compile_prompt
from evalrunner.suite.data_address import is_address
from evalrunner.suite.schema import DatasetSpec, KeyPath, PromptPart, PromptSpec, ShotsSpec, Suite
from evalrunner.suite.untrusted import Restrictions
from evalrunner.suite.yaml import Document
from evalrunner.templates import PromptError

MAX_POOL: Final = 10_000  # samples that examples are chosen from; they are kept in memory


@dataclass(slots=True)
class PromptAssembly:
    """Compiles prompts and adds their problems to the document. `shots` are the examples read so far, by the id() of their spec."""

    document: Document
    spool_folder: Path
    limits: Limits
    shots: dict[int, Shots | None]
    suite: Suite

    def prompt(self, spec: PromptSpec | None) -> Prompt | None:
        """The compiled prompt, None if it is wrong."""
        if spec is None:
            return compile_prompt(None)
        shots: dict[int, Shots] = {}
        contents = {at: self._content(part) for at, part in enumerate(spec.parts) if part.content}
        for place, part in enumerate(spec.parts):  # one by one, so that a problem has its own line
            if part.shots is not None:
                if (found := self._shots(part.shots, part.key_path)) is None:
                    return None
                shots[place] = found
            elif part.content:
                if not self._compiles(part):
                    return None
            elif self._compiled([(part.role, part.template)], {}, {}, part.key_path) is None:
                return None
        pairs = [(part.role, shots[at].text if at in shots else part.template) for at, part in enumerate(spec.parts)]
        path = next((part.key_path for part in spec.parts if part.shots is not None), spec.key_path)
        return self._compiled(pairs, shots, contents, path)

    def _content(self, part: PromptPart) -> Content:
        items = tuple((item.kind, item.template, item.detail) for item in part.content)
        return Content(items, self._files(self.suite.dataset, self.suite.folder))

    def _compiles(self, part: PromptPart) -> bool:
        """Whether the templates of a message are right, one by one, so that a problem has its own line."""
        before = len(self.document.problems)
        for item in part.content:
            self._compiled([(part.role, item.template)], {}, {}, item.key_path or part.key_path)
        return len(self.document.problems) == before

    def _files(self, dataset: DatasetSpec, folder: Path) -> AttachmentReader:
        """What reads attachments: beside the data first, then in the suite's folder."""
        restrictions, egress = self.document.restrictions, self.suite.run.egress
        roots = dict.fromkeys([*data_folders(dataset, folder), self.suite.folder])
        return AttachmentReader(
            tuple(roots),
            self.suite.folder,
            self.limits.attachment_mb,
            restrictions.file_refusal if restrictions is not None else None,
            restrictions.host_refusal if restrictions is not None else egress.refusal,
        )

    def _compiled(
        self,
        pairs: Sequence[tuple[str, str]],
        shots: Mapping[int, Shots],
        contents: Mapping[int, Content],
        path: KeyPath,
    ) -> Prompt | None:
        try:
            return compile_prompt(pairs, self.limits, shots, contents)
        except PromptError as wrong:
            self.document.problem(path, str(wrong))
            return None

    def _shots(self, spec: ShotsSpec, path: KeyPath) -> Shots | None:
        if id(spec) not in self.shots:  # the targets of a matrix share it
            self.shots[id(spec)] = None
            restrictions = None if self.document.is_owners(path) else self.document.restrictions
            try:
                shots = open_shots(spec, self.spool_folder, self.limits, restrictions)
                self.shots[id(spec)] = replace(shots, files=self._files(spec.dataset, spec.folder))
            except SuiteError as wrong:
                for one in wrong.problems:
                    key = tuple(one.key.split(".")[1:]) if one.key.startswith("dataset.") else ()
                    self.document.problem((*path, *key), f"{one.where}: {one.message}" if one.where else one.message)
            except ValueError as wrong:
                self.document.problem(path, str(wrong))
        return self.shots[id(spec)]


def data_folders(dataset: DatasetSpec, folder: Path) -> Iterator[Path]:
    """The folders of the files of a dataset, up to the first one that is a pattern."""
    for path in dataset.paths:
        if path != "-" and not is_address(path):
            parents = Path(path).parts[:-1]
            plain = takewhile(lambda name: not set(name) & set("*?[{"), parents)
            yield folder / Path(*plain)


def open_shots(spec: ShotsSpec, spool_folder: Path, limits: Limits, restrictions: Restrictions | None) -> Shots:
    """The examples that a prompt may use. Raises SuiteError for problems of the file, ValueError for too few samples."""
    source = open_dataset(
        spec.dataset, folder=spec.folder, spool_folder=spool_folder, restrictions=restrictions, limits=limits
    )
    scan = source.scan(lambda _: ())
    label = Path(spec.dataset.path or "").name
    if scan.count > MAX_POOL:
        raise ValueError(f"{label} has {scan.count:,} samples; choose at most {MAX_POOL:,} of them with where")
    samples = [sample for sample in source if sample.expected or spec.assistant is not None]
    if len(samples) < spec.n:
        with_answer = "" if spec.assistant is not None else " with an expected answer"
        raise ValueError(f"n is {spec.n}, but {label} has only {len(samples)} samples{with_answer}")
    if spec.seed is not None:
        samples.sort(key=lambda sample: _random(sample, spec.seed))
    described = {
        "path": spec.dataset.path, "sha256": scan.digest, "n": spec.n, "seed": spec.seed, "never": spec.never,
        "user": spec.user, "assistant": spec.assistant,
    }  # fmt: skip
    pool = tuple(replace(sample, expected=sample.expected[:1]) for sample in samples)
    return Shots(pool, spec.n, spec.never, label, json.dumps(described), spec.user, spec.assistant)


def _random(sample: Sample, seed: int | None) -> bytes:
    """A number for the order of a seed, which does not change when rows are added."""
    return hashlib.sha256(f"{seed}:{sample.id}".encode()).digest()
