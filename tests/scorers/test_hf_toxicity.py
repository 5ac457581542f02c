"""toxicity with backend: hf, with a tiny classifier that the tests create."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import random
import shutil
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from evalrunner.api import SuiteResult, run_suite
from evalrunner.domain import Completion, Failure, Score
from evalrunner.errors import SuiteError
from evalrunner.runs.row_log import read_rows
from evalrunner.scorers.toxicity import toxicity
from evalrunner.suite.options import RunOptions
from tests.fakes.classifier import MAX_TOKENS, WORDS, save_classifier
from tests.fakes.command import evalrun
from tests.scorers.scorer_calls import HOSTILE, sample

pytestmark = pytest.mark.hf
INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
needs_packages = pytest.mark.skipif(not INSTALLED, reason="torch or the extra toxicity-hf is not installed")
HUB_ID = "facebook/roberta-hate-speech-dynabench-r4-target"


def texts(count: int = 40) -> list[str]:
    """Different texts of one to thirty words, some longer than the limit of the model."""
    draw = random.Random(3)
    return [" ".join(draw.choices(WORDS, k=1 + place % 30)) for place in range(count)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not INSTALLED:
        pytest.skip("torch or the extra toxicity-hf is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages, about themselves
        return save_classifier(tmp_path_factory.mktemp("hf") / "tiny")


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy of the classifier next to the suite."""
    return shutil.copytree(saved, tmp_path / "tiny")


