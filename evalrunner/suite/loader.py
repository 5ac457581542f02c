"""A suite file to a `Suite`, with every problem of the file at once.

`read_suite` reports problems to the document and continues, so that problems of the later assembly are raised together
with them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalrunner.errors import SuiteError, nearest
from evalrunner.redact import register_secrets_of, without_secrets
from evalrunner.suite import gates, models, sections, user  # noqa: F401  they register the readers of their keys
from evalrunner.suite.checks import report_inline_checks
from evalrunner.suite.columns import is_template
from evalrunner.suite.environment import suite_environment
from evalrunner.suite.matrix import combined_targets, selected_items, target_items
from evalrunner.suite.options import RunOptions, flag_of
from evalrunner.suite.schema import (
    DatasetSpec,
    KeyPath,
    RunSpec,
    Suite,
    TargetSpec,
)
from evalrunner.suite.sections import public_address, public_tracking
from evalrunner.suite.tools import with_tools
from evalrunner.suite.untrusted import policy_of, refuse_untrusted, restrictions_of
from evalrunner.suite.validate import SectionReader, is_section, keys_of, top_keys, without_nulls
from evalrunner.suite.yaml import Document, dotted, load_document, parse_document

STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def open_suite(path: str | Path, options: RunOptions | None = None) -> Document:
    """The document of a suite file with the options applied. Raises SuiteError if it is not YAML, or an env file is wrong."""
    options = options or RunOptions()
    restrictions = restrictions_of(Path(path), options)
    document = load_document(Path(path), label=str(path))
    document.restrictions, document.hosts = restrictions, policy_of(options)
    _register_secrets(document.data)
    apply_options(document, options)
    _register_secrets(document.data)
    document.environ = suite_environment(Path(path).parent, options, public=_public_names(document.data))
    return document


def _register_secrets(data: Any) -> None:
    """Register the keys that a suite has in plain text, before a problem repeats one."""
    if isinstance(data, Mapping):
        register_secrets_of({name: item for name, item in data.items() if name not in ("dataset", "prompt", "prompts")})
        if isinstance(data.get("dataset"), Mapping):
            register_secrets_of({name: item for name, item in data["dataset"].items() if name != "rows"})


def _public_names(data: Any) -> str:
    """The names, models and addresses that a suite has in plain text."""
    if not isinstance(data, Mapping):
        return ""
    targets = data.get("targets")
    player = data.get("user")
    items = [{"name": data.get("name")}, data.get("target"), data.get("judge")]
    items += [player.get("model")] if isinstance(player, Mapping) else []
    items += targets if isinstance(targets, list) else []
    texts = [
        item if isinstance(item, str) else item.get(name)
        for item in items
        if isinstance(item, str | Mapping)
        for name in ("name", "model", "base_url", "url", "uri")
    ]
    return "\n".join(text for text in texts if isinstance(text, str))


def load_suite(path: str | Path, options: RunOptions | None = None) -> Suite:
    """The suite in a file, checked by itself (not yet against its data or its factories). Raises SuiteError."""
    document = open_suite(path, options)
    suite = read_suite(document)
    if document.problems:
        report_inline_checks(document)
    document.raise_problems()
    assert suite is not None  # what has no problems is a suite
    return suite


def read_suite(document: Document) -> Suite | None:
    """The suite of a document, or None if it is too broken; its problems are in the document."""
    path = Path(document.file)
    reader = SectionReader(document, path.parent)
    data = document.data
    if not isinstance(data, Mapping):
        state = "is empty" if data is None else "is not a mapping"
        document.problem((), f"{state}; a suite needs at least dataset, target and scorers ('evalrun init' writes one)")
        return None
    keys = keys_of(Suite)
    reader.check_keys(data, (), keys)
    reader.check_needed(keys, data, ())
    given = without_nulls(keys, data)
    for key in keys.values():
        if is_section(key.annotation) and not given.keys().isdisjoint(top_keys(key.annotation)):
            given.setdefault(key.name, {})
    fields = {"name": _file_name(reader, path) if "name" not in given else "", **reader.fields(keys, given, ())}
    fields["params"] = with_tools(reader, fields.get("params") or {}, fields.get("tools"), ())
    if document.restrictions is not None:
        refuse_untrusted(fields, document, document.restrictions, path.parent)
        document.raise_problems()  # nothing may be imported for what is refused
    fields["targets"] = combined_targets(reader, fields.get("targets") or (), fields.get("prompts") or {})
    if _scores_nothing(fields, data):
        reader.report((), "needs 'scorers', such as scorers: [exact_match], or checks")
    if not all(fields.get(name) for name in ("dataset", "targets")):
        return None
    resolved = _resolved(data, fields["targets"], fields.get("judge"), fields.get("user"))
    run = fields.pop("run", RunSpec())
    run = dataclasses.replace(run, egress=run.egress.within(document.hosts))
    dataset = fields["dataset"]
    seed = run.seed if dataset.shuffle is None else dataset.shuffle
    fields["dataset"] = dataclasses.replace(dataset, sample_seed=seed)
    return _in_random_order(Suite(**fields, run=run, path=path, folder=path.parent, resolved=resolved))


def _scores_nothing(fields: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Whether a suite has neither scorers nor checks, and inline rows without checks; other rows are not known yet."""
    if "scorers" in data or "checks" in data or any("scorers" in nearest(str(name), ["scorers"]) for name in data):
        return False
    dataset: DatasetSpec | None = fields.get("dataset")
    if dataset is None:
        return True
    column = dataset.columns.checks
    if column is not None and is_template(column.columns[0]):
        return False
    name = "checks" if column is None else str(column.column).partition(".")[0]
    return dataset.rows is not None and not any(name in row for row in dataset.rows)


