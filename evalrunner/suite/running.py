"""How a run goes: the `run:` section, the cache, prices, and when too many errors end it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from evalrunner.suite.reading import SectionReader
from evalrunner.suite.schema import CacheMode, CacheSpec, FailOnError, KeyPath, PriceSpec, RunSpec
from evalrunner.suite.values import shown

RUN_KEYS = (
    "concurrency", "epochs", "seed", "timeout", "row_timeout", "run_timeout", "retries", "max_cost", "fail_on_error",
    "cache", "stream", "reducer",
)  # fmt: skip
OWN_READING = ("cache", "fail_on_error")  # in more forms than an annotation can say
PRICE_KEYS = ("input", "output", "cached_input", "max_output_tokens")
SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
DECIMAL = re.compile(r"\d*\.\d+")
AGE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d|w)\s*")
AGE_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def read_run(reader: SectionReader, data: Mapping[str, Any]) -> RunSpec:
    """The `run:` section of a suite's data; `cache` and `reducer` may also stand at the top."""
    mapping = reader.mapping(data["run"], ("run",)) if data.get("run") is not None else {}
    mapping = mapping or {}
    reader.check_keys(mapping, ("run",), RUN_KEYS)
    plain = {name: item for name, item in mapping.items() if name not in OWN_READING}
    spec = RunSpec(**reader.typed(RunSpec, plain, ("run",)))
    if mapping.get("fail_on_error") is not None:
        spec = replace(spec, fail_on_error=read_fail_on_error(reader, mapping["fail_on_error"]))
    if data.get("reducer") is not None:
        if spec.reducer is not None:
            reader.report(("reducer",), "stands beside 'run.reducer'; keep one of them")
        spec = replace(spec, reducer=reader.value(data["reducer"], str | tuple[str, ...], ("reducer",)))
    if "cache" in data and "cache" in mapping:
        reader.report(("cache",), "stands beside 'run.cache'; keep one of them")
    path: KeyPath = ("run", "cache") if "cache" in mapping else ("cache",)
    given = mapping.get("cache", data.get("cache"))
    return spec if given is None else replace(spec, cache=read_cache(reader, given, path))


def read_fail_on_error(reader: SectionReader, item: Any) -> FailOnError | None:
    """After how many rows with errors a run ends: `5%` or 0.05 is a share of its rows, 20 a count, and so is 1."""
    path: KeyPath = ("run", "fail_on_error")
    if isinstance(item, int) and not isinstance(item, bool) and item >= 1:
        return FailOnError(count=item)
    share = SHARE.fullmatch(item) if isinstance(item, str) else None
    if share is not None and 0 < float(share[1]) <= 100:
        return FailOnError(share=float(share[1]) / 100)
    if isinstance(item, str) and DECIMAL.fullmatch(item.strip()):  # as the command line hands it on
        item = float(item)
    if isinstance(item, float) and 0 < item < 1:
        return FailOnError(share=item)
    if isinstance(item, str) and item.strip().isdigit() and int(item) >= 1:
        return FailOnError(count=int(item))
    reader.report(path, f"is {shown(item)}; it should be a share of the rows such as 5%, or a count of at least 1")
    return None


def read_cache(reader: SectionReader, item: Any, path: KeyPath) -> CacheSpec:
    """What is kept and for how long: `judges`, `all` or `off`, or `{mode, ttl}` with a time such as 12h or 7d."""
    if not isinstance(item, Mapping):
        mode = reader.value(item, CacheMode, path)
        return CacheSpec(mode) if mode in get_args(CacheMode) else CacheSpec()
    reader.check_keys(item, path, ("mode", "ttl"))
    mode = reader.value(item["mode"], CacheMode, (*path, "mode")) if "mode" in item else CacheSpec().mode
    ttl_s = _age_s(reader, item["ttl"], (*path, "ttl")) if item.get("ttl") is not None else None
    return CacheSpec(mode or CacheSpec().mode, ttl_s)


def _age_s(reader: SectionReader, item: Any, path: KeyPath) -> float | None:
    seconds = age_s(item)
    if seconds is None:
        reader.report(path, f"is {shown(item)}; it should be a time such as 90s, 12h or 7d")
    return seconds


def age_s(item: Any) -> float | None:
    """Seconds that a text such as `90s`, `12h` or `7d` means, or a bare number; None where it is no time."""
    found = AGE.fullmatch(item) if isinstance(item, str) else None
    seconds = float(found[1]) * AGE_S[found[2]] if found is not None else item
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < math.inf:
        return float(seconds)
    return None


def read_prices(reader: SectionReader, data: Any) -> Mapping[str, PriceSpec]:
    """Model to price, for models whose price nobody else tells: `prices: {my-model: {input: 0.15, output: 0.6}}`."""
    mapping = reader.mapping(data, ("prices",)) or {}
    found: dict[str, PriceSpec] = {}
    for model, item in mapping.items():
        price = read_price(reader, item, ("prices", model))
        if price is not None:
            found[model] = price
    return found


def read_price(reader: SectionReader, data: Any, path: KeyPath) -> PriceSpec | None:
    """One price, in US dollars for a million tokens."""
    mapping = reader.mapping(data, path)
    if mapping is None:
        return None
    reader.check_keys(mapping, path, PRICE_KEYS)
    for needed in ("input", "output"):
        if needed not in mapping:
            reader.report(path, f"needs {needed!r}, in US dollars for a million tokens")
    fields = reader.typed(PriceSpec, mapping, path)
    return PriceSpec(**fields) if "input" in fields and "output" in fields else None
