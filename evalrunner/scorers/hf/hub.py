"""Models of the Hugging Face hub: what its cache on this machine has is taken, and only what is not there is asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

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
