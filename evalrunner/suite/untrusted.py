"""Suites from strangers: what a suite may use with `--untrusted`, and the refusal of everything else.

Without Python, a suite can still name files, variables and hosts, and so send the one to the other. With `--untrusted`
it gets the files of its own folder, the variables of `--allow-env` and the hosts of `--allow-host`. Variables and prompt
files are refused while the suite is read, the rest by `refuse_untrusted`, before anything is imported or opened. Values
of the command line are the user's own and may be anything, except that every host has to be allowed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath
from typing import Any

from evalrunner.egress import Address, EgressPolicy
from evalrunner.errors import Problem, SuiteError
from evalrunner.plugin_table import BUILTIN
from evalrunner.plugins import NEGATION, is_negation, known_names
from evalrunner.storage import expand_braces
from evalrunner.suite.data_address import HUB_URL, address_of, contacted_url
from evalrunner.suite.environment import OPENAI_URL, VARIABLE, VARIABLE_NAME, keys_of_provider, provider_of
from evalrunner.suite.options import RunOptions
from evalrunner.suite.provider_hosts import PROVIDER_HOSTS, named_addresses
from evalrunner.suite.schema import CheckSpec, DatasetSpec, GateSpec, KeyPath, ModelSpec, ScorerSpec, TargetSpec
from evalrunner.suite.yaml import Document, dotted

STDIN = "-"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RUN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4}")
ROUTING_HEADERS = frozenset(
    {
        ":authority", "connection", "content-length", "forwarded", "host", "proxy-authorization", "proxy-connection", "te",
        "trailer", "transfer-encoding", "upgrade", "x-forwarded-host", "x-original-url", "x-rewrite-url",
    }
)  # fmt: skip
"""Headers by which a request can reach another host than that of its URL, or be read as two."""
GATEWAY_PARAMS = frozenset(
    {"api_base", "base_url", "extra_headers", "fallbacks", "litellm_params", "mcp_servers", "proxy", "user_config"}
)
"""Parameters that tell a gateway to contact other hosts."""
LITELLM_SECRET = "os.environ/"  # noqa: S105  how LiteLLM writes variables

KEY_PROVIDERS = PROVIDER_HOSTS.keys() - {
    "azure", "azure_ai", "bedrock", "databricks", "hosted_vllm", "huggingface", "litellm_proxy", "lm_studio", "ollama",
    "ollama_chat", "replicate", "sagemaker", "sagemaker_chat", "vertex_ai", "watsonx",
}  # fmt: skip
"""Providers that LiteLLM calls with one API key at a known host. The others read logins, files or addresses as well."""

SAMPLING_PARAMS = frozenset(
    {
        "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "min_p", "n",
        "parallel_tool_calls", "presence_penalty", "reasoning_effort", "repetition_penalty", "response_format", "seed",
        "stop", "temperature", "thinking", "tool_choice", "tools", "top_k", "top_logprobs", "top_p", "verbosity",
    }
)  # fmt: skip
"""Parameters that LiteLLM passes on. Others are its own settings: addresses, logins, callbacks, files, prices."""


@dataclass(frozen=True, slots=True)
class Restrictions:
    """What a suite may use: files below `folder`, the `variables`, the `hosts`.

    `runs` is the folder of runs, whose files it may not read. `capped`: the user limits the cost.
    """

    folder: Path
    runs: Path
    hosts: EgressPolicy
    variables: frozenset[str] = frozenset()
    capped: bool = False

    def file_refusal(self, path: Path) -> str | None:
        """Why a suite may not read a file, as the rest of a sentence; None if it may. Links are followed."""
        try:
            real = path.resolve()
        except (OSError, ValueError, RuntimeError):  # too long, a NUL, a circle of links
            return "is not a path that can be checked"
        if not real.is_relative_to(self.folder):
            link = ", through a link" if path.absolute().is_relative_to(self.folder) and ".." not in path.parts else ""
            return f"leads out of the suite's folder{link}"
        parts = real.relative_to(self.folder).parts
        if any(part.startswith(".") for part in parts):
            return "is hidden, or in a hidden folder such as .git"
        inside = self.runs != self.folder and self.runs.is_relative_to(self.folder)
        if (inside and real.is_relative_to(self.runs)) or any(map(RUN_ID.fullmatch, parts)):
            return "is in the folder of earlier runs"
        return None

    def path_refusal(self, written: str, folder: Path) -> str | None:
        """The same for a path as it is written in a file of `folder`."""
        if written.startswith("~") or PureWindowsPath(written).anchor.startswith("\\\\"):
            return "leads out of the suite's folder"
        return self.file_refusal(folder / written)

    def refused_variables(self, text: str) -> list[str]:
        """The variables in a text that a suite may not read."""
        names = [match and match[1] for match in map(VARIABLE_NAME.fullmatch, VARIABLE.findall(text))]
        return [name for name in dict.fromkeys(names) if name and name not in self.variables]

    def provider_key(self, model: str, environ: Mapping[str, str]) -> str | None:
        """The API key of a model's provider, if a suite may read it."""
        names = keys_of_provider(provider_of(model))
        return next((environ[name] for name in names if name in self.variables and environ.get(name)), None)

    def host_refusal(self, url: str) -> str | None:
        """Why the host of a URL may not be contacted, and how to allow it; None if it may."""
        refusal = self.hosts.refusal(url)
        if refusal is None:
            return None
        try:
            host = str(Address.of(url)).partition("://")[2]
        except ValueError:
            return refusal
        return f"contacts {host}, which --untrusted refuses; allow it with --allow-host {host}"


