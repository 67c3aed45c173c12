/* global ui */
// The same arithmetic as fmcourse.generation.next_token_probabilities, on the stored logits.
function distribution(logits, temperature, topK, topP) {
  const order = logits.map((_, i) => i).sort((a, b) => logits[b] - logits[a] || a - b);
  if (temperature === 0) return { order, probabilities: order.map((_, rank) => (rank === 0 ? 1 : 0)) };
  const scaled = order.map((id, rank) => (topK && rank >= topK ? -Infinity : logits[id] / temperature));
  const weights = scaled.map((x) => Math.exp(x - scaled[0]));
  const total = weights.reduce((sum, w) => sum + w, 0);
  let before = 0;
  const kept = weights.map((w) => {
    const p = w / total, keep = topP >= 1 || before < topP; // the sum may reach 1 early, by rounding
    before += p;
    return keep ? p : 0;
  });
  const rest = kept.reduce((sum, p) => sum + p, 0);
  return { order, probabilities: kept.map((p) => p / rest) };
}

const SHOWN = 12;

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model);
  const n = model.get("tokens").length;
  const ks = [...new Set([1, 2, 3, 5, 8, 13, 21, 34].filter((k) => k < n)), 0];
  const temperatures = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.5, 1.75, 2, 2.5, 3, 4, 5];
  figure.controls(
    ui.select(model, "prompt", { label: word("prompt"), options: model.get("prompts") }),
    ui.slider(model, "temperature", { label: word("temperature"), values: temperatures, format: (x) => ui.fixed(x, 2) }),
    ui.slider(model, "top_k", { label: word("top_k"), values: ks, format: (k) => (k ? String(k) : word("all")) }),
    ui.slider(model, "top_p", { label: word("top_p"), min: 0.05, max: 1, step: 0.05, format: (p) => ui.fixed(p, 2) }),
  );
  const drawing = ui.drawing(400, 22 * SHOWN + 8, "");
  const facts = ui.html("p"), drawn = ui.html("p", { "aria-live": "polite" }), table = ui.html("div");
  let now = null;
  const draw = ui.button(word("draw"), () => {
    const out = [];
    for (let i = 0; i < 30; i++) {
      let u = Math.random();
      const rank = now.probabilities.findIndex((p) => (u -= p) < 0);
      out.push(model.get("tokens")[now.order[rank < 0 ? 0 : rank]]);
    }
    drawn.textContent = `${word("drawn")}: ${out.join(" ")}`;
  });
  figure.add(drawing, facts, draw, drawn, table);
  return ui.watch(model, ["prompt", "temperature", "top_k", "top_p", "logits"], () => {
    const tokens = model.get("tokens"), logits = model.get("logits")[model.get("prompt")];
    now = distribution(logits, model.get("temperature"), model.get("top_k"), model.get("top_p"));
    const own = distribution(logits, 1, 0, 1).probabilities;
    const widest = Math.max(own[0], now.probabilities[0]);
    drawing.replaceChildren();
    const rows = [];
    for (let rank = 0; rank < Math.min(SHOWN, n); rank++) {
      const y = 22 * rank + 4, p = now.probabilities[rank], name = tokens[now.order[rank]];
      const bar = ui.svg("rect", { x: 44, y, width: (270 * p) / widest, height: 16, fill: "var(--fm-1)" });
      ui.mark(bar, `probability[${rank}]`, p);
      drawing.append(
        ui.svg("text", { x: 34, y: y + 13, "text-anchor": "end", "font-size": 14, fill: "var(--fm-ink)" }, name),
        bar,
        ui.svg("rect", { x: 44, y, width: (270 * own[rank]) / widest, height: 16, fill: "none", stroke: "var(--fm-ink)" }),
        ui.svg("text", { x: 50 + (270 * Math.max(p, own[rank])) / widest, y: y + 13, "font-size": 13, fill: "var(--fm-ink)" }, ui.fixed(p, 3)),
      );
      rows.push([name, ui.fixed(own[rank], 4), ui.fixed(p, 4)]);
    }
    const kept = now.probabilities.filter((p) => p > 0);
    const entropy = -kept.reduce((sum, p) => sum + p * Math.log2(p), 0);
    const dropped = own.reduce((sum, p, rank) => sum + (now.probabilities[rank] > 0 ? 0 : p), 0);
    facts.replaceChildren(
      `${word("kept")}: `, ui.number("kept", kept.length, String(kept.length)),
      ` · ${word("entropy")}: `, ui.number("entropy", entropy, ui.fixed(entropy, 2)),
      ` · ${word("dropped")}: `, ui.number("dropped", dropped, ui.fixed(dropped, 3)),
    );
    drawn.textContent = "";
    table.replaceChildren(ui.table(word("table"), [word("token"), word("model"), word("probability")], rows));
    const best = tokens[now.order[0]];
    drawing.setAttribute("aria-label", `${word("token")} ${best}: ${ui.fixed(now.probabilities[0], 2)}`);
    figure.say(`${word("kept")}: ${kept.length}; ${word("entropy")}: ${ui.fixed(entropy, 2)}; ${best}: ${ui.fixed(now.probabilities[0], 2)}`);
  });
}
export default { render };