def _in_random_order(suite: Suite) -> Suite:
    """The suite, shuffled by its seed if gates decide on its first samples; samples of a cluster stay together."""
    if not (suite.run.stop_early or any(gate.sequential for gate in suite.gates)):
        return suite
    dataset = suite.dataset
    seed = suite.run.seed if dataset.shuffle is None else dataset.shuffle
    return dataclasses.replace(suite, dataset=dataclasses.replace(dataset, shuffle=seed, keep_clusters=True))


def _file_name(reader: SectionReader, path: Path) -> str:
    """The name of a suite that sets none: that of its file."""
    name, rules = path.stem.lower(), keys_of(Suite)["name"].rules
    if not re.fullmatch(rules["pattern"], name):
        reader.report((), f"needs a 'name' {rules['pattern_hint']}; the name of the file, {name!r}, is not valid")
    return name


def _resolved(data: Mapping[str, Any], targets: tuple[TargetSpec, ...], judge: Any, player: Any) -> Mapping[str, Any]:
    """The public data of the suite: addresses filled in, API keys as the name of their variable."""
    public = {name: item for name, item in data.items() if name not in ("target", "targets", "judge")}
    public["targets"] = [
        {**spec.model.public, "name": spec.name}
        if spec.model is not None
        else {
            "type": spec.type,
            "name": spec.name,
            **spec.options,
            **spec.public,
            **({"args": spec.args} if spec.args else {}),
        }
        for spec in targets
    ]
    if judge is not None:
        members = [{**one.public, "name": one.name} for one in judge.members]
        public["judge"] = members if judge.others else members[0]
    if player is not None:
        public["user"] = {**data["user"], "model": {**player.model.public, "name": player.model.name}}
    if "tracking" in public:
        public["tracking"] = public_tracking(public["tracking"])
    if isinstance(public.get("dataset"), Mapping):
        public["dataset"] = public_address(public["dataset"])
    public["scorers"] = [_without_keys(item) for item in data.get("scorers") or []]
    if "checks" in data:
        public["checks"] = _without_keys_of_judges(data["checks"])
    rows = {
        name: public.pop(name) for name in ("dataset", "prompt", "prompts") if name in public
    }  # whose keys are columns and roles
    return {**without_secrets(public), **rows}


def _without_keys(item: Any) -> Any:
    """The data of a scorer without the secrets of its judges and its model."""
    if not isinstance(item, Mapping):
        return item
    return {**item, **{name: _public_model(item[name]) for name in ("judge", "model") if name in item}}


def _public_model(spec: Any) -> Any:
    """A model, or several, without its secrets."""
    if isinstance(spec, list):
        return [_public_model(one) for one in spec]
    if isinstance(spec, Mapping):
        return {key: value for key, value in spec.items() if key not in ("api_key", "headers")}
    return spec


def _without_keys_of_judges(data: Any) -> Any:
    """The data of checks without the secrets of their judges."""
    if isinstance(data, list):
        return [_without_keys_of_judges(item) for item in data]
    if isinstance(data, Mapping):
        return _without_keys({name: _without_keys_of_judges(item) for name, item in data.items()})
    return data


