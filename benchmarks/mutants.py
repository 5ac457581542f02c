"""Change the code that decides, one operator at a time, and count the changes that the fast tests notice.

    python benchmarks/mutants.py                                  every room; a second run tests functions that changed
    python benchmarks/mutants.py evalrunner/gates/evidence.py     some files or folders
    python benchmarks/mutants.py --again evalrunner/stats         test the survivors of the last run again
    python benchmarks/mutants.py --report                         only the figures of the last run
    python benchmarks/mutants.py --all                            every operator of the tool

The tool is mutmut; its settings are in pyproject.toml. It works on a copy of the project in `mutants/`. A mutant is
killed if a test that calls its function fails, of the nearest and quickest ones that take five seconds together. One that
runs into the timeout counts as killed, and is shown apart.

Changed are comparisons, arithmetic, `and`, `or` and `not`, conditions of `x if c else y`, numbers, True and False,
`break` and `continue`, keys (strings without a space), and keyword arguments, which are dropped.
Left out, because nearly all of them fail by themselves: positional arguments dropped, arguments and assigned values
replaced by None, and the second and third spelling of a key. `--all` has them.
Left out, because they decide nothing: message texts (strings with a space), docstrings and annotations.
Left out, because nothing depends on them: `strict=` of zip, a guard that no input reaches.
Left out, because mutmut does not change them: constants of modules, properties and other decorated functions.

Survivors that no test can or should kill are listed in tests/mutants.md with the reason. The last lines name survivors
that are not listed there, and entries that are no longer survivors. Exit code 1 if fewer than 90% of the mutants are
killed or a survivor is not listed.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import re
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LISTED = ROOT / "tests" / "mutants.md"
WANTED = 0.9
TEST_SECONDS = 5.0  # for each mutant
OPERATORS = 2  # number of the choice of operators: results of another choice are removed
KILLED = ("killed", "timeout", "segfault")
NOTICED = ("survived", "no tests", "suspicious")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change, with what the tests said about it."""

    name: str
    path: str
    status: str

    @property
    def change(self) -> str:
        """`function: old line → new line`, whatever the number of the mutant."""
        from mutmut.mutation.diff_apply import get_diff_for_mutant

        lines = get_diff_for_mutant(self.name, path=Path(self.path)).splitlines()[2:]
        old = " ".join(line[1:].strip() for line in lines if line.startswith("-"))
        new = " ".join(line[1:].strip() for line in lines if line.startswith("+"))
        return f"`{_function(self.name)}`: `{old}` → `{new}`"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("paths", nargs="*", help="files or folders (default: every room)")
    options.add_argument("--report", action="store_true", help="only the figures of the last run")
    options.add_argument("--again", action="store_true", help="test the survivors of the last run again")
    options.add_argument(
        "--seconds", type=float, default=TEST_SECONDS, help="time of the tests of one mutant (default: 5)"
    )
    options.add_argument("--processes", type=int, default=1, help="mutants tested at a time (default: 1)")
    options.add_argument("--all", action="store_true", help="every operator of the tool, not only decisions")
    arguments = options.parse_args()
    os.chdir(ROOT)
    sys.path.remove(str(Path(__file__).parent))  # coverage.py beside this file is not the package that mutmut imports
    _choose_operators(every=arguments.all)
    _set_up_workers(arguments.seconds)
    paths = [
        str(Path(path).resolve().relative_to(ROOT)) if Path(path).is_absolute() else path for path in arguments.paths
    ]
    if not arguments.report:
        _run(paths, again=arguments.again, processes=arguments.processes)
    return _report([mutant for mutant in _mutants() if not paths or mutant.path.startswith(tuple(paths))])


def _choose_operators(*, every: bool) -> None:
    """Replace operators of mutmut, which has no setting for this. Mutants made with other operators are removed."""
    from libcst import Arg, SimpleString
    from mutmut.mutation import file_mutation, mutators

    def change_keys(node):
        if isinstance(node, SimpleString) and " " not in node.value:
            changes = mutators.operator_string(node)
            yield from changes if every else itertools.islice(changes, 1)

    def drop_keywords(node):
        for place, argument in enumerate(node.args):
            if argument.keyword is not None and argument.keyword.value != "strict":
                yield node.with_changes(args=[*node.args[:place], *node.args[place + 1 :]])

    chosen = {mutators.operator_string: change_keys}
    if not every:
        chosen |= {mutators.operator_arg_removal: drop_keywords, mutators.operator_assignment: None}
    operators = [(node, chosen.get(operator, operator)) for node, operator in mutators.mutation_operators]
    mutators.mutation_operators[:] = [(node, operator) for node, operator in operators if operator is not None]
    skipped = file_mutation.MutationVisitor._skip_node_and_children  # noqa: SLF001

    def skip_guards(visitor, node):
        guard = isinstance(node, Arg) and node.keyword is not None and node.keyword.value == "strict"
        return guard or skipped(visitor, node)

    file_mutation.MutationVisitor._skip_node_and_children = skip_guards  # noqa: SLF001
    made_with = ROOT / "mutants" / "operators"
    wanted = f"{OPERATORS} {every}"
    if not made_with.exists() or made_with.read_text() != wanted:
        shutil.rmtree(made_with.parent, ignore_errors=True)
        made_with.parent.mkdir()
        made_with.write_text(wanted)


