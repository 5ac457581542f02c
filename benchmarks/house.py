"""Measure how large the code is and how far one row travels through it.

    python benchmarks/house.py                      this checkout
    python benchmarks/house.py --root ../old        another checkout, older ones included
    python benchmarks/house.py --hops 20            also the most frequent steps from file to file
    python benchmarks/house.py --no-trace           only what can be read from the source

From the source: files, lines, imports between files, circles of files (strongly connected components of the imports,
those inside functions included, those under TYPE_CHECKING left out), functions over 50 lines, places that read
`run.json` or `metrics.json`, and the assertions of the tests.

From three traced processes, each started fresh: a run of one CSV row against an OpenAI-compatible target on a local
socket with `exact_match` and one gate, then `evalrun show last` and `evalrun gate last` of it. `sys.setprofile` reports
every call in the main thread. A call counts when the code belongs to the package and is a function, a method or a class
body. A coroutine counts once, when it starts. Modules, generators, comprehensions and lambdas do not count. A step is
two calls in a row in different files; returns do not count. `running` leaves out what happens while a module is being
imported, class bodies above all.

The numbers depend on neither the machine nor its load; calls made by a timer may differ by one or two between two runs.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("evalrunner", "evalrun")  # the name of the package, today's first
MAX_FUNCTION_LINES = 50
RUN_FILES = ("run.json", "metrics.json")
RUN_FILE_NAMES = ("RUN_FILE", "METRICS_FILE")
READERS = ("read_json", "read_text", "read_bytes", "open", "load", "loads", "load_json")

SUITE = """\
name: one
dataset: data.csv
prompt: "{{{{ input }}}}"
target: {{name: model, model: mock-1, base_url: "http://127.0.0.1:{port}/v1", api_key: none}}
scorers: [exact_match]
gates: [exact_match >= 1]
"""
COMMANDS = (("run", ("suite.yaml",)), ("show", ("show", "last")), ("gate", ("gate", "last")))

# Runs in the traced process. `os._exit` is replaced because the command ends with it.
TRACER = """\
import importlib, json, os, sys
root, package, out = sys.argv[1:4]
sys.path.insert(0, root)
base = os.path.join(root, package) + os.sep
events = []

def profile(frame, event, arg):
    if event == "call" or event == "return":
        code = frame.f_code
        if code.co_filename.startswith(base):
            name = getattr(code, "co_qualname", code.co_name)
            place = (code.co_filename[len(base):], name, code.co_firstlineno)
            events.append((event == "call", *place, frame.f_lasti, code.co_flags))

class Ended(BaseException):
    pass

def leave(code):
    raise Ended(code)

main = importlib.import_module(package + ".cli.main").main
os._exit = leave
sys.argv = ["evalrun", *sys.argv[4:]]
sys.setprofile(profile)
try:
    main()
except (Ended, SystemExit) as ended:
    code = ended.args[0] if ended.args else 0
finally:
    sys.setprofile(None)
with open(out, "w") as file:
    json.dump({"code": code, "events": events}, file)
"""
OPTIMIZED, GENERATOR, RESUMABLE = 0x1, 0x20, 0x20 | 0x80 | 0x200  # code flags; all of the last can be resumed
AT_START = 8  # a coroutine's frame starts at or before this instruction; later ones are resumed


@dataclass(frozen=True, slots=True)
class Module:
    """One source file of the package, parsed."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    @property
    def room(self) -> str:
        """The folder below the package, empty for a top-level file."""
        parts = self.name.split("/")
        return parts[0] if len(parts) > 1 else ""


def find_package(root: Path) -> str:
    """The name of the package folder. Raises SystemExit where there is none."""
    for name in PACKAGES:
        if (root / name / "__init__.py").is_file():
            return name
    raise SystemExit(f"{root} has no package folder {' or '.join(PACKAGES)}; pass --root CHECKOUT")


