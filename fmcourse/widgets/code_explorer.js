/* global ui */
function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model);
  const pieces = model.get("pieces"), modules = new Map(model.get("modules").map((one) => [one.name, one]));
  const now = () => pieces[model.get("piece")];
  const choose = (note) => ui.put(model, "note", Math.max(0, Math.min(now().notes.length - 1, note)));
  const before = ui.button(word("previous"), () => choose(model.get("note") - 1));
  const after = ui.button(word("next"), () => choose(model.get("note") + 1));
  figure.controls(
    ui.select(model, "piece", { label: word("piece"), options: pieces.map((one, i) => [i, `${one.module} · ${one.name}`]) }),
    before, after,
  );
  const job = ui.html("p", { class: "fm-job" }), facts = ui.html("dl", { class: "fm-facts" });
  const code = ui.html("div", { class: "fm-code", role: "group" }), said = ui.html("div", { class: "fm-note" });
  figure.add(job, facts, said, code);

  function line(parts, i, piece) {
    const text = parts.map(([, part]) => part).join(""), indent = text.length - text.trimStart().length;
    const words = parts.map(([kind, part]) => (kind ? ui.html("span", { class: `fm-${kind}` }, part) : part));
    const place = piece.notes.findIndex(([at]) => at === i), noted = place >= 0;
    const inside = [ui.html("span", { class: "fm-at", "aria-hidden": noted ? null : "true" }, String(piece.first + i)),
      ui.html("code", { style: `padding-left:${indent + 2}ch;text-indent:-${indent + 2}ch` }, words.length ? words : "\u200b")];
    return noted
      ? ui.html("button", { type: "button", class: "fm-line fm-noted", "data-note": place, onclick: () => choose(place) }, inside,
        ui.html("span", { class: "fm-hidden" }, ` (${word("noted")})`))
      : ui.html("div", { class: "fm-line" }, inside);
  }

  function mark() {
    const piece = now(), chosen = model.get("note"), [at, note] = piece.notes[chosen] || [0, ""];
    for (const button of code.querySelectorAll("button")) button.setAttribute("aria-pressed", String(Number(button.dataset.note) === chosen));
    before.disabled = chosen <= 0;
    after.disabled = chosen >= piece.notes.length - 1;
    const where = `${word("note")} ${chosen + 1} ${word("of")} ${piece.notes.length}, ${word("line")} `;
    said.replaceChildren(ui.html("strong", {}, where, ui.number("line", piece.first + at, String(piece.first + at)), ". "), note);
    figure.say(`${word("line")} ${piece.first + at}: ${note}`);
  }

  function show() {
    const piece = now(), module = modules.get(piece.module);
    job.replaceChildren(ui.html("code", {}, `${module.name}.py`), ` — ${module.job}`);
    facts.replaceChildren(...module.facts.map(([name, value]) => ui.html("div", {}, ui.html("dt", {}, name), ui.html("dd", {}, value))));
    code.setAttribute("aria-label", `${word("code")}: ${piece.name}`);
    code.replaceChildren(...piece.lines.map((parts, i) => line(parts, i, piece)));
    mark();
  }
  let last = -1;
  return ui.watch(model, ["piece", "note"], () => {
    const changed = model.get("piece") !== last;
    last = model.get("piece");
    if (changed && code.childElementCount && model.get("note") !== 0) { ui.put(model, "note", 0); }
    if (changed) show(); else mark();
  });
}
export default { render };
