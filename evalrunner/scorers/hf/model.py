"""A transformers classifier: found in a folder or at the hub, checked, and loaded."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from evalrunner.egress import Destination
from evalrunner.errors import MissingExtraError
from evalrunner.redact import redact_message
from evalrunner.storage import expand_home
from evalrunner.suite.schema import Suite

TIMEOUT_S = 10.0
ENV_BEFORE_IMPORT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DISABLE_SAFETENSORS_CONVERSION": "1",  # else transformers asks a service to convert weights, in a background thread
}
ENV_DEFAULTS = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
    "sentencepiece.bpe.model", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
WEIGHT_FILES = {
    "model.safetensors": "model.safetensors.index.json",
    "pytorch_model.bin": "pytorch_model.bin.index.json",
}
"""A file with all weights to the index of its shards; the first one found is loaded."""

FEATURE = "toxicity with backend: hf"
HUB_ID = re.compile(r"(?P<owner>\w[\w.-]*)/\w[\w.-]*(@[\w./-]+)?")  # anything else is a folder
MODEL_FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "*.bin")  # files that loading may read
IGNORED_FILES = frozenset(
    {"training_args.bin", "optimizer.bin", "trainer_state.json", "all_results.json", "README.txt"}
)
HUB, HUB_STORAGE = "https://huggingface.co", "https://*.hf.co"  # downloads are redirected to the storage
ON = ("1", "on", "yes", "true")  # values of a variable of the hub's client
HUB_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
DEFAULT_MODEL = "facebook/roberta-hate-speech-dynabench-r4-target"  # as in MLflow's toxicity
NO_LIMIT = 1_000_000  # tokenizers without a limit say 10^30

_loaded: WeakValueDictionary[tuple[str, str], LoadedModel] = WeakValueDictionary()
_loading = threading.Lock()


def quiet_environment() -> None:
    """Set the variables that these packages read at import."""
    os.environ.update(ENV_BEFORE_IMPORT)
    for name, value in ENV_DEFAULTS.items():
        os.environ.setdefault(name, value)


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of the hub at one commit. `folder` is in the cache of the hub's client and has at least the config."""

    id: str
    commit: str
    folder: Path

    def fetch(self, notify: Callable[[str], None]) -> None:
        """Download tokenizer and weights unless they are cached. `notify` gets a message before a download. Raises ValueError."""
        if is_complete(self.folder):
            return
        try:
            from huggingface_hub import HfApi, hf_hub_download

            info = HfApi().model_info(self.id, revision=self.commit, files_metadata=True, timeout=TIMEOUT_S)
            sizes = {one.rfilename: one.size or 0 for one in info.siblings or ()}
            weights = weight_files(sizes)
            notify(
                f"downloading {self.id} from the Hugging Face hub, once: {sum(sizes[name] for name in weights) / 1e6:.0f} MB"
            )
            for name in [*(name for name in TOKENIZER_FILES if name in sizes), *weights]:
                hf_hub_download(self.id, name, revision=self.commit, etag_timeout=TIMEOUT_S)
        except Exception as refused:  # the client of the hub lets HTTP errors of any type through
            raise ValueError(explain_unavailable(self.id, refused)) from None


def find_on_hub(model: str) -> HubModel:
    """The model `owner/name` or `owner/name@revision`, with only its config downloaded. Raises ValueError.

    A cached model is used without a request, so that a run does not change because the hub's copy did.
    """
    name, _, revision = model.partition("@")
    revision = revision or "main"
    quiet_environment()
    try:
        from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

        path = try_to_load_from_cache(name, "config.json", revision=revision)
        if not isinstance(path, str):
            # fails at once, while a download retries for long
            HfApi().model_info(name, revision=revision, timeout=TIMEOUT_S)
            path = hf_hub_download(name, "config.json", revision=revision, etag_timeout=TIMEOUT_S)
    except Exception as refused:  # as above
        raise ValueError(explain_unavailable(model, refused)) from None
    folder = Path(path).parent
    return HubModel(name, folder.name, folder)


def hub_destinations(suite: Suite, trackers: Mapping[str, str | None]) -> Iterator[Destination]:
    """The hub and its storage, for classifiers that are not cached."""
    for scorer in suite.scorers:
        if (
            scorer.type != "toxicity"
            or scorer.options.get("backend") != "hf"
            or os.environ.get("HF_HUB_OFFLINE", "0").lower() in ON
        ):
            continue
        model = scorer.options.get("model")
        if isinstance(model, str) and not _is_hub_id(model, suite.folder):
            continue
        if not _is_cached(DEFAULT_MODEL if model is None else str(model)):
            secrets = tuple(name for name in HUB_TOKENS if os.environ.get(name))
            purpose = f"download of the model of scorer {scorer.name}"
            yield Destination(os.environ.get("HF_ENDPOINT") or HUB, purpose, secrets, scorer.key_path)
            yield Destination(HUB_STORAGE, purpose, (), scorer.key_path)


