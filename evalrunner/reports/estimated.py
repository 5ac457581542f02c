"""What a plan will take, as lines of text below the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalrunner.engine.estimate import Estimate, Total, total_of
from evalrunner.middleware.budget import money
from evalrunner.reports.text import counted, one_line

UNKNOWN = "price unknown"


def render_estimates(estimates: Sequence[Estimate]) -> Iterator[str]:
    """A line for each target and judge, then the totals of both, then how the numbers came about."""
    for item in estimates:
        who = f"target {one_line(item.name, 60)}" if item.side == "targets" else f"judge of {one_line(item.name, 60)}"
        yield f"  {who}: {', '.join(_parts(item))}"
    sides = [f"targets {_range(total_of(estimates, 'targets'))}"]
    if any(item.side == "judges" for item in estimates):
        sides.append(f"judges {_range(total_of(estimates, 'judges'))}")
    yield f"  cost: {', '.join(sides)}"
    if any(item.price.price is None for item in estimates):
        yield "  note: where a price is unknown, prices: {MODEL: {input: …, output: …}} says it, for a million tokens"
    if any(item.high_usd is None and item.price.price is not None for item in estimates):
        yield "  note: a cost without an upper end gets one from params: {max_tokens: …}"
    if any(item.prompt_tokens for item in estimates):
        yield "  note: prompt tokens are estimated at 4 bytes each; the upper end of a cost is what max_cost would set aside"
    if any(item.side == "judges" for item in estimates):
        yield "  note: what judges read depends on the answers; which verdicts are kept is known of self-checks only"


def _parts(item: Estimate) -> Iterator[str]:
    extra = [f"{item.checks:,} of them self-checks"] if item.checks else []
    extra += [f"{item.cached:,} cached"] if item.cached else []
    yield counted(item.calls, "call") + (f" ({', '.join(extra)})" if extra else "")
    if item.model is None:
        yield "nothing that is paid for here"
        return
    yield f"about {counted(item.prompt_tokens, 'prompt token')}"
    yield "free" if item.price.source == "free" else _range(Total(item.low_usd, item.high_usd))


def _range(total: Total) -> str:
    if total.low_usd is None:
        return UNKNOWN
    if total.high_usd is None:
        return f"{money(total.low_usd)} or more"
    if total.high_usd == total.low_usd:
        return money(total.low_usd)
    return f"{money(total.low_usd)} to {money(total.high_usd)}"
