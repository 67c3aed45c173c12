/* global ui */
// As fmcourse.widgets.roofline_explorer.work and .roofline.
function work(operation, size, s) {
  if (operation === "product") return [2 * s.tokens * s.d_in * s.d_out, size * (s.tokens * s.d_in + s.d_in * s.d_out + s.tokens * s.d_out)];
  if (operation === "addition") return [s.tokens * s.d_in, 3 * size * s.tokens * s.d_in];
  if (operation === "decoding") {
    const cache = 2 * s.n_layers * s.length * s.d_model;
    return [2 * s.batch * (s.parameters + cache), size * (s.parameters + s.batch * cache)];
  }
  const stored = operation === "attention_stored" ? 4 * s.heads * s.length ** 2 : 0;
  return [4 * s.heads * s.length ** 2 * s.d_head, size * (4 * s.heads * s.length * s.d_head + stored)];
}

function roofline(operations, moved, peak, bandwidth) {
  const arithmetic = operations / peak, memory = moved / bandwidth, seconds = Math.max(arithmetic, memory);
  return { intensity: operations / moved, ridge: peak / bandwidth, seconds, bound: arithmetic >= memory ? "compute" : "memory", share: arithmetic / seconds };
}

const NEEDS = {
  product: ["tokens", "d_in", "d_out"], addition: ["tokens", "d_in"], attention: ["heads", "length", "d_head"],
  attention_stored: ["heads", "length", "d_head"], decoding: ["model", "batch", "length"],
};
const SIZES = ["tokens", "d_in", "d_out", "heads", "length", "d_head", "batch"];
const OPERATIONS = Object.keys(NEEDS);
const powers = (low, high) => Array.from({ length: high - low + 1 }, (_, i) => 2 ** (low + i));
const WIDTHS = [64, 128, 256, 512, 768, 1024, 2048, 3072, 4096, 8192, 11008, 16384];

const RAISED = "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079";
const tenTo = (tens) => `10${[...String(tens)].map((c) => RAISED["-0123456789".indexOf(c)]).join("")}`;
const whole = (x) => Math.round(x).toLocaleString("en-US");
// Three digits with a unit from a list of powers of a thousand.
function scaled(x, units, first = 0) {
  let i = Math.floor(Math.log10(x) / 3 + 1e-9) - first;
  i = Math.min(units.length - 1, Math.max(0, i));
  const shown = x / 1000 ** (i + first);
  return `${shown >= 100 ? whole(shown) : shown.toPrecision(3)}\u202f${units[i]}`;
}
const flop = (x) => scaled(x, ["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"]);
const rate = (x) => scaled(x, ["MFLOP/s", "GFLOP/s", "TFLOP/s"], 2);
const bytes = (x) => scaled(x, ["B", "kB", "MB", "GB", "TB"]);
const time = (x) => scaled(x, ["ns", "\u00b5s", "ms", "s"], -3);
const plain = (x) => (x >= 100 ? whole(x) : x.toPrecision(3));

