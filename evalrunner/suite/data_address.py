"""Addresses in `dataset.path`: files on web servers, and datasets of the Hugging Face hub."""

from __future__ import annotations

import os
import re
from typing import Final

from evalrunner.suite.schema import DatasetSpec

HUB_URL: Final = "https://huggingface.co"
HUB_SCHEME: Final = "hf://"
HUB_TOKENS: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
ON: Final = frozenset({"1", "on", "yes", "true"})  # values of a variable of the hub's client
WEB = re.compile(r"(?i:https?)://")


def is_address(path: str) -> bool:
    """Whether a path of a dataset is read from another machine."""
    return is_hub(path) or is_web(path)


def address_of(spec: DatasetSpec) -> str | None:
    """The address that a dataset is read from; None for files, also for several."""
    return spec.path if spec.path is not None and not spec.files and is_address(spec.path) else None


def is_hub(path: str) -> bool:
    return path.startswith(HUB_SCHEME)


def is_web(path: str) -> bool:
    return WEB.match(path) is not None


def hub_url() -> str:
    """The address of the hub: that of HF_ENDPOINT, or the public one."""
    return (os.environ.get("HF_ENDPOINT") or HUB_URL).rstrip("/")


def is_offline() -> bool:
    """Whether the hub's client may not connect, and uses what is cached."""
    return (os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or "").lower() in ON


def contacted_url(path: str) -> str | None:
    """The URL of the host that is contacted for an address; None if none is."""
    if is_hub(path):
        return None if is_offline() else hub_url()
    return path if is_web(path) else None
