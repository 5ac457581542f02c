"""A transformers classifier: found in a folder or at the hub, checked, and loaded."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from evalrunner.errors import MissingExtraError
from evalrunner.redact import redact_message

TIMEOUT_S = 10.0
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DISABLE_SAFETENSORS_CONVERSION": "1",  # else transformers asks a service to convert weights, from a thread of its own
}
UNLESS_SAID = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
TOKENIZERS = (
    "tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
    "sentencepiece.bpe.model", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip
WEIGHTS = {"model.safetensors": "model.safetensors.index.json", "pytorch_model.bin": "pytorch_model.bin.index.json"}
"""The files of the weights in one, each with the index of those in parts; the first that is there is what is loaded."""


def quiet_environment() -> None:
    """None, with what has to be said to these packages before they are imported."""
    os.environ.update(QUIET)
    for name, value in UNLESS_SAID.items():
        os.environ.setdefault(name, value)


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of the hub at one commit; `folder` is its place in the hub's own cache, with the config in it at least."""

    id: str
    commit: str
    folder: Path

    def fetch(self, tell: Callable[[str], None]) -> None:
        """None, with tokenizer and weights in the folder; `tell` is told of a download. Raises ValueError."""
        if is_whole(self.folder):
            return
        try:
            from huggingface_hub import HfApi, hf_hub_download

            info = HfApi().model_info(self.id, revision=self.commit, files_metadata=True, timeout=TIMEOUT_S)
            sizes = {one.rfilename: one.size or 0 for one in info.siblings or ()}
            weights = weights_among(sizes)
            tell(f"fetching {self.id} from the hub, once: {sum(sizes[name] for name in weights) / 1e6:.0f} MB")
            for name in [*(name for name in TOKENIZERS if name in sizes), *weights]:
                hf_hub_download(self.id, name, revision=self.commit, etag_timeout=TIMEOUT_S)
        except Exception as refused:  # the hub's client raises what the one of HTTP below it does
            raise ValueError(why_not(self.id, refused)) from None


def find_on_hub(model: str) -> HubModel:
    """The model `owner/name`, or `owner/name@revision`, with no more than its config fetched. Raises ValueError.

    What the cache has is taken without asking the hub, so that a run does not change because the hub's copy did.
    """
    name, _, revision = model.partition("@")
    revision = revision or "main"
    quiet_environment()
    try:
        from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

        path = try_to_load_from_cache(name, "config.json", revision=revision)
        if not isinstance(path, str):
            HfApi().model_info(name, revision=revision, timeout=TIMEOUT_S)  # fails at once; a download tries for long
            path = hf_hub_download(name, "config.json", revision=revision, etag_timeout=TIMEOUT_S)
    except Exception as refused:  # as above
        raise ValueError(why_not(model, refused)) from None
    folder = Path(path).parent
    return HubModel(name, folder.name, folder)


def is_whole(folder: Path) -> bool:
    """Whether the weights are there; files of the hub's cache are there whole or not at all."""
    for whole, index in WEIGHTS.items():
        if (folder / whole).exists():
            return True
        if (folder / index).exists():
            parts = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values()
            return all((folder / part).exists() for part in parts)
    return False


def weights_among(files: Iterable[str]) -> list[str]:
    """The files of the weights in the form that transformers prefers. Raises ValueError where there are none."""
    names = list(files)
    for whole, index in WEIGHTS.items():
        if whole in names:
            return [whole]
        if index in names:
            stem, _, ending = whole.rpartition(".")
            return [*(name for name in names if name.startswith(f"{stem}-") and name.endswith(f".{ending}")), index]
    raise ValueError("it has no weights that torch can read")


def why_not(model: str, refused: Exception) -> str:
    """Why the hub does not give a model, and what to do."""
    kind = type(refused).__name__
    text = " ".join(redact_message(str(refused)).split())[:200]
    reasons = {
        "OfflineModeIsEnabled": "it is not in the hub's cache on this machine, and HF_HUB_OFFLINE forbids to ask the hub",
        "GatedRepoError": "its owner gives it to those who asked for it: set HF_TOKEN to the key of an account that has",
        "RepositoryNotFoundError": "the hub has none of that name, or not for you",
        "RevisionNotFoundError": "the hub has no such revision of it",
        "EntryNotFoundError": "it lacks a file that every classifier has",
        "RemoteEntryNotFoundError": "it lacks a file that every classifier has",
    }
    why = (
        reasons.get(kind)
        or f"it is not in the hub's cache on this machine, and the hub cannot be asked: {kind}: {text}"
    )
    return (
        f"the model {model!r} cannot be had: {why}. Download it where the hub can be reached (hf download "
        f"{model.partition('@')[0]}) and bring the cache along, or name a folder that holds it: model: ./folder"
    )


