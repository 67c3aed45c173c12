/* global ui */
// The same arithmetic as fmcourse.widgets.scaling_explorer.
const gamma = (law) => law.gamma ?? 1;
const lossOf = (law, n, d) => law.E + (law.A / n ** law.alpha + law.B / d ** law.beta) ** gamma(law);
function bestSplit(law, compute) {
  const g = ((law.alpha * law.A) / (law.beta * law.B)) ** (1 / (law.alpha + law.beta));
  const n = g * (compute / 6) ** (law.beta / (law.alpha + law.beta));
  return [n, compute / 6 / n];
}
function tokensFor(law, n, loss) {
  const rest = (loss - law.E) ** (1 / gamma(law)) - law.A / n ** law.alpha;
  return rest > 0 ? (law.B / rest) ** (1 / law.beta) : Infinity;
}
function bestForLife(law, compute, served) {
  const [most, tokens] = bestSplit(law, compute), loss = lossOf(law, most, tokens);
  if (!served) return [most, tokens, compute];
  const cost = (size) => 6 * size * tokensFor(law, size, loss) + 2 * size * served;
  let low = Math.log((law.A / (loss - law.E) ** (1 / gamma(law))) ** (1 / law.alpha)), high = Math.log(most);
  const ratio = (Math.sqrt(5) - 1) / 2;
  for (let i = 0; i < 80; i++) {
    const left = high - ratio * (high - low), right = low + ratio * (high - low);
    if (cost(Math.exp(left)) < cost(Math.exp(right))) high = right;
    else low = left;
  }
  const size = Math.exp((low + high) / 2);
  return [size, tokensFor(law, size, loss), cost(size)];
}

