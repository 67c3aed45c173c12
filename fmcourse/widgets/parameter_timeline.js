/* global ui */
const MODALITIES = ["text", "image", "speech", "image and text", "protein"];
const ARCHITECTURES = ["convolutional", "recurrent", "encoder", "decoder", "encoder-decoder"];
// One outline for each modality, around (0, 0): shape tells them apart without colour.
const SHAPES = {
  text: "M 5.5 0 A 5.5 5.5 0 1 1 -5.5 0 A 5.5 5.5 0 1 1 5.5 0 Z",
  image: "M -5 -5 H 5 V 5 H -5 Z",
  speech: "M 0 -6.5 L 6.2 5 H -6.2 Z",
  "image and text": "M 0 -7 L 7 0 L 0 7 L -7 0 Z",
  protein: "M -2 -6 H 2 V -2 H 6 V 2 H 2 V 6 H -2 V 2 H -6 V -2 H -2 Z",
};
const [HEIGHT, LEFT, TOP, BOTTOM] = [320, 54, 12, 268];

const mark = (modality, sparse, more = {}) => {
  const colour = `var(--fm-${MODALITIES.indexOf(modality) + 1})`;
  return ui.svg("path", { d: SHAPES[modality], fill: sparse ? "var(--fm-surface)" : colour, stroke: colour, "stroke-width": 2, ...more });
};

// Least squares of log10(parameters) on the year: [slope, value at year 0], or null.
function fit(models) {
  const n = models.length;
  if (n < 3) return null;
  const mean = (f) => models.reduce((sum, m) => sum + f(m), 0) / n;
  const year = mean((m) => m.year), size = mean((m) => Math.log10(m.parameters));
  const spread = mean((m) => (m.year - year) ** 2);
  if (spread < 0.1) return null;
  const slope = mean((m) => (m.year - year) * (Math.log10(m.parameters) - size)) / spread;
  return [slope, size - slope * year];
}