WHAT = "toxicity with backend: hf"
HUB_ID = re.compile(r"(?P<owner>\w[\w.-]*)/\w[\w.-]*(@[\w./-]+)?")  # anything else is a folder
READ = ("*.json", "*.txt", "*.model", "*.safetensors", "*.bin")  # what loading may read of a folder
NOT_READ = frozenset({"training_args.bin", "optimizer.bin", "trainer_state.json", "all_results.json", "README.txt"})
UNBOUNDED = 1_000_000  # tokenizers that know no limit say 10^30


class UnfitModelError(ValueError):
    """A model that transformers loads, and whose numbers would mean nothing."""


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that is there, not loaded yet. `told` names it with its revision or digest; `hub` where it is one of a hub."""

    name: str
    told: str
    folder: Path
    hub: HubModel | None = None


@dataclass(slots=True, weakref_slot=True)
class LoadedModel:
    """The model as a pipeline of transformers, with the one thread that may use it: tokenizers keep state."""

    pipe: Any
    limit: int
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "evalrun-toxicity"))


_loaded: WeakValueDictionary[tuple[str, str], LoadedModel] = WeakValueDictionary()
_loading = threading.Lock()


def require_packages() -> None:
    """Raises MissingExtraError where transformers or torch is not installed; imports neither, which takes seconds."""
    torch = "torch, in the build that suits your machine: pip install torch"
    lacks_torch = importlib.util.find_spec("torch") is None
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtraError(WHAT, "toxicity-hf", note=f"; and {torch}" if lacks_torch else "")
    if lacks_torch:
        raise MissingExtraError(WHAT, "toxicity-hf", note=f"; what is missing of it is {torch}")


def find_model(model: str, label: str, folder: Path, *, hub_only: bool = False) -> FoundModel:
    """The model of a name: a folder, relative to `folder`, or an id of the hub. Raises ValueError where there is none.

    Its config is read, so that a label it does not have is told before anything is loaded or paid for. What cannot be
    an id of the hub, or would lie in a folder that is there, is never looked for at the hub.
    """
    place = folder / Path(model).expanduser()
    named = HUB_ID.fullmatch(model)
    if not hub_only and (place.is_dir() or named is None or (folder / named["owner"]).is_dir()):
        if not place.is_dir():
            raise ValueError(
                f"there is no folder {model!r} in {str(folder)!r}; a model of the hub is called owner/name"
            )
        check_config(model, place, label)
        return FoundModel(model, f"{place.resolve().name}@{digest_of(place)[:12]}", place)
    hub = find_on_hub(model)
    check_config(model, hub.folder, label)
    return FoundModel(model, f"{hub.id}@{hub.commit[:12]}", hub.folder, hub)


def check_config(model: str, folder: Path, label: str) -> None:
    """None, where the config is that of a classifier with such a label. Raises ValueError."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"the folder {model!r} holds no model: it has no config.json") from None
    except (OSError, ValueError) as broken:
        raise ValueError(f"the config.json of {model!r} cannot be read: {said(broken)}") from None
    config = config if isinstance(config, dict) else {}
    classes = config.get("architectures") or []
    if classes and not any(str(name).endswith("ForSequenceClassification") for name in classes):
        raise ValueError(f"{model!r} is no text classifier but a {', '.join(map(str, classes))}")
    if config.get("problem_type") == "regression":
        raise ValueError(f"{model!r} does not give probabilities: its problem_type is regression")
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # what transformers makes of none
    labels = [str(name) for name in names.values()] if isinstance(names, dict) else []
    if label not in labels:
        raise ValueError(f"{model!r} has no label {label!r}; its labels are {', '.join(map(repr, labels))}")