const SMALL = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079";
const raised = (tens) => `10${[...String(tens)].map((c) => SMALL[Number(c)]).join("")}`;
function power(x) {
  const tens = Math.floor(Math.log10(x) + 1e-12);
  return `${(x / 10 ** tens).toFixed(1)}\u00d7${raised(tens)}`;
}
const few = (x) => (x >= 100 ? Math.round(x).toLocaleString("en-US") : ui.fixed(x, x < 10 ? 1 : 0));

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model), laws = model.get("laws");
  const chosen = () => laws.find((one) => one.name === model.get("law"));
  // The slider moves over the budgets of all laws; each law shows its own range.
  const budgets = () => { const [a, b] = chosen().budgets; return Array.from({ length: Math.round((b - a) * 10) + 1 }, (_, i) => Math.round(10 * a + i) / 10); };
  const controls = ui.html("div", { class: "fm-controls" });
  let unbind = () => {};
  // `slider` listens to the model for good, so a slider that is replaced must be let go of.
  const passing = (make) => {
    const kept = [], shadow = { get: (n) => model.get(n), set: (n, v) => model.set(n, v), save_changes: () => model.save_changes(), on: (e, f) => { kept.push([e, f]); model.on(e, f); } };
    const node = make(shadow);
    return [node, () => kept.forEach(([e, f]) => model.off(e, f))];
  };
  const law = ui.select(model, "law", { label: word("law"), options: laws.map((one) => [one.name, one.name]) });
  const multiples = model.get("multiples");
  const times = (x) => (x ? `${x} ${word("times")}` : word("none"));
  const served = ui.slider(model, "served", { label: word("served"), values: multiples, format: times });
  const fill = () => {
    unbind();
    const [node, stop] = passing((m) => ui.slider(m, "budget", { label: word("budget"), values: budgets(), format: (x) => power(10 ** x) }));
    unbind = stop;
    controls.replaceChildren(law, node, served);
  };
  figure.add(controls);

  const W = 460, H = 250, left = 56, right = 444, top = 28, bottom = 200;
  const map = ui.drawing(W, H, ""), curve = ui.drawing(W, H, "");
  const [above, below, best, life] = [0, 0, 0, 0].map(() => ui.html("p")), table = ui.html("div");
  figure.add(best, life, above, map, below, curve, table);
  const axes = (drawing, px, py, xs, ys, xWord, yWord, yText) => {
    drawing.replaceChildren(ui.svg("text", { x: 4, y: 14, "font-size": 13 }, yWord));
    for (const y of ys) drawing.append(
      ui.svg("line", { x1: left, x2: right, y1: py(y), y2: py(y), stroke: "var(--fm-line)" }),
      ui.svg("text", { x: left - 6, y: py(y) + 5, "text-anchor": "end", "font-size": 13 }, yText(y)));
    for (const x of xs) drawing.append(ui.svg("text", { x: px(10 ** x), y: bottom + 18, "text-anchor": "middle", "font-size": 13 }, raised(x)));
    drawing.append(ui.svg("text", { x: (left + right) / 2, y: bottom + 40, "text-anchor": "middle", "font-size": 13 }, xWord));
  };
  const line = (drawing, points, more) => drawing.append(ui.svg("polyline", { points: points.map((p) => p.map((c) => c.toFixed(1)).join(",")).join(" "), fill: "none", stroke: "var(--fm-1)", "stroke-width": 2.5, ...more }));
  const tens = (a, b, most) => {
    const every = Math.max(1, Math.ceil((b - a) / most)), out = [];
    for (let i = Math.ceil(a); i <= b; i++) if ((i - Math.ceil(a)) % every === 0) out.push(i);
    return out;
  };

  const draw = () => {
    const now = chosen(), compute = 10 ** model.get("budget");
    const [n, d] = bestSplit(now, compute), loss = lossOf(now, n, d), later = model.get("served") * d;
    const [size, tokens, total] = bestForLife(now, compute, later), trained = 6 * size * tokens;
    const plain = compute + 2 * n * later, saved = 1 - total / plain;
    // The map: budget against size.
    const [c0, c1] = now.budgets, ends = [10 ** c0, 10 ** c1].map((c) => Math.log10(bestSplit(now, c)[0]));
    const low = Math.min(ends[0], ...now.models.map((m) => Math.log10(m.parameters))) - 0.3;
    const high = Math.max(ends[1], ...now.models.map((m) => Math.log10(m.parameters))) + 0.3;
    const px = ui.log([10 ** c0, 10 ** c1], [left, right]), py = ui.scale([low, high], [bottom, top]);
    axes(map, px, py, tens(c0, c1, 6), tens(low, high, 5), word("compute"), word("size"), raised);
    line(map, [c0, c1].map((c, i) => [px(10 ** c), py(ends[i])]));
    for (const m of now.models) map.append(ui.svg("circle", { cx: px(6 * m.parameters * m.tokens), cy: py(Math.log10(m.parameters)), r: 4.5, fill: "var(--fm-2)" }, ui.svg("title", {}, m.name)));
    map.append(ui.svg("rect", { x: px(compute) - 5, y: py(Math.log10(n)) - 5, width: 10, height: 10, fill: "var(--fm-1)", stroke: "var(--fm-ink)" }));
    if (later && trained <= 10 ** c1) map.append(ui.svg("path", { d: "M 0 -7 L 7 0 L 0 7 L -7 0 Z", transform: `translate(${px(trained)} ${py(Math.log10(size))})`, fill: "var(--fm-3)", stroke: "var(--fm-ink)" }));
    // The curve: loss of every size at this budget.
    const from = Math.log10(n) - 1.5, sizes = Array.from({ length: 61 }, (_, i) => from + i / 20);
    const at = sizes.map((s) => lossOf(now, 10 ** s, compute / 6 / 10 ** s)), roof = Math.max(...at) + 0.02, floor = Math.min(...at) - 0.05 * (roof - loss) - 0.01;
    const cx = ui.log([10 ** from, 10 ** (from + 3)], [left, right]), cy = ui.scale([floor, roof], [bottom, top]);
    const levels = [0.1, 0.37, 0.63, 0.9].map((f) => floor + f * (roof - floor));
    axes(curve, cx, cy, tens(from, from + 3, 4), levels, word("size"), word("loss"), (y) => ui.fixed(y, 2));
    line(curve, sizes.map((s, i) => [cx(10 ** s), cy(at[i])]));
    curve.append(ui.svg("rect", { x: cx(n) - 5, y: cy(loss) - 5, width: 10, height: 10, fill: "var(--fm-1)", stroke: "var(--fm-ink)" }));

    const key = (shape) => ui.svg("svg", { viewBox: "-8 -8 16 16", width: 16, height: 16, "aria-hidden": "true" }, shape);
    best.replaceChildren(key(ui.svg("rect", { x: -5, y: -5, width: 10, height: 10, fill: "var(--fm-1)", stroke: "var(--fm-ink)" })), ` ${word("best")}: `,
      ui.number("parameters", n, ui.short(n)), ` ${word("parameters")}, `, ui.number("tokens", d, ui.short(d)), ` ${word("tokens")} (`,
      ui.number("ratio", d / n, few(d / n)), ` ${word("ratio")}); ${word("predicted")} `, ui.number("loss", loss, ui.fixed(loss, 3)), `, ${word("floor")} `,
      ui.number("floor", now.E, ui.fixed(now.E, 3)), ".");
    life.hidden = !later;
    life.replaceChildren(key(ui.svg("path", { d: "M 0 -7 L 7 0 L 0 7 L -7 0 Z", fill: "var(--fm-3)", stroke: "var(--fm-ink)" })), ` ${word("life")}: `,
      ui.number("life_parameters", size, ui.short(size)), ` ${word("parameters")}, `, ui.number("life_tokens", tokens, ui.short(tokens)), ` ${word("tokens")} (`,
      ui.number("life_ratio", tokens / size, few(tokens / size)), ` ${word("ratio")}); `, ui.number("saved", saved, ui.percent(saved, 1)), ` ${word("saved")}.`);
    above.replaceChildren(word("map"));
    below.replaceChildren(word("curve"));
    table.replaceChildren(ui.table(word("table"), [word("model"), word("parameters"), word("tokens"), word("ratio"), word("predicted")], now.models.map((m) => {
      const there = lossOf(now, m.parameters, m.tokens);
      return [m.name, ui.short(m.parameters), ui.short(m.tokens), few(m.tokens / m.parameters), ui.number(`loss[${m.name}]`, there, ui.fixed(there, 3))];
    })));
    const said = `${power(compute)} ${word("operations")}. ${word("best")}: ${ui.short(n)} ${word("parameters")}, ${ui.short(d)} ${word("tokens")}; ${word("predicted")} ${ui.fixed(loss, 3)}`
      + (later ? `. ${word("life")}: ${ui.short(size)} ${word("parameters")}, ${ui.short(tokens)} ${word("tokens")}` : "");
    map.setAttribute("aria-label", `${model.get("label")}. ${said}`);
    curve.setAttribute("aria-label", `${word("curve")} ${word("predicted")} ${ui.fixed(loss, 3)}`);
    figure.say(said);
  };
  // Another law has other budgets: start at its own.
  const onLaw = () => { fill(); ui.put(model, "budget", chosen().budget); };
  model.on("change:law", onLaw);
  fill();
  const stop = ui.watch(model, ["law", "budget", "served", "laws"], draw);
  return () => { stop(); unbind(); model.off("change:law", onLaw); };
}
export default { render };
