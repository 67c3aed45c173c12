/* global ui */
// May query i attend to key j? Padding stands on the left; a padding query sees itself, so that no row is empty.
function allows({ mask, n, padding, prefix, width }, i, j) {
  if (mask === "full") return true;
  if (mask === "prefix") return j <= i || Math.max(i, j) < Math.min(prefix, n);
  if (j > i) return false;
  if (mask === "padded") return j >= Math.min(padding, n - 1) || i === j;
  return mask !== "window" || j > i - width;
}

// layers[i][j]: the fewest layers after which query i can depend on key j; the residual connection makes it 0 for i = j.
function layersNeeded(may) {
  return may.map((_, start) => {
    const found = may.map(() => Infinity);
    found[start] = 0;
    for (let reached = [start], layer = 1; reached.length; layer++) {
      const next = new Set(reached.flatMap((i) => may[i].flatMap((allowed, j) => (allowed && found[j] === Infinity ? [j] : []))));
      next.forEach((j) => { found[j] = layer; });
      reached = [...next];
    }
    return found;
  });
}

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model);
  figure.body.classList.add("fm-lab-figure");
  const extras = {
    padded: ui.slider(model, "padding", { label: word("padding"), min: 0, max: 6, step: 1 }),
    prefix: ui.slider(model, "prefix", { label: word("prefix_length"), min: 1, max: 12, step: 1 }),
    window: ui.slider(model, "width", { label: word("width"), min: 1, max: 12, step: 1 }),
  };
  figure.controls(
    ui.select(model, "mask", { label: word("mask"), options: ["full", "causal", "padded", "prefix", "window"].map((m) => [m, word(m)]) }),
    ...Object.values(extras),
    ui.slider(model, "n", { label: word("n"), min: 3, max: 12, step: 1 }),
    ui.slider(model, "layers", { label: word("layers"), min: 1, max: 12, step: 1 }),
  );
  const grid = ui.html("table", { class: "fm-lab", "aria-label": word("grid") });
  const legend = ui.html("ul", { class: "fm-lab-legend" }, ["direct", "reached", "later", "never"].map((kind) =>
    ui.html("li", {}, ui.html("i", { class: `fm-${kind}` }), word(kind))));
  const facts = ui.html("ul", { class: "fm-lab-facts" });
  figure.add(grid, legend, facts);

  return ui.watch(model, ["mask", "n", "layers", "padding", "prefix", "width"], () => {
    const now = Object.fromEntries(["mask", "n", "layers", "padding", "prefix", "width"].map((name) => [name, model.get(name)]));
    for (const [mask, control] of Object.entries(extras)) control.hidden = mask !== now.mask;
    const places = Array.from({ length: now.n }, (_, i) => i);
    const may = places.map((i) => places.map((j) => allows(now, i, j)));
    const needed = layersNeeded(may);
    const cell = (i, j) => {
      const layers = needed[i][j], finite = layers < Infinity;
      const kind = may[i][j] ? "direct" : layers <= now.layers ? "reached" : finite ? "later" : "never";
      const node = ui.html("td", { class: `fm-${kind}`, title: word(kind) }, finite ? String(layers) : "–");
      return ui.mark(node, `needed[${i},${j}]`, finite ? layers : -1);
    };
    grid.replaceChildren(
      ui.html("thead", {}, ui.html("tr", {}, ui.html("th", { class: "fm-corner", scope: "col" }, word("corner")),
        places.map((j) => ui.html("th", { scope: "col" }, String(j + 1))))),
      ui.html("tbody", {}, places.map((i) => ui.html("tr", {}, ui.html("th", { scope: "row" }, String(i + 1)), places.map((j) => cell(i, j))))),
    );
    const pairs = now.n * now.n, last = needed[now.n - 1][0];
    const allowed = may.flat().filter(Boolean).length;
    const reached = needed.flat().filter((layers) => layers <= now.layers).length;
    const lastText = last < Infinity ? String(last) : word("never");
    facts.replaceChildren(
      ui.html("li", {}, `${word("allowed")}: `, ui.number("allowed", allowed, String(allowed)), ` ${word("of")} ${pairs} · ${word("cost")}: `,
        ui.number("share", allowed / pairs, ui.percent(allowed / pairs))),
      ui.html("li", {}, `${word("reach")}: `, ui.number("reached", reached, String(reached)), ` ${word("of")} ${pairs}`),
      ui.html("li", {}, `${word("last")}: `, ui.number("last", last < Infinity ? last : -1, lastText)),
    );
    figure.say(`${word("allowed")}: ${allowed} ${word("of")} ${pairs}; ${word("reach")}: ${reached}; ${word("last")}: ${lastText}`);
  });
}
export default { render };
