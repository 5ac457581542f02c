"""Task files of lm-evaluation-harness (`output_type: generate_until`) as suites."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple

from evalrunner.example_models import HOSTED
from evalrunner.imports.lm_eval_file import TaskFile, read_task
from evalrunner.imports.migration import Migration, Place
from evalrunner.imports.project import Project, SuiteFile
from evalrunner.imports.source_data import json_lines, slug, text_of, unreadable
from evalrunner.imports.stub import PORT_FILE, TO_BE_PORTED, TO_PORT
from evalrunner.storage import is_file, read_file

LIKELIHOOD: Final = ("loglikelihood", "loglikelihood_rolling", "multiple_choice")
SCORER: Final = "scorers/lm_eval_match.py"
FILTERS: Final = {
    "regex": ("regex_pattern", "group_select", "fallback"), "remove_whitespace": (), "lowercase": (), "uppercase": (),
    "map": ("mapping_dict", "default_value"), "take_first": (), "take_first_k": ("k",), "majority_vote": (),
}  # fmt: skip
MATCH_OPTIONS: Final = ("ignore_case", "ignore_punctuation", "ignore_numbers")
PARAMS: Final = ("temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty")
VARIABLE: Final = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)")
FEATURES: Final = re.compile(r"\|\s*regex_replace\b|\{%-?\s*(?:include|import|extends)\b")
LEFT_KEYS: Final = {
    "doc_to_image": "suites are about text",
    "doc_to_audio": "suites are about text",
    "process_results": "it scores with Python; write a scorer",
    "gen_prefix": "chat endpoints do not continue an answer that is begun",
    "should_decontaminate": "evalrun does not look for training data",
    "doc_to_decontamination_query": "evalrun does not look for training data",
    "unsafe_code": "answers are not executed",
    "class": "the task is written in Python",
    "num_samples": "has no place in a suite",
}
MAX_DATA: Final = 512 * 2**20
MAX_FILES: Final = 5_000


def import_project(source: Path, migration: Migration) -> Project:
    """A task file, or a folder of them, as suites. Raises SuiteError if none can be read."""
    project = Project()
    if not source.is_dir():
        _Task(read_task(source, source.parent, migration), source.parent, migration).add_to(project)
        return project
    files = sorted(path for pattern in ("*.yaml", "*.yml") for path in source.rglob(pattern) if path.is_file())
    tasks = [path for path in files if not path.name.startswith("_")]
    if not tasks:
        raise unreadable(source, "has no task files (.yaml) in it")
    if len(tasks) > MAX_FILES:
        raise unreadable(source, f"has {len(tasks):,} task files in it; name a folder with at most {MAX_FILES:,}")
    for path in tasks:
        _Task(read_task(path, source, migration), source, migration).add_to(project)
    return project


class _Pipeline(NamedTuple):
    """Filters that answers go through; `steps` is None if one of them has to be ported."""

    label: str
    steps: list[dict[str, Any]] | None
    is_first: bool


class _Task:
    """One task to a suite."""

    def __init__(self, file: TaskFile, root: Path, migration: Migration) -> None:
        self.file, self.root, self.migration = file, root, migration
        self.task = dict(file.data)
        self.read: set[str] = {"include"}

    def place(self, *path: str | int) -> Place:
        """A place in the task, or in the file that it includes."""
        return self.file.place(path)

    def take(self, key: str, default: Any = None) -> Any:
        """A value of the task, which counts as read."""
        self.read.add(key)
        value = self.task.get(key)
        return default if value is None else value

    def add_to(self, project: Project) -> None:
        """Add the suite to the project, or say why there is none."""
        if (
            "task" not in self.task
            or isinstance(self.task["task"], list)
            or ("group" in self.task and "dataset_path" not in self.task)
        ):
            self.migration.left(self.place("task" if "task" in self.task else "group"), "a group of tasks",
                                "import the folder with the files of its tasks")  # fmt: skip
            self._report_rest("of a group")
            return
        output_type = text_of(self.take("output_type", "generate_until"))
        if output_type in LIKELIHOOD or "class" in self.task:
            self._refuse(output_type)
            return
        if output_type != "generate_until":
            self.migration.left(self.place("output_type"), f"output_type: {output_type}", "is no known output type")
            self._report_rest("of a task that is not carried")
            return
        if "output_type" in self.task:
            self.migration.carried(self.place("output_type"), "output_type: generate_until", "target")
        taken = {suite.name.removesuffix(".eval.yaml") for suite in project.suites}
        name = slug(self.take("task"), "task", taken=taken).lower()
        self.migration.carried(self.place("task"), "task", f"{name}.eval.yaml: name")
        suite = self._suite(name, project)
        project.suites.append(SuiteFile(f"{name}.eval.yaml", suite))
        self._report_rest("")

    def _refuse(self, output_type: str) -> None:
        reason = (
            f"'{output_type}' compares the likelihood of given texts, which chat endpoints do not return; ask for the letter"
            " instead, with the scorer choice"
        )
        if "class" in self.task:
            self.migration.port(self.place("class"), "a task written in Python", "nowhere: write a suite for it")
            self.read.add("class")
        else:
            self.migration.left(self.place("output_type"), f"output_type: {output_type}", reason)
        self._report_rest("of a task that is not carried")

    def _report_rest(self, why: str) -> None:
        """Everything that nobody has read."""
        for key, value in self.task.items():
            if key in self.read:
                continue
            place = self.place(key)
            if why:
                self.migration.left(place, key, why)
            elif key in ("tag", "group", "metadata", "task_alias", "group_alias", "version"):
                self.migration.changed(
                    place, f"{key}: {text_of(value)[:60]}", "", "has no effect on the numbers; stays in the task file"
                )
            elif isinstance(value, str) and value.startswith("!function"):
                self.migration.port(
                    place, f"{key}: {value}", LEFT_KEYS.get(key, "write it in Python, or as a template")
                )
            else:
                self.migration.left(place, key, LEFT_KEYS.get(key, "unknown key"))

    def _suite(self, name: str, project: Project) -> dict[str, Any]:
        suite: dict[str, Any] = {"name": name, "dataset": self._dataset(name, project)}
        question = self._question()
        if "input" not in suite["dataset"]["columns"]:
            found = VARIABLE.search(question)
            if found and found[1] != "input":
                suite["dataset"]["columns"]["input"] = found[1]
        target = self.take("doc_to_target", "")
        if isinstance(target, str) and target.startswith("!function"):
            self.migration.port(self.place("doc_to_target"), target, f"{name}.eval.yaml: args.target, a template")
            target = "(to be ported)"
        target = self._chosen(target)
        description = self.take("description", "")
        if description:
            self.migration.carried(self.place("description"), "description", "prompt")
        prompt: list[dict[str, Any]] = [{"user": f"{text_of(description)}{question}"}]
        self._add_shots(prompt, question, target, name, project)
        suite["prompt"] = prompt if len(prompt) > 1 else prompt[0]["user"]
        suite["target"] = HOSTED
        self.migration.changed(self.place("task"), "the model, which lm-eval takes from the command line",
                               f"{name}.eval.yaml: target", f"{HOSTED} is an example; set yours")  # fmt: skip
        suite["params"] = self._params()
        suite["on_no_answer"] = "zero"
        suite["scorers"] = self._scorers(target)
        if any(scorer.get("function", "").startswith(SCORER) for scorer in suite["scorers"]):
            copied = resources.files("evalrunner.imports.scorers").joinpath("lm_eval_match.py").read_text("utf-8")
            project.files[SCORER] = copied
        if any(scorer.get("function", "").startswith(PORT_FILE) for scorer in suite["scorers"]):
            project.files[PORT_FILE] = TO_PORT
        self._add_epochs(suite)
        return suite

    def _question(self) -> str:
        """doc_to_text as a template."""
        text = self.take("doc_to_text", "")
        if isinstance(text, str) and text.startswith("!function"):
            self.migration.port(self.place("doc_to_text"), text, "prompt")
            return "{{ input }} (to be ported)"
        text = text_of(text)
        if re.fullmatch(r"[A-Za-z_]\w*", text):
            text = f"{{{{ {text} }}}}"
        if FEATURES.search(text):
            self.migration.left(
                self.place("doc_to_text"), "doc_to_text", "uses a filter that templates here do not have"
            )
        else:
            self.migration.carried(self.place("doc_to_text"), "doc_to_text", "prompt")
        return text

    def _chosen(self, target: Any) -> str:
        """doc_to_target as a template; of a list of choices, the one that it names."""
        choices = self.take("doc_to_choice")
        text = text_of(target)
        if "doc_to_target" in self.task and text != "(to be ported)":
            self.migration.carried(self.place("doc_to_target"), "doc_to_target", "the target of the scorers")
        if choices is None:
            return text
        index = f"{{{{ {text_of(choices)}[({text})|int] }}}}" if isinstance(choices, list) else ""
        if isinstance(choices, list) and re.fullmatch(r"[A-Za-z_]\w*", text):
            self.migration.carried(self.place("doc_to_choice"), "doc_to_choice", "the target of the scorers")
            return index
        self.migration.left(self.place("doc_to_choice"), "doc_to_choice", "is used by likelihood tasks only")
        return text

    def _dataset(self, name: str, project: Project) -> dict[str, Any]:
        path, config, kwargs = (
            text_of(self.take("dataset_path")),
            self.take("dataset_name"),
            self.take("dataset_kwargs", {}),
        )
        splits = ("test_split", "validation_split", "training_split")
        split = next((text_of(self.task[key]) for key in splits if self.task.get(key)), "test")
        for key in (*splits, "fewshot_split"):
            if key in self.task:
                self.read.add(key)
                used = self.task[key] == split
                self.migration.carried(
                    self.place(key),
                    f"{key}: {text_of(self.task[key])}",
                    "dataset.split" if used else "not asked, as in lm-eval",
                )
        dataset: dict[str, Any] = {}
        files = kwargs.get("data_files") if isinstance(kwargs, dict) else None
        if path in ("json", "csv", "parquet") and files is not None:
            named = files.get(split) if isinstance(files, dict) else files
            dataset["path"] = self._data_file(named[0] if isinstance(named, list) and named else named, project)
        elif re.fullmatch(r"[\w.-]+/[\w.-]+", path):
            dataset["path"] = f"hf://{path}"
            if config is not None:
                dataset["config"] = text_of(config)
            dataset["split"] = split
            self.migration.carried(
                self.place("dataset_path"), f"dataset_path: {path}", f"{name}.eval.yaml: dataset.path"
            )
        else:
            dataset |= {"path": "hf://${DATASET}", "split": split}
            self.migration.left(self.place("dataset_path"), f"dataset_path: {path}",
                                "names no owner/name on the hub and no file beside the task; set dataset.path")  # fmt: skip
        if config is not None:
            self.migration.carried(self.place("dataset_name"), f"dataset_name: {text_of(config)}", "dataset.config")
        extra = {key for key in kwargs if key != "data_files"} if isinstance(kwargs, dict) else {"dataset_kwargs"}
        for key in sorted(map(str, extra)):
            self.migration.left(self.place("dataset_kwargs", key), f"dataset_kwargs.{key}", "has no key in a suite")
        dataset["columns"] = {}
        return dataset

    def _data_file(self, named: Any, project: Project) -> str:
        """The name in the project of a data file beside the task."""
        place = self.place("dataset_kwargs")
        path = self.file.path.parent / text_of(named)
        inside = isinstance(named, str) and path.resolve().is_relative_to(self.root.resolve())
        if not inside or not is_file(path):
            reason = "no such file" if inside else "is outside of the folder of the tasks, where nothing is read"
            self.migration.left(place, f"data_files: {text_of(named)}", reason)
            return slug(Path(text_of(named)).name, "data.jsonl")
        try:
            content = read_file(path, max_bytes=MAX_DATA)
        except OSError as refused:
            raise unreadable(path, f"cannot be read: {refused.strerror or refused}") from None
        target = f"data/{slug(path.name, 'data.jsonl')}"
        project.files[target] = content
        self.migration.carried(place, f"data_files: {named}", target)
        return target

    def _add_shots(self, prompt: list[dict[str, Any]], question: str, target: str, name: str, project: Project) -> None:
        """Worked examples before the question, as `--fewshot_as_multiturn` asks them."""
        number, config = self.take("num_fewshot", 0), self.take("fewshot_config", {})
        for key in ("fewshot_delimiter", "target_delimiter"):
            if key in self.task:
                self.read.add(key)
                self.migration.changed(
                    self.place(key), key, "prompt", "examples are messages of their own, without delimiters"
                )
        samples = config.get("samples") if isinstance(config, dict) else None
        count = number if isinstance(number, int) and not isinstance(number, bool) else 0
        if isinstance(samples, list) and samples and all(isinstance(item, dict) for item in samples) and count > 0:
            shots = f"{name}-shots.jsonl"
            project.files[shots] = json_lines({"id": str(index), **item} for index, item in enumerate(samples))
            answer = config.get("doc_to_target") or target
            answer = f"{{{{ {answer} }}}}" if re.fullmatch(r"[A-Za-z_]\w*", text_of(answer)) else text_of(answer)
            columns = {"input": next(iter(samples[0]))}
            prompt.insert(
                0, {"shots": {"path": shots, "n": min(count, len(samples)), "columns": columns, "assistant": answer}}
            )
            self.migration.changed(self.place("fewshot_config", "samples"), f"{len(samples)} examples", shots,
                                   "each example is a user and an assistant message, not one long text")  # fmt: skip
        elif count > 0:
            split = text_of(self.task.get("fewshot_split") or self.task.get("training_split") or "train")
            self.migration.left(self.place("num_fewshot"), f"num_fewshot: {count}",
                                f"examples are read from a file: save the split {split!r}, and add {{shots: {{path: FILE, n: {count}}}}} to the prompt")  # fmt: skip
        elif "num_fewshot" in self.task:
            self.migration.carried(self.place("num_fewshot"), "num_fewshot: 0", "prompt")
        for key in config if isinstance(config, dict) else ():
            if key != "samples" or count == 0:
                what = self.place("fewshot_config", key)
                self.migration.changed(
                    what,
                    f"fewshot_config.{key}",
                    "prompt.shots",
                    "examples are the first of the file unless `seed` is set",
                )

    def _params(self) -> dict[str, Any]:
        given = self.take("generation_kwargs")
        if given is None:
            self.migration.changed(self.place("task"), "generation_kwargs, which are not given", "params",
                                   "lm-eval's defaults: until a blank line, 256 tokens, temperature 0")  # fmt: skip
            return {"temperature": 0, "max_tokens": 256, "stop": ["\n\n"]}
        params: dict[str, Any] = {}
        for key, value in given.items() if isinstance(given, dict) else ():
            place = self.place("generation_kwargs", key)
            if key == "until":
                stops = [text_of(stop) for stop in (value if isinstance(value, list) else [value]) if text_of(stop)]
                params["stop"] = stops
                if len(stops) > 4:
                    self.migration.changed(
                        place, "until", "params.stop", f"{len(stops)} texts, and some providers take at most 4"
                    )
                else:
                    self.migration.carried(place, "until", "params.stop")
            elif key in ("max_gen_toks", "max_tokens", "max_new_tokens") and isinstance(value, int):
                params["max_tokens"] = value
                self.migration.carried(place, f"{key}: {value}", "params.max_tokens")
            elif key == "do_sample":
                if value is False:
                    params.setdefault("temperature", 0)
                self.migration.carried(place, f"do_sample: {text_of(value)}", "params.temperature")
            elif key in PARAMS and isinstance(value, int | float):
                params[key] = value
                self.migration.carried(place, f"{key}: {value}", f"params.{key}")
            else:
                self.migration.left(place, f"generation_kwargs.{key}", "is no parameter of chat endpoints")
        return params

    def _scorers(self, target: str) -> list[dict[str, Any]]:
        metrics, given = self.take("metric_list"), self.take("filter_list")
        metrics = metrics if isinstance(metrics, list) and metrics else [{"metric": "exact_match"}]
        scorers: list[dict[str, Any]] = []
        for pipeline in self._pipelines(given):
            for index, metric in enumerate(metrics):
                metric = metric if isinstance(metric, dict) else {"metric": text_of(metric)}  # noqa: PLW2901
                taken = [item["name"] for item in scorers]
                scorers.append(self._scorer(metric, index, pipeline, target, taken))
        if "process_results" in self.task:
            self.migration.port(self.place("process_results"), "process_results", PORT_FILE)
            self.read.add("process_results")
            scorers = [self._stub("process_results")]
        return scorers

    def _pipelines(self, given: Any) -> Iterator[_Pipeline]:
        """The pipelines of filters; without any, one that leaves the output as it is."""
        pipelines = given if isinstance(given, list) and given else [{"name": "none", "filter": []}]
        for number, pipeline in enumerate(pipelines):
            pipeline = pipeline if isinstance(pipeline, dict) else {}  # noqa: PLW2901
            yield _Pipeline(text_of(pipeline.get("name") or "none"), self._steps(pipeline, number), number == 0)

    def _scorer(
        self, metric: Mapping[str, Any], index: int, pipeline: _Pipeline, target: str, taken: list[str]
    ) -> dict[str, Any]:
        label, steps, first = pipeline.label, pipeline.steps, pipeline.is_first
        kind = text_of(metric.get("metric") or "exact_match")
        place = self.place("metric_list", index) if "metric_list" in self.task else self.place("task")
        name = slug(
            kind if label == "none" else label if kind == "exact_match" else f"{label}-{kind}", "score", taken=taken
        )
        if kind != "exact_match" or steps is None:
            what = kind if kind != "exact_match" else f"filter {label!r}"
            self.migration.port(place, what, PORT_FILE)
            return self._stub(name)
        args: dict[str, Any] = {"target": target or "(no target)"}
        if steps:
            args["filters"] = steps
        for key, value in metric.items():
            if key == "regexes_to_ignore" and isinstance(value, list):
                args["ignore"] = [text_of(pattern) for pattern in value]
            elif key in MATCH_OPTIONS:
                args |= {key: True} if value is True else {}
            elif key not in ("metric", "aggregation", "higher_is_better") and first:
                self.migration.left(self.place("metric_list", index, key), f"{kind}.{key}", "unknown option")
        if metric.get("aggregation") not in (None, "mean") and first:
            self.migration.left(
                self.place("metric_list", index, "aggregation"), text_of(metric["aggregation"]), "the mean is reported"
            )
        problem = _bad_pattern([*args.get("ignore", []), *(step.get("regex_pattern", "") for step in steps)])
        if problem:
            self.migration.port(place, f"{name}: {problem}", PORT_FILE)
            return self._stub(name)
        self.migration.carried(place, f"{kind} after {label!r}", f"scorers.{name}")
        return {"type": "python", "name": name, "function": f"{SCORER}:exact_match", "args": args}

    def _stub(self, name: str) -> dict[str, Any]:
        return {"type": "python", "name": slug(name, "score"), "function": TO_BE_PORTED}

    def _steps(self, pipeline: Mapping[str, Any], number: int) -> list[dict[str, Any]] | None:
        """The filters of a pipeline that the scorer applies; None if one of them has to be ported."""
        steps: list[dict[str, Any]] = []
        known = True
        given = pipeline.get("filter")
        for index, step in enumerate(given if isinstance(given, list) else []):
            step = {"function": step} if isinstance(step, str) else step if isinstance(step, dict) else {}  # noqa: PLW2901
            name = text_of(step.get("function"))
            place = self.place("filter_list", number, "filter", index)
            odd = [key for key in step if key != "function" and key not in FILTERS.get(name, ())]
            if name not in FILTERS or odd or not _fits(step):
                known = False
                self.migration.port(
                    place, f"filter {name!r}{': ' + ', '.join(map(str, odd)) if odd else ''}", PORT_FILE
                )
            elif name == "majority_vote":
                self.migration.changed(
                    place, name, "run.reducer: mode", "the most frequent score counts, not the most frequent answer"
                )
            else:
                self.migration.carried(place, f"filter {name!r}", "args.filters")
                steps += [step] if name not in ("take_first", "take_first_k") else []
        return steps if known else None

    def _add_epochs(self, suite: dict[str, Any]) -> None:
        repeats = self.take("repeats", 1)
        vote = "majority_vote" in text_of(self.task.get("filter_list"))
        if isinstance(repeats, int) and not isinstance(repeats, bool) and 1 < repeats <= 1000 and vote:
            suite["run"] = {"epochs": repeats, "reducer": "mode"}
            self.migration.carried(self.place("repeats"), f"repeats: {repeats}", "run.epochs")
        elif "repeats" in self.task:
            self.migration.carried(
                self.place("repeats"), f"repeats: {text_of(repeats)}", "one answer counts, as with take_first"
            )


def _fits(step: Mapping[str, Any]) -> bool:
    """Whether the options of a filter have the types that lm-eval takes."""
    return (
        isinstance(step.get("regex_pattern", ""), str)
        and step.get("group_select", 0) in (0, -1)
        and isinstance(step.get("mapping_dict", {}), dict)
    )


def _bad_pattern(patterns: list[str]) -> str | None:
    for pattern in patterns:
        try:
            with warnings.catch_warnings(action="ignore"):  # of what a later Python will read otherwise
                re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as wrong:
            return f"the regex {pattern[:40]!r} is not valid: {wrong}"
    return None
