/* global ui */
// The same counts as fmcourse.widgets.cost_explorer.operations.
function operations(n, { n_layers, d_model, vocab_size, cached }) {
  const read = cached ? 1 : n;
  return { matrices: n_layers * 24 * read * d_model ** 2 + 2 * read * d_model * vocab_size, attention: n_layers * 4 * read * n * d_model };
}

const SMALL = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079";
const raised = (tens) => `10${[...String(tens)].map((c) => SMALL[Number(c)]).join("")}`;
function power(x) {
  const tens = Math.floor(Math.log10(x) + 1e-12);
  return `${(x / 10 ** tens).toFixed(1)}\u00d7${raised(tens)}`;
}
const whole = (x) => Math.round(x).toLocaleString("en-US");
function bytes(x) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"], i = Math.min(5, Math.floor(Math.log10(Math.max(x, 1)) / 3));
  return `${(x / 1000 ** i).toPrecision(3)}\u202f${units[i]}`;
}

const WIDTHS = [64, 128, 256, 512, 768, 1024, 1600, 2048, 4096, 8192, 12288, 16384];
const LAYERS = [1, 2, 4, 8, 12, 24, 32, 48, 64, 96, 128];

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model), presets = model.get("presets"), lengths = model.get("lengths");
  figure.controls(
    ui.select(model, "preset", { label: word("preset"), options: [...presets.map((p) => [p.name, p.name]), ["", word("custom")]] }),
    ui.checkbox(model, "cached", { label: word("cached") }),
    ui.slider(model, "length", { label: word("length"), values: lengths, format: whole }),
    ui.slider(model, "d_model", { label: word("d_model"), values: WIDTHS, format: whole }),
    ui.slider(model, "n_layers", { label: word("n_layers"), values: LAYERS }),
  );
  // A named model sets the sizes; a size that the reader moves makes the model the reader's own.
  const named = () => presets.find((p) => p.name === model.get("preset"));
  const choose = () => {
    const sizes = named();
    if (sizes) for (const name of ["n_layers", "d_model", "vocab_size"]) if (model.get(name) !== sizes[name]) ui.put(model, name, sizes[name]);
  };
  const own = () => {
    const sizes = named();
    if (sizes && (model.get("n_layers") !== sizes.n_layers || model.get("d_model") !== sizes.d_model) && !choosing) ui.put(model, "preset", "");
  };
  let choosing = false;
  const onPreset = () => { choosing = true; choose(); choosing = false; };
  model.on("change:preset", onPreset);
  model.on("change:n_layers", own);
  model.on("change:d_model", own);

  const W = 460, H = 300, left = 58, right = 448, top = 30, bottom = 250;
  const drawing = ui.drawing(W, H, ""), facts = ui.html("p"), more = ui.html("p"), table = ui.html("div");
  figure.add(drawing, facts, more, table);
  const traits = ["preset", "n_layers", "d_model", "vocab_size", "length", "cached"];
  const stop = ui.watch(model, traits, () => {
    const now = Object.fromEntries(traits.map((name) => [name, model.get(name)])), n = now.length;
    const curve = lengths.map((at) => ({ at, ...operations(at, now) }));
    const { matrices, attention } = operations(n, now), total = matrices + attention, share = attention / total;
    const exponent = (now.cached ? 0 : 1) + share, cross = 6 * now.d_model + now.vocab_size / (2 * now.n_layers);
    const memory = 4 * now.n_layers * n * now.d_model;
    const all = curve.flatMap((p) => [p.matrices, p.attention]).map(Math.log10);
    const low = Math.floor(Math.min(...all)), high = Math.ceil(Math.max(...all));
    const px = ui.log([lengths[0], lengths.at(-1)], [left, right]), py = ui.scale([low, high], [bottom, top]);
    drawing.replaceChildren(ui.svg("text", { x: 4, y: 14, "font-size": 13 }, word("axis")));
    const every = Math.max(1, Math.ceil((high - low) / 5));
    for (let tens = low; tens <= high; tens += every) {
      drawing.append(
        ui.svg("line", { x1: left, x2: right, y1: py(tens), y2: py(tens), stroke: "var(--fm-line)" }),
        ui.svg("text", { x: left - 6, y: py(tens) + 5, "text-anchor": "end", "font-size": 13 }, raised(tens)),
      );
    }
    for (const at of lengths.filter((_, i) => i % 3 === 0)) {
      drawing.append(ui.svg("text", { x: px(at), y: bottom + 18, "text-anchor": at === lengths.at(-1) ? "end" : "middle", "font-size": 13 }, whole(at)));
    }
    drawing.append(
      ui.svg("text", { x: (left + right) / 2, y: bottom + 38, "text-anchor": "middle", "font-size": 13 }, word("tokens")),
      ui.svg("line", { x1: px(n), x2: px(n), y1: top, y2: bottom, stroke: "var(--fm-edge)", "stroke-width": 2 }),
    );
    const line = (name, colour, dash) => drawing.append(ui.svg("polyline", {
      points: curve.map((p) => `${px(p.at).toFixed(1)},${py(Math.log10(p[name])).toFixed(1)}`).join(" "),
      fill: "none", stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash,
    }));
    line("matrices", "var(--fm-1)", null);
    line("attention", "var(--fm-2)", "6 3");
    drawing.append(
      ui.svg("circle", { cx: px(n), cy: py(Math.log10(matrices)), r: 4.5, fill: "var(--fm-1)" }),
      ui.svg("rect", { x: px(n) - 4, y: py(Math.log10(attention)) - 4, width: 8, height: 8, fill: "var(--fm-2)" }),
    );
    if (cross >= lengths[0] && cross <= lengths.at(-1)) {
      const y = py(Math.log10(operations(cross, now).attention));
      drawing.append(ui.svg("circle", { cx: px(cross), cy: y, r: 8, fill: "none", stroke: "var(--fm-ink)", "stroke-width": 2 }));
    }
    const key = (colour, square) => ui.svg("svg", { width: 12, height: 12, "aria-hidden": "true" }, square
      ? ui.svg("rect", { x: 2, y: 2, width: 8, height: 8, fill: colour }) : ui.svg("circle", { cx: 6, cy: 6, r: 4.5, fill: colour }));
    facts.replaceChildren(
      `${word("total")}: `, ui.number("total", total, power(total)), " (",
      key("var(--fm-1)", false), ` ${word("matrices")} `, ui.number("matrices", matrices, power(matrices)), ", ",
      key("var(--fm-2)", true), ` ${word("attention")} `, ui.number("attention", attention, power(attention)), `); ${word("share")} `,
      ui.number("share", share, ui.percent(share, share < 0.1 ? 1 : 0)), `; ${word("exponent")} `,
      ui.number("exponent", exponent, ui.fixed(exponent, 2)), ".",
    );
    more.replaceChildren(`${word("crossing")} `, ui.number("crossing", cross, whole(cross)), ` ${word("tokens")} \u00b7 ${word("memory")}: `,
      ui.number("memory", memory, bytes(memory)));
    table.replaceChildren(ui.table(word("table"), [word("tokens"), word("matrices"), word("attention")], curve.map((p) => [
      whole(p.at), ui.number(`matrices[${p.at}]`, p.matrices, power(p.matrices)), ui.number(`attention[${p.at}]`, p.attention, power(p.attention))])));
    const said = `${word("total")}: ${power(total)}; ${word("share")} ${ui.percent(share, 1)}; ${word("crossing")} ${whole(cross)} ${word("tokens")}`;
    drawing.setAttribute("aria-label", `${model.get("label")}. ${said}`);
    figure.say(said);
  });
  return () => { stop(); model.off("change:preset", onPreset); model.off("change:n_layers", own); model.off("change:d_model", own); };
}
export default { render };
