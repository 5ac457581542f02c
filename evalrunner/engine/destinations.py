"""What a suite reaches: the hosts it would contact with the secrets that go there, and the files outside of its folder.

Nothing is contacted and no user-defined code is imported: the suite alone, the environment and the caches on this
machine say it.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.request import getproxies

from evalrunner.baselines.file import baseline_path
from evalrunner.baselines.resolve import NAME, RUN, baseline_source, is_path
from evalrunner.datasets.files import FileNotResolved, find_files
from evalrunner.egress import Address, Destination
from evalrunner.endpoints.factory import SERVER_KIND, kind_of
from evalrunner.endpoints.openai import OPENAI_URL
from evalrunner.endpoints.transport import CA_VARIABLES
from evalrunner.plugin_table import BUILTIN
from evalrunner.plugins import NEGATION, is_negation, known_names, load
from evalrunner.redact import REDACTED, may_be_secret
from evalrunner.secret_names import LOGIN
from evalrunner.storage import expand_home
from evalrunner.suite.checks import ChecksReader
from evalrunner.suite.data_address import is_address
from evalrunner.suite.environment import (
    VARIABLE,
    SuiteEnvironment,
    keys_of_provider,
    provider_of,
    public_path,
    settings_of_provider,
)
from evalrunner.suite.provider_hosts import named_addresses, policy_of_model
from evalrunner.suite.schema import CheckSpec, KeyPath, ModelSpec, Suite, TransportSpec
from evalrunner.suite.yaml import Document

LITERAL = "literal value in the suite"
FILLED_IN = "os.environ/"  # how LiteLLM writes a variable in parameters
BUILTIN_CODE = frozenset(BUILTIN["targets"]) | frozenset(BUILTIN["scorers"])
PLAIN_SETTING = re.compile(r"_(BASE_URL|API_BASE|ENDPOINT|URL|VERSION|REGION|REGION_NAME|LOCATION|PROJECT|PROJECT_ID)$")
MAX_PATH_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class Reach:
    """Everything that a suite reaches outside of its folder.

    `files` are paths with what they are for, `code` user-defined functions, which may contact any host and read any
    file. `proxies` are variables of the environment with their address.
    """

    destinations: tuple[Destination, ...]
    files: tuple[tuple[str, str], ...]
    code: tuple[tuple[str, str], ...]
    proxies: tuple[tuple[str, str], ...]


def reach_of(suite: Suite, document: Document, *, trackers: Mapping[str, str | None] | None = None) -> Reach:
    """What a suite reaches. `trackers` are addresses of trackers from the command line."""
    files = dict.fromkeys(_outside(suite, _files(suite, document)))
    return Reach(
        tuple(destinations_of(suite, document, trackers=trackers)),
        tuple(files),
        tuple(dict.fromkeys(_code(suite))),
        tuple(_proxies()),
    )


def destinations_of(
    suite: Suite, document: Document, *, trackers: Mapping[str, str | None] | None = None
) -> Iterator[Destination]:
    """Every host that a suite would contact, once for each purpose."""
    for target in suite.targets:
        purpose = f"target {target.name}"
        if target.model is not None:
            params = {**suite.params, **target.model.params}
            yield from _of_model(target.model, params, purpose, document)
        elif isinstance(url := target.options.get("url"), str) and target.type == "http":
            variables = variables_of(public_path(str(target.public.get("url", ""))))
            secrets = (*(f"{name} (url)" for name in variables), *_in_headers(target.public.get("headers")))
            yield Destination(_origin(url), purpose, secrets, (*target.key_path, "url"))
    if suite.user is not None:
        yield from _of_model(suite.user.model, suite.user.model.params, "simulated user", document)
    judges: dict[int, tuple[ModelSpec, list[str]]] = {}
    for scorer in suite.scorers:
        if (judge := scorer.judge or suite.judge) is not None:
            judges.setdefault(id(judge), (judge, []))[1].append(scorer.name)
    checks = list(suite.checks.leaves())
    for check in checks:
        if isinstance(check.judge, ModelSpec):
            judges.setdefault(id(check.judge), (check.judge, []))[1].append("checks")
    if suite.judge is not None:  # rows may have checks that ask it
        judges.setdefault(id(suite.judge), (suite.judge, []))
    for judge, names in judges.values():
        purpose = f"judge of {', '.join(names)}" if judge is not suite.judge else "judge"
        members = judge.members
        for item in (item for one in members for item in _of_model(one, one.params, purpose, document)):
            yield replace(item, optional=True)  # whether a user-defined scorer asks it is not known without its code
    for scorer in suite.scorers:
        if scorer.model is not None:
            yield from _of_model(scorer.model, scorer.model.params, f"model of {scorer.name}", document)
    for check in checks:
        if isinstance(check.model, ModelSpec):
            yield from _of_model(check.model, check.model.params, "model of checks", document)
    for name in known_names("destinations"):
        yield from load("destinations", name)(suite, trackers or {})


def _of_model(spec: ModelSpec, params: Mapping[str, Any], purpose: str, document: Document) -> Iterator[Destination]:
    kind, environ = kind_of(spec), document.environ
    secrets = (*_key(spec), *_in_headers(spec.public.get("headers")), *_in_params(params))
    if spec.base_url is not None:
        raw = _raw(document.data, (*spec.key_path, "base_url"))
        secrets = (*secrets, *_in_url(spec.public.get("base_url"), spec.base_url, raw, "base_url"))
        yield Destination(_origin(spec.base_url), purpose, secrets, (*spec.key_path, "base_url"))
    elif kind == SERVER_KIND:
        variable = () if spec.public.get("api_key") else _keys(("OPENAI_API_KEY",), environ)
        url = os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
        yield Destination(_origin(url), purpose, (*variable, *secrets), spec.key_path)
    elif kind == "litellm" and "mock_response" not in params:
        yield from _of_litellm(spec, params, purpose, secrets, environ)


def _of_litellm(
    spec: ModelSpec, params: Mapping[str, Any], purpose: str, secrets: tuple[str, ...], environ: Mapping[str, str]
) -> Iterator[Destination]:
    provider = provider_of(spec.model)
    keys = () if spec.public.get("api_key") else _keys(keys_of_provider(provider), environ)
    settings = (name for name in settings_of_provider(provider) if not PLAIN_SETTING.search(name))
    secrets = (*keys, *_set(settings, environ), *secrets)
    addresses = named_addresses(spec.model, params, os.environ).values()
    patterns = () if addresses else policy_of_model(spec.model, params, {}).patterns or ()
    hosts = [*map(_origin, addresses), *(text if "://" in text else f"https://{text}" for text in map(str, patterns))]
    for host in hosts:
        yield Destination(host, purpose, secrets, spec.key_path, optional=not addresses)
    if not hosts:
        yield Destination("", purpose, secrets, spec.key_path)


def _key(spec: ModelSpec) -> tuple[str, ...]:
    return _named(spec.public.get("api_key"), "api_key")


def _in_headers(headers: Any) -> tuple[str, ...]:
    given = headers.items() if isinstance(headers, Mapping) else ()
    return tuple(text for name, value in given for text in _named(value, f"header {name}"))


def _in_params(params: Mapping[str, Any], place: str = "params") -> tuple[str, ...]:
    """Literal secrets in parameters, also nested ones, and variables that LiteLLM or a gateway would fill in."""
    found: list[str] = []
    for name, value in params.items():
        here = f"{place}.{name}"
        if isinstance(value, Mapping):
            inner = {key: item if name.lower().endswith("headers") else None for key, item in value.items()}
            found += (f"{LITERAL} ({here}.{key})" for key, item in inner.items() if item)
            found += _in_params({key: item for key, item in value.items() if not inner[key]}, here)
        elif isinstance(value, str) and value.startswith(FILLED_IN):
            found.append(f"{value.removeprefix(FILLED_IN)} ({here})")
        elif value and may_be_secret(name):
            found.append(f"{LITERAL} ({here})")
    return tuple(found)


def _in_url(public: Any, filled: str, raw: Any, place: str) -> tuple[str, ...]:
    """What a URL holds besides the address: variables of its path, and its login."""
    names = tuple(f"{name} ({place})" for name in variables_of(str(public or "")))
    if LOGIN.search(filled) is None or LOGIN.search(str(public or "")) is not None:  # the latter has variables
        return names
    whole = variables_of(str(raw or ""))[:1]  # a variable for the whole address
    return (*names, f"{whole[0]} (login of {place})" if whole else f"{LITERAL} (login of {place})")


def _raw(data: Any, path: KeyPath) -> Any:
    """The value of a suite as it is written, or None."""
    for step in path:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _named(value: Any, place: str) -> tuple[str, ...]:
    """The variables in the public form of a value, or that it is a literal; nothing if there is no value."""
    if value is None:
        return ()
    names = variables_of(str(value))
    return tuple(f"{name} ({place})" for name in names) or ((f"{LITERAL} ({place})",) if str(value) == REDACTED else ())


def variables_of(text: str) -> tuple[str, ...]:
    """The names of the variables in a text, in order."""
    names = (match.group(1).partition(":-")[0] for match in VARIABLE.finditer(text) if match.group(1))
    return tuple(dict.fromkeys(names))


def _keys(names: Iterable[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    """The variables of API keys that are set, or all of them if none is."""
    listed = tuple(names)
    return _set(listed, environ) or tuple(f"{name} (not set)" for name in listed)


def _set(names: Iterable[str], environ: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if environ.get(name)))


def _origin(url: str) -> str:
    """The address of a URL; the URL without its login where it has none."""
    try:
        return str(Address.of(url))
    except ValueError:
        return LOGIN.sub("://", url)


def _proxies() -> Iterator[tuple[str, str]]:
    for scheme, address in sorted(getproxies().items()):
        shown = LOGIN.sub("://", address) if scheme != "no" else address
        login = " with a login" if shown != address else ""
        yield f"{scheme.upper()}_PROXY", f"{shown}{login}"


def _files(suite: Suite, document: Document) -> Iterator[tuple[Path, str]]:
    """The files that a suite reads, with what they are for. Those that do not exist are listed too."""
    dataset, folder = suite.dataset, suite.folder
    for written in dataset.paths if dataset.path != "-" else ():
        if is_address(written):
            continue
        try:
            found = find_files(written, folder)
        except (FileNotResolved, OSError, ValueError):
            found = [folder / written]
        yield from ((path, "dataset") for path in found)
    yield from ((path, "prompt") for path in document.files)
    for target in suite.targets:
        transport = target.pace.transport if target.model is None else target.model.pace.transport
        yield from _of_transport(transport, f"target {target.name}")
    asked = [suite.judge, *(scorer.judge for scorer in suite.scorers), *(leaf.judge for leaf in suite.checks.leaves())]
    judges = {id(spec): spec for spec in asked if isinstance(spec, ModelSpec)}
    for judge in (member for spec in judges.values() for member in spec.members):
        yield from _of_transport(judge.pace.transport, f"judge {judge.name}")
    if suite.user is not None:
        yield from _of_transport(suite.user.model.pace.transport, "simulated user")
    for scorer in suite.scorers:
        if scorer.model is not None:
            yield from _of_transport(scorer.model.pace.transport, f"model of {scorer.name}")
    for section, purpose in _typed(suite):
        for text in _texts(section.options):
            if _is_file_name(text) and os.path.lexists(folder / expand_home(text)):
                yield folder / expand_home(text), f"option of {purpose}"
    for gate in suite.gates:
        reference = gate.baseline or ""
        if is_path(reference) and baseline_source(reference) is None and not reference.startswith(RUN):
            yield folder / reference, "baseline"
        elif NAME.fullmatch(reference):
            yield baseline_path(folder, suite.name, reference), "baseline"
    if isinstance(document.environ, SuiteEnvironment):
        yield from ((Path(file.label), "variables") for file in document.environ.files)
    for name in ("SSL_CERT_FILE", *CA_VARIABLES):
        if os.environ.get(name):
            yield Path(os.environ[name]), f"certificates of {name}"
    for reference, purpose in _code(suite):
        location = reference.rpartition(":")[0]
        if location.endswith(".py"):
            yield folder / location, f"code of {purpose}"


def _texts(value: Any) -> Iterator[str]:
    """Every text in the options of a target or scorer."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def _is_file_name(text: str) -> bool:
    """Whether a text may be the path of a file elsewhere: any word can be the name of one in the folder itself."""
    return "/" in text and len(text) <= MAX_PATH_LENGTH and text.isprintable() and "://" not in text