function choose(model) {
  const [modality, architecture, period] = ["modality", "architecture", "period"].map((name) => model.get(name));
  const years = period ? model.get("periods")[period - 1] : [-Infinity, Infinity];
  let largest = 0;
  return model.get("models").filter((m) => {
    const year = Math.floor(m.year);
    if (modality !== "all" && m.modality !== modality) return false;
    if (architecture !== "all" && m.architecture !== architecture) return false;
    if ((model.get("dense") && m.sparse) || year < years[0] || year > years[1]) return false;
    const record = m.parameters !== null && m.parameters > largest;
    if (record) largest = m.parameters;
    return record || !model.get("records");
  });
}

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model);
  const named = (names) => [["all", word("all")], ...names.map((name) => [name, word(name)])];
  const spans = [[0, word("all")], ...model.get("periods").map(([a, b], i) => [i + 1, `${a}\u2013${b}`])];
  figure.controls(
    ui.select(model, "modality", { label: word("modality"), options: named(MODALITIES) }),
    ui.select(model, "architecture", { label: word("architecture"), options: named(ARCHITECTURES) }),
    ui.select(model, "period", { label: word("period"), options: spans }),
    ui.checkbox(model, "dense", { label: word("dense") }),
    ui.checkbox(model, "records", { label: word("records") }),
    ui.checkbox(model, "logarithmic", { label: word("logarithmic") }),
  );
  const legend = ui.html("div", { class: "fm-controls fm-timeline-legend" }, MODALITIES.map((m) => ui.html("span", {},
    ui.svg("svg", { viewBox: "-9 -9 18 18", width: 18, height: 18, "aria-hidden": true }, mark(m, false)), ` ${word(m)}`)));
  const drawing = ui.drawing(640, HEIGHT, "");
  // One unit is one pixel, so that the words keep their size on a phone.
  let width = 0;
  const measure = () => Math.round(Math.min(640, Math.max(280, figure.body.clientWidth || 440)));
  const growth = ui.html("p"), facts = ui.html("p"), table = ui.html("div");
  const look = ui.select(model, "selected", { label: word("model"), options: model.get("models").map((m) => [m.name, m.name]) });
  figure.add(legend, drawing, growth, ui.html("div", { class: "fm-controls" }, look), facts, table);

  let places = [];
  // A shortcut for the pointer; the menu of models does the same from the keyboard.
  drawing.addEventListener("click", (event) => {
    const box = drawing.getBoundingClientRect(), unit = box.width / width;
    const [x, y] = [(event.clientX - box.left) / unit, (event.clientY - box.top) / unit];
    const far = (p) => Math.hypot(p.x - x, p.y - y);
    const near = places.reduce((best, p) => (best === null || far(p) < far(best) ? p : best), null);
    if (near && far(near) < 24) ui.put(model, "selected", near.name);
  });

  const traits = ["modality", "architecture", "period", "records", "dense", "logarithmic", "selected", "models"];
  const draw = () => {
    width = measure();
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const RIGHT = width - 18, years = width < 420 ? 4 : 2;
    const shown = choose(model), counted = shown.filter((m) => m.parameters !== null);
    const log = model.get("logarithmic"), all = model.get("models");
    const chosen = all.find((m) => m.name === model.get("selected"));
    const first = Math.floor(Math.min(...all.map((m) => m.year))), last = Math.ceil(Math.max(...all.map((m) => m.year)));
    const top = Math.max(...all.map((m) => m.parameters));
    const x = ui.scale([first, last], [LEFT, RIGHT]);
    const y = log ? ui.log([1e7, 1e13], [BOTTOM, TOP]) : ui.scale([0, 1.1 * top], [BOTTOM, TOP]);
    const ticks = log ? [1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13] : [0, 5e11, 1e12, 1.5e12].filter((t) => t <= 1.1 * top);
    drawing.replaceChildren();
    const line = (x1, y1, x2, y2, more) => drawing.append(ui.svg("line", { x1, y1, x2, y2, stroke: "var(--fm-line)", ...more }));
    const text = (px, py, words, more) => drawing.append(ui.svg("text", { x: px, y: py, "font-size": 13, fill: "var(--fm-muted)", ...more }, words));
    for (const t of ticks) {
      line(LEFT, y(t), RIGHT, y(t));
      text(LEFT - 6, y(t) + 4, t ? ui.short(t, t === 1.5e12 || t === 5e11 ? 1 : 0) : "0", { "text-anchor": "end" });
    }
    for (let year = first; year <= last; year += years) {
      line(x(year), BOTTOM, x(year), BOTTOM + 5);
      text(x(year), BOTTOM + 20, String(year), { "text-anchor": "middle" });
    }
    text((LEFT + RIGHT) / 2, HEIGHT - 8, word("year"), { "text-anchor": "middle" });

    const trend = fit(counted);
    if (trend) {
      const [from, to] = [counted[0].year, counted[counted.length - 1].year], steps = [...Array(41).keys()];
      const at = (i) => { const t = from + ((to - from) * i) / 40; return [x(t), y(10 ** (trend[0] * t + trend[1]))]; };
      const path = steps.map(at).filter(([, py]) => py >= TOP && py <= BOTTOM).map(([px, py]) => `${px},${py}`).join(" ");
      drawing.append(ui.svg("polyline", { points: path, fill: "none", stroke: "var(--fm-ink)", "stroke-width": 2, "stroke-dasharray": "6 4" }));
    }
    places = shown.map((m) => ({ name: m.name, x: x(m.year), y: m.parameters === null ? BOTTOM : y(m.parameters) }));
    shown.forEach((m, i) => {
      const at = { transform: `translate(${places[i].x} ${places[i].y})`, class: "fm-mark" };
      drawing.append(m.parameters === null ? ui.svg("text", { ...at, "font-size": 16, "font-weight": 700, "text-anchor": "middle" }, "?") : mark(m.modality, m.sparse, at));
    });
    const spot = places.find((p) => p.name === chosen.name);
    if (spot) {
      drawing.append(ui.svg("circle", { cx: spot.x, cy: spot.y, r: 11, fill: "none", stroke: "var(--fm-accent)", "stroke-width": 3 }));
      const right = spot.x < (LEFT + RIGHT) / 2;
      text(spot.x + (right ? 15 : -15), Math.max(spot.y - 8, TOP + 8), chosen.name, {
        fill: "var(--fm-ink)", "font-weight": 700, "text-anchor": right ? "start" : "end",
        stroke: "var(--fm-surface)", "stroke-width": 4, "paint-order": "stroke",
      });
    }

    const factor = trend && 10 ** trend[0];
    growth.replaceChildren(`${word("shown")}: `, ui.number("shown", counted.length, String(counted.length)), ` \u00b7 ${word("growth")}: `,
      trend ? ui.number("growth", factor, `\u00d7 ${ui.fixed(factor, 2)}`) : word("few"));
    const size = (m) => (m.parameters === null ? word("unpublished") : ui.short(m.parameters));
    facts.replaceChildren(ui.html("strong", {}, chosen.name), `: ${word("released")} ${chosen.released}; `,
      chosen.parameters === null ? word("unpublished") : ui.number("parameters", chosen.parameters, `${size(chosen)} ${word("parameters")}`),
      ...(chosen.active === null ? [] : [", ", ui.number("active", chosen.active, `${ui.short(chosen.active)} ${word("active")}`)]),
      `${chosen.sparse ? `; ${word("sparse")}` : ""}; ${word("modality").toLowerCase()} ${word(chosen.modality)}; ${word(chosen.architecture)}; ${word("source")}: ${chosen.source}.`);
    table.replaceChildren(ui.table(word("table"), [word("model"), word("released"), word("parameters"), word("active"), word("modality"), word("architecture"), word("source")],
      shown.map((m) => [m.name, m.released, size(m), m.active === null ? "" : ui.short(m.active), word(m.modality), word(m.architecture), m.source])));
    const summary = `${word("shown")}: ${counted.length}; ${word("growth")}: ${trend ? `\u00d7 ${ui.fixed(factor, 2)}` : word("few")}`;
    drawing.setAttribute("aria-label", `${model.get("label")}. ${summary}`);
    figure.say(`${summary}. ${chosen.name}: ${size(chosen)}`);
  };
  const stop = ui.watch(model, traits, draw);
  const resized = new ResizeObserver(() => { if (measure() !== width) draw(); });
  resized.observe(figure.body);
  return () => { resized.disconnect(); stop(); };
}
export default { render };
