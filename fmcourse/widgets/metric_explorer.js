/* global ui */
// As sacreBLEU 2: tokenizers 13a and zh, BLEU with exponential smoothing and effective order, chrF2.
const SPLITS = [[/([{-~[-` -&(-+:-@/])/g, " $1 "], [/([^0-9])([.,])/g, "$1 $2 "], [/([.,])([^0-9])/g, " $1 $2"], [/([0-9])(-)/g, "$1 $2 "]];
const ENTITIES = [["&quot;", '"'], ["&amp;", "&"], ["&lt;", "<"], ["&gt;", ">"]];

function tokens(text, language, ranges) {
  let line = text.trim();
  if (language === "zh") {
    const chinese = (c) => c.length === 1 && ranges.some(([a, b]) => a <= c.charCodeAt(0) && c.charCodeAt(0) <= b);
    line = [...line].map((c) => (chinese(c) ? ` ${c} ` : c)).join("");
  } else {
    line = line.replaceAll("<skipped>", "").replaceAll("-\n", "").replaceAll("\n", " ");
    for (const [name, sign] of ENTITIES) line = line.replaceAll(name, sign);
    line = ` ${line} `;
  }
  for (const [pattern, put] of SPLITS) line = line.replace(pattern, put);
  return line.split(/\s+/u).filter(Boolean);
}

function groups(parts, n) {
  const counts = new Map();
  for (let i = 0; i + n <= parts.length; i++) {
    const key = parts.slice(i, i + n).join("\u0001");
    counts.set(key, (counts.get(key) || 0) + 1);
  }
  return counts;
}

function shared(a, b) {
  let total = 0;
  for (const [key, count] of a) total += Math.min(count, b.get(key) || 0);
  return total;
}

const size = (parts, n) => Math.max(0, parts.length - n + 1);

function bleu(output, reference) {
  const rows = [1, 2, 3, 4].map((n) => ({ n, shared: shared(groups(output, n), groups(reference, n)), written: size(output, n) }));
  const penalty = output.length >= reference.length ? 1 : output.length ? Math.exp(1 - reference.length / output.length) : 0;
  let smooth = 1, order = 0, logs = 0;
  for (const row of rows) {
    if (!row.written) break;
    order += 1;
    if (!row.shared) smooth *= 2;
    logs += Math.log(row.shared ? row.shared / row.written : 1 / (smooth * row.written));
  }
  // With nothing in common sacreBLEU gives 0, smoothing or not.
  const any = rows[0].shared > 0;
  return { rows, penalty, score: order && any ? 100 * penalty * Math.exp(logs / order) : 0 };
}

function chrf(output, reference) {
  const [a, b] = [output, reference].map((text) => [...text.replace(/\s+/gu, "")]);
  const rows = [1, 2, 3, 4, 5, 6].map((n) => ({ n, shared: shared(groups(a, n), groups(b, n)), written: size(a, n), wanted: size(b, n) }));
  const used = rows.filter((row) => row.written && row.wanted);
  const mean = (value) => (used.length ? used.reduce((sum, row) => sum + value(row), 0) / used.length : 0);
  const precision = mean((row) => row.shared / row.written), recall = mean((row) => row.shared / row.wanted);
  const score = precision + recall ? (100 * 5 * precision * recall) / (4 * precision + recall) : 0;
  return { rows, precision, recall, score };
}

// Words of the output that stand in some pair of neighbours which the reference has too.
function supported(output, reference) {
  const pairs = groups(reference, 2), one = groups(reference, 1), short = output.length < 2 || reference.length < 2;
  const has = (i) => i >= 0 && i + 1 < output.length && pairs.has(output.slice(i, i + 2).join("\u0001"));
  return output.map((word, i) => (short ? one.has(word) : has(i - 1) || has(i)));
}

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model), sentences = model.get("sentences");
  const systems = [...Object.keys(sentences[0].outputs), "reference"];
  const written = () => {
    const one = sentences[model.get("sentence")], system = model.get("output");
    return system === "reference" ? one.reference : one.outputs[system];
  };
  const names = model.get("names"), seen = {};
  const title = (one) => {
    seen[one.language] = (seen[one.language] || 0) + 1;
    return `${names[one.language] || one.language} ${seen[one.language]}`;
  };
  const choose = (name, label, options) => {
    const box = ui.select(model, name, { label, options });
    box.querySelector("select").addEventListener("change", () => ui.put(model, "text", written()));
    return box;
  };
  figure.controls(
    choose("sentence", word("sentence"), sentences.map((one, i) => [i, title(one)])),
    choose("output", word("start"), systems.map((name) => [name, name === "reference" ? word("reference") : name])),
    ui.button(word("again"), () => ui.put(model, "text", written())),
  );
  const id = ui.uid("text"), source = ui.html("p", { lang: "en" }), reference = ui.html("p");
  const area = ui.html("textarea", { id, rows: 4, "data-trait": "text", spellcheck: "false", oninput: () => ui.put(model, "text", area.value) });
  const edit = ui.html("div", { class: "fm-edit" }, ui.html("label", { for: id }, word("edit")), area);
  const result = ui.html("p", { class: "fm-result" }), cut = ui.html("p", { class: "fm-cut" }), tables = ui.html("div");
  figure.add(source, reference, edit, result, ui.html("p", { class: "fm-note" }, word("seen")), cut, tables);

  return ui.watch(model, ["sentence", "output", "text"], () => {
    const one = sentences[model.get("sentence")], text = model.get("text");
    if (area.value !== text) area.value = text;
    area.lang = one.language;
    source.replaceChildren(ui.html("strong", {}, `${word("source")}: `), one.source);
    reference.replaceChildren(ui.html("strong", {}, `${word("reference")}: `), ui.html("span", { lang: one.language }, one.reference));
    const [ours, wanted] = [text, one.reference].map((line) => tokens(line, one.language, model.get("chinese")));
    const b = bleu(ours, wanted), c = chrf(text, one.reference);
    result.replaceChildren(
      "BLEU ", ui.number("bleu", b.score, ui.fixed(b.score, 1)), " · chrF ", ui.number("chrf", c.score, ui.fixed(c.score, 1)),
      ` · ${word("brevity")} `, ui.number("brevity", b.penalty, ui.fixed(b.penalty, 2)),
      ` · ${word("precision")} `, ui.number("precision", c.precision, ui.fixed(c.precision, 2)),
      ` · ${word("recall")} `, ui.number("recall", c.recall, ui.fixed(c.recall, 2)),
    );
    const good = supported(ours, wanted);
    cut.lang = one.language;
    cut.replaceChildren(...(ours.length ? ours.flatMap((token, i) => [good[i] ? token : ui.html("u", {}, token), " "]) : [word("empty")]));
    const head = (more) => [word("groups"), word("shared"), word("written"), ...more];
    tables.replaceChildren(
      ui.table(word("of_words"), head([word("precision")]), b.rows.map((row) => [String(row.n), ui.number(`bleu_shared[${row.n}]`, row.shared, String(row.shared)),
        String(row.written), row.written ? ui.percent(row.shared / row.written) : "–"])),
      ui.table(word("of_characters"), head([word("wanted"), word("precision"), word("recall")]), c.rows.map((row) => [String(row.n),
        ui.number(`chrf_shared[${row.n}]`, row.shared, String(row.shared)), String(row.written), String(row.wanted),
        row.written ? ui.percent(row.shared / row.written) : "–", row.wanted ? ui.percent(row.shared / row.wanted) : "–"])),
    );
    figure.say(`BLEU ${ui.fixed(b.score, 1)}, chrF ${ui.fixed(c.score, 1)}`);
  });
}
export default { render };
