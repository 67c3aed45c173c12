/* global ui */
// The same pass, number by number, as fmcourse.widgets.in_context_explorer.run.
const PARTS = ["query", "key", "value"];
const times = (rows, matrix) => rows.map((row) => matrix.map((weights) => weights.reduce((sum, w, j) => sum + w * row[j], 0)));

function normalised(rows, gain, eps) {
  return rows.map((row) => {
    const size = Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / row.length + eps);
    return row.map((v, j) => (v / size) * gain[j]);
  });
}

function run(weights, tokens, off) {
  const nHeads = weights.n_heads, width = weights.norm.length / nHeads, looks = [];
  let x = tokens.map((token, i) => weights.tokens[token].map((v, j) => v + weights.positions[i][j]));
  weights.layers.forEach((layer, place) => {
    const read = normalised(x, layer.norm, weights.eps);
    const [q, k, v] = PARTS.map((part) => times(read, layer[part]));
    const mixed = x.map(() => new Array(nHeads * width).fill(0));
    for (let head = 0; head < nHeads; head++) {
      const from = head * width, silent = off.includes(place * nHeads + head);
      tokens.forEach((_, t) => {
        const scores = [];
        for (let s = 0; s <= t; s++) {
          let dot = 0;
          for (let j = from; j < from + width; j++) dot += q[t][j] * k[s][j];
          scores.push(dot / Math.sqrt(width));
        }
        const row = ui.softmax(scores);
        if (t === tokens.length - 1) looks.push(row);
        if (!silent) row.forEach((w, s) => { for (let j = from; j < from + width; j++) mixed[t][j] += w * v[s][j]; });
      });
    }
    const written = times(mixed, layer.out);
    x = x.map((row, t) => row.map((value, j) => value + written[t][j]));
  });
  const last = normalised(x.slice(-1), weights.norm, weights.eps);
  return { probabilities: ui.softmax(times(last, weights.answer)[0]), looks };
}

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model);
  const words = model.get("words"), colours = model.get("colours"), weights = model.get("weights");
  const told = (text, ...parts) => parts.reduce((now, part, i) => now.replace(`{${i}}`, part), text);
  const nHeads = weights.n_heads, layerName = (layer) => told(word("layer"), layer + 1);
  const heads = weights.layers.flatMap((_, layer) => Array.from({ length: nHeads }, (_, i) => `${layerName(layer)}, ${told(word("head"), i)}`));
  const start = { examples: model.get("examples"), off: model.get("off"), shots: model.get("shots"), asked: model.get("asked") };
  const boxes = heads.map((_, i) => {
    const id = ui.uid("head");
    const input = ui.html("input", {
      type: "checkbox", id, "data-trait": `head${i}`,
      onchange: () => ui.put(model, "off", heads.map((_, j) => j).filter((j) => (j === i ? !input.checked : model.get("off").includes(j)))),
    });
    return { input, control: ui.html("div", { class: "fm-control fm-check" }, input, ui.html("label", { for: id },
      ui.html("span", { class: "fm-hidden" }, `${layerName(Math.floor(i / nHeads))}, `), told(word("head"), i % nHeads))) };
  });
  figure.controls(
    ui.select(model, "asked", { label: word("asked"), options: words }),
    ui.slider(model, "shots", { label: word("shots"), min: 0, max: model.get("examples").length, step: 1 }),
  );
  const group = (legend, name, ...nodes) => ui.html("fieldset", { class: "fm-icl-group" }, ui.html("legend", {}, legend), ui.html("div", { class: name }, nodes));
  const chips = model.get("examples").map((_, i) => {
    const parts = [ui.html("span", {}), ui.html("span", {})];
    const button = ui.html("button", {
      type: "button", class: "fm-button", onclick: () => ui.put(model, "examples", model.get("examples").map(([w, c], j) => [w, j === i ? (c + 1) % colours.length : c])),
    }, parts);
    return { button, parts };
  });
  const question = ui.html("span", { class: "fm-icl-question" });
  figure.add(group(word("examples"), "fm-icl-prompt", ...chips.map((chip) => chip.button), question));
  const rows = colours.map((name) => {
    const value = ui.html("td", {}), bar = ui.html("i", { "aria-hidden": "true" });
    return { value, bar, row: ui.html("tr", {}, ui.html("th", { scope: "row" }, name), value, ui.html("td", {}, bar)) };
  });
  const answers = ui.html("table", { class: "fm-icl-answers" }, ui.html("caption", {}, word("answers")), ui.html("tbody", {}, rows.map(({ row }) => row)));
  const table = ui.html("div");
  figure.add(answers, group(word("heads"), "fm-icl-heads", ...weights.layers.map((_, layer) => ui.html("div", {}, ui.html("span", { "aria-hidden": "true" }, layerName(layer)),
    boxes.slice(layer * nHeads, (layer + 1) * nHeads).map(({ control }) => control)))));
  figure.controls(
    ui.select(model, "watched", { label: word("watched"), options: heads }),
    ui.button(word("reset"), () => { for (const [name, value] of Object.entries(start)) model.set(name, value); model.save_changes(); }),
  );
  figure.add(table);
  return ui.watch(model, ["examples", "shots", "asked", "off", "watched"], () => {
    const shots = model.get("shots"), asked = model.get("asked"), off = model.get("off"), watched = model.get("watched");
    const examples = model.get("examples"), shown = examples.slice(0, shots);
    const tokens = [...shown.flatMap(([w, c]) => [w, words.length + c]), asked];
    const { probabilities, looks } = run(weights, tokens, off);
    const row = looks[watched], best = probabilities.indexOf(Math.max(...probabilities));
    boxes.forEach(({ input }, i) => { input.checked = !off.includes(i); });
    chips.forEach(({ button, parts }, i) => {
      const [w, c] = examples[i];
      button.hidden = i >= shots;
      button.setAttribute("aria-label", told(word("example"), i + 1, words[w], colours[c]));
      parts.forEach((part, j) => {
        part.textContent = j ? colours[c] : `${words[w]}:`;
        part.style.setProperty("--fm-w", i < shots ? row[2 * i + j].toFixed(4) : "0");
      });
    });
    question.textContent = `${words[asked]}: ?`;
    question.style.setProperty("--fm-w", row[row.length - 1].toFixed(4));
    rows.forEach(({ value, bar, row: line }, i) => {
      value.replaceChildren(ui.number(`probability[${i}]`, probabilities[i], ui.percent(probabilities[i])));
      bar.style.width = `${(100 * probabilities[i]).toFixed(1)}%`;
      line.className = i === best ? "fm-best" : "";
    });
    const names = tokens.map((token) => [...words, ...colours][token]);
    table.replaceChildren(ui.table(word("looks"), [word("place"), word("weight")],
      row.map((w, i) => [`${i + 1} ${names[i]}`, ui.number(`weight[${i}]`, w, ui.percent(w, 1))])));
    figure.say(`${words[asked]}: ${word("says")} ${colours[best]}, ${ui.percent(probabilities[best])}`);
  });
}
export default { render };
