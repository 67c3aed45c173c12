/* global ui */
// As fmcourse.widgets.adaptation_chooser.labels_needed.
function labelsNeeded(labels, accuracy, target) {
  if (accuracy[0] >= target) return labels[0];
  for (let i = 1; i < labels.length; i++) {
    const low = accuracy[i - 1], high = accuracy[i];
    if (high >= target) {
      const part = (target - low) / (high - low);
      return Math.exp((1 - part) * Math.log(labels[i - 1]) + part * Math.log(labels[i]));
    }
  }
  return null;
}

const TARGETS = Array.from({ length: 26 }, (_, i) => Math.round(55 + i) / 100); // 0.55 to 0.80
const TASKS = [1, 2, 3, 5, 10, 20, 50, 100];
const DASHES = [null, "7 4", "2 3", "9 3 2 3"];

function marker(i, x, y, r = 5) {
  const fill = `var(--fm-${i + 1})`;
  if (i === 0) return ui.svg("circle", { cx: x, cy: y, r, fill });
  if (i === 1) return ui.svg("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, fill });
  const points = i === 2 ? [[0, -r], [r, r], [-r, r]] : [[0, -r - 1], [r + 1, 0], [0, r + 1], [-r - 1, 0]];
  return ui.svg("polygon", { points: points.map(([dx, dy]) => `${x + dx},${y + dy}`).join(" "), fill });
}

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model);
  figure.controls(
    ui.slider(model, "target", { label: word("target"), values: TARGETS, format: (x) => ui.percent(x) }),
    ui.slider(model, "tasks", { label: word("tasks"), values: TASKS }),
  );
  const W = 460, H = 320, left = 52, right = 448, top = 30, bottom = 264;
  const drawing = ui.drawing(W, H, ""), answer = ui.html("div", { class: "fm-scroll", tabindex: 0, role: "region", "aria-label": word("needed") });
  const curves = ui.html("div");
  figure.add(drawing, answer, curves);
  const key = (i) => ui.svg("svg", { width: 14, height: 14, "aria-hidden": "true" }, marker(i, 7, 7));
  const whole = (x) => Math.round(x).toLocaleString("en");

  return ui.watch(model, ["points", "methods", "target", "tasks"], () => {
    const points = model.get("points"), methods = model.get("methods"), target = model.get("target"), tasks = model.get("tasks");
    const px = ui.log([points[0], points[points.length - 1]], [left + 12, right - 12]), py = ui.scale([0.45, 0.85], [bottom, top]);
    drawing.replaceChildren();
    for (const tick of [0.5, 0.6, 0.7, 0.8]) {
      drawing.append(
        ui.svg("line", { x1: left, x2: right, y1: py(tick), y2: py(tick), stroke: "var(--fm-line)" }),
        ui.svg("text", { x: left - 6, y: py(tick) + 5, "text-anchor": "end", "font-size": 13 }, ui.percent(tick)),
      );
    }
    for (const n of points) drawing.append(ui.svg("text", { x: px(n), y: bottom + 18, "text-anchor": "middle", "font-size": 13 }, whole(n)));
    drawing.append(
      ui.svg("text", { x: (left + right) / 2, y: bottom + 40, "text-anchor": "middle", "font-size": 13 }, word("axis")),
      ui.svg("text", { x: 4, y: 16, "font-size": 13 }, word("accuracy")),
      ui.svg("line", { x1: left, x2: right, y1: py(target), y2: py(target), stroke: "var(--fm-ink)", "stroke-width": 2 }),
    );
    const needed = methods.map((one) => labelsNeeded(points, one.mean, target));
    methods.forEach((one, i) => {
      const at = points.map((n, k) => [px(n), py(one.mean[k])]), colour = `var(--fm-${i + 1})`;
      points.forEach((n, k) => drawing.append(ui.svg("line", { x1: px(n), x2: px(n), y1: py(one.low[k]), y2: py(one.high[k]), stroke: colour, "stroke-width": 1.5 })));
      drawing.append(ui.svg("polyline", { points: at.map((p) => p.map((c) => c.toFixed(1)).join(",")).join(" "), fill: "none", stroke: colour, "stroke-width": 2.5, "stroke-dasharray": DASHES[i] }));
      at.forEach(([x, y]) => drawing.append(marker(i, x, y)));
      if (needed[i] !== null) drawing.append(ui.svg("circle", { cx: px(needed[i]), cy: py(target), r: 8, fill: "none", stroke: colour, "stroke-width": 2.5 }));
    });
    const megabytes = (one) => (4 * (one.shared + tasks * one.stored)) / 1e6;
    const shown = (x, one) => (x === null ? word("never") : `${x === points[0] && one.mean[0] >= target ? `${word("at_once")} ` : ""}${whole(x)}`);
    answer.replaceChildren(ui.html("table", { class: "fm-answer" },
      ui.html("thead", {}, ui.html("tr", {}, ["method", "needed", "trained", "stored"].map((name) => ui.html("th", { scope: "col" }, word(name))))),
      ui.html("tbody", {}, methods.map((one, i) => ui.html("tr", {},
        ui.html("th", { scope: "row" }, key(i), " ", one.name),
        ui.html("td", {}, needed[i] === null ? shown(null, one) : ui.number(`needed[${i}]`, needed[i], shown(needed[i], one))),
        ui.html("td", {}, ui.number(`trained[${i}]`, one.trained, ui.short(one.trained))),
        ui.html("td", {}, ui.number(`megabytes[${i}]`, megabytes(one), `${ui.fixed(megabytes(one), megabytes(one) < 10 ? 1 : 0)}\u202f${word("megabytes")}`)),
      )))));
    curves.replaceChildren(ui.table(word("curves"), [word("axis"), ...methods.map((one) => one.name)],
      points.map((n, k) => [whole(n), ...methods.map((one, i) => ui.number(`mean[${i},${k}]`, one.mean[k], `${ui.percent(one.mean[k], 1)} (${ui.percent(one.low[k], 1)}–${ui.percent(one.high[k], 1)})`))])));
    const said = methods.map((one, i) => `${one.name}: ${shown(needed[i], one)}`).join("; ");
    drawing.setAttribute("aria-label", `${model.get("label")}. ${ui.percent(target)}, ${word("needed")}: ${said}`);
    figure.say(`${word("needed")}: ${said}`);
  });
}
export default { render };