def restrictions_of(file: Path, options: RunOptions) -> Restrictions | None:
    """What a suite may use by the options; None for a trusted one. Raises SuiteError for wrong options, or a link."""
    hosts = policy_of(options)
    if not options.untrusted:
        if options.allow_env:
            raise SuiteError("--allow-env has no effect without --untrusted: a trusted suite may read every variable")
        return None
    check_names(options.allow_env)
    allowed = Restrictions(
        file.parent.resolve(), options.output_dir.resolve(), hosts, frozenset(options.allow_env),
        capped=is_capped(options),
    )  # fmt: skip
    if (refusal := allowed.file_refusal(file)) is not None:
        raise SuiteError([Problem(str(file), "", f"{refusal}, which --untrusted refuses")])
    written = {"--output-dir": options.output_dir, **{f"-o {path}": Path(path).parent for path in options.outputs}}
    for option, path in written.items():
        if _is_linked(path):
            raise SuiteError(
                f"{option}: {str(path)!r} is reached through a link; name the folder itself as an absolute path"
            )
    return allowed


def check_names(names: Iterable[str]) -> None:
    """Raises SuiteError for a value of `--allow-env` that is no name of a variable. It may be a key: it is not repeated."""
    for name in names:
        if NAME.fullmatch(name):
            continue
        plain = re.fullmatch(r"\$\{?(\w+)\}?|(\w+)=.*", name, re.DOTALL)
        if "*" in name or "," in name:
            advice = "repeat the option for each variable"
        elif plain is not None and NAME.fullmatch(written := plain[1] or plain[2]):
            advice = f"write --allow-env {written}"
        else:
            advice = "the value of the variable stays in the environment"
        raise SuiteError(f"--allow-env should be the name of one variable, such as OPENAI_API_KEY; {advice}")


def _is_linked(path: Path) -> bool:
    """Whether a path below the working folder, which may be a stranger's checkout, leads elsewhere."""
    plain = Path(os.path.normpath(Path.cwd().resolve() / path))
    return not path.is_absolute() and plain != (Path.cwd() / path).resolve()


def policy_of(options: RunOptions) -> EgressPolicy:
    """The hosts that the command line allows: those of `--allow-host`; without it none if untrusted, else every host."""
    given = options.allow_hosts or None
    try:
        return EgressPolicy.of(() if given is None and options.untrusted else given, "--allow-host")
    except ValueError as wrong:
        raise SuiteError(f"--allow-host: {wrong}") from None