def read_modules(root: Path, package: str) -> list[Module]:
    folder = root / package
    texts = [(path, path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.py"))]
    return [Module(path.relative_to(folder).as_posix(), path, text, ast.parse(text)) for path, text in texts]


def walk_at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for node in child.orelse:
                yield from walk_at_run_time(node)
        else:
            yield from walk_at_run_time(child)


def import_graph(modules: list[Module], package: str) -> dict[str, set[str]]:
    """From each file to the files of the package that it imports, anywhere in it."""
    files = {dotted_name(module.name, package): module.name for module in modules}
    graph: dict[str, set[str]] = {module.name: set() for module in modules}
    for module in modules:
        for node in walk_at_run_time(module.tree):
            for name in imported_names(node, dotted_name(module.name, package), module.name.endswith("__init__.py")):
                file = files.get(name) or files.get(name.rpartition(".")[0], module.name)
                if file != module.name:
                    graph[module.name].add(file)
    return graph


def dotted_name(file: str, package: str) -> str:
    parts = [package, *file.removesuffix(".py").split("/")]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(node: ast.AST, importer: str, is_package: bool) -> list[str]:
    """The full names that an import statement asks for; `from a import b` may mean the module `a.b` or a name in `a`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    source = node.module or ""
    if node.level:
        above = importer.split(".")[: None if is_package and node.level == 1 else -node.level + is_package]
        source = ".".join([*above, *([source] if source else [])])
    return [f"{source}.{alias.name}" for alias in node.names]


def find_circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one file (Tarjan 1972), largest first."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles: list[list[str]] = []

    def visit(file: str) -> None:
        index[file] = low[file] = len(index)
        stack.append(file)
        for other in sorted(graph[file]):
            if other not in index:
                visit(other)
                low[file] = min(low[file], low[other])
            elif other in stack:
                low[file] = min(low[file], index[other])
        if low[file] == index[file]:
            circle = stack[stack.index(file) :]
            del stack[stack.index(file) :]
            if len(circle) > 1:
                circles.append(sorted(circle))

    sys.setrecursionlimit(10_000)
    for file in sorted(graph):
        if file not in index:
            visit(file)
    return sorted(circles, key=lambda circle: (-len(circle), circle))


def functions_in(module: Module) -> list[tuple[str, int]]:
    """Each function as `file:line name` with its number of lines."""
    return [
        (f"{module.name}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def run_file_readers(module: Module) -> list[str]:
    """Each place that reads a run's `run.json` or `metrics.json`, as `file:line`.

    That is a call of a reading function whose arguments or object name the file, directly or through a variable of the
    same function. A function of the same module that reads one of its parameters is a reading function too.
    """
    places = set()
    functions = [node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    readers = {*READERS, *(function.name for function in functions if reads_a_parameter(function))}
    for scope in [*functions, module.tree]:
        variables = {
            target.id
            for node in ast.walk(scope)
            if isinstance(node, ast.Assign) and scope is not module.tree and names_run_file(node.value, set())
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(scope):
            if isinstance(node, ast.Call) and called_name(node) in readers and names_run_file(node, variables):
                places.add(f"{module.name}:{node.lineno}")
    return sorted(places)


def reads_a_parameter(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    parameters = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
    return any(
        isinstance(node, ast.Call)
        and called_name(node) in READERS
        and any(isinstance(part, ast.Name) and part.id in parameters for part in ast.walk(node))
        for node in ast.walk(function)
    )


def called_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def names_run_file(tree: ast.AST, variables: set[str]) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in RUN_FILES:
            return True
        if isinstance(node, ast.Name) and (node.id in RUN_FILE_NAMES or node.id in variables):
            return True
        if isinstance(node, ast.Attribute) and node.attr in RUN_FILE_NAMES:
            return True
    return False


def count_tests(root: Path) -> dict[str, int]:
    """Test functions, `assert` statements and `pytest.raises`/`pytest.warns` blocks below tests/."""
    counts = Counter(dict.fromkeys(("tests", "asserts", "raises"), 0))
    for path in (root / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                counts["tests"] += 1
            elif isinstance(node, ast.Assert):
                counts["asserts"] += 1
            elif isinstance(node, ast.Call) and called_name(node) in ("raises", "warns"):
                counts["raises"] += 1
    return dict(counts)


@dataclass(frozen=True, slots=True)
class Call:
    """One counted call of a traced process."""

    file: str
    function: str
    line: int
    importing: bool


def trace_commands(root: Path, package: str) -> dict[str, list[Call]]:
    """The calls of each command, in order. Raises SystemExit where a command fails."""
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("mock_server.py")), "--latency", "0.01", "--seconds", "300"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        port = server.stdout.readline().strip()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "data.csv").write_text("input,expected\nCapital of France?,Paris\n", encoding="utf-8")
            (folder / "suite.yaml").write_text(SUITE.format(port=port), encoding="utf-8")
            return {command: counted_calls(trace_command(root, package, folder, args)) for command, args in COMMANDS}
    finally:
        server.kill()
        server.wait()


def trace_command(root: Path, package: str, folder: Path, args: tuple[str, ...]) -> list[list]:
    out = folder / "events.json"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("EVALRUN_", "PYTHONPATH"))}
    done = subprocess.run(
        [sys.executable, "-c", TRACER, str(root), package, str(out), *args],
        cwd=folder,
        env=environment | {"EVALRUN_CACHE_DIR": str(folder / "cache"), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    traced = json.loads(out.read_text()) if out.is_file() else {"code": done.returncode}
    if traced["code"]:
        raise SystemExit(f"'evalrun {' '.join(args)}' ended with {traced['code']}:\n{done.stdout}{done.stderr}")
    return traced["events"]


def counted_calls(events: list[list]) -> list[Call]:
    calls = []
    imports = 0  # module and class bodies that are being executed
    for is_call, file, function, line, instruction, flags in events:
        is_body = not flags & OPTIMIZED
        is_module = function == "<module>"
        is_resumed = bool(flags & RESUMABLE) and instruction > AT_START
        if is_call and not (function.rpartition(".")[2].startswith("<") or flags & GENERATOR or is_resumed):
            calls.append(Call(file, function, line, importing=is_body or imports > 0))
        imports += is_module * (1 if is_call else -1)
    return calls


def walk_numbers(calls: list[Call]) -> dict[str, int]:
    return {
        "calls": len(calls),
        "functions": len({(call.file, call.function, call.line) for call in calls}),
        "files": len({call.file for call in calls}),
        "steps": sum(hops_of(calls).values()),
    }


def hops_of(calls: list[Call]) -> Counter[tuple[str, str]]:
    """How often a call in one file is followed by a call in another."""
    pairs = itertools.pairwise(call.file for call in calls)
    return Counter(pair for pair in pairs if pair[0] != pair[1])


def measure_source(root: Path, package: str) -> dict[str, object]:
    modules = read_modules(root, package)
    graph = import_graph(modules, package)
    circles = find_circles(graph)
    rooms = {module.name: module.room for module in modules}
    largest = max(modules, key=lambda module: module.lines)
    return {
        "files": len(modules),
        "lines": sum(module.lines for module in modules),
        "median_lines": statistics.median(module.lines for module in modules),
        "largest": f"{largest.name} ({largest.lines})",
        "over_600_lines": [f"{module.name} ({module.lines})" for module in modules if module.lines > 600],
        "imports": sum(len(others) for others in graph.values()),
        "circles_in_a_room": [circle for circle in circles if len({rooms[file] for file in circle}) == 1],
        "circles_between_rooms": [circle for circle in circles if len({rooms[file] for file in circle}) > 1],
        "long_functions": [
            f"{name} ({lines})"
            for module in modules
            for name, lines in functions_in(module)
            if lines > MAX_FUNCTION_LINES
        ],
        "run_file_readers": [place for module in modules for place in run_file_readers(module)],
        "files_by_room": dict(sorted(Counter(module.room or "(top level)" for module in modules).items())),
        **count_tests(root),
    }


def print_source(measured: dict[str, object]) -> None:
    for name, value in measured.items():
        label = name.replace("_", " ")
        if isinstance(value, list):
            print(f"{label:<24}{len(value):>7,}")
            for entry in value:
                print(f"    {' ↔ '.join(entry) if isinstance(entry, list) else entry}")
        elif isinstance(value, dict):
            print(f"{label:<24}{', '.join(f'{key} {count}' for key, count in value.items())}")
        else:
            print(f"{label:<24}{value:>7,}" if not isinstance(value, str) else f"{label:<24}{value}")


def print_walks(walks: dict[str, list[Call]], hops: int) -> None:
    print(f"\n{'traced':<18}{'calls':>7}{'functions':>11}{'files':>7}{'steps':>7}")
    for command, calls in walks.items():
        running = [call for call in calls if not call.importing]
        for label, chosen in ((command, calls), (f"{command}, running", running)):
            numbers = walk_numbers(chosen)
            print(
                f"{label:<18}{numbers['calls']:>7,}{numbers['functions']:>11,}{numbers['files']:>7}{numbers['steps']:>7}"
            )
    if hops:
        for command, calls in walks.items():
            print(f"\nmost frequent steps of {command}, running")
            running = [call for call in calls if not call.importing]
            for (before, after), times in hops_of(running).most_common(hops):
                print(f"{times:>5}  {before} → {after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="checkout to measure")
    parser.add_argument("--hops", type=int, default=0, metavar="N", help="list the N most frequent steps")
    parser.add_argument("--no-trace", action="store_true", help="skip the traced commands")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    root = options.root.resolve()
    package = find_package(root)
    measured = measure_source(root, package)
    walks = {} if options.no_trace else trace_commands(root, package)
    if options.json:
        running = {name: [call for call in calls if not call.importing] for name, calls in walks.items()}
        numbers = {name: {**walk_numbers(walks[name]), "running": walk_numbers(running[name])} for name in walks}
        print(json.dumps({**measured, "traced": numbers}, indent=2, ensure_ascii=False))
        return
    print_source(measured)
    if walks:
        print_walks(walks, options.hops)


if __name__ == "__main__":
    main()