def _is_hub_id(model: str, folder: Path) -> bool:
    """Whether a name is one of the hub: not a folder, nor below an existing one."""
    named = HUB_ID.fullmatch(model)
    return named is not None and not (folder / model).is_dir() and not (folder / named["owner"]).is_dir()


def _is_cached(model: str) -> bool:
    """Whether all files of a model are in the cache of the hub's client. Nothing is requested."""
    quiet_environment()
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return False
    name, _, revision = model.partition("@")
    try:
        path = try_to_load_from_cache(name, "config.json", revision=revision or "main")
    except ValueError:  # no name of a model
        return False
    return isinstance(path, str) and is_complete(Path(path).parent)


def is_complete(folder: Path) -> bool:
    """Whether the cache has all weights; its files are complete or missing."""
    for single_file, index in WEIGHT_FILES.items():
        if (folder / single_file).exists():
            return True
        if (folder / index).exists():
            parts = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values()
            return all((folder / part).exists() for part in parts)
    return False


def weight_files(files: Iterable[str]) -> list[str]:
    """The files of the weights in the format that transformers prefers. Raises ValueError if there are none."""
    names = list(files)
    for single_file, index in WEIGHT_FILES.items():
        if single_file in names:
            return [single_file]
        if index in names:
            stem, _, ending = single_file.rpartition(".")
            return [*(name for name in names if name.startswith(f"{stem}-") and name.endswith(f".{ending}")), index]
    raise ValueError("it has no weights that torch can read")


def explain_unavailable(model: str, refused: Exception) -> str:
    """Why a model is not available, and what to do."""
    kind = type(refused).__name__
    text = " ".join(redact_message(str(refused)).split())[:200]
    reasons = {
        "OfflineModeIsEnabled": "it is not cached on this machine, and HF_HUB_OFFLINE is set",
        "GatedRepoError": "access to it is restricted: set HF_TOKEN to the token of an account with access",
        "RepositoryNotFoundError": "the hub has no model of that name, or you have no access",
        "RevisionNotFoundError": "the hub has no such revision",
        "EntryNotFoundError": "it lacks a file that every classifier has",
        "RemoteEntryNotFoundError": "it lacks a file that every classifier has",
    }
    why = reasons.get(kind) or f"it is not cached on this machine, and the hub does not answer: {kind}: {text}"
    return (
        f"the model {model!r} is not available: {why}. Download it where the hub is reachable (hf download "
        f"{model.partition('@')[0]}) and copy the cache, or name a folder that has it: model: ./folder"
    )


class UnfitModelError(ValueError):
    """A model that transformers loads, but whose numbers would be meaningless."""


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that is available but not loaded. `label` is its name with revision or digest, `hub` is set for hub models."""

    name: str
    label: str
    folder: Path
    hub: HubModel | None = None


@dataclass(slots=True, weakref_slot=True)
class LoadedModel:
    """The model as a pipeline of transformers, with the one thread that may use it: tokenizers are not thread-safe."""

    pipe: Any
    limit: int
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "evalrun-toxicity"))


def require_packages() -> None:
    """Raises MissingExtraError if transformers or torch is not installed. Imports neither, which takes seconds."""
    torch = "torch, in the build that suits your machine: pip install torch"
    lacks_torch = importlib.util.find_spec("torch") is None
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtraError(FEATURE, "toxicity-hf", note=f"; and {torch}" if lacks_torch else "")
    if lacks_torch:
        raise MissingExtraError(FEATURE, "toxicity-hf", note=f"; missing: {torch}")


def find_model(model: str, label: str, folder: Path, *, hub_only: bool = False) -> FoundModel:
    """The model of a name: a folder, relative to `folder`, or an id of the hub. Raises ValueError if there is none.

    Its config is read, so that an unknown label is an error before anything is loaded. A name that cannot be an id of
    the hub, or whose owner is an existing folder, is never requested from the hub.
    """
    path = folder / expand_home(model)
    named = HUB_ID.fullmatch(model)
    if not hub_only and (path.is_dir() or named is None or (folder / named["owner"]).is_dir()):
        if not path.is_dir():
            raise ValueError(f"there is no folder {model!r} in {str(folder)!r}; hub models are named owner/name")
        check_config(model, path, label)
        return FoundModel(model, f"{path.resolve().name}@{digest_of(path)[:12]}", path)
    hub = find_on_hub(model)
    check_config(model, hub.folder, label)
    return FoundModel(model, f"{hub.id}@{hub.commit[:12]}", hub.folder, hub)


def check_config(model: str, folder: Path, label: str) -> None:
    """Raises ValueError unless the config is that of a classifier with this label."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"the folder {model!r} has no model: config.json is missing") from None
    except (OSError, ValueError) as broken:
        raise ValueError(f"the config.json of {model!r} cannot be read: {describe_error(broken)}") from None
    config = config if isinstance(config, dict) else {}
    classes = config.get("architectures") or []
    if classes and not any(str(name).endswith("ForSequenceClassification") for name in classes):
        raise ValueError(f"{model!r} is not a text classifier but a {', '.join(map(str, classes))}")
    if config.get("problem_type") == "regression":
        raise ValueError(f"{model!r} does not give probabilities: its problem_type is regression")
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # the default of transformers
    labels = [str(name) for name in names.values()] if isinstance(names, dict) else []
    if label not in labels:
        raise ValueError(f"{model!r} has no label {label!r}; its labels are {', '.join(map(repr, labels))}")