// A box to type a positive number into, bound to a trait.
function numberBox(model, name, label) {
  const id = ui.uid(name);
  const input = ui.html("input", {
    type: "number", id, min: 0, step: "any", "data-trait": name,
    oninput: () => { const value = Number(input.value); if (value > 0 && Number.isFinite(value)) ui.put(model, name, value); },
  });
  const show = () => { if (Number(input.value) !== model.get(name)) input.value = String(model.get(name)); };
  model.on(`change:${name}`, show);
  show();
  return ui.html("div", { class: "fm-control" }, ui.html("label", { for: id }, label), input);
}

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model), hardware = model.get("hardware"), models = model.get("models");
  figure.controls(
    ui.select(model, "machine", { label: word("machine"), options: [...hardware.map((one) => [one.name, one.name]), ["", word("own")]] }),
    ui.select(model, "bits", { label: word("bits"), options: [[32, word("bits32")], [16, word("bits16")]] }),
    numberBox(model, "peak", word("peak")),
    numberBox(model, "bandwidth", word("bandwidth")),
  );
  const slider = (name, values) => ui.slider(model, name, { label: word(name), values, format: whole });
  const sizes = {
    tokens: slider("tokens", powers(0, 17)), d_in: slider("d_in", WIDTHS), d_out: slider("d_out", WIDTHS),
    heads: slider("heads", powers(0, 12)), d_head: slider("d_head", powers(4, 8)),
    model: ui.select(model, "model", { label: word("model"), options: models.map((one) => [one.name, one.name]) }),
    batch: slider("batch", powers(0, 12)), length: slider("length", powers(4, 17)),
  };
  figure.controls(ui.select(model, "operation", { label: word("operation"), options: OPERATIONS.map((name) => [name, word(name)]) }), ...Object.values(sizes));

  // A named machine sets peak and bandwidth; a number that the reader types makes the machine the reader's own.
  const named = () => hardware.find((one) => one.name === model.get("machine"));
  let choosing = false;
  const choose = () => {
    const one = named();
    if (!one) return;
    choosing = true;
    for (const [name, value] of [["peak", one[`peak${model.get("bits")}`] / 1e12], ["bandwidth", one.bandwidth / 1e9]]) {
      if (model.get(name) !== value) ui.put(model, name, value);
    }
    choosing = false;
  };
  const own = () => { if (!choosing && named()) ui.put(model, "machine", ""); };
  const links = [["machine", choose], ["bits", choose], ["peak", own], ["bandwidth", own]];
  links.forEach(([name, act]) => model.on(`change:${name}`, act));

  const W = 460, H = 310, left = 62, right = 448, top = 30, bottom = 258;
  const drawing = ui.drawing(W, H, ""), facts = ui.html("p"), answer = ui.html("p"), table = ui.html("div");
  figure.add(drawing, facts, answer, table);
  const traits = ["machine", "bits", "peak", "bandwidth", "operation", "model", ...SIZES];
  const stop = ui.watch(model, traits, () => {
    const operation = model.get("operation"), size = model.get("bits") / 8;
    for (const [name, control] of Object.entries(sizes)) control.hidden = !NEEDS[operation].includes(name);
    const s = { ...models.find((one) => one.name === model.get("model")), ...Object.fromEntries(SIZES.map((name) => [name, model.get(name)])) };
    const peak = model.get("peak") * 1e12, bandwidth = model.get("bandwidth") * 1e9;
    const [operations, moved] = work(operation, size, s), at = roofline(operations, moved, peak, bandwidth), reached = operations / at.seconds;

    // The drawing keeps its axes while the point moves; only the machine changes the vertical one.
    const low = -2, high = 4, topTens = Math.ceil(Math.log10(peak) + 0.1), floorTens = topTens - 6;
    const px = ui.scale([low, high], [left, right]), py = ui.scale([floorTens, topTens], [bottom, top]);
    const x = (v) => px(Math.min(high, Math.max(low, Math.log10(v)))), y = (v) => py(Math.min(topTens, Math.max(floorTens, Math.log10(v))));
    drawing.replaceChildren(ui.svg("text", { x: 4, y: 16, "font-size": 13 }, word("speed")));
    for (let tens = floorTens; tens <= topTens; tens++) drawing.append(
      ui.svg("line", { x1: left, x2: right, y1: py(tens), y2: py(tens), stroke: "var(--fm-line)" }),
      tens % 2 ? "" : ui.svg("text", { x: left - 6, y: py(tens) + 5, "text-anchor": "end", "font-size": 13 }, tenTo(tens)));
    for (let tens = low; tens <= high; tens += 2) drawing.append(
      ui.svg("text", { x: px(tens), y: bottom + 19, "text-anchor": tens === high ? "end" : "middle", "font-size": 13 }, tens >= 0 ? whole(10 ** tens) : String(10 ** tens)));
    const edge = Math.max(10 ** low, 10 ** floorTens / bandwidth);
    drawing.append(
      ui.svg("text", { x: (left + right) / 2, y: bottom + 41, "text-anchor": "middle", "font-size": 13 }, word("axis")),
      ui.svg("polyline", { points: [[x(edge), y(edge * bandwidth)], [x(at.ridge), y(peak)], [right, y(peak)]].map((p) => p.map((c) => c.toFixed(1)).join(",")).join(" "), fill: "none", stroke: "var(--fm-1)", "stroke-width": 3 }),
      ui.svg("line", { x1: x(at.ridge), x2: x(at.ridge), y1: y(peak), y2: bottom, stroke: "var(--fm-1)", "stroke-width": 1.5, "stroke-dasharray": "2 4" }),
      ui.svg("line", { x1: x(at.intensity), x2: x(at.intensity), y1: y(reached), y2: bottom, stroke: "var(--fm-2)", "stroke-width": 2, "stroke-dasharray": "6 3" }),
      ui.svg("circle", { cx: x(at.intensity), cy: y(reached), r: 7, fill: "var(--fm-2)", stroke: "var(--fm-surface)", "stroke-width": 1.5 }),
    );
    facts.replaceChildren(
      ui.number("operations", operations, flop(operations)), `, ${word("moved")} `, ui.number("bytes", moved, bytes(moved)), `: ${word("intensity")} `,
      ui.number("intensity", at.intensity, plain(at.intensity)), ` ${word("unit")}; ${word("ridge")} `, ui.number("ridge", at.ridge, plain(at.ridge)), ` ${word("unit")}.`,
    );
    const bound = ui.mark(ui.html("strong", {}, word(at.bound)), "compute_bound", at.bound === "compute" ? 1 : 0);
    answer.replaceChildren(
      `${word("at_best")} `, ui.number("seconds", at.seconds, time(at.seconds)), ", ", bound, `: ${word("reached")} `,
      ui.number("reached", reached, rate(reached)), ", ", ui.number("share", at.share, ui.percent(at.share, at.share < 0.1 ? 1 : 0)), ` ${word("share")}.`,
    );
    table.replaceChildren(ui.table(word("table"), [word("machine"), word("at_best"), word("share")], hardware.map((one, i) => {
      const there = roofline(operations, moved, one[`peak${model.get("bits")}`], one.bandwidth);
      return [one.name, ui.number(`seconds[${i}]`, there.seconds, time(there.seconds)), ui.number(`share[${i}]`, there.share, `${ui.percent(there.share, there.share < 0.1 ? 1 : 0)}, ${word(there.bound)}`)];
    })));
    const said = `${word(operation)}: ${word("intensity")} ${plain(at.intensity)} ${word("unit")}, ${word("ridge")} ${plain(at.ridge)}; ${word("at_best")} ${time(at.seconds)}, ${word(at.bound)}`;
    drawing.setAttribute("aria-label", `${model.get("label")}. ${said}`);
    figure.say(said);
  });
  return () => { stop(); links.forEach(([name, act]) => model.off(`change:${name}`, act)); };
}
export default { render };
