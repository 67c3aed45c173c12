/* global ui */
// The running triple after each tile: Proposition 3 of the chapter, one merge a tile.
function merges(scores, values, tile) {
  const steps = [];
  let m = -Infinity, l = 0, o = 0, rescaled = 0;
  for (let i = 0; i < scores.length; i += tile) {
    const part = scores.slice(i, i + tile), top = Math.max(...part), old = m;
    m = Math.max(old, top);
    const factor = Math.exp(old - m), raised = part.map((s) => Math.exp(s - m));
    l = factor * l + raised.reduce((a, b) => a + b, 0);
    o = factor * o + raised.reduce((a, r, j) => a + r * values[i + j], 0);
    rescaled += i > 0 && factor < 1 ? 1 : 0;
    steps.push({ from: i, to: Math.min(i + tile, scores.length), top, factor, m, l, o, rescaled });
  }
  return steps;
}

// A few digits at any size: 1.135, 36.9, 0.0000454 as 4.5e-5, ten thousand as it is.
function brief(x) {
  if (x === 0 || Number.isInteger(x)) return ui.fixed(x, 0);
  const size = Math.abs(x);
  return (size < 1e-3 || size >= 1e6 ? x.toExponential(1) : x.toPrecision(4)).replaceAll("-", "\u2212");
}

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model);
  const presets = model.get("presets"), n = model.get("values").length;
  const total = () => Math.ceil(n / model.get("tile"));
  const go = (step) => ui.put(model, "step", Math.max(0, Math.min(step, total())));
  figure.controls(
    ui.select(model, "preset", { label: word("preset"), options: presets.map((p) => p.name) }),
    ui.slider(model, "tile", { label: word("tile"), min: 1, max: n, step: 1 }),
  );
  const row = ui.html("ul", { class: "fm-online", "aria-label": word("row") });
  const next = ui.button(word("next"), () => go(model.get("step") + 1));
  const back = ui.button(word("back"), () => go(model.get("step") - 1));
  const restart = ui.button(word("restart"), () => go(0));
  const facts = ui.html("p"), verdict = ui.html("p");
  const table = ui.html("div", { class: "fm-scroll fm-table", tabindex: 0, role: "region", "aria-label": word("steps") });
  figure.add(row);
  figure.controls(next, back, restart);
  figure.add(table, facts, verdict);
  // Other scores or another tile: begin again.
  const begin = () => { if (model.get("step") !== 0) ui.put(model, "step", 0); };
  model.on("change:preset", begin);
  model.on("change:tile", begin);

  const stop = ui.watch(model, ["preset", "tile", "step"], () => {
    const scores = presets[model.get("preset")].scores, values = model.get("values"), step = Math.min(model.get("step"), total());
    const steps = merges(scores, values, model.get("tile")), now = steps[step - 1];
    next.toggleAttribute("disabled", step === steps.length);
    back.toggleAttribute("disabled", step === 0);
    restart.toggleAttribute("disabled", step === 0);
    row.replaceChildren(...scores.map((s, i) => {
      const state = now && i < now.from ? "seen" : now && i < now.to ? "current" : "waiting";
      return ui.html("li", { class: `fm-${state}` }, ui.html("span", {}, ui.fixed(s, Number.isInteger(s) ? 0 : 1)),
        ui.html("span", {}, brief(values[i])), ui.html("span", { class: "fm-hidden" }, word(state)));
    }));
    const head = [word("number"), word("top"), word("m"), word("factor"), word("l"), word("o"), word("result")];
    const rows = steps.slice(0, step).map((s, i) => ui.html("tr", i === step - 1 ? { class: "fm-now" } : {},
      ui.html("th", { scope: "row" }, String(i + 1)),
      [["top", s.top], ["m", s.m], ["factor", s.factor], ["l", s.l], ["o", s.o], ["result", s.o / s.l]].map(([name, x]) =>
        ui.html("td", {}, ui.mark(ui.html("span", {}, brief(x)), `${name}[${i}]`, x)))));
    if (!rows.length) rows.push(ui.html("tr", {}, ui.html("td", { colspan: head.length }, word("start"))));
    table.replaceChildren(ui.html("table", {}, ui.html("thead", {}, ui.html("tr", {}, head.map((h) => ui.html("th", { scope: "col" }, h)))),
      ui.html("tbody", {}, rows)));
    const naive = scores.slice(0, now ? now.to : 0).reduce((sum, s) => sum + Math.exp(s), 0);
    const rescaled = now ? now.rescaled : 0;
    facts.replaceChildren(`${word("rescaled")}: `, ui.number("rescaled", rescaled, String(rescaled)), ` · ${word("naive")}: `,
      ui.number("naive", naive, Number.isFinite(naive) ? brief(naive) : word("infinite")));
    verdict.replaceChildren();
    if (step === steps.length) {
      const weights = ui.softmax(scores), exact = weights.reduce((sum, w, i) => sum + w * values[i], 0), gap = Math.abs(exact - now.o / now.l);
      verdict.append(`${word("exact")}: `, ui.number("exact", exact, brief(exact)), `, ${word("difference")} `,
        ui.number("difference", gap, gap < 1e-9 ? "< 10⁻⁹" : brief(gap)));
    }
    figure.say(now ? `${word("number")} ${step}: ${word("m")} ${brief(now.m)}, ${word("l")} ${brief(now.l)}, ${word("result")} ${brief(now.o / now.l)}` : word("start"));
  });
  return () => { stop(); model.off("change:preset", begin); model.off("change:tile", begin); };
}
export default { render };