def apply_options(document: Document, options: RunOptions) -> None:
    """Change the data of `document` as the options say; problems with their values name the option, not a line."""
    if not isinstance(document.data, dict):
        return
    for setting in options.settings:
        _apply_setting(document, setting)
    for item in dataclasses.fields(options):
        path, value = item.metadata.get("sets"), getattr(options, item.name)
        if path is None or value in (None, ""):
            continue
        for name, inner in value.items() if isinstance(value, Mapping) else [(None, value)]:
            _set(document, path if name is None else (*path, name), _literal(inner, path), flag_of(item))
    if options.refresh and options.cache == "off":
        raise SuiteError("--refresh caches new answers, and --no-cache caches none; leave one of them out")
    if options.cache is not None:
        _set_cache(document, options.cache, "--no-cache" if options.cache == "off" else "--cache")
    elif options.untrusted:  # cached answers would tell a stranger what was asked before
        _set_cache(document, "off", "--untrusted")
    if options.targets:
        _choose_targets(document, options.targets)
    if options.base_url is not None:
        _set_base_url(document, options.base_url)


def _literal(value: Any, path: KeyPath) -> Any:
    """A value of the command line as a suite would write it: in an address, a dollar sign begins a variable."""
    return value.replace("$", "$$") if path[0] == "tracking" else value


def _set_cache(document: Document, mode: str, flag: str) -> None:
    """Set the mode where the suite has it, and preserve the TTL."""
    run = document.data.get("run")
    path: KeyPath = ("run", "cache") if isinstance(run, dict) and "cache" in run else ("cache",)
    given = run["cache"] if len(path) == 2 and isinstance(run, dict) else document.data.get("cache")
    _set(document, (*path, "mode") if isinstance(given, dict) else path, mode, flag)


def _yaml_value(text: str, flag: str, path: KeyPath) -> Any:
    try:
        return parse_document(text, file=flag, base=path).data
    except SuiteError as broken:
        raise SuiteError(f"{flag}: {broken.problems[0].message}") from None


def _apply_setting(document: Document, setting: str) -> None:
    name, equals, value = setting.partition("=")
    flag = f"--set {setting!r}"
    steps = list(STEP.finditer(name.strip()))
    if not equals or not steps or "".join(step.group(0) for step in steps) != name.strip().replace(".", ""):
        raise SuiteError(f"{flag}: should read key.path=value, such as run.timeout=30")
    path = tuple(int(step.group(2)) if step.group(2) else step.group(1) for step in steps)
    _set(document, path, _yaml_value(value, flag, path), flag)


def _set(document: Document, path: KeyPath, value: Any, flag: str) -> None:
    if path[0] == "dataset" and len(path) > 1 and isinstance(document.data.get("dataset"), str):
        document.data["dataset"] = {"path": document.data["dataset"]}
    here: Any = document.data
    for depth, step in enumerate(path[:-1]):
        here = _step_into(here, step, path[: depth + 1], flag)
    last = path[-1]
    if isinstance(here, list):
        here[_place(here, last, path, flag)] = value
    elif isinstance(here, dict):
        here[str(last)] = value
    else:
        raise SuiteError(f"{flag}: {dotted(path[:-1])} is neither a mapping nor a list")
    document.overridden[path] = flag
    document.owner_paths.add(path)


def _step_into(here: Any, step: str | int, path: KeyPath, flag: str) -> Any:
    if isinstance(here, list):
        return here[_place(here, step, path, flag)]
    if not isinstance(here, dict):
        raise SuiteError(f"{flag}: {dotted(path[:-1])} is neither a mapping nor a list")
    if here.get(str(step)) is None:
        here[str(step)] = {}
    return here[str(step)]


def _place(items: list[Any], step: str | int, path: KeyPath, flag: str) -> int:
    place = int(step) if str(step).isdigit() else -1
    if not 0 <= place < len(items):
        raise SuiteError(f"{flag}: {dotted(path[:-1])} is a list of {len(items)}; {step!r} is not a valid index")
    return place


def _choose_targets(document: Document, selected: tuple[str, ...]) -> None:
    data = document.data
    names = target_items(data)
    data.pop("target", None)
    data["targets"] = items = selected_items(names, selected)
    document.overridden[("targets",)] = "--target"
    document.owner_paths = {path for path in document.owner_paths if path[0] not in ("target", "targets")}
    document.owner_paths.update(
        ("targets", place) for place, item in enumerate(items) if isinstance(item, str) and item not in names
    )
    chosen = {*selected, *target_items({**data, "targets": items})}
    document.excluded_targets.update(names.keys() - chosen)


def _set_base_url(document: Document, base_url: str) -> None:
    data = document.data
    for name in ("target", "targets"):
        items = data.get(name)
        places = items if isinstance(items, list) else [items]
        changed = []
        for item in places:
            if isinstance(item, str):
                changed.append({"model": item, "base_url": base_url})
            elif isinstance(item, dict) and "type" not in item:
                changed.append({**item, "base_url": base_url})
            else:
                changed.append(item)
        if items is not None:
            data[name] = changed if isinstance(items, list) else changed[0]
            document.overridden[(name,)] = "--base-url"
