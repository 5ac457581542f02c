// Word diff: the fewest words to take out and put in (Myers 1986, "An O(ND) difference algorithm"), up to a limit.

const MOST_EDITS = 600; // beyond, the texts have little in common and a diff would only be confetti
const MOST_WORDS = 6000;

function words(text) {
  return text.match(/\s+|[\p{L}\p{N}\p{M}_]+|[^\s\p{L}\p{N}\p{M}_]/gu) || [];
}

// A list of [kind, text] from one text to another: "same", "out", "in".
function diffWords(from, to) {
  const a = words(from), b = words(to);
  if (a.length + b.length > MOST_WORDS) return null;
  let start = 0, end = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const middle = edits(a.slice(start, a.length - end), b.slice(start, b.length - end));
  if (!middle) return null;
  return joined([...a.slice(0, start).map((word) => ["same", word]), ...middle, ...(end ? a.slice(-end) : []).map((word) => ["same", word])]);
}

function edits(a, b) {
  const most = Math.min(a.length + b.length, MOST_EDITS);
  const reach = new Int32Array(2 * most + 3), trail = [];
  for (let d = 0; d <= most; d++) {
    trail.push(reach.slice(most + 1 - d - 1, most + 1 + d + 2));
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && reach[most + 1 + k - 1] < reach[most + 1 + k + 1]);
      let x = down ? reach[most + 1 + k + 1] : reach[most + 1 + k - 1] + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++;
      reach[most + 1 + k] = x;
      if (x >= a.length && x - k >= b.length) return walkBack(a, b, trail);
    }
  }
  return null;
}

function walkBack(a, b, trail) {
  const found = [];
  let x = a.length, y = b.length;
  for (let d = trail.length - 1; d >= 0; d--) {
    const reach = (k) => trail[d][k + d + 1], k = x - y;
    const before = k === -d || (k !== d && reach(k - 1) < reach(k + 1)) ? k + 1 : k - 1;
    const fromX = d ? reach(before) : 0, fromY = d ? fromX - before : 0;
    while (x > fromX && y > fromY) { found.push(["same", a[--x]]); y--; }
    if (d) found.push(before === k + 1 ? ["in", b[--y]] : ["out", a[--x]]);
  }
  return found.reverse();
}

// Neighbours of one kind as one piece, what goes out before what comes in. Blanks between two changes belong to both.
function joined(pieces) {
  const found = [];
  let out = "", put = "";
  const flush = () => { if (out) found.push(["out", out]); if (put) found.push(["in", put]); out = put = ""; };
  pieces.forEach(([kind, text], place) => {
    const changing = (out || put) && place + 1 < pieces.length && pieces[place + 1][0] !== "same";
    if (kind === "out") out += text;
    else if (kind === "in") put += text;
    else if (changing && /^[ \t]+$/.test(text)) { out += text; put += text; }
    else {
      flush();
      if (found.length && found.at(-1)[0] === "same") found.at(-1)[1] += text; else found.push(["same", text]);
    }
  });
  flush();
  return found;
}

// The texts, with what differs struck out and underlined.
function diffBlock(from, to) {
  const pieces = diffWords(kept(from), kept(to));
  if (!pieces) return [h("p", { class: "cut" }, "too long or too different for a word diff"), textBlock(to)];
  if (!pieces.some(([kind]) => kind !== "same")) return [h("p", { class: "none" }, "the same, word for word"), textBlock(to)];
  return h("div", { class: "text", dir: "auto" }, pieces.map(([kind, text]) =>
    kind === "same" ? shown(text) : h(kind === "out" ? "del" : "ins", null, h("span", { class: "unseen" }, kind === "out" ? " taken out: " : " put in: "), shown(text), h("span", { class: "unseen" }, " "))));
}

// Of several accepted answers the one that is nearest to what was answered.
function nearest(accepted, output) {
  let best = null, fewest = Infinity;
  for (const text of accepted.slice(0, 12)) {
    const pieces = diffWords(kept(text), kept(output));
    const size = pieces ? pieces.reduce((sum, [kind, piece]) => sum + (kind === "same" ? 0 : piece.length), 0) : 1e9;
    if (size < fewest) [best, fewest] = [text, size];
  }
  return best;
}