def check_location(file: Path, options: RunOptions) -> None:
    """Raises SuiteError for the suite of a stored run outside the working folder, as only a stranger's run would name it."""
    if options.untrusted and not file.resolve().is_relative_to(Path.cwd().resolve()):
        raise SuiteError(f"the run names the suite {str(file)!r} outside the working folder; name the file yourself")


def is_capped(options: RunOptions) -> bool:
    """Whether the command line limits the cost of a run."""
    settings = (setting.partition("=") for setting in options.settings)
    return options.max_cost is not None or any(
        name.strip() == "run.max_cost" and value.strip() not in ("", "null", "~") for name, _, value in settings
    )


def check_spending(options: RunOptions) -> None:
    """Raises SuiteError if an untrusted suite could spend without a limit: it gets a variable, and no `--max-cost`."""
    check_names(options.allow_env)
    if options.untrusted and options.allow_env and not is_capped(options):
        raise SuiteError(
            "--untrusted with --allow-env needs --max-cost USD: the suite decides how many calls it makes with your key"
        )


def refuse_untrusted(fields: Mapping[str, Any], document: Document, restrictions: Restrictions, folder: Path) -> None:
    """Report everything in the `fields` of a suite that it may not use. Nothing of it was opened yet."""
    audit = _Audit(document, restrictions, folder, fields.get("params") or {})
    for target in fields.get("targets") or ():
        audit.target(target)
    if (judge := fields.get("judge")) is not None:
        audit.judges(judge)
    if (user := fields.get("user")) is not None:
        audit.judges(user.model)
    for scorer in fields.get("scorers") or ():
        audit.scorer(scorer)
    if (checks := fields.get("checks")) is not None:
        for check in checks.leaves():
            audit.scorer(check)
    if (dataset := fields.get("dataset")) is not None:
        audit.dataset(dataset)
    if (name := fields.get("name")) and (restrictions.runs / name).is_symlink():
        document.problem(
            ("name",), f"the runs of {name!r} would go through a link, which --untrusted refuses; remove it"
        )
    refuse_baselines(fields.get("gates") or (), document, restrictions, folder)
    audit.tracking(getattr(fields.get("tracking"), "options", {}))
    audit.prices(fields.get("prices") or {}, ("prices",))


def refuse_baselines(gates: Iterable[GateSpec], document: Document, restrictions: Restrictions, folder: Path) -> None:
    """Report the baselines of gates that a suite may not read."""
    audit = _Audit(document, restrictions, folder, {})
    for gate in gates:
        audit.baseline(gate)