def digest_of(folder: Path) -> str:
    """The sha256 of the names and contents of what loading may read, so that other weights are another model."""
    whole = hashlib.sha256()
    for path in sorted({path for pattern in READ for path in folder.glob(pattern)}):
        if path.name not in NOT_READ and path.is_file():
            with path.open("rb") as file:
                whole.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def load_model(found: FoundModel, device: str, tell: Callable[[str], None]) -> LoadedModel:
    """The model in memory, the same for all who load it alike. Raises ValueError with why it cannot be loaded."""
    if found.hub is not None:
        found.hub.fetch(tell)
    with _loading:
        key = (f"{found.folder.resolve()} {found.told}", device)
        loaded = _loaded.get(key)
        if loaded is None:
            loaded = _loaded[key] = _load(found, device)
        return loaded


def _load(found: FoundModel, device: str) -> LoadedModel:
    try:
        with quiet_transformers():
            from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

            ours = {"local_files_only": True, "trust_remote_code": False}
            tokenizer = AutoTokenizer.from_pretrained(str(found.folder), **ours)
            if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what transformers makes of none
                raise UnfitModelError(
                    "it has no vocabulary: its tokenizer's files (tokenizer.json, vocab.txt …) are missing"
                )
            model, info = AutoModelForSequenceClassification.from_pretrained(
                str(found.folder), output_loading_info=True, **ours
            )
            left = [*info.get("missing_keys", ()), *(one[0] for one in info.get("mismatched_keys", ()))]
            if left:
                raise UnfitModelError(
                    f"its weights lack {', '.join(sorted(map(str, left))[:3])}, which would be random"
                )
            pipe = pipeline("text-classification", model=model, tokenizer=tokenizer, device=device)
    except Exception as crash:  # transformers, torch, tokenizers and safetensors each raise their own
        raise ValueError(
            f"the model {found.name!r} cannot be loaded on device {device!r}: {why_not_loaded(crash)}"
        ) from None
    return LoadedModel(pipe, limit_of(tokenizer, model.config))


def why_not_loaded(crash: Exception) -> str:
    """Why a model was refused, without the advice of its packages to run the code in it all the same."""
    if isinstance(crash, UnfitModelError):
        return str(crash)
    if "trust_remote_code" in str(crash):
        return "it brings code of its own, which is not run"
    if "weights_only" in str(crash):
        return "its pickled weights hold more than numbers, and what else they hold is not run; save it as safetensors"
    return said(crash)


def limit_of(tokenizer: Any, config: Any) -> int:
    """How many tokens of a text the model takes. Of a tokenizer that does not know, what there are positions for, less
    the two that RoBERTa keeps for itself; a text beyond them would end in an index error.
    """
    limit = int(tokenizer.model_max_length)
    if limit < UNBOUNDED:
        return limit
    return max(8, int(getattr(config, "max_position_embeddings", None) or 514) - 2)


def probabilities(loaded: LoadedModel, texts: Sequence[str], label: str) -> list[tuple[float, bool]]:
    """Of each text the probability of the label, and whether the text was cut to what the model takes. One forward.

    Texts of unequal length are padded, which moves the last digits of a number: one text alone is what MLflow asks.
    """
    pipe = loaded.pipe
    encoded = pipe.tokenizer(
        [whole_characters(text) for text in texts],
        truncation=True,
        max_length=loaded.limit,
        padding=len(texts) > 1,
        return_tensors="pt",
    )
    cut = [bool(one.overflowing) for one in encoded.encodings] if encoded.encodings else [False] * len(texts)
    logits = pipe.forward(encoded)["logits"]
    found: list[tuple[float, bool]] = []
    for place, was_cut in enumerate(cut):
        scores = pipe.postprocess({"logits": logits[place : place + 1]}, top_k=None)
        found.append((next(float(one["score"]) for one in scores if one["label"] == label), was_cut))
    return found


def whole_characters(text: str) -> str:
    """The text with halves of surrogate pairs replaced, on which tokenizers would break."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """The package transformers can be imported and used to load inside: telemetry off for good, bars and warnings off."""
    quiet_environment()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what these packages warn of is not for our users to mend
        from transformers.utils import logging

        drawn = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            if drawn:
                logging.enable_progress_bar()


def said(crash: BaseException) -> str:
    """The exception in one short line."""
    text = " ".join(redact_message(str(crash)).split())
    return f"{type(crash).__name__}: {text}"[:300] if text else type(crash).__name__
