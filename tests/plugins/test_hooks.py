"""Plug-ins of another installed package: trackers, datasets, baselines and names, found by their entry points alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalrunner import plugin_table, plugins, run_suite
from evalrunner.commands.track import track_run
from evalrunner.errors import SuiteError
from evalrunner.plugins import ReferenceProblem, known_names, load
from evalrunner.suite.json_schema import suite_schema
from evalrunner.suite.loader import load_suite
from tests.fakes.command import command_env

PACKAGE = '''
import json
from dataclasses import dataclass
from pathlib import Path

from evalrunner.baselines.resolve import baseline_of_run
from evalrunner.datasets.resolve import ExternalDataset
from evalrunner.plugins import TrackingResult
from evalrunner.runs.folder import find_run
from evalrunner.suite.key import key


@dataclass(frozen=True)
class Options:
    uri: str | None = key("Folder that runs are sent to", path=True)
    label: str = key("Label of the run", default="none")


class NotebookExporter:
    """Send runs to a notebook."""

    options = Options

    def check(self, options, address, *, suite):
        if options is not None and options.label == "refused":
            raise ValueError("label is refused")
        return options.uri if options is not None else address

    def send(self, folder, address=None, *, patience_s=60.0, stop=None):
        section = json.loads((folder / "run.json").read_text())["resolved"]["tracking"]["notebook"]
        sent = Path(section["uri"]) / f"{folder.name}.txt"
        if section["label"] == "down":
            return TrackingResult(section["uri"], problem="the notebook is closed")
        again = sent.exists()
        sent.write_text(section["label"])
        return TrackingResult(section["uri"], f"page {folder.name}", folder.name, already_sent=again)

    def note_unsent(self, folder, address, problem):
        return TrackingResult("", problem=problem)

    def tables(self, folder, targets):
        return {"notebook": list(targets)}


notebook = NotebookExporter()


def rows(reference, address, downloads, /, *, upper: bool = False):
    """Rows of a notebook."""
    if reference == "none":
        raise ValueError("the notebook has no page 'none'")
    text = reference.upper() if upper else reference
    records = ({"input": text, "expected": text, "out": text, "from": str(address)},)
    return ExternalDataset(f"page {reference}", {"page": reference}, records)


class Baselines:
    forms = ("notebook:RUN",)
    how_to_add = "run the suite with tracking: {notebook: …}"

    def accepts(self, reference):
        return len(reference) > len("notebook:")

    def find(self, reference, suite, address, judged):
        name = reference.removeprefix("notebook:")
        return None if name == "none" else baseline_of_run(find_run(name, Path("runs")))


baselines = Baselines()


def parrot(*, metric: str):
    """Whether the output repeats the metric."""
    return lambda output: float(output == metric)


def parrot_name(options):
    return f"parrot_{options.get('metric')}"
'''

ENTRY_POINTS = """
[evalrunner.exporters]
notebook = notebook_plugin:notebook
[evalrunner.dataset_sources]
notebook = notebook_plugin:rows
[evalrunner.baseline_sources]
notebook = notebook_plugin:baselines
[evalrunner.scorers]
parrot = notebook_plugin:parrot
[evalrunner.scorer_names]
parrot = notebook_plugin:parrot_name
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, entry_points: str, package: str = PACKAGE) -> None:
    """A package on the path of this process and of the commands that it starts."""
    info = folder / "notebook_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: notebook-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    (folder / "notebook_plugin.py").write_text(package)
    monkeypatch.syspath_prepend(str(folder))
    forget_installed()


def forget_installed() -> None:
    plugins.entry_points.cache_clear()
    plugins._installed.cache_clear()


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    yield
    forget_installed()


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the notebook's exporter writes to."""
    install(tmp_path / "site", monkeypatch, ENTRY_POINTS)
    pages = tmp_path / "pages"
    pages.mkdir()
    return pages


def suite(
    pages: Path, more: str = "", dataset: str = "{rows: [{input: a, expected: a, out: a}]}", label: str = "x"
) -> str:
    Path("s.yaml").write_text(
        f"name: s\ndataset: {dataset}\ntarget: {{type: recorded, column: out}}\nscorers: [exact_match]\n"
        f"tracking: {{notebook: {{uri: '{pages}', label: {label}}}}}\n{more}"
    )
    return "s.yaml"


def test_an_exporter_of_a_package_receives_each_run(notebook: Path) -> None:
    result = run_suite(suite(notebook, label="weekly"))
    assert (notebook / f"{result.folder.name}.txt").read_text() == "weekly"
    assert result.details.notices == ()
    assert result.tables["notebook"] == list(result.details.targets)


def test_an_exporter_that_does_not_answer_leaves_a_notice_and_the_verdict(notebook: Path) -> None:
    result = run_suite(suite(notebook, label="down"))
    assert (result.verdict, result.exit_code) == ("pass", 0)
    (notice,) = result.details.notices
    assert notice.startswith(f"notebook: not sent to {notebook}: the notebook is closed; the run is saved in ")
    assert notice.endswith(f"can be sent later: evalrun track {result.folder}")


