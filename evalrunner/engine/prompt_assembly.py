"""Prompts of a suite to compiled ones, with their worked examples read from files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from evalrunner.datasets.resolve import open_dataset
from evalrunner.domain import Sample
from evalrunner.errors import SuiteError
from evalrunner.limits import Limits
from evalrunner.prompts import Prompt, Shots, compile_prompt
from evalrunner.suite.schema import KeyPath, PromptSpec, ShotsSpec
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

    def prompt(self, spec: PromptSpec | None) -> Prompt | None:
        """The compiled prompt, None if it is wrong."""
        if spec is None:
            return compile_prompt(None)
        shots: dict[int, Shots] = {}
        for place, part in enumerate(spec.parts):  # one by one, so that a problem has its own line
            if part.shots is not None:
                if (found := self._shots(part.shots, part.key_path)) is None:
                    return None
                shots[place] = found
            elif self._compiled([(part.role, part.template)], {}, part.key_path) is None:
                return None
        pairs = [(part.role, shots[at].text if at in shots else part.template) for at, part in enumerate(spec.parts)]
        path = next((part.key_path for part in spec.parts if part.shots is not None), spec.key_path)
        return self._compiled(pairs, shots, path)

    def _compiled(self, pairs: Sequence[tuple[str, str]], shots: Mapping[int, Shots], path: KeyPath) -> Prompt | None:
        try:
            return compile_prompt(pairs, self.limits, shots)
        except PromptError as wrong:
            self.document.problem(path, str(wrong))
            return None

    def _shots(self, spec: ShotsSpec, path: KeyPath) -> Shots | None:
        if id(spec) not in self.shots:  # the targets of a matrix share it
            self.shots[id(spec)] = None
            restrictions = None if self.document.is_owners(path) else self.document.restrictions
            try:
                self.shots[id(spec)] = open_shots(spec, self.spool_folder, self.limits, restrictions)
            except SuiteError as wrong:
                for one in wrong.problems:
                    key = tuple(one.key.split(".")[1:]) if one.key.startswith("dataset.") else ()
                    self.document.problem((*path, *key), f"{one.where}: {one.message}" if one.where else one.message)
            except ValueError as wrong:
                self.document.problem(path, str(wrong))
        return self.shots[id(spec)]


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