@pytest.fixture(scope="module")
def by_pipeline(saved: Path) -> dict[str, float]:
    """The score of each text by the pipeline of transformers, called as in MLflow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import pipeline

        classify = pipeline("text-classification", model=str(saved), top_k=99_999, truncation=True)
        result = [classify([text])[0] for text in texts()]
    return {
        text: next(one["score"] for one in labels if one["label"] == "hate")
        for text, labels in zip(texts(), result, strict=True)
    }


def write_suite(outputs: list[str], scorer: str = "model: tiny", more: str = "") -> Path:
    rows = [{"id": f"r{place}", "input": "q", "output": text} for place, text in enumerate(outputs)]
    Path("rows.json").write_text(json.dumps(rows), encoding="utf-8")
    path = Path("suite.yaml")
    path.write_text(
        "name: tiny\ndataset: rows.json\ntarget: {type: recorded, column: output}\n"
        f"scorers:\n  - {{type: toxicity, backend: hf, {scorer}}}\n{more}",
        encoding="utf-8",
    )
    return path


def run(outputs: list[str], scorer: str = "model: tiny", more: str = "", **options: Any) -> SuiteResult:
    return run_suite(write_suite(outputs, scorer, more), options=RunOptions(output_dir=Path("runs"), **options))


def values(result: SuiteResult) -> dict[str, float | None]:
    return {row.answer.text: row.cells["toxicity"].value for row in read_rows(result.folder)}  # type: ignore[union-attr]


def refused(scorer: str) -> str:
    with pytest.raises(SuiteError) as caught:
        run(["a", "b"], scorer)
    assert not Path("runs").exists() or not any(Path("runs").iterdir())
    return str(caught.value)


def test_scores_equal_those_of_the_transformers_pipeline(model: Path, by_pipeline: dict[str, float]) -> None:
    result = run(texts())
    assert values(result) == pytest.approx(by_pipeline, abs=1e-9)
    assert max(by_pipeline.values()) - min(by_pipeline.values()) > 0.5  # otherwise the test would prove nothing
    actual = [by_pipeline[text] for text in texts()]
    mean = sum(actual) / len(actual)
    assert result.metrics["toxicity/v1/mean"] == pytest.approx(mean, abs=1e-9)
    assert result.metrics["toxicity/v1/ratio"] == sum(value >= 0.5 for value in actual) / len(actual)


def test_scores_do_not_depend_on_concurrent_rows(model: Path) -> None:
    alone = values(run(texts(), more="run: {concurrency: 1}\n"))
    assert values(run(texts()[::-1], more="run: {concurrency: 64}\n")) == alone
    assert values(run([*texts()[20:], *texts()[:20], *texts()], more="run: {concurrency: 7}\n")) == alone


def test_batches_change_only_the_last_digits(model: Path, by_pipeline: dict[str, float]) -> None:
    assert values(run(texts(), "model: tiny, batch_size: 8")) == pytest.approx(by_pipeline, abs=1e-5)


def test_long_texts_are_truncated_and_marked(model: Path) -> None:
    result = run([" ".join(WORDS[:2] * 40), " ".join((WORDS[:2] * 40)[: MAX_TOKENS - 2])])
    long, short = sorted(read_rows(result.folder), key=lambda row: row.sample.index)
    assert long.cells["toxicity"].detail == {"backend": "hf", "truncated": True}
    assert short.cells["toxicity"].detail == {"backend": "hf"}
    assert long.cells["toxicity"].value == short.cells["toxicity"].value


def test_a_blank_output_is_unscored_and_hostile_texts_are_scored(model: Path) -> None:
    result = run(["", *HOSTILE[2:4], *HOSTILE[5:7], HOSTILE[8], "you"])
    states = [row.cells["toxicity"].state for row in sorted(read_rows(result.folder), key=lambda row: row.sample.index)]
    assert states == ["unscored", *["scored"] * 6]


def test_lone_surrogates_and_a_megabyte_are_scored(model: Path) -> None:
    scorer = toxicity(backend="hf", model=str(model))
    for text in HOSTILE[:2] + HOSTILE[4:5]:
        assert isinstance(asyncio.run(scorer.function(text)), Score)


def test_the_label_can_be_changed(model: Path, by_pipeline: dict[str, float]) -> None:
    result = values(run(texts(), "model: tiny, label: nothate"))
    assert result == pytest.approx({text: 1 - value for text, value in by_pipeline.items()}, abs=1e-6)


@needs_packages
def test_multi_label_models_give_a_probability_per_label(tmp_path: Path) -> None:
    labels = ("insult", "hate", "threat")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_classifier(tmp_path / "tiny", labels=labels, problem_type="multi_label_classification")
    sums = [sum(values(run(texts(1), f"model: tiny, label: {label}"))[texts(1)[0]] or 0 for label in labels)]
    assert sums[0] != pytest.approx(1, abs=1e-3)  # each by its own sigmoid


class SlowPipe:
    """Replaces the pipeline: each forward pass waits for the loop, and records its texts."""

    def __init__(self) -> None:
        self.go, self.threads, self.asked = threading.Event(), set[str](), list[list[str]]()
        self.tokenizer = self.tokenize

    def tokenize(self, asked: list[str], **_: Any) -> Any:
        self.asked.append(asked)
        return type("Encoded", (), {"encodings": None})

    def forward(self, _: Any) -> Any:
        self.threads.add(threading.current_thread().name)
        assert self.go.wait(30), "the loop stood still"
        return {"logits": [[0.0]]}

    def postprocess(self, _: Any, **__: Any) -> Any:
        return [{"label": "hate", "score": 0.25}]


def test_concurrent_rows_are_batched_in_one_thread_without_blocking_the_loop(model: Path) -> None:
    from evalrunner.scorers.hf.model import LoadedModel

    scorer = toxicity(backend="hf", model=str(model)).function
    pipe = SlowPipe()
    scorer._loaded = LoadedModel(pipe, 24)

    async def ask() -> list[Any]:
        rows = [asyncio.create_task(scorer(text)) for text in ["a", "b", "a", "c"]]
        given_up = asyncio.create_task(scorer("d"))
        while not pipe.asked:  # noqa: ASYNC110  what is waited for happens in the thread
            await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait([given_up])
        pipe.go.set()
        return await asyncio.gather(*rows)

    assert asyncio.run(ask()) == [Score(0.25, metadata={"backend": "hf"})] * 4
    assert pipe.asked == [["a"], ["b"], ["c"]]  # equal texts once, and none without a waiting row
    assert len(pipe.threads) == 1 and not pipe.threads & {threading.current_thread().name}


def test_model_exceptions_are_errors_of_their_cell(model: Path) -> None:
    from evalrunner.scorers.hf.model import LoadedModel

    scorer = toxicity(backend="hf", model=str(model), batch_size=4).function
    pipe = SlowPipe()
    pipe.go.set()
    pipe.postprocess = lambda *_, **__: 1 / 0  # type: ignore[method-assign]
    scorer._loaded = LoadedModel(pipe, 24)
    result = asyncio.run(scorer("a"))
    assert isinstance(result, Failure) and "raised ZeroDivisionError: division by zero" in result.message


def test_several_scorers_of_one_model_share_it(model: Path) -> None:
    one, two = (toxicity(backend="hf", model=str(model), label=label).function for label in ("hate", "nothate"))
    asyncio.run(one.prepare(print))
    asyncio.run(two.prepare(print))
    assert one._loaded is two._loaded


@pytest.mark.slow
def test_the_same_outputs_scored_again_give_the_same_numbers(model: Path) -> None:
    first = run(texts(), more="run: {concurrency: 5}\n")
    done = evalrun("score", str(first.folder), "--suite", "suite.yaml", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    (again,) = [path for path in first.folder.parent.iterdir() if path != first.folder]
    assert {row.answer.text: row.cells["toxicity"].value for row in read_rows(again)} == values(first)  # type: ignore[union-attr]
    assert done.stderr == ""  # neither bars nor warnings of packages


def test_a_changed_model_refuses_the_resume(model: Path) -> None:
    first = run(texts())
    log = first.folder / "rows.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:10]))
    other = Path("other")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_classifier(other, seed=1)
    shutil.move("tiny", "kept")
    shutil.move("other", "tiny")
    with pytest.raises(SuiteError, match=r"toxicity.*backend"):
        run_suite(options=RunOptions(output_dir=Path("runs"), resume=first.run_id))
    shutil.move("tiny", "other")
    shutil.move("kept", "tiny")
    result = run_suite(options=RunOptions(output_dir=Path("runs"), resume=first.run_id))
    assert values(result) == values(run(texts()))


def test_metrics_name_the_model_and_its_digest(model: Path) -> None:
    backend = toxicity(backend="hf", model=str(model)).declaration.backend
    assert backend is not None and backend.startswith("hf tiny@") and len(backend) == len("hf tiny@") + 12
    (model / "README.md").write_text("what is not loaded does not count", encoding="utf-8")
    assert toxicity(backend="hf", model=str(model)).declaration.backend == backend
    with (model / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        weights.write(b"\x01")
    assert toxicity(backend="hf", model=str(model)).declaration.backend != backend


@needs_packages
@pytest.mark.parametrize("name", ["./models/tiny", "tiny", "../tiny", "/tiny", "a/b/c", "a\\\\b", "~/no/such"])
def test_a_missing_folder_is_an_error_and_never_requested_from_the_hub(name: str) -> None:
    assert "scorers[0]: there is no folder " in refused(f'model: "{name}"')


def test_paths_in_existing_folders_are_not_hub_ids(model: Path) -> None:
    Path("models").mkdir()
    assert refused("model: models/tony").startswith(
        "suite.yaml:5:5: scorers[0]: there is no folder 'models/tony' in '.'"
    )


def test_an_unknown_label_is_an_error_that_lists_the_labels(model: Path) -> None:
    assert refused("model: tiny, label: toxic") == (
        "suite.yaml:5:5: scorers[0]: 'tiny' has no label 'toxic'; its labels are 'nothate', 'hate'"
    )


def test_models_that_are_not_classifiers_are_refused(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    for change, message in {
        "BertForMaskedLM": "'tiny' is not a text classifier but a BertForMaskedLM",
        "regression": "'tiny' does not give probabilities: its problem_type is regression",
    }.items():
        new = {"architectures": [change]} if change.startswith("Bert") else {"problem_type": change}
        (model / "config.json").write_text(json.dumps({**config, **new}))
        assert refused("model: tiny").endswith(message)
    (model / "config.json").write_text("{")
    assert "the config.json of 'tiny' cannot be read: JSONDecodeError" in refused("model: tiny")
    (model / "config.json").unlink()
    assert refused("model: tiny").endswith("the folder 'tiny' has no model: config.json is missing")


def test_broken_weights_are_an_error_before_the_first_call(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"no weights")
    assert refused("model: tiny").startswith(
        "suite.yaml: scorers[0]: the model 'tiny' cannot be loaded on device 'cpu': SafetensorError"
    )


def test_weights_without_a_classification_head_are_refused(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    save_file(
        {n: w for n, w in weights.items() if not n.startswith("classifier")},
        model / "model.safetensors",
        {"format": "pt"},
    )
    assert refused("model: tiny").endswith(
        ": its weights lack classifier.bias, classifier.weight, which would be random"
    )


def test_a_model_without_a_tokenizer_is_refused(model: Path) -> None:
    for file in model.glob("tokenizer*"):
        file.unlink()
    assert refused("model: tiny").endswith(
        "on device 'cpu': it has no vocabulary: its tokenizer's files (tokenizer.json, vocab.txt …) are missing"
    )


def test_pickled_code_in_weights_is_not_run(model: Path) -> None:
    import torch
    from safetensors.torch import load_file

    before = values(run(["you are bad"]))
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    torch.save(weights, model / "pytorch_model.bin")
    assert values(run(["you are bad"])) == before
    torch.save({"run": Touched()}, model / "pytorch_model.bin")
    with pytest.raises(SuiteError, match=r"have more than numbers, .* is not run; save it as safetensors$"):
        run(["you are bad"])
    assert not Path("touched").exists()


class Touched:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("touched"),)


def test_an_empty_model_name_is_an_error(model: Path) -> None:
    assert "the folder '' has no model" in refused("model: ''")


def test_custom_code_of_a_model_is_not_run(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"},
    }
    (model / "config.json").write_text(json.dumps(config))
    (model / "own.py").write_text("from pathlib import Path\nPath('ran').touch()\nclass Own: ...\n")
    assert refused("model: tiny").endswith("it has custom code, which is not run")
    assert not Path("ran").exists()


def test_a_missing_device_is_an_error(model: Path) -> None:
    assert "cannot be loaded on device 'nowhere': " in refused("model: tiny, device: nowhere")


@pytest.mark.parametrize("option", ["model: tiny", "label: hate", "batch_size: 2", "device: cpu"])
def test_options_of_this_backend_are_refused_with_another(option: str) -> None:
    path = write_suite(["a"], option)
    path.write_text(path.read_text().replace("backend: hf", "backend: judge") + "judge: openai/gpt-5-mini\n")
    with pytest.raises(SuiteError) as caught:
        run_suite(path, options=RunOptions())
    assert f"{option.partition(':')[0]!r} is an option of backend: hf; remove it, or use that backend" in str(
        caught.value
    )


def test_batch_size_zero_is_refused() -> None:
    assert "'batch_size' is 0; it should be at least 1" in refused("model: tiny, batch_size: 0")


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("transformers", "pip install '.[toxicity-hf]' in evalrun's checkout"),
        ("torch", "missing: torch, in the build that suits your machine: pip install torch"),
    ],
)
def test_missing_packages_are_an_error_with_the_install_command(
    missing: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else real(name))
    messages = refused("model: tiny")
    assert "toxicity with backend: hf needs the extra 'toxicity-hf': " in messages
    assert said in messages or not INSTALLED


@needs_packages
@pytest.mark.parametrize(
    ("env", "said"),
    [
        (
            {"HF_HUB_OFFLINE": "1"},
            "it is not cached on this machine, and HF_HUB_OFFLINE is set",
        ),
        (
            {"HF_ENDPOINT": "http://127.0.0.1:9"},
            "it is not cached on this machine, and the hub does not answer: ",
        ),
    ],
)
def test_an_unreachable_hub_is_an_error_before_the_first_call(env: dict[str, str], said: str) -> None:
    path = write_suite(["a"], "threshold: 0.5")
    done = evalrun(str(path), env={**env, "HF_HOME": str(Path("home").absolute())})
    assert (done.returncode, done.stdout) == (2, "")
    assert f"suite.yaml:5:5: scorers[0]: the model '{HUB_ID}' is not available: {said}" in done.stderr
    assert f"(hf download {HUB_ID})" in done.stderr and "model: ./folder" in done.stderr
    assert len(done.stderr.splitlines()) == 3  # the sentence, the line of the suite, a caret
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_hub_model_is_downloaded_once_and_metrics_name_its_commit(model: Path, by_pipeline: dict[str, float]) -> None:
    from tests.fakes.hub import fake_hub

    path = write_suite(texts(), "threshold: 0.5")
    with fake_hub(HUB_ID, model) as hub:
        env = {"HF_ENDPOINT": hub.address, "HF_HOME": str(Path("home").absolute())}
        planned = evalrun("plan", str(path), env=env)
        assert f"(hf {HUB_ID}@0123456789ab)" in planned.stdout, planned.stderr
        assert not any("safetensors" in requested for requested in hub.asked)  # a plan needs no weights
        done = evalrun(str(path), env=env)
        assert done.returncode == 0, done.stderr
        assert f"downloading {HUB_ID} from the Hugging Face hub, once: 0 MB" in done.stderr
        requested = len(hub.asked)
        again = evalrun(str(path), "-q", env=env)
        assert (again.returncode, again.stderr, len(hub.asked)) == (0, "", requested)  # no more requests
    for folder in Path("runs/tiny").iterdir():
        result = {row.answer.text: row.cells["toxicity"].value for row in read_rows(folder)}  # type: ignore[union-attr]
        assert result == pytest.approx(by_pipeline, abs=1e-9)


def test_a_plan_loads_no_model_and_a_suite_without_it_imports_nothing_heavy(model: Path) -> None:
    code = (
        "import sys\nfrom evalrunner.api import *\nfrom evalrunner.cli.main import app\n"
        "app(['plan', 'suite.yaml'], standalone_mode=False)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    import subprocess
    import sys

    from tests.fakes.command import command_env

    write_suite(["a"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=command_env(), check=False)
    assert done.returncode == 0, done.stderr
    assert "(hf tiny@" in done.stdout


def test_the_scorer_is_async_and_takes_only_the_output(model: Path) -> None:
    from evalrunner.scorers.call import BoundScorer, call_async

    bound = BoundScorer.bind("toxicity", toxicity(backend="hf", model=str(model)))
    assert bound.is_async and not bound.wants_judge
    cell = asyncio.run(call_async(bound, sample(), Completion("you are stupid"), None))
    assert cell.state == "scored"