def test_keys_of_an_exporter_are_checked_with_their_position(notebook: Path) -> None:
    Path("s.yaml").write_text(
        Path(suite(notebook)).read_text().replace("label", "lable").replace("tracking: {", "tracking:\n  {")
    )
    with pytest.raises(SuiteError, match=r"s\.yaml:6:.*tracking\.notebook\.lable: unknown key; did you mean 'label'\?"):
        load_suite("s.yaml")


def test_keys_of_an_exporter_are_in_the_json_schema(notebook: Path) -> None:
    tracking = suite_schema()["properties"]["tracking"]["properties"]
    assert set(tracking) == {"mlflow", "notebook"}
    assert tracking["notebook"]["description"] == "Send runs to a notebook"
    assert set(tracking["notebook"]["anyOf"][1]["properties"]) == {"uri", "label"}


def test_a_dataset_source_of_a_package_gives_the_rows(notebook: Path) -> None:
    result = run_suite(suite(notebook, dataset="{notebook: hello, upper: true}"))
    assert list(result.table["input"]) == ["HELLO"]
    assert result.metrics["exact_match/v1"] == 1.0
    assert result.table["from"][0] == str(notebook)  # the address of the tracker of that name
    assert json.loads((result.folder / "run.json").read_text())["dataset_from"] == {"page": "hello"}


def test_a_dataset_that_the_source_does_not_find_is_an_error_of_the_suite(notebook: Path) -> None:
    with pytest.raises(SuiteError, match=r"dataset\.notebook: the notebook has no page 'none'"):
        run_suite(suite(notebook, dataset="{notebook: none}"))
    with pytest.raises(SuiteError, match="'uper' is neither a key of a dataset nor an option of 'notebook'"):
        run_suite(suite(notebook, dataset="{notebook: hello, uper: true}"))


def test_a_baseline_source_of_a_package_finds_baselines_by_its_scheme(notebook: Path) -> None:
    gate = "gates: [{{metric: exact_match, baseline: '{}', max_drop: 0.5}}]\n"
    missing = run_suite(suite(notebook, gate.format("notebook:none")))
    assert missing.gates[0].verdict == "no_baseline"
    assert missing.gates[0].reason == (
        "'notebook:none' has no passing run of this suite yet; run the suite with tracking: {notebook: …}"
    )
    result = run_suite(suite(notebook, gate.format(f"notebook:{missing.run_id}")))
    assert result.gates[0].verdict == "inconclusive", result.gates[0].reason
    with pytest.raises(SuiteError, match="run:RUN, mlflow:experiment/NAME, mlflow:run/ID or notebook:RUN"):
        run_suite(suite(notebook, gate.format("notebook:")))


def test_a_scorer_of_a_package_can_name_itself_by_its_options(notebook: Path) -> None:
    text = Path(suite(notebook)).read_text().replace("[exact_match]", "[{type: parrot, metric: a}]")
    Path("s.yaml").write_text(text)
    metrics = run_suite("s.yaml").metrics
    assert metrics["parrot_a/v1/mean"] == 1.0


def test_a_stored_run_is_sent_to_the_tracker_of_its_suite(notebook: Path) -> None:
    result = run_suite(suite(notebook))
    sent = track_run(result.folder, {})
    assert {name: str(each) for name, each in sent.items()} == {"notebook": f"already sent: page {result.folder.name}"}


def test_two_plugins_of_one_name_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", monkeypatch, "[evalrunner.exporters]\nmlflow = notebook_plugin:notebook\n")
    with pytest.raises(ReferenceProblem, match="two exporters are called 'mlflow': .*; uninstall one"):
        known_names("exporters")
    assert "exact_match" in known_names("scorers")


def test_an_unknown_name_is_an_error_with_the_nearest_one() -> None:
    with pytest.raises(ReferenceProblem, match="unknown toxicity backend 'hff'; did you mean 'hf'"):
        load("toxicity_backends", "hff")


def test_every_built_in_name_leads_to_something() -> None:
    for group, names in plugin_table.BUILTIN.items():
        for name in names:
            assert load(group, name) is not None, f"{group}: {name}"


def test_a_suite_without_a_tracker_loads_none() -> None:
    Path("s.yaml").write_text(
        "dataset: {rows: [{input: a, expected: a, out: a}]}\ntarget: {type: recorded, column: out}\nscorers: [exact_match]\n"
    )
    code = (
        "import sys\nfrom evalrunner import run_suite\nrun_suite('s.yaml')\n"
        "print([name for name in sys.modules if name.startswith(('evalrunner.mlflow', 'evalrunner.scorers.hf'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=command_env(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_target_can_name_the_model_that_it_calls() -> None:
    Path("bot.py").write_text(
        "class Bot:\n    model = 'bot-7'\n    async def __call__(self, sample, epoch):\n"
        "        from evalrunner import Completion\n        return Completion('a')\n\ndef bot():\n    return Bot()\n"
    )
    Path("s.yaml").write_text(
        "dataset: {rows: [{input: a, expected: a}]}\ntarget: {type: 'bot.py:bot', name: bot}\nscorers: [exact_match]\n"
    )
    result = run_suite("s.yaml")
    assert json.loads((result.folder / "run.json").read_text())["targets"]["bot"]["model"] == "bot-7"