def _of_transport(spec: TransportSpec | None, purpose: str) -> Iterator[tuple[Path, str]]:
    for name in ("verify", "cert", "key", "uds") if spec is not None else ():
        if isinstance(path := getattr(spec, name), str):
            yield Path(path), f"transport.{name} of {purpose}"


def _outside(suite: Suite, files: Iterable[tuple[Path, str]]) -> Iterator[tuple[str, str]]:
    """The files that are not in the folder of the suite, links followed."""
    home = suite.folder.resolve()
    for path, purpose in files:
        place = expand_home(path).resolve()
        if not place.is_relative_to(home):
            yield str(place), purpose


def _code(suite: Suite) -> Iterator[tuple[str, str]]:
    """User-defined code with what it is for: references of the suite, and installed plug-ins."""
    for section, purpose in _typed(suite):
        reference = section.options.get("function") if section.type == "python" else section.type
        if isinstance(reference, str) and (section.type == "python" or reference not in BUILTIN_CODE):
            yield reference, purpose
        if section.type == "command" and isinstance(words := section.options.get("command"), list):
            yield shlex.join(map(str, words)), purpose
        if section.type == "mlflow" and isinstance(model := section.options.get("model_uri"), str):
            yield model, purpose
    models = [(f"target {target.name}", target.model) for target in suite.targets if target.model is not None]
    for purpose, spec in [
        *models,
        *(("judge", judge) for judge in (suite.judge.members if suite.judge is not None else ())),
    ]:
        if (kind := kind_of(spec)) not in BUILTIN["endpoints"]:
            yield f"endpoint {kind}", purpose
    if ":" in (kind := suite.dataset.type or ""):
        yield kind, "dataset"
    for target in suite.targets:
        pace = target.pace if target.model is None else target.model.pace
        if pace.transport is not None and pace.transport.client is not None:
            yield pace.transport.client, f"transport of target {target.name}"


def _typed(suite: Suite) -> Iterator[tuple[Any, str]]:
    for target in suite.targets:
        if target.type is not None:
            yield target, f"target {target.name}"
    for scorer in suite.scorers:
        kind = scorer.type.removeprefix(NEGATION) if is_negation(scorer.type) else scorer.type
        yield replace(scorer, type=kind), f"scorer {scorer.name}"
    for check in (*suite.checks.leaves(), *_inline_checks(suite)):
        yield check, f"check {check.type}"


def _inline_checks(suite: Suite) -> Iterator[CheckSpec]:
    """The checks of inline rows, which may name user-defined code as the suite may; what is wrong is reported elsewhere."""
    column = suite.dataset.columns.checks
    name = "checks" if column is None else str(column.column)
    for row in suite.dataset.rows or ():
        if name in row:
            yield from ChecksReader(lambda path, message: None).read(row[name]).leaves()
