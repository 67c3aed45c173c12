/* global ui */
// The same formulas as fmcourse.widgets.serving_calculator: matrix_weights, cache_bytes, step_seconds, price_per_million.
function weightsOf({ n_layers, d_model, n_heads, n_kv_heads, d_ff, gated, vocab_size }) {
  const attention = 2 * d_model ** 2 + 2 * d_model * (d_model / n_heads) * n_kv_heads;
  return n_layers * (attention + (gated ? 3 : 2) * d_model * d_ff) + d_model * vocab_size;
}
const cachePerText = (s, length, bytes) => 2 * s.n_layers * (s.d_model / s.n_heads) * s.n_kv_heads * length * bytes;
// The cache keeps 16 bits a number, and 32 where the weights do.
const cacheBytes = (bits) => (bits === 32 ? 4 : 2);
function step(s, machine, { batch, length, bits }) {
  const weights = weightsOf(s);
  const arithmetic = (batch * (2 * weights + 4 * s.n_layers * length * s.d_model)) / machine.operations;
  const reading = (weights * bits) / 8 / machine.bandwidth;
  const cache = (batch * cachePerText(s, length, cacheBytes(bits))) / machine.bandwidth;
  return { arithmetic, weights: reading, cache, step: Math.max(arithmetic, reading + cache) };
}

