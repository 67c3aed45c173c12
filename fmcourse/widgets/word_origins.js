/* global ui */
const share = (token) => token.copied / (token.written + token.copied);

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model), items = model.get("items");
  figure.root.classList.add("fm-origins");
  const writers = Object.keys(items[0].headlines);
  const again = () => model.set("token", 0);
  ["item", "writer"].forEach((name) => model.on(`change:${name}`, again));
  figure.controls(
    ui.select(model, "item", { label: word("text"), options: items.map((_, i) => [i, String(i + 1)]) }),
    ui.select(model, "writer", { label: word("writer"), options: writers.map((name) => [name, name]) }),
  );
  const headline = ui.html("div", { class: "fm-headline", role: "group", "aria-label": word("choose"), lang: "en" });
  const result = ui.html("p"), source = ui.html("p", { class: "fm-source", lang: "en" }), tables = ui.html("div");
  figure.add(ui.html("p", { class: "fm-hint" }, word("choose")), headline, result,
    ui.html("p", { class: "fm-hint" }, word("source")), source, tables);
  const shown = (token) => token.text || word("end");

  const stop = ui.watch(model, ["item", "writer", "token"], () => {
    const one = items[model.get("item")], tokens = one.headlines[model.get("writer")];
    const chosen = Math.min(model.get("token"), tokens.length - 1), token = tokens[chosen];
    const held = headline.contains(document.activeElement) ? [...headline.children].indexOf(document.activeElement) : -1;
    headline.replaceChildren(...tokens.map((t, i) => ui.html("button", {
      type: "button", class: `fm-token${t.new ? " fm-new" : ""}${i && !/^\s/.test(t.text) && t.text ? " fm-joined" : ""}`,
      style: `background:rgba(var(--fm-heat),${(0.4 * share(t)).toFixed(3)})`,
      "aria-pressed": String(i === chosen), onclick: () => ui.put(model, "token", i),
      "aria-label": `${shown(t).trim()}, ${word("share")} ${ui.percent(share(t))}, ${word("in_text")}: ${word(t.new ? "no" : "yes")}`,
    }, shown(t).trim())));
    if (held >= 0) headline.children[Math.min(held, tokens.length - 1)].focus();
    result.replaceChildren(
      ui.html("strong", {}, shown(token).trim()), `: ${word("probability")} `, ui.number("probability", token.written + token.copied, ui.fixed(token.written + token.copied, 3)),
      ` = ${word("written")} `, ui.number("written", token.written, ui.fixed(token.written, 3)),
      ` + ${word("copied")} `, ui.number("copied", token.copied, ui.fixed(token.copied, 3)),
      `; ${word("share")} `, ui.number("share", share(token), ui.percent(share(token))),
    );
    const weights = new Map(token.looks);
    source.replaceChildren(...one.source.map((text, i) => ui.html("span", {
      style: weights.has(i) ? `background:rgba(var(--fm-heat),${(0.1 + 0.45 * weights.get(i)).toFixed(3)})` : null,
    }, text)));
    tables.replaceChildren(
      ui.table(word("looks"), [word("place"), word("token"), word("weight")], token.looks.map(([place, weight]) => [
        String(place + 1), one.source[place].trim() || word("end"), ui.number(`weight[${place}]`, weight, ui.fixed(weight, 3))])),
      ui.table(word("every"), [word("token"), word("probability"), word("share"), word("in_text")], tokens.map((t, i) => [
        shown(t).trim(), ui.fixed(t.written + t.copied, 3), ui.number(`share[${i}]`, share(t), ui.percent(share(t))), word(t.new ? "no" : "yes")])),
    );
    figure.say(`${shown(token).trim()}: ${word("share")} ${ui.percent(share(token))}`);
  });
  return () => { ["item", "writer"].forEach((name) => model.off(`change:${name}`, again)); stop(); };
}
export default { render };
