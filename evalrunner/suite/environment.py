"""The variables of a suite: those of the process, then those of its `.env` files, and `${VAR}` filled in with them.

A `.env` file adds nothing to the environment of the process. The suite gets the variables that it names, and each
model the API key of its provider; whatever else a file has (proxies, certificates, addresses) has no effect.
"""

from __future__ import annotations

import difflib
import io
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evalrunner.errors import Problem, SuiteError, listed, nearest
from evalrunner.redact import forget_secret, register_secret
from evalrunner.secret_names import LOGIN, is_secret_name, secrets_in_text
from evalrunner.storage import open_file
from evalrunner.suite.options import RunOptions

ENV_FILE = ".env"
MAX_ENV_BYTES = 64 * 1024  # each value is searched for in every text that is written
VARIABLE = re.compile(r"\$(?:\$|\{([^}]{0,4000})\})")  # limited, because each of many without an end is read on
VARIABLE_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
URL_HEAD = re.compile(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)|(?=\$\{))(?P<authority>(?:\$\{[^}]*\}|\$\$|[^/?#\\$])*)"
)  # scheme and host
SINGLE_QUOTED = re.compile(r"\s*(?:export\s+)?(?:'[^']+'|[^=#\s]+)\s*=\s*'")
ORDINARY_WORDS = frozenset(
    [
        "anonymous",
        "critical",
        "default",
        "develop",
        "development",
        "disabled",
        "enabled",
        "example",
        "gateway",
        "localhost",
        "message",
        "nothing",
        "postgres",
        "production",
        "release",
        "security",
        "service",
        "staging",
        "standard",
        "testing",
        "verbose",
        "warning",
    ]
)
"""Values that many texts contain, so that replacing them would damage answers."""

OPENAI_URL = "https://api.openai.com/v1"
AWS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_REGION_NAME",
    "AWS_DEFAULT_REGION",
)  # fmt: skip
PROVIDER_KEYS: Mapping[str, tuple[str, ...]] = {
    "azure": ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"),
    "bedrock": ("AWS_BEARER_TOKEN_BEDROCK",),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "cohere_chat": ("COHERE_API_KEY", "CO_API_KEY"),
    "datarobot": ("DATAROBOT_API_TOKEN",),
    "fireworks_ai": ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY", "FIREWORKSAI_API_KEY", "FIREWORKS_AI_TOKEN"),
    "friendliai": ("FRIENDLIAI_API_KEY", "FRIENDLI_TOKEN"),
    "gemini": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "huggingface": ("HF_TOKEN", "HUGGINGFACE_API_KEY"),
    "lambda_ai": ("LAMBDA_API_KEY",),
    "local": (),
    "meta_llama": ("LLAMA_API_KEY",),
    "ollama_chat": ("OLLAMA_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY", "OR_API_KEY"),
    "perplexity": ("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
    "replicate": ("REPLICATE_API_KEY", "REPLICATE_API_TOKEN"),
    "sagemaker": (),
    "text-completion-openai": ("OPENAI_API_KEY",),
    "together_ai": ("TOGETHER_API_KEY", "TOGETHER_AI_API_KEY", "TOGETHERAI_API_KEY", "TOGETHER_AI_TOKEN"),
    "vertex_ai": (),
    "volcengine": ("VOLCENGINE_API_KEY", "ARK_API_KEY"),
    "watsonx": ("WATSONX_APIKEY", "WATSONX_API_KEY", "WX_API_KEY"),
}
"""The variables of API keys that LiteLLM reads, by provider; any other provider has `PROVIDER_API_KEY`."""

PROVIDER_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "azure": ("AZURE_API_BASE", "AZURE_OPENAI_ENDPOINT", "AZURE_API_VERSION"),
    "bedrock": AWS,
    "sagemaker": AWS,
    "vertex_ai": ("GOOGLE_APPLICATION_CREDENTIALS", "VERTEXAI_PROJECT", "VERTEXAI_LOCATION"),
    "watsonx": ("WATSONX_URL", "WATSONX_API_BASE", "WATSONX_PROJECT_ID"),
}
"""What a provider reads besides a key. Any provider has `PROVIDER_BASE_URL` and `PROVIDER_API_BASE`."""