def _set_up_workers(most_seconds: float) -> None:
    """Count which test calls what in this process only: the processes that tests start have no settings of mutmut.

    And run the tests named after the file first, then the quickest, up to `most_seconds`: numerical code is called by nearly
    every test, and a test that kills is seldom far away.
    """
    from mutmut import __main__ as tool
    from mutmut.configuration import config
    from mutmut.state import state
    from mutmut.workers.isolation import ForkServerRunner

    set_mutant, submit = tool.set_mutant_under_test, ForkServerRunner.submit

    def set_here(name):
        set_mutant(name)
        if name == "stats":
            del os.environ["MUTANT_UNDER_TEST"]

    def submit_nearest_first(runner, mutant, tests, cpu_limit, estimated):
        module, seconds = mutant.rpartition(".")[0].rpartition(".")[2], state().duration_by_test
        nearest = sorted(tests, key=lambda test: (f"/test_{module}" not in test, seconds[test]))
        spent = itertools.accumulate(seconds[test] for test in nearest)
        chosen = [test for test, end in zip(nearest, spent, strict=True) if end <= most_seconds] or nearest[:1]
        taken = sum(seconds[test] for test in chosen)
        limit = (taken + config().timeout_constant) * config().timeout_multiplier
        submit(runner, mutant, chosen, math.ceil(2 * limit), taken)  # CPU seconds, twice the real ones

    tool.set_mutant_under_test = set_here
    ForkServerRunner.run_clean_tests = lambda runner, tests: 0  # they have passed while their calls were counted
    ForkServerRunner.submit = submit_nearest_first


def _run(paths: list[str], *, again: bool, processes: int) -> None:
    from mutmut.__main__ import cli

    # else only new tests are asked which functions they call, and old tests that call new functions are missed
    (ROOT / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    _forget_untested()
    names: list[str] = []
    if again:
        names = [m.name for m in _mutants() if m.status in NOTICED and m.path.startswith(tuple(paths or [""]))]
    elif paths:
        names = [path.removesuffix(".py").rstrip("/").replace("/", ".") + ".*" for path in paths]
    try:
        cli.main(["run", "--max-children", str(processes), *names], standalone_mode=False)
    except SystemExit as end:
        if end.code:
            raise


def _forget_untested() -> None:
    """Forget the result of mutants that no test called: there may be one now."""
    for data in _files():
        codes = data.exit_code_by_key
        if untested := [name for name, code in codes.items() if _status_of(code) == "no tests"]:
            codes.update(dict.fromkeys(untested))
            data.save()


def _mutants() -> list[Mutant]:
    return [
        Mutant(name, str(data.path), _status_of(code))
        for data in _files()
        for name, code in data.exit_code_by_key.items()
    ]


def _files():
    from mutmut.mutation.data import SourceFileMutationData
    from mutmut.utils.file_utils import walk_mutatable_files

    for path in sorted(walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        yield data


def _status_of(code: int | None) -> str:
    from mutmut.stats import status_by_exit_code

    return status_by_exit_code[code]


def _report(mutants: list[Mutant]) -> int:
    tested = [mutant for mutant in mutants if mutant.status != "not checked"]
    rows = sorted({mutant.path for mutant in tested})
    print(f"\n{'file':40}{'mutants':>9}{'killed':>9}{'timeout':>9}{'survived':>9}{'no test':>9}{'share':>8}")
    for path in [*rows, "total"]:
        count = Counter(mutant.status for mutant in tested if path in (mutant.path, "total"))
        killed = sum(count[status] for status in KILLED)
        total = sum(count.values())
        survived = count["survived"] + count["suspicious"]
        print(
            f"{path:40}{total:9}{killed - count['timeout']:9}{count['timeout']:9}"
            f"{survived:9}{count['no tests']:9}{killed / max(total, 1):8.1%}"
        )
    if skipped := len(mutants) - len(tested):
        print(f"not tested: {skipped}")
    listed = Counter(re.findall(r"^- (.*)$", LISTED.read_text(), re.MULTILINE)) if LISTED.exists() else Counter()
    survivors = [(mutant, mutant.change) for mutant in tested if mutant.status in NOTICED]
    changes = Counter(change for _, change in survivors)
    unlisted = [(mutant, change) for mutant, change in survivors if change not in listed]
    print(f"\n{len(unlisted)} survivors that tests/mutants.md does not list")
    for mutant, change in unlisted:
        print(f"{mutant.name}{' (no test)' * (mutant.status == 'no tests')}\n- {change}")
    functions = {_function(mutant.name) for mutant in tested}
    for change in listed:
        if change not in changes and change.split("`")[1] in functions:
            print(f"listed, but killed or gone:\n- {change}")
    share = sum(mutant.status in KILLED for mutant in tested) / max(len(tested), 1)
    return int(share < WANTED or bool(unlisted))


def _function(name: str) -> str:
    """`evalrunner.gates.evidence.x_find__mutmut_3` as `gates.evidence.find`."""
    module, _, function = name.removeprefix("evalrunner.").rpartition(".")
    function = re.sub(r"__mutmut_\d+$", "", function)
    return f"{module}.{function.removeprefix('x_').removeprefix('xǁ').replace('ǁ', '.')}"


if __name__ == "__main__":
    sys.exit(main())
