/* global ui */
// The same network, number by number, as fmcourse.widgets.signal_lab.propagate.
const cache = new Map();
function noise(seed, count) {
  const key = `${seed},${count}`;
  if (cache.has(key)) return cache.get(key);
  const out = new Float64Array(count), root = Math.sqrt(3);
  let a = seed | 0;
  for (let i = 0; i < count; i++) {
    a = (a + 0x6d2b79f5) | 0; // mulberry32
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    out[i] = (((t ^ (t >>> 14)) >>> 0) / 4294967296 * 2 - 1) * root;
  }
  cache.clear();
  cache.set(key, out);
  return out;
}

function activate(name, x) {
  if (name === "linear") return [x, 1];
  if (name === "relu") return x > 0 ? [x, 1] : [0, 0];
  if (name === "tanh") { const t = Math.tanh(x); return [t, 1 - t * t]; }
  const c = Math.sqrt(2 / Math.PI), t = Math.tanh(c * (x + 0.044715 * x ** 3));
  return [0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)];
}

function rms(rows) {
  let sum = 0, count = 0;
  for (const row of rows) for (const v of row) { sum += v * v; count += 1; }
  return Math.sqrt(sum / count);
}

function normalise(row) {
  let sum = 0;
  for (const v of row) sum += v * v;
  const size = Math.sqrt(sum / row.length + 1e-5);
  return [row.map((v) => v / size), size];
}

function throughNorm(g, normal, size) {
  let mean = 0;
  for (let i = 0; i < g.length; i++) mean += g[i] * normal[i];
  mean /= g.length;
  return g.map((v, i) => (v - normal[i] * mean) / size);
}

function propagate({ depth, scale, activation, residual, norm, seed, width, inputs, most }) {
  const numbers = noise(seed, 2 * inputs * width + most * width * width), each = scale / Math.sqrt(width);
  const rows = (from) => Array.from({ length: inputs }, (_, i) => numbers.slice(from + i * width, from + (i + 1) * width));
  const weight = (layer) => numbers.subarray(2 * inputs * width + layer * width * width);
  let x = rows(0), gradient = rows(inputs * width);
  const sizes = [rms(x)], gradients = [rms(gradient)], memory = [];
  for (let layer = 0; layer < depth; layer++) {
    const w = weight(layer);
    const seen = x.map((row) => {
      const [read, readSize] = norm === "before" ? normalise(row) : [row, 1];
      const value = new Float64Array(width), slope = new Float64Array(width), total = new Float64Array(width);
      for (let i = 0; i < width; i++) [value[i], slope[i]] = activate(activation, read[i]);
      for (let i = 0; i < width; i++) {
        let sum = 0;
        for (let j = 0; j < width; j++) sum += value[j] * w[i * width + j];
        total[i] = sum * each + (residual ? row[i] : 0);
      }
      const [out, outSize] = norm === "after" ? normalise(total) : [total, 1];
      return { read, readSize, slope, out, outSize };
    });
    x = seen.map(({ out }) => out);
    memory.push(seen);
    sizes.push(rms(x));
  }
  for (let layer = depth - 1; layer >= 0; layer--) {
    const w = weight(layer);
    gradient = gradient.map((given, n) => {
      const { read, readSize, slope, out, outSize } = memory[layer][n];
      const g = norm === "after" ? throughNorm(given, out, outSize) : given;
      let inner = new Float64Array(width);
      for (let i = 0; i < width; i++) for (let j = 0; j < width; j++) inner[j] += g[i] * w[i * width + j];
      inner = inner.map((v, j) => v * each * slope[j]);
      if (norm === "before") inner = throughNorm(inner, read, readSize);
      return residual ? inner.map((v, j) => v + g[j]) : inner;
    });
    gradients.push(rms(gradient));
  }
  return { sizes, gradients: gradients.reverse() };
}

const SCALES = Array.from({ length: 106 }, (_, i) => Math.round(40 + 2 * i) / 100); // 0.40 to 2.50
const MOST = 64;

