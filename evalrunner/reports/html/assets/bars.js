// A bar with an interval: the range of the metric, what is likely, the value, the gate's bound and the baseline.

function bar(metric, place, options) {
  const domain = options.domain, to = linear(domain, [0, 100]);
  const inside = (value) => Math.min(100, Math.max(0, to(value)));
  const track = h("div", { class: `bar ${cssColour(place)}`, role: "img", "aria-label": barText(metric, options) });
  const put = (kind, value, until) => {
    if (!Number.isFinite(value)) return;
    const part = h("i", { class: kind });
    part.style.left = `${inside(value)}%`;
    if (until !== undefined) part.style.width = `${Math.max(0.4, inside(until) - inside(value))}%`;
    track.append(part);
  };
  if (Number.isFinite(metric.low) || Number.isFinite(metric.high))
    put("likely", Number.isFinite(metric.low) ? metric.low : domain[0], Number.isFinite(metric.high) ? metric.high : domain[1]);
  for (const gate of options.gates) {
    const bound = boundOf(gate);
    put(`bound ${gate.verdict}`, bound);
    if (gate.baseline) put("before", gate.baseline.value);
  }
  put("value", metric.value);
  return track;
}

// What a bar shows, in words.
function barText(metric, { domain, gates }) {
  const said = [`${metric.name}: ${number(metric.value, metric.unit)}`];
  if (Number.isFinite(metric.low) || Number.isFinite(metric.high))
    said.push(`${percent(metric.level || 0.95)} interval ${interval(metric.low, metric.high)}`);
  for (const gate of gates) {
    if (Number.isFinite(boundOf(gate))) said.push(`gate at ${number(boundOf(gate))}, ${VERDICTS[gate.verdict] || gate.verdict}`);
    if (gate.baseline && Number.isFinite(gate.baseline.value)) said.push(`baseline ${gate.baseline.name} at ${number(gate.baseline.value)}`);
  }
  said.push(`drawn from ${number(domain[0])} to ${number(domain[1])}`);
  return said.join("; ");
}

// What the marks of the bars mean; only of those that occur.
function barLegend() {
  const likely = DATA.targets.some((target) => target.metrics.some((metric) => Number.isFinite(metric.low)));
  const before = DATA.gates.some((gate) => gate.baseline && Number.isFinite(gate.baseline.value));
  const line = (kind, text) => h("li", null, h("span", { class: `sign ${kind}`, "aria-hidden": "true" }, h("i", { class: kind })), text);
  return h("ul", { class: "legend" },
    line("value", "value"),
    likely && line("likely", "95 % interval"),
    DATA.gates.length > 0 && line("bound", "gate"),
    before && line("before", "baseline"));
}