BARE_MODELS = (("gpt-", "openai"), ("chatgpt-", "openai"), ("o1", "openai"), ("o3", "openai"), ("o4", "openai"),
               ("text-embedding-3-", "openai"), ("claude-", "anthropic"), ("command-", "cohere"))  # fmt: skip
"""Model names without a provider, whose provider their beginning tells."""


class UnsetVariable(ValueError):
    """A variable that is not set or misspelled. The message names it."""


@dataclass(frozen=True, slots=True)
class EnvFile:
    """The values of a `.env` file and the line of each. `unset` has, by name, what a value refers to in vain."""

    label: str
    values: Mapping[str, str]
    lines: Mapping[str, int]
    unset: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SuiteEnvironment(Mapping[str, str]):
    """The variables of a suite: those of the process win over the files, an earlier file wins over a later one.

    `missing` are the places where a `.env` file was looked for and not found. With `names_unset` a variable without a
    value stays in its text, by name.
    """

    files: tuple[EnvFile, ...] = ()
    missing: tuple[str, ...] = ()
    process: Mapping[str, str] = field(default_factory=lambda: os.environ)
    names_unset: bool = False

    def __getitem__(self, name: str) -> str:
        if name in self.process:
            return self.process[name]
        file = self.file_of(name)
        if file is None:
            raise KeyError(name)
        return file.values[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.process, **{name: "" for file in self.files for name in file.values}})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def file_of(self, name: str) -> EnvFile | None:
        """The file that sets a variable, unless the process does."""
        if name in self.process:
            return None
        return next((file for file in self.files if name in file.values), None)

    def unset_reason(self, name: str) -> str:
        """Why a variable has no value, and where it was looked for."""
        for file in () if name in self.process else self.files:
            if name in file.unset:
                return (
                    f"the variable {name} of {file.label}:{file.lines[name]} needs {file.unset[name]}, which is not set"
                )
        if name in self.process and any(file.values.get(name) for file in self.files):
            return f"the variable {name} is empty in the environment, which wins over .env; unset it there"
        source = self.file_of(name)
        if source is not None:
            return f"the variable {name} is empty in {source.label}:{source.lines[name]}; give it a value there"
        if name in self.process:
            return f"the variable {name} is empty; export {name}=…"
        looked = listed(["the environment", *(file.label for file in self.files)])
        absent = f", and there is no file {listed(self.missing)}" if self.missing else ""
        near = difflib.get_close_matches(name, self, n=1, cutoff=0.8)
        hint = f"; did you mean {near[0]!r}?" if near else f"; export {name}=…"
        return f"the variable {name} is not set in {looked}{absent}{hint}"

    def provider_key(self, model: str) -> str | None:
        """The API key of a model's provider in the files; None where the process has one, or no file has."""
        names = keys_of_provider(provider_of(model))
        if any(name in self.process for name in names):
            return None
        return next((file.values[name] for file in self.files for name in names if file.values.get(name)), None)

    def ignored_setting(self, model: str) -> str | None:
        """What a file sets for a model's provider that is not taken from files, as a problem; None if there is nothing."""
        for name in settings_of_provider(provider_of(model)):
            file = self.file_of(name)
            if file is None or file.values[name].rstrip("/") in ("", OPENAI_URL):
                continue
            hint = f"set base_url: ${{{name}}}" if name.endswith(("_BASE_URL", "_API_BASE", "_ENDPOINT")) else ""
            return (
                f"{file.label}:{file.lines[name]} sets {name}, and of a provider only the API key is read from .env "
                f"files; {f'{hint}, or ' if hint else ''}export {name}, or pass --no-env-file"
            )
        return None

    def disclose(self, text: str, *, address: bool = False) -> None:
        """Show the values of the variables of a public text, such as a model or an address, in what is written.

        Credentials in an address, its path, and values of variables with the name of a secret, stay redacted.
        """
        if address and (head := URL_HEAD.match(text.strip())) is not None:
            text = head[0]
        login = text.rfind("@")
        secrets = {value for name, value in self.items() if is_secret_name(name)}
        for match in VARIABLE.finditer(text.partition("?")[0]):
            name = (match.group(1) or "").partition(":-")[0]
            file = self.file_of(name)
            if file is not None and match.start() > login and file.values[name] not in secrets:
                forget_secret(file.values[name])