function power(x) {
  if (x === 0) return "0";
  const tens = Math.floor(Math.log10(x));
  if (tens >= -2 && tens <= 3) return ui.fixed(x, tens < 1 ? 2 : 0);
  return `${(x / 10 ** tens).toFixed(1)}\u00d710${[...String(tens)].map((c) => "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"["-0123456789".indexOf(c)]).join("")}`;
}

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model);
  const choice = (names) => names.map((name) => [name, word(name)]);
  figure.controls(
    ui.select(model, "activation", { label: word("activation"), options: choice(["linear", "tanh", "relu", "gelu"]) }),
    ui.select(model, "norm", { label: word("norm"), options: choice(["none", "before", "after"]) }),
    ui.checkbox(model, "residual", { label: word("residual") }),
    ui.slider(model, "scale", { label: word("scale"), values: SCALES, format: (x) => ui.fixed(x, 2) }),
    ui.slider(model, "depth", { label: word("depth"), min: 4, max: MOST, step: 4 }),
  );
  const W = 460, H = 300, left = 58, right = 450, top = 34, bottom = 250;
  const drawing = ui.drawing(W, H, ""), facts = ui.html("p"), table = ui.html("div");
  figure.add(drawing, facts, table);
  const traits = ["activation", "norm", "residual", "depth", "scale", "seed"];
  return ui.watch(model, traits, () => {
    const now = Object.fromEntries([...traits, "width", "inputs"].map((name) => [name, model.get(name)]));
    const { sizes, gradients } = propagate({ ...now, most: MOST });
    const all = [...sizes, ...gradients].filter((v) => v > 0 && Number.isFinite(v)).map(Math.log10);
    const low = Math.min(-2, Math.floor(Math.min(...all))), high = Math.max(2, Math.ceil(Math.max(...all)));
    const px = ui.scale([0, now.depth], [left, right]), py = ui.scale([low, high], [bottom, top]);
    drawing.replaceChildren();
    const every = Math.max(1, Math.ceil((high - low) / 6));
    for (let tens = Math.ceil(low / every) * every; tens <= high; tens += every) {
      drawing.append(
        ui.svg("line", { x1: left, x2: right, y1: py(tens), y2: py(tens), stroke: "var(--fm-line)", "stroke-width": tens === 0 ? 2 : 1 }),
        ui.svg("text", { x: left - 6, y: py(tens) + 5, "text-anchor": "end", "font-size": 13 }, power(10 ** tens).replace(/^1\.0\u00d7|\.00$/g, "")),
      );
    }
    for (let i = 0; i <= 4; i++) {
      const layer = (now.depth * i) / 4;
      drawing.append(ui.svg("text", { x: px(layer), y: bottom + 18, "text-anchor": "middle", "font-size": 13 }, String(layer)));
    }
    drawing.append(
      ui.svg("text", { x: (left + right) / 2, y: bottom + 38, "text-anchor": "middle", "font-size": 13 }, word("layer")),
      ui.svg("text", { x: 4, y: 14, "font-size": 13 }, word("size")),
    );
    const line = (values, colour, dash) => {
      const points = values.map((v, i) => [px(i), py(Math.log10(Math.max(v, 1e-300)))]);
      drawing.append(
        ui.svg("polyline", { points: points.map((p) => p.map((c) => c.toFixed(1)).join(",")).join(" "), fill: "none", stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash }),
        ...points.filter((_, i) => i % Math.ceil(now.depth / 8) === 0).map(([x, y]) => (dash
          ? ui.svg("rect", { x: x - 4, y: y - 4, width: 8, height: 8, fill: colour })
          : ui.svg("circle", { cx: x, cy: y, r: 4.5, fill: colour }))),
      );
    };
    line(sizes, "var(--fm-1)", null);
    line(gradients, "var(--fm-2)", "6 3");
    const end = sizes[now.depth] / sizes[0], back = gradients[0] / gradients[now.depth], per = end ** (1 / now.depth);
    const key = (colour, square) => ui.svg("svg", { width: 12, height: 12, "aria-hidden": "true" }, square
      ? ui.svg("rect", { x: 2, y: 2, width: 8, height: 8, fill: colour }) : ui.svg("circle", { cx: 6, cy: 6, r: 4.5, fill: colour }));
    facts.replaceChildren(
      key("var(--fm-1)", false), ` ${word("end")}: `, ui.number("end", end, power(end)), " · ",
      key("var(--fm-2)", true), ` ${word("back")}: `, ui.number("back", back, power(back)),
      ` · ${word("per_layer")} `, ui.number("per_layer", per, ui.fixed(per, 3)),
    );
    table.replaceChildren(ui.table(word("table"), [word("layer"), word("signal"), word("gradient")],
      sizes.map((v, i) => [String(i), ui.number(`signal[${i}]`, v, power(v)), ui.number(`gradient[${i}]`, gradients[i], power(gradients[i]))])));
    const said = `${word("end")}: ${power(end)}; ${word("back")}: ${power(back)}`;
    drawing.setAttribute("aria-label", `${model.get("label")}. ${said}`);
    figure.say(said);
  });
}
export default { render };
