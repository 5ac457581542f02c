"""The list of models that a server gives: the date from which each is no longer served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import date
from typing import Any, Protocol, runtime_checkable

from evalrunner.domain import Endpoint

MODEL_LIST_TIMEOUT_S = 3.0
DATE_FIELDS = ("deprecation_date", "deprecation")  # of LiteLLM and of Mistral's API


@runtime_checkable
class ListsModels(Protocol):
    """An endpoint that can request the list of models of its server."""

    async def list_models(self, *, timeout_s: float) -> Any: ...


async def fetch_retirement_dates(endpoints: Mapping[str, Endpoint]) -> dict[str, Mapping[str, date]]:
    """The dates of each server's models, by the names of `endpoints`; a server without a list has none."""
    servers = {name: endpoint for name, endpoint in endpoints.items() if isinstance(endpoint, ListsModels)}
    requests = [endpoint.list_models(timeout_s=MODEL_LIST_TIMEOUT_S) for endpoint in servers.values()]
    return dict(zip(servers, map(retirement_dates, await asyncio.gather(*requests)), strict=True))


def retirement_dates(data: Any) -> Mapping[str, date]:
    """Model to date from a reply to `/v1/models`, or of a LiteLLM proxy to `/model/info`; of several deployments the earliest."""
    entries = data.get("data") if isinstance(data, Mapping) else None
    dates: dict[str, date] = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, Mapping):
            continue
        name, about = entry.get("id"), entry
        if isinstance(info := entry.get("model_info"), Mapping):
            name, about = entry.get("model_name"), info
        found = [retires for field in DATE_FIELDS if (retires := read_date(about.get(field))) is not None]
        if isinstance(name, str) and found:
            dates[name] = min([*found, *([dates[name]] if name in dates else [])])
    return dates


def read_date(value: Any) -> date | None:
    """The date of an ISO 8601 date or time, None for anything else."""
    try:
        return date.fromisoformat(value[:10]) if isinstance(value, str) else None
    except ValueError:
        return None