const SMALL = "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079";
const raised = (tens) => `10${tens < 0 ? "\u207b" : ""}${[...String(Math.abs(tens))].map((c) => SMALL[Number(c)]).join("")}`;
const whole = (x) => Math.round(x).toLocaleString("en-US");
const three = (x) => (x >= 100 ? whole(x) : x >= 0.01 ? Number(x.toPrecision(3)).toString() : x.toPrecision(2));
function seconds(x) {
  const [size, unit] = [[1, "s"], [1e-3, "ms"], [1e-6, "\u00b5s"]].find(([size]) => x >= size) || [1e-9, "ns"];
  return `${three(x / size)}\u202f${unit}`;
}
function bytes(x) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"], i = Math.min(5, Math.floor(Math.log10(Math.max(x, 1)) / 3));
  return `${(x / 1000 ** i).toPrecision(3)}\u202f${units[i]}`;
}
const PRICES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100];

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model);
  const models = model.get("models"), machines = model.get("machines"), batches = model.get("batches"), lengths = model.get("lengths");
  const named = (list) => list.map(({ name }) => [name, name]);
  figure.controls(
    ui.select(model, "model", { label: word("model"), options: named(models) }),
    ui.select(model, "machine", { label: word("machine"), options: named(machines) }),
    ui.select(model, "bits", { label: word("bits"), options: [32, 16, 8, 4].map((bits) => [bits, String(bits)]) }),
    ui.slider(model, "batch", { label: word("batch"), values: batches, format: whole }),
    ui.slider(model, "length", { label: word("length"), values: lengths, format: whole }),
    ui.slider(model, "price", { label: word("price"), values: PRICES }),
  );
  const W = 460, H = 300, left = 58, right = 448, top = 30, bottom = 250;
  const bound = ui.html("p"), parts = ui.html("ul"), facts = ui.html("p"), room = ui.html("p");
  const drawing = ui.drawing(W, H, ""), table = ui.html("div");
  const swatch = (colour, dash, width) => ui.svg("svg", { width: 30, height: 10, "aria-hidden": "true" },
    ui.svg("line", { x1: 1, x2: 29, y1: 5, y2: 5, stroke: colour, "stroke-width": width, "stroke-dasharray": dash }));
  const legend = ui.html("p", { class: "fm-legend" }, [["var(--fm-ink)", null, 2.5, "line"], ["var(--fm-1)", "6 4", 2, "reading_limit"],
    ["var(--fm-3)", "2 3", 2, "arithmetic_limit"]].map(([colour, dash, width, name]) => ui.html("span", {}, swatch(colour, dash, width), ` ${word(name)}`)));
  figure.add(bound, parts, facts, room, drawing, legend, table);
  const traits = ["model", "machine", "bits", "batch", "length", "price"];
  return ui.watch(model, traits, () => {
    const now = Object.fromEntries(traits.map((name) => [name, model.get(name)]));
    const sizes = models.find(({ name }) => name === now.model), machine = machines.find(({ name }) => name === now.machine);
    const time = step(sizes, machine, now), speed = now.batch / time.step, million = ((now.price / 3600) / speed) * 1e6;
    const names = ["weights", "cache", "arithmetic"];
    const longest = time.arithmetic >= time.weights + time.cache ? "arithmetic" : time.weights >= time.cache ? "weights" : "cache";
    bound.replaceChildren(`${word("bound")} `, ui.html("strong", { "data-bound": longest }, word(longest)));
    const colours = { weights: "var(--fm-1)", cache: "var(--fm-2)", arithmetic: "var(--fm-3)" };
    const most = Math.max(...names.map((name) => time[name]));
    parts.replaceChildren(...names.map((name) => ui.html("li", {}, `${word(name)}: `, ui.number(name, time[name], seconds(time[name])),
      ui.html("span", { class: "fm-bar", "aria-hidden": "true", style: `width:${Math.max(0.5, (100 * time[name]) / most).toFixed(1)}%;background:${colours[name]}` }))));
    facts.replaceChildren(`${word("step")} `, ui.number("step", time.step, seconds(time.step)), `, ${word("each")} ${word("throughput")} `,
      ui.number("speed", speed, three(speed)), ` ${word("per_second")}. ${word("million")} `, ui.number("million", million, three(million)), ` (${word("of_price")}).`);
    const weightMemory = (weightsOf(sizes) * now.bits) / 8, cacheMemory = now.batch * cachePerText(sizes, now.length, cacheBytes(now.bits));
    const over = weightMemory + cacheMemory > machine.memory;
    room.replaceChildren(`${word("memory")} `, ui.number("weight_memory", weightMemory, bytes(weightMemory)), ` ${word("weights_memory")} `,
      ui.number("cache_memory", cacheMemory, bytes(cacheMemory)), ` ${word("cache_memory")}`,
      over ? ui.mark(ui.html("strong", {}, `: ${word("too_much")} (${bytes(machine.memory)}).`), "too_much", 1) : ".");
    const curve = batches.map((batch) => {
      const t = step(sizes, machine, { ...now, batch });
      return { batch, speed: batch / t.step, reading: batch / (t.weights + t.cache), arithmetic: batch / t.arithmetic };
    });
    const all = curve.map((p) => Math.log10(p.speed)), low = Math.floor(Math.min(...all)), high = Math.ceil(Math.max(...all)) + 1;
    const px = ui.log([batches[0], batches.at(-1)], [left, right]), py = ui.scale([low, high], [bottom, top]);
    drawing.replaceChildren(ui.svg("text", { x: 4, y: 14, "font-size": 13 }, word("axis")));
    for (let tens = low; tens <= high; tens += 1) {
      drawing.append(
        ui.svg("line", { x1: left, x2: right, y1: py(tens), y2: py(tens), stroke: "var(--fm-line)" }),
        ui.svg("text", { x: left - 6, y: py(tens) + 5, "text-anchor": "end", "font-size": 13 }, raised(tens)),
      );
    }
    for (const batch of batches.filter((_, i) => i % 3 === 0)) {
      drawing.append(ui.svg("text", { x: px(batch), y: bottom + 18, "text-anchor": batch === batches.at(-1) ? "end" : "middle", "font-size": 13 }, whole(batch)));
    }
    drawing.append(
      ui.svg("text", { x: (left + right) / 2, y: bottom + 38, "text-anchor": "middle", "font-size": 13 }, word("batches")),
      ui.svg("line", { x1: px(now.batch), x2: px(now.batch), y1: top, y2: bottom, stroke: "var(--fm-edge)", "stroke-width": 2 }),
    );
    const inside = (y) => Math.min(high, Math.max(low, y));
    const line = (name, colour, dash, width) => drawing.append(ui.svg("polyline", {
      points: curve.map((p) => `${px(p.batch).toFixed(1)},${py(inside(Math.log10(p[name]))).toFixed(1)}`).join(" "),
      fill: "none", stroke: colour, "stroke-width": width, "stroke-dasharray": dash,
    }));
    line("reading", "var(--fm-1)", "6 4", 2);
    line("arithmetic", "var(--fm-3)", "2 3", 2);
    line("speed", "var(--fm-ink)", null, 2.5);
    drawing.append(ui.svg("circle", { cx: px(now.batch), cy: py(Math.log10(speed)), r: 5.5, fill: "var(--fm-ink)" }));
    table.replaceChildren(ui.table(word("table"), [word("batches"), word("per_second")], curve.map((p) => [
      whole(p.batch), ui.number(`speed[${p.batch}]`, p.speed, three(p.speed))])));
    const said = `${word("bound")} ${word(longest)}. ${three(speed)} ${word("per_second")}. ${word("million")} ${three(million)}.`;
    drawing.setAttribute("aria-label", `${model.get("label")}. ${said}`);
    figure.say(said);
  });
}
export default { render };
