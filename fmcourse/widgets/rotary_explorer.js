/* global ui */
// The arithmetic of fmcourse.positions.Rotary: pair i of a vector of width d turns by position * base^(-2i/d).
const BASES = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 500000, 1000000];
const SPANS = [32, 128, 512], LAST = 512, ROWS = [0, 1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512];
const [HEIGHT, LEFT, TOP, BOTTOM] = [250, 48, 14, 196];

const frequencies = (d, base) => Array.from({ length: d / 2 }, (_, i) => base ** ((-2 * i) / d));

// The pairs of a vector at a position, each turned by its own angle.
function turned(vector, position, frequency) {
  const half = vector.length / 2;
  return frequency.map((f, i) => {
    const [x, y, cos, sin] = [vector[i], vector[i + half], Math.cos(position * f), Math.sin(position * f)];
    return [x * cos - y * sin, x * sin + y * cos];
  });
}
const score = (a, b) => a.reduce((sum, [x, y], i) => sum + x * b[i][0] + y * b[i][1], 0);

function arrow([x, y], unit, colour, dash) {
  const [tx, ty] = [x * unit, -y * unit], long = Math.hypot(tx, ty) || 1, [ux, uy] = [tx / long, ty / long];
  const head = `M ${tx} ${ty} L ${tx - 9 * ux - 5 * uy} ${ty - 9 * uy + 5 * ux} L ${tx - 9 * ux + 5 * uy} ${ty - 9 * uy - 5 * ux} Z`;
  return [
    ui.svg("line", { x1: 0, y1: 0, x2: tx - 6 * ux, y2: ty - 6 * uy, stroke: colour, "stroke-width": 3, "stroke-dasharray": dash }),
    ui.svg("path", { d: head, fill: colour }),
  ];
}

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model);
  const inside = (x) => Math.min(LAST, Math.max(0, x));
  const move = (step) => () => {
    const [m, n] = [model.get("m"), model.get("n")];
    if (inside(m + step) !== m + step || inside(n + step) !== n + step) return;
    ui.put(model, "m", m + step);
    ui.put(model, "n", n + step);
  };
  figure.controls(
    ui.select(model, "vectors", { label: word("vectors"), options: model.get("names") }),
    ui.slider(model, "m", { label: word("m"), min: 0, max: LAST, step: 1 }),
    ui.slider(model, "n", { label: word("n"), min: 0, max: LAST, step: 1 }),
    ui.slider(model, "base", { label: word("base"), values: BASES, format: (b) => b.toLocaleString("en") }),
    ui.select(model, "span", { label: word("span"), options: SPANS.map((s) => [s, String(s)]) }),
  );
  figure.controls(
    ui.button(word("on"), move(16), { "data-move": "on" }),
    ui.button(word("back"), move(-16), { "data-move": "back" }),
  );
  const sample = (dash, colour, name) => ui.html("span", {}, ui.svg("svg", { viewBox: "0 0 26 10", width: 26, height: 10, "aria-hidden": true },
    ui.svg("line", { x1: 0, y1: 5, x2: 26, y2: 5, stroke: colour, "stroke-width": 3, "stroke-dasharray": dash })), ` ${name}`);
  const legend = ui.html("div", { class: "fm-controls fm-rotary-legend" }, sample(null, "var(--fm-1)", word("query")), sample("5 3", "var(--fm-2)", word("key")));
  const dials = ui.html("ul", { class: "fm-dials" }), facts = ui.html("p"), table = ui.html("div");
  const drawing = ui.drawing(640, HEIGHT, "");
  figure.add(legend, dials, facts, drawing, table);
  let width = 0;
  const measure = () => Math.round(Math.min(640, Math.max(260, figure.body.clientWidth || 440)));

  const draw = () => {
    const [m, n, base, span] = ["m", "n", "base", "span"].map((name) => model.get(name));
    const query = model.get("query_vectors")[model.get("vectors")], key = model.get("key_vectors")[model.get("vectors")];
    const frequency = frequencies(query.length, base), half = query.length / 2;
    const [q, k] = [turned(query, m, frequency), turned(key, n, frequency)];
    const now = score(q, k), at = (distance) => score(turned(query, distance, frequency), turned(key, 0, frequency));
    const lengths = (v) => frequency.map((_, i) => Math.hypot(v[i], v[i + half]));
    const most = lengths(query).reduce((sum, a, i) => sum + a * lengths(key)[i], 0);
    const longest = Math.max(...lengths(query), ...lengths(key));
    dials.replaceChildren(...frequency.map((f, i) => {
      const dot = q[i][0] * k[i][0] + q[i][1] * k[i][1], cross = k[i][0] * q[i][1] - k[i][1] * q[i][0];
      const angle = (Math.atan2(cross, dot) * 180) / Math.PI;
      const dial = ui.svg("svg", { viewBox: "-50 -50 100 100", "aria-hidden": true },
        ui.svg("circle", { r: 47, fill: "var(--fm-panel)", stroke: "var(--fm-line)", "stroke-width": 2 }),
        ...arrow(q[i], 44 / longest, "var(--fm-1)", null), ...arrow(k[i], 44 / longest, "var(--fm-2)", "6 4"));
      const turn = (2 * Math.PI) / f;
      return ui.html("li", {}, dial, ui.html("span", {}, ui.html("strong", {}, `${word("pair")} ${i + 1}`), ui.html("br"),
        ui.number(`wavelength[${i}]`, turn, turn < 100 ? ui.fixed(turn, 1) : Math.round(turn).toLocaleString("en")), ` ${word("wavelength")}`, ui.html("br"),
        ui.number(`angle[${i}]`, angle, `${ui.fixed(Math.round(angle) || 0, 0)}\u00b0`), ` ${word("between")}`));
    }));
    const slowest = (LAST * frequency[half - 1]) / (2 * Math.PI);
    facts.replaceChildren(`${word("score")}: `, ui.number("score", now, ui.fixed(now, 3)), ` \u00b7 ${word("most")}: `,
      ui.number("most", most, ui.fixed(most, 3)), ` \u00b7 ${word("distance")}: `, ui.number("distance", m - n, ui.fixed(m - n, 0)),
      ` \u00b7 ${word("slowest")}: `, ui.number("slowest", slowest, ui.fixed(slowest, 3)));

    width = measure();
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const x = ui.scale([-span, span], [LEFT, width - 14]), y = ui.scale([-most, most], [BOTTOM, TOP]);
    const line = (x1, y1, x2, y2, more) => ui.svg("line", { x1, y1, x2, y2, stroke: "var(--fm-line)", ...more });
    const text = (px, py, words, more) => ui.svg("text", { x: px, y: py, "font-size": 13, "text-anchor": "middle", ...more }, words);
    const step = span / 128, points = Array.from({ length: 257 }, (_, i) => -span + i * Math.max(step, 0.25));
    const whole = step > 1 ? Array.from({ length: 2 * span + 1 }, (_, i) => i - span) : points; // every token of a wide span
    drawing.replaceChildren(
      ...[-most, 0, most].flatMap((v) => [line(LEFT, y(v), width - 14, y(v)), text(LEFT - 6, y(v) + 4, ui.fixed(v, 1), { "text-anchor": "end" })]),
      ...[-span, -span / 2, 0, span / 2, span].flatMap((v) => [line(x(v), BOTTOM, x(v), BOTTOM + 5), text(x(v), BOTTOM + 20, ui.fixed(v, 0))]),
      text((LEFT + width) / 2, HEIGHT - 10, word("axis")),
      ui.svg("polyline", { points: whole.map((d) => `${x(d).toFixed(1)},${y(at(d)).toFixed(1)}`).join(" "), fill: "none", stroke: "var(--fm-3)", "stroke-width": span > 32 ? 1.5 : 2.5 }),
    );
    if (Math.abs(m - n) <= span) {
      drawing.append(line(x(m - n), TOP, x(m - n), BOTTOM, { stroke: "var(--fm-accent)", "stroke-dasharray": "4 4" }),
        ui.svg("circle", { cx: x(m - n), cy: y(now), r: 6, fill: "var(--fm-accent)", stroke: "var(--fm-surface)", "stroke-width": 2 }));
    }
    table.replaceChildren(ui.table(word("table"), [word("distance"), word("score")], ROWS.map((d) => [String(d), ui.fixed(at(d), 3)])));
    const summary = `${word("score")} ${ui.fixed(now, 2)}; ${word("distance")} ${m - n}`;
    drawing.setAttribute("aria-label", `${model.get("label")}. ${summary}`);
    figure.say(summary);
  };
  const stop = ui.watch(model, ["vectors", "m", "n", "base", "span", "query_vectors", "key_vectors"], draw);
  const resized = new ResizeObserver(() => { if (measure() !== width) draw(); });
  resized.observe(figure.body);
  return () => { resized.disconnect(); stop(); };
}
export default { render };
