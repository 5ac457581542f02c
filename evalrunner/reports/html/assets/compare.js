// The answers of two targets to one row, as a word diff.

function compareBlock(row) {
  const asked = DATA.targets.map((_, place) => place).filter((place) => row.answer(place) && row.answer(place)[A.failure] === null);
  if (asked.length < 2) return null;
  const box = h("div", { class: "answer-text" });
  const options = () => asked.map((place) => h("option", { value: place }, oneLine(DATA.targets[place].name, 60)));
  const pick = (id, label) => h("label", { for: id, class: "pick" }, `${label} `, h("select", { id, onchange: () => draw() }, options()));
  const one = pick("diff-from", "From"), other = pick("diff-to", "to");
  const draw = () => {
    const [from, to] = [one, other].map((label) => Number(label.querySelector("select").value));
    box.replaceChildren(...[diffBlock(row.answer(from)[A.text], row.answer(to)[A.text])].flat());
  };
  other.querySelector("select").value = String(asked[1]);
  draw();
  return h("section", { class: "between" }, h("h3", null, "Between two targets"), h("p", null, one, " ", other), box);
}
