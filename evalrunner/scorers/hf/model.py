"""A transformers text classifier: found without importing what is heavy, loaded before the first call, asked by one thread.

Nothing else is ever taken in its place: what cannot be had is an error of the suite. Code that a model brings along is
not run, and a classifier whose weights are not all there is refused, because transformers would draw the rest at random.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from evalrunner.errors import MissingExtraError
from evalrunner.redact import redact_message
from evalrunner.scorers.hf.hub import HubModel, find_on_hub, quiet_environment

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