def provider_of(model: str) -> str:
    """The provider of a model string in lower case; "" if its name does not tell."""
    prefix, slash, _ = model.partition("/")
    if slash:
        return prefix.lower()
    return next((provider for start, provider in BARE_MODELS if model.startswith(start)), "")


def keys_of_provider(provider: str) -> tuple[str, ...]:
    """The variables that may have the API key of a provider."""
    if not provider:
        return ()
    return PROVIDER_KEYS.get(provider, (f"{_prefix(provider)}_API_KEY",))


def settings_of_provider(provider: str) -> tuple[str, ...]:
    """The variables that may have an address or other settings of a provider."""
    if not provider or provider == "local":
        return ()
    prefix = _prefix(provider)
    return (f"{prefix}_BASE_URL", f"{prefix}_API_BASE", *PROVIDER_SETTINGS.get(provider, ()))


def _prefix(provider: str) -> str:
    return re.sub(r"\W", "_", provider.removeprefix("text-completion-")).upper()


def interpolate(text: str, environ: Mapping[str, str] | None = None) -> str:
    """`text` with its variables filled in; an empty variable counts as unset, as for `:-` in a shell."""
    values = os.environ if environ is None else environ

    def fill(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        parts = VARIABLE_NAME.fullmatch(match.group(1))
        if parts is None:
            raise UnsetVariable(
                f"{match.group(0)!r} is not ${{NAME}} or ${{NAME:-default}}; write $$ for a dollar sign"
            )
        name, default = parts.groups()
        value = values.get(name)
        if value:
            return value
        if default is not None:
            return default
        known = values if isinstance(values, SuiteEnvironment) else SuiteEnvironment(process=values)
        if known.names_unset:
            return match.group(0)
        raise UnsetVariable(f"{known.unset_reason(name)}, or write ${{{name}:-default}}")

    return VARIABLE.sub(fill, text)


def public_url(text: str, environ: Mapping[str, str]) -> str:
    """A URL of a suite as it may be written to disk: the host filled in, later variables and those of a login by name.

    A variable at the beginning stands for a whole address. A login without variables is left out.
    """
    match = URL_HEAD.match(text.strip())
    if match is None:
        return LOGIN.sub("://", interpolate(text.strip(), environ))
    scheme, authority, tail = match["scheme"] or "", match["authority"], text.strip()[match.end() :]
    login, at, host = authority.rpartition("@") if scheme else ("", "", authority)
    shown = f"{interpolate(login, NAMES)}{at}" if has_variable(login) else ""
    return f"{scheme}{shown}{LOGIN.sub('://', interpolate(host, environ))}{interpolate(tail, NAMES)}"


def public_path(text: str) -> str:
    """What follows the host in a URL of a suite, its variables by name."""
    match = URL_HEAD.match(text.strip())
    return "" if match is None else interpolate(text.strip()[match.end() :], NAMES)


class _Names(Mapping[str, str]):
    """Each variable with its own reference as its value."""

    def __getitem__(self, name: str) -> str:
        return f"${{{name}}}"

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


NAMES: Mapping[str, str] = _Names()


def has_variable(text: str) -> bool:
    """Whether `text` has a variable to fill in."""
    return any(match.group(0) != "$$" for match in VARIABLE.finditer(text))


def suite_environment(
    folder: Path, options: RunOptions, *, public: str = "", process: Mapping[str, str] | None = None
) -> SuiteEnvironment:
    """The variables of a suite in a folder; the values of its files are secrets from now on. Raises SuiteError.

    A value that is in `public`, the names and addresses of the suite, is no secret, unless the name of its variable says so.
    """
    given = [options.env_files] if isinstance(options.env_files, str) else options.env_files
    if given and not options.env_file:
        raise SuiteError("--env-file and --no-env-file cannot be combined; keep one of them")
    found = options.env_file and not given and not options.untrusted
    automatic = [folder / ENV_FILE, Path(ENV_FILE)] if found else []
    files: list[EnvFile] = []
    missing: list[str] = []
    known: dict[str, str] = {}
    # the last one wins, so that what it refers to is known from those before
    for path in [Path(path) for path in given] or reversed(_distinct(automatic)):
        raw = _read(path, required=bool(given))
        if raw is None:
            missing.append(str(path))
            continue
        files.append(_parse(raw, str(path), known))
        known.update(files[-1].values)
    for file in files:
        _register(file, public)
    return SuiteEnvironment(
        tuple(reversed(files)), tuple(reversed(missing)), process=os.environ if process is None else process
    )


def _distinct(paths: Iterable[Path]) -> list[Path]:
    """The paths without those that lead to the same place as one before."""
    return list({path.resolve(): path for path in reversed(list(paths))}.values())[::-1]


def _read(path: Path, *, required: bool) -> bytes | None:
    """The content of a file; None for one that is not required and does not exist. Raises SuiteError."""

    def refuse(message: str) -> SuiteError:
        way_out = "" if required else "; pass --no-env-file to run without it"
        return SuiteError([Problem(str(path), "", message + way_out)])

    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind) and not required:  # a virtual environment that is called .env
            return None
        if not stat.S_ISREG(kind):
            what = "a folder" if stat.S_ISDIR(kind) else "not a regular file"
            raise refuse(f"is {what}; an env file has a line NAME=value for each variable")
        with open_file(path) as file:
            raw = file.read(MAX_ENV_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        if not required:
            return None
        known = [str(other) for other in sorted(path.parent.glob("*env*"))] if path.parent.is_dir() else []
        raise refuse(f"file not found{nearest(str(path), known)}") from None
    except (OSError, ValueError) as refused:  # ValueError: a NUL in the path
        raise refuse(f"cannot be read: {getattr(refused, 'strerror', None) or refused}") from None
    if len(raw) > MAX_ENV_BYTES:
        raise refuse(f"is larger than {MAX_ENV_BYTES // 1024} KiB; is it an env file?")
    return raw


def _parse(raw: bytes, label: str, before: Mapping[str, str]) -> EnvFile:
    """The variables of a file. Raises SuiteError with every line that is wrong, without its content."""
    from dotenv.parser import parse_stream

    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        line = raw.count(b"\n", 0, broken.start) + 1
        raise SuiteError([Problem(f"{label}:{line}", "", "is not UTF-8; save the file as UTF-8")]) from None
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    unset: dict[str, str] = {}
    problems: list[Problem] = []
    for binding in parse_stream(io.StringIO(text, newline="")):
        source = binding.original.string
        line = binding.original.line + _count_lines(source[: len(source) - len(source.lstrip())])
        name, value = binding.key, binding.value
        if binding.error or (name is not None and value is None):
            advice = "should read NAME=value; close every quote, and put a value with # or line breaks in quotes"
            problems.append(Problem(f"{label}:{line}", "", advice))
        if name is None or value is None:
            continue
        lines[name] = line
        filled = value if SINGLE_QUOTED.match(source) else _fill(value, {**before, **values})
        for names, item in (
            (values, filled),
            (unset, None if filled is not None else _unset_in(value, values, before)),
        ):
            names.pop(name, None)
            if item is not None:
                names[name] = item
    if problems:
        raise SuiteError(problems)
    return EnvFile(label, values, lines, unset)


def _count_lines(text: str) -> int:
    return len(re.findall(r"\r\n|\n|\r", text))


def _fill(value: str, known: Mapping[str, str]) -> str | None:
    """The value with its `${OTHER}` and `${OTHER:-default}` filled in; None if one is not set."""
    from dotenv.variables import Variable, parse_variables

    environ = {**known, **os.environ}
    atoms = list(parse_variables(value))
    if any(isinstance(atom, Variable) and atom.default is None and atom.name not in environ for atom in atoms):
        return None
    return "".join(atom.resolve(environ) for atom in atoms)


def _unset_in(value: str, *known: Mapping[str, str]) -> str:
    """The first variable of a value that is not set."""
    from dotenv.variables import Variable, parse_variables

    names = [atom.name for atom in parse_variables(value) if isinstance(atom, Variable) and atom.default is None]
    return next(name for name in names if name not in os.environ and not any(name in each for each in known))


def _register(file: EnvFile, public: str) -> None:
    for name, value in file.values.items():
        stripped = value.strip()
        if is_secret_name(name) or not (stripped.lower() in ORDINARY_WORDS or (stripped and stripped in public)):
            register_secret(stripped)
        for secret in secrets_in_text(value):
            register_secret(secret)