@dataclass(slots=True)
class _Audit:
    """Checks the parts of a suite. `params` are those of every target."""

    document: Document
    restrictions: Restrictions
    folder: Path
    params: Mapping[str, Any]
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def refuse(self, path: KeyPath, what: str, *, advice: str | None = None) -> None:
        """Report what stands at `path`, unless the command line set it."""
        if not self.document.is_owners(path):
            advice = advice or f"set it yourself with --set {dotted(path)}=…, or remove it"
            self.document.problem(path, f"{what}, which --untrusted refuses; {advice}")

    def python(self, path: KeyPath, what: str) -> None:
        self.refuse(path, f"{what} runs Python", advice="read the code, then run the suite without --untrusted")

    def host(self, path: KeyPath, url: Any) -> None:
        """Check an address; one that is no text, or empty, is reported where it is used."""
        if isinstance(url, str) and url.strip() and (refusal := self.restrictions.host_refusal(url)) is not None:
            self.document.problem(path, refusal)

    def target(self, spec: TargetSpec) -> None:
        path = spec.key_path
        if spec.model is not None:
            self.model(spec.model, self.params)
        elif spec.type == "http":
            self.host((*path, "url"), spec.options.get("url"))
            self.headers(spec.options.get("headers"), path)
        elif spec.type == "recorded" and spec.options.get("run") is not None:
            self.refuse((*path, "run"), "reads an earlier run")
        elif spec.type == "mlflow":
            self.python((*path, "type"), "a model of MLflow")
        elif spec.type == "command":
            advice = "read what it does, then run the suite without --untrusted"
            self.refuse((*path, "type"), "a command runs a program", advice=advice)
        elif _is_python(spec.type):
            self.python((*path, "type"), repr(spec.type))

    def scorer(self, spec: ScorerSpec | CheckSpec) -> None:
        path = spec.key_path
        for model in (spec.judge, spec.model):
            if isinstance(model, ModelSpec):
                self.judges(model)
        labels = spec.labels if isinstance(spec, ScorerSpec) else None
        if isinstance(labels, str) and (refusal := self.restrictions.path_refusal(labels, self.folder)) is not None:
            self.refuse((*path, "labels"), f"{labels!r} {refusal}", advice="copy it into the folder")
        if isinstance(spec, ScorerSpec) and is_negation(spec.type):
            spec = replace(spec, type=spec.type.removeprefix(NEGATION))
        if spec.type == "mlflow":
            self.python((*path, "type"), "a metric of MLflow")
        elif _is_python(spec.type):
            self.python((*path, "type"), repr(spec.type))
        elif spec.type == "toxicity" and spec.options.get("backend") == "hf":
            if spec.options.get("model") is not None:
                self.refuse((*path, "model"), "loads a model of the suite's choice")
            else:
                self.host((*path, "backend"), HUB_URL)

    def dataset(self, spec: DatasetSpec) -> None:
        path = spec.key_path
        if spec.source in BUILTIN["dataset_sources"]:
            self.refuse((*path, str(spec.source)), f"reads a dataset of {spec.source}")
        if _is_python(spec.type):
            self.python((*path, "type"), repr(spec.type))
        place = (*path, "path") if isinstance(self.document.data.get("dataset"), Mapping) else path
        if spec.path == STDIN:
            self.refuse(place, "reads standard input", advice="pass --set dataset.path=- yourself")
            return
        if (address := address_of(spec)) is not None:
            self.host(place, contacted_url(address))
            return
        try:
            paths = [path for written in spec.paths for path in expand_braces(written)]
        except ValueError as wrong:
            self.document.problem(place, str(wrong))
            return
        for written in paths:
            if (refusal := self.restrictions.path_refusal(written, self.folder)) is not None:
                self.refuse(place, f"{written!r} {refusal}", advice=FILE_ADVICE.format(dotted(("dataset", "path"))))

    def baseline(self, spec: GateSpec) -> None:
        reference, path = spec.baseline or "", (*spec.key_path, "baseline")
        scheme = reference.partition(":")[0]
        if scheme == "run" or RUN_ID.fullmatch(reference):
            self.refuse(path, f"{reference!r} reads an earlier run", advice=BASELINE_ADVICE)
        elif scheme != reference and scheme in BUILTIN["baseline_sources"]:
            self.refuse(path, f"{reference!r} reads a run of {scheme}", advice=BASELINE_ADVICE)
        elif (refusal := self.restrictions.path_refusal(reference, self.folder)) is not None:
            self.refuse(path, f"{reference!r} {refusal}", advice=BASELINE_ADVICE)

    def tracking(self, options: Mapping[str, Any]) -> None:
        section = self.document.data.get("tracking")
        for name in options:
            given = section.get(name) if isinstance(section, Mapping) else None
            keys = given if isinstance(given, Mapping) and given else {"uri": None}
            for key in keys:
                advice = f"send the run yourself with --{name} URI, and remove the section"
                self.refuse(("tracking", name, key), f"sends the run to {name} with your login", advice=advice)

    def prices(self, prices: Mapping[str, Any], path: KeyPath) -> None:
        if self.restrictions.capped:
            for name in prices:
                self.refuse((*path, name), "sets prices, by which --max-cost counts")

    def headers(self, headers: Any, path: KeyPath) -> None:
        for name in headers if isinstance(headers, Mapping) else ():
            if (plain := str(name).strip().lower()) in ROUTING_HEADERS:
                self.refuse((*path, "headers", name), f"the header {plain} can lead to another host")

    def judges(self, spec: ModelSpec) -> None:
        for member in spec.members:
            self.model(member)

    def model(self, spec: ModelSpec, params: Mapping[str, Any] | None = None) -> None:
        """Check a target or judge: its host, its API key, and what is passed to LiteLLM."""
        path, provider = spec.key_path, provider_of(spec.model)
        self.headers(spec.headers, path)
        self.prices({"prices": None} if spec.price is not None else {}, path)
        self.parameters(spec, params or {})
        if spec.base_url is not None:
            self.host((*path, "base_url"), spec.base_url)
            return
        prefix, slash, _ = spec.model.partition("/")
        if slash and prefix == "openai":
            self.host(path, self.environ.get("OPENAI_BASE_URL") or OPENAI_URL)
            self.keys(spec, required=False)
        elif slash and prefix in _endpoints():
            return  # local, or an installed plug-in, which is the user's own
        elif provider not in KEY_PROVIDERS or (slash and prefix != provider):
            advice = "name the server with base_url, or the model on the command line: --target or --judge MODEL"
            unknown = provider not in PROVIDER_HOSTS or (slash and prefix != provider)
            why = "goes to hosts that only LiteLLM knows" if unknown else "needs more than one API key and one host"
            self.refuse(path, f"{spec.model!r} {why}", advice=advice)
        else:
            self.litellm(spec, provider, params or {})

    def parameters(self, spec: ModelSpec, params: Mapping[str, Any]) -> None:
        """Check the parameters of any model: a gateway may act on some."""
        for given, place in ((spec.params, (*spec.key_path, "params")), (params, ("params",))):
            for name, value in given.items():
                if name in GATEWAY_PARAMS and value is not None:
                    self.refuse((*place, name), "can lead to another host")
                elif name == "tools" and value is not None and not _are_functions(value):
                    self.refuse((*place, name), "has a tool that is no function, but a service")

    def litellm(self, spec: ModelSpec, provider: str, params: Mapping[str, Any]) -> None:
        """Check a model that LiteLLM calls, which has settings of its own among the parameters."""
        path = spec.key_path
        urls = list(named_addresses(spec.model, {}, self.environ).values())
        for url in urls or [f"https://{PROVIDER_HOSTS[provider][0]}"]:
            self.host(path, url)
        self.keys(spec, required=True)
        for given, place in ((spec.params, (*path, "params")), (params, ("params",))):
            for name, value in given.items():
                if value is None:
                    continue
                if name not in SAMPLING_PARAMS and name not in GATEWAY_PARAMS:
                    self.refuse((*place, name), "is a setting of LiteLLM, not a sampling parameter")
                elif LITELLM_SECRET in str(value):
                    self.refuse((*place, name), "names a variable in LiteLLM's way")
        for place, text in ((path, spec.model), ((*path, "api_key"), spec.api_key or "")):
            if LITELLM_SECRET in text:
                self.refuse(place, "names a variable in LiteLLM's way")

    def keys(self, spec: ModelSpec, *, required: bool) -> None:
        """Check the API key that goes along although the suite does not name it."""
        if (spec.api_key or "").strip() or self.document.is_owners(spec.key_path):
            return
        names = keys_of_provider(provider_of(spec.model))
        secret = [name for name in names if self.environ.get(name) or self.document.environ.get(name)]
        if secret or required:
            for name in secret or names[:1]:
                self.document.problem(
                    spec.key_path,
                    f"{spec.model!r} sends the API key {name}, which --untrusted refuses; "
                    f"allow it with --allow-env {name}",
                )


FILE_ADVICE = "copy it into the folder, or set it yourself with --set {}=…"
BASELINE_ADVICE = "use a baseline of the suite's folder, or evalrun gate RUN --baseline PATH"


def _is_python(kind: str | None) -> bool:
    return kind is not None and (kind == "python" or ":" in kind or kind.endswith(".py"))


def _are_functions(tools: Any) -> bool:
    return isinstance(tools, list | tuple) and all(
        isinstance(tool, Mapping) and tool.get("type") in ("function", "custom") for tool in tools
    )


def _endpoints() -> frozenset[str]:
    """The prefixes of models that this process or an installed package calls by itself."""
    return frozenset(known_names("endpoints")) - {"http", "litellm", "openai"}