def digest_of(folder: Path) -> str:
    """The sha256 of the names and contents of all files that loading may read."""
    digest = hashlib.sha256()
    for path in sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)}):
        if path.name not in IGNORED_FILES and path.is_file():
            with path.open("rb") as file:
                digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def load_model(model: FoundModel, device: str, notify: Callable[[str], None]) -> LoadedModel:
    """The model in memory, shared by all scorers that load it on the same device. Raises ValueError if it cannot be loaded."""
    if model.hub is not None:
        model.hub.fetch(notify)
    with _loading:
        key = (f"{model.folder.resolve()} {model.label}", device)
        loaded = _loaded.get(key)
        if loaded is None:
            loaded = _loaded[key] = _load(model, device)
        return loaded


def _load(model: FoundModel, device: str) -> LoadedModel:
    try:
        with quiet_transformers():
            from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

            safe_options = {"local_files_only": True, "trust_remote_code": False}
            tokenizer = AutoTokenizer.from_pretrained(str(model.folder), **safe_options)
            if len(tokenizer) <= len(tokenizer.all_special_tokens):  # the default of transformers
                raise UnfitModelError(
                    "it has no vocabulary: its tokenizer's files (tokenizer.json, vocab.txt …) are missing"
                )
            classifier, info = AutoModelForSequenceClassification.from_pretrained(
                str(model.folder), output_loading_info=True, **safe_options
            )
            missing = [*info.get("missing_keys", ()), *(one[0] for one in info.get("mismatched_keys", ()))]
            if missing:
                raise UnfitModelError(
                    f"its weights lack {', '.join(sorted(map(str, missing))[:3])}, which would be random"
                )
            pipe = pipeline("text-classification", model=classifier, tokenizer=tokenizer, device=device)
    except Exception as crash:  # transformers, torch, tokenizers and safetensors each raise their own
        raise ValueError(
            f"the model {model.name!r} cannot be loaded on device {device!r}: {explain_load_error(crash)}"
        ) from None
    return LoadedModel(pipe, token_limit(tokenizer, classifier.config))


def explain_load_error(crash: Exception) -> str:
    """Why a model could not be loaded, without the advice to run code of the model."""
    if isinstance(crash, UnfitModelError):
        return str(crash)
    if "trust_remote_code" in str(crash):
        return "it has custom code, which is not run"
    if "weights_only" in str(crash):
        return "its pickled weights have more than numbers, and pickled code is not run; save it as safetensors"
    return describe_error(crash)


def token_limit(tokenizer: Any, config: Any) -> int:
    """Maximum tokens of a text. If the tokenizer has no limit: the number of positions, minus two that RoBERTa reserves.

    A longer text would raise an index error.
    """
    limit = int(tokenizer.model_max_length)
    if limit < NO_LIMIT:
        return limit
    return max(8, int(getattr(config, "max_position_embeddings", None) or 514) - 2)


def probabilities(loaded: LoadedModel, texts: Sequence[str], label: str) -> list[tuple[float, bool]]:
    """For each text the probability of the label, and whether the text was truncated. One forward pass.

    Texts of unequal length are padded, which changes the last digits of a number; MLflow passes one text at a time.
    """
    pipe = loaded.pipe
    encoded = pipe.tokenizer(
        [replace_surrogates(text) for text in texts],
        truncation=True,
        max_length=loaded.limit,
        padding=len(texts) > 1,
        return_tensors="pt",
    )
    cut = [bool(one.overflowing) for one in encoded.encodings] if encoded.encodings else [False] * len(texts)
    logits = pipe.forward(encoded)["logits"]
    result: list[tuple[float, bool]] = []
    for index, was_cut in enumerate(cut):
        scores = pipe.postprocess({"logits": logits[index : index + 1]}, top_k=None)
        result.append((next(float(one["score"]) for one in scores if one["label"] == label), was_cut))
    return result


def replace_surrogates(text: str) -> str:
    """The text with lone surrogates replaced, on which tokenizers fail."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """A context to import transformers and load models: without telemetry, progress bars and warnings."""
    quiet_environment()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of these packages, about nothing that users can change
        from transformers.utils import logging

        bars_enabled = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            if bars_enabled:
                logging.enable_progress_bar()


def describe_error(crash: BaseException) -> str:
    """An exception as one short line without secrets."""
    text = " ".join(redact_message(str(crash)).split())
    return f"{type(crash).__name__}: {text}"[:300] if text else type(crash).__name__
