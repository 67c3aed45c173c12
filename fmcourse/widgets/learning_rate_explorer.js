/* global ui */
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

function summary(losses) {
  if (losses.some((loss) => loss === null)) return null;
  return { mean: mean(losses), low: Math.min(...losses), high: Math.max(...losses) };
}

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model);
  const runs = model.get("runs"), window_ = model.get("window"), reference = model.get("reference");
  const names = Object.keys(runs), schedules = Object.keys(runs[names[0]]);
  const most = runs[names[0]][schedules[0]].rates.length - 1;
  const rateNow = (place) => runs[model.get("optimizer")][model.get("schedule")].rates[place];
  const rateText = (rate) => String(Number(rate.toPrecision(3)));
  const slider = ui.slider(model, "place", { label: word("rate"), min: 0, max: most, step: 1, format: (place) => rateText(rateNow(place)) });
  const pairs = (list) => list.map((name) => [name, name]);
  figure.controls(
    ui.select(model, "optimizer", { label: word("optimizer"), options: pairs(names) }),
    ui.select(model, "schedule", { label: word("schedule"), options: pairs(schedules) }),
    slider,
  );
  const W = 460, H = 230, left = 46, right = 448, top = 30, bottom = 186;
  const curves = ui.drawing(W, H, ""), valley = ui.drawing(W, H, ""), facts = ui.html("p"), table = ui.html("div");
  figure.add(curves, valley, facts, table);
  // Two ranges of losses: a curve starts high, the ends lie closer together. What is outside is drawn at the edge.
  const ranges = { curves: [1.9, 4.5], valley: [1.9, 3.6] };
  const placed = (range) => { const py = ui.scale(range, [bottom, top]); return (loss) => py(Math.min(Math.max(loss, range[0]), range[1])); };
  const text = (x, y, words, more = {}) => ui.svg("text", { x, y, "font-size": 13, ...more }, words);

  function frame(drawing, title, below, py, high) {
    drawing.replaceChildren(text(4, 14, title));
    for (const loss of [2, 2.5, 3, 3.5, 4, 4.5].filter((loss) => loss <= high)) {
      drawing.append(
        ui.svg("line", { x1: left, x2: right, y1: py(loss), y2: py(loss), stroke: "var(--fm-line)" }),
        text(left - 6, py(loss) + 5, ui.fixed(loss, 1), { "text-anchor": "end" }),
      );
    }
    drawing.append(
      ui.svg("line", { x1: left, x2: right, y1: py(reference), y2: py(reference), stroke: "var(--fm-6)", "stroke-dasharray": "2 4", "stroke-width": 2 }),
      text(right, py(reference) - 5, word("reference"), { "text-anchor": "end" }),
      text((left + right) / 2, bottom + 38, below, { "text-anchor": "middle" }),
    );
  }

  function drawCurves(now, place) {
    const inside = placed(ranges.curves);
    frame(curves, `${word("curves")}: ${word("train")}`, word("step"), inside, ranges.curves[1]);
    const longest = Math.max(...now.curve.flat().map((curve) => curve.length));
    const px = ui.scale([0, longest * window_], [left, right]);
    for (let i = 0; i <= 4; i++) curves.append(text(px((longest * window_ * i) / 4), bottom + 18, String(Math.round((longest * window_ * i) / 4)), { "text-anchor": "middle" }));
    now.curve[place].forEach((curve, seed) => {
      const points = curve.map((loss, i) => `${px((i + 0.5) * window_).toFixed(1)},${inside(loss).toFixed(1)}`).join(" ");
      curves.append(ui.svg("polyline", { points, fill: "none", stroke: "var(--fm-1)", "stroke-width": 2, "stroke-dasharray": ["", "6 3", "2 3"][seed % 3] }));
    });
  }

  function drawValley(now, place, ends) {
    const inside = placed(ranges.valley);
    frame(valley, `${word("valley")}: ${word("final")}`, word("rate"), inside, ranges.valley[1]);
    const px = ui.log([now.rates[0], now.rates[most]], [left + 16, right - 16]);
    now.rates.forEach((rate, i) => { if (i % 2 === most % 2) valley.append(text(px(rate), bottom + 18, rateText(rate), { "text-anchor": "middle" })); });
    const known = now.rates.map((rate, i) => [px(rate), ends[i]]).filter(([, end]) => end);
    valley.append(ui.svg("polyline", { points: known.map(([x, end]) => `${x.toFixed(1)},${inside(end.mean).toFixed(1)}`).join(" "), fill: "none", stroke: "var(--fm-2)", "stroke-width": 2 }));
    now.rates.forEach((rate, i) => {
      const x = px(rate), here = i === place, end = ends[i];
      if (here) valley.append(ui.svg("line", { x1: x, x2: x, y1: top, y2: bottom, stroke: "var(--fm-edge)", "stroke-dasharray": "4 3" }));
      if (!end) { valley.append(text(x, top + 12, "\u00d7", { "text-anchor": "middle" })); return; }
      valley.append(
        ui.svg("line", { x1: x, x2: x, y1: inside(end.low), y2: inside(end.high), stroke: "var(--fm-2)", "stroke-width": 3 }),
        ui.svg("circle", { cx: x, cy: inside(end.mean), r: here ? 7 : 4, fill: here ? "var(--fm-1)" : "var(--fm-2)" }),
      );
    });
  }

  return ui.watch(model, ["optimizer", "schedule", "place"], () => {
    const now = runs[model.get("optimizer")][model.get("schedule")], place = model.get("place");
    const ends = now.test.map(summary), end = ends[place];
    const best = Math.min(...ends.filter(Boolean).map((one) => one.mean));
    // The slider's words depend on the optimiser too.
    const shown = slider.querySelector("output");
    shown.textContent = rateText(now.rates[place]);
    slider.querySelector("input").setAttribute("aria-valuetext", shown.textContent);
    drawCurves(now, place);
    drawValley(now, place, ends);
    const words = [];
    if (!end) words.push(word("diverged"));
    else {
      words.push(`${word("mean")}: `, ui.number("mean", end.mean, ui.fixed(end.mean, 3)));
      if (now.test[place].length > 1) {
        words.push(` (${word("lowest")} `, ui.number("low", end.low, ui.fixed(end.low, 3)), `, ${word("highest")} `, ui.number("high", end.high, ui.fixed(end.high, 3)), ")");
      }
      words.push(` \u00b7 ${word("best")}: `, ui.number("best", best, ui.fixed(best, 3)), ` \u00b7 ${word("above")} `, ui.number("above", end.mean - best, ui.fixed(end.mean - best, 3)));
      if (end.mean > reference) words.push(` \u00b7 ${word("useless")}`);
    }
    facts.replaceChildren(...words);
    table.replaceChildren(ui.table(word("table"), [word("rate"), word("mean"), word("lowest"), word("highest"), word("seeds")],
      now.rates.map((rate, i) => [rateText(rate), ...(ends[i]
        ? [ui.number(`test[${i}]`, ends[i].mean, ui.fixed(ends[i].mean, 3)), ui.fixed(ends[i].low, 3), ui.fixed(ends[i].high, 3)]
        : [word("diverged"), "", ""]), String(now.test[i].length)])));
    const said = `${model.get("optimizer")}, ${model.get("schedule")}, ${word("rate")} ${rateText(now.rates[place])}: ${end ? `${word("mean")} ${ui.fixed(end.mean, 3)}` : word("diverged")}`;
    curves.setAttribute("aria-label", `${word("curves")}. ${said}`);
    valley.setAttribute("aria-label", `${word("valley")}. ${said}`);
    figure.say(said);
  });
}
export default { render };
