/* global ui */
// Which number stands at [head][row][column] after the cut: the same index arithmetic as `cut` in rearrangement.py.
const WAYS = {
  heads: ({ h, d }) => (i, t, j) => t * h * d + i * d + j,
  interleaved: ({ h, d }) => (i, t, j) => t * h * d + j * h + i,
  reshape: ({ n, d }) => (i, t, j) => (i * n + t) * d + j,
  reshape_transpose: ({ h, d }) => (i, t, j) => (t * h + i) * d + j,
};

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model);
  figure.root.classList.add("fm-cut-figure");
  figure.controls(
    ui.select(model, "operation", { label: word("operation"), options: Object.keys(WAYS).map((way) => [way, word(way)]) }),
    ui.slider(model, "n_tokens", { label: word("n_tokens"), min: 2, max: model.get("tokens").length, step: 1 }),
    ui.slider(model, "n_heads", { label: word("n_heads"), min: 1, max: 4, step: 1 }),
    ui.slider(model, "d_head", { label: word("d_head"), min: 1, max: 4, step: 1 }),
  );
  const before = ui.html("div", { class: "fm-scroll", tabindex: 0, role: "region", "aria-label": word("before") });
  const after = ui.html("div", { class: "fm-scroll fm-cut-heads", tabindex: 0, role: "region", "aria-label": word("after") });
  const facts = ui.html("p");
  figure.add(before, after, facts);

  const cell = (value, width, name) => {
    const owner = Math.floor(value / width);
    const td = ui.html("td", { class: `fm-token-${owner + 1}`, title: model.get("tokens")[owner] }, String(value));
    return name ? ui.mark(td, name, value) : td;
  };
  const grid = (caption, head, rows) => ui.html("table", { class: "fm-cut" }, ui.html("caption", {}, caption),
    ui.html("tbody", {}, rows.map((cells, t) => ui.html("tr", {}, ui.html("th", { scope: "row" }, head[t]), cells))));

  return ui.watch(model, ["operation", "n_tokens", "n_heads", "d_head"], () => {
    const [n, h, d] = [model.get("n_tokens"), model.get("n_heads"), model.get("d_head")];
    const names = model.get("tokens").slice(0, n), width = h * d;
    const place = WAYS[model.get("operation")]({ n, h, d });
    const range = (size) => [...Array(size).keys()];
    before.replaceChildren(grid(`${word("before")}, ${word("shape")} (${n}, ${width})`, names,
      range(n).map((t) => range(width).map((j) => cell(t * width + j, width)))));
    let mixed = 0, wrong = 0;
    after.replaceChildren(...range(h).map((i) => grid(`${word("head")} ${i + 1}`, names,
      range(n).map((t) => {
        const values = range(d).map((j) => place(i, t, j));
        const owners = new Set(values.map((value) => Math.floor(value / width)));
        mixed += owners.size > 1;
        wrong += !(owners.size === 1 && owners.has(t));
        return values.map((value, j) => cell(value, width, `cell[${i},${t},${j}]`));
      }))));
    const total = h * n;
    facts.replaceChildren(
      `${word("after")}: ${word("shape")} (${h}, ${n}, ${d}). `,
      ui.number("wrong", wrong, String(wrong)), ` ${word("of")} ${total} ${word("wrong")}; `,
      ui.number("mixed", mixed, String(mixed)), ` ${word("rows")}.`,
    );
    figure.say(`${wrong} ${word("of")} ${total} ${word("wrong")}`);
  });
}
export default { render };
