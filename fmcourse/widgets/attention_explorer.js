/* global ui */
// Attention weights from stored scores: weights = softmax(scores / temperature), masked scores being minus infinity.
const TEMPERATURES = Array.from({ length: 51 }, (_, k) => Number((0.1 * 10 ** (k / 20)).toPrecision(2))); // 0.1 to 32

function weightsOf(scores, query, { mask, temperature, isSpecial }) {
  const hidden = (key) => (mask === "causal" && key > query) || (mask === "special" && isSpecial[key]);
  return ui.softmax(scores[query].map((s, key) => (hidden(key) ? -Infinity : s)), temperature);
}

const entropyOf = (weights) => -weights.reduce((sum, w) => sum + (w > 0 ? w * Math.log(w) : 0), 0);

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model);
  figure.body.classList.add("fm-attn-figure");
  const texts = model.get("texts");
  const readable = (tokens) => tokens.filter((token) => !model.get("special").includes(token)).join(" ").replace(/ ([.,!?])/g, "$1");
  figure.controls(
    ui.select(model, "sentence", { label: word("sentence"), options: texts.map(readable) }),
    ui.select(model, "head", { label: word("head"), options: model.get("heads") }),
    ui.select(model, "mask", { label: word("mask"), options: ["none", "causal", "special"].map((m) => [m, word(m)]) }),
    ui.slider(model, "temperature", { label: word("temperature"), values: TEMPERATURES, format: (t) => String(t) }),
  );
  const grid = ui.html("table", { class: "fm-attn", "aria-label": word("grid") });
  const looks = ui.html("p", { class: "fm-looks" });
  const bars = ui.html("ul", { class: "fm-bars" });
  const facts = ui.html("p", { class: "fm-facts" });
  figure.add(grid, looks, bars, facts);
  let shown = -1, buttons = [], cells = [];

  // The table is built once per sentence and then updated in place: a focused row button keeps its focus.
  function build(tokens) {
    buttons = tokens.map((token, i) => ui.html("button", {
      type: "button", class: "fm-row", "aria-label": `${word("show")} ${token} (${i})`, onclick: () => ui.put(model, "query", i),
    }, token));
    cells = tokens.map(() => tokens.map(() => ui.html("td", {})));
    const head = ui.html("tr", {}, ui.html("th", { class: "fm-corner", scope: "col" }, word("corner")),
      tokens.map((token) => ui.html("th", { scope: "col" }, ui.html("span", {}, token))));
    const rows = tokens.map((_, i) => ui.html("tr", {}, ui.html("th", { scope: "row" }, buttons[i]), cells[i]));
    grid.replaceChildren(ui.html("thead", {}, head), ui.html("tbody", {}, rows));
  }

  function fillCell(cell, name, weight, masked) {
    ui.mark(cell, name, weight);
    cell.className = masked ? "fm-masked" : "";
    cell.style.setProperty("--fm-w", weight.toFixed(4));
    cell.textContent = !masked && weight >= 0.005 ? (100 * weight).toFixed(0) : "";
    cell.title = masked ? word("hidden") : ui.percent(weight, 1);
  }

  return ui.watch(model, ["texts", "scores", "sentence", "head", "mask", "query", "temperature"], () => {
    const sentence = model.get("sentence"), tokens = model.get("texts")[sentence];
    const mask = model.get("mask"), temperature = model.get("temperature");
    const query = Math.min(model.get("query"), tokens.length - 1);
    const isSpecial = tokens.map((token) => model.get("special").includes(token));
    const scores = model.get("scores")[model.get("head")][sentence];
    const weights = tokens.map((_, i) => weightsOf(scores, i, { mask, temperature, isSpecial }));
    const masked = (i, j) => (mask === "causal" && j > i) || (mask === "special" && isSpecial[j]);
    if (shown !== sentence) build(tokens);
    shown = sentence;
    weights.forEach((row, i) => {
      buttons[i].setAttribute("aria-pressed", String(i === query));
      buttons[i].closest("tr").className = i === query ? "fm-chosen" : "";
      row.forEach((weight, j) => fillCell(cells[i][j], `weight[${i},${j}]`, weight, masked(i, j)));
    });

    const row = weights[query], allowed = row.filter((_, j) => !masked(query, j)).length;
    const entropy = entropyOf(row), best = row.indexOf(Math.max(...row));
    looks.replaceChildren(`${word("looks")} `, ui.html("strong", {}, tokens[query]));
    bars.replaceChildren(...row.map((weight, j) => ui.html("li", {},
      ui.html("span", {}, masked(query, j) ? "–" : ui.percent(weight)),
      ui.html("i", { style: `height: ${(64 * weight).toFixed(1)}px` }), ui.html("span", {}, tokens[j]))));
    facts.replaceChildren(
      `${word("top")} `, ui.number("top_weight", row[best], ui.percent(row[best], 1)), ` → ${tokens[best]} · ${word("entropy")} `,
      ui.number("entropy", entropy, ui.fixed(entropy)), ` ${word("at_most")} `,
      ui.number("max_entropy", Math.log(allowed), ui.fixed(Math.log(allowed))), ` ${word("nats")} · ${word("spread")} `,
      ui.number("spread", Math.exp(entropy), ui.fixed(Math.exp(entropy), 1)), ` ${word("tokens")}`);
    figure.say(`${word("looks")} ${tokens[query]} → ${tokens[best]}, ${ui.percent(row[best])}; ${word("entropy")} ${ui.fixed(entropy)}`);
  });
}
export default { render };
