/* global ui */
// What the readers take the hidden word for; all numbers were computed in Python.
const ROW = 24, LEFT = 104, WIDE = 170;

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model);
  figure.root.classList.add("fm-fill-in");
  const [readers, sentences, guesses, truths] = ["readers", "sentences", "guesses", "truths"].map((name) => model.get(name));
  const short = (text) => ([...text].length > 46 ? `${[...text].slice(0, 45).join("")}\u2026` : text);
  const whole = (words) => words.join(" ").replace(/ ##/g, "");
  figure.controls(ui.select(model, "sentence", { label: word("sentence"), options: sentences.map((words) => short(whole(words))) }));
  const line = ui.html("p", { class: "fm-words", role: "group", "aria-label": word("words") });
  const panels = ui.html("div", { class: "fm-panels" }), table = ui.html("div");
  figure.add(line, panels, table);

  function choices(sentence) {
    line.replaceChildren(...sentences[sentence].flatMap((text, i) => {
      const piece = text.replace(/^##/, ""), gap = i && !text.startsWith("##") ? [" "] : [];
      if (!(String(i) in guesses[sentence])) return [...gap, ui.html("span", {}, piece)];
      return [...gap, ui.button(piece, () => ui.put(model, "place", i), { "data-place": i, "aria-label": `${word("hide")}: ${piece}` })];
    }));
  }

  function panel(reader, rows, truth) {
    const widest = Math.max(...rows.map(([, p]) => p), 1e-9);
    const drawing = ui.drawing(LEFT + WIDE + 60, ROW * rows.length + 4, "");
    rows.forEach(([text, p, right], rank) => {
      const y = ROW * rank + 2, bar = ui.svg("rect", { x: LEFT, y, width: (WIDE * p) / widest, height: ROW - 6, fill: `var(--fm-${right ? 2 : 1})` });
      ui.mark(bar, `p[${reader},${rank}]`, p);
      drawing.append(
        ui.svg("text", { x: LEFT - 8, y: y + 14, "text-anchor": "end", "font-size": 14, "font-weight": right ? 700 : 400 }, `${right ? "\u2713 " : ""}${text}`),
        bar,
        ui.svg("text", { x: LEFT + 6 + (WIDE * p) / widest, y: y + 14, "font-size": 13 }, ui.fixed(p, 3)),
      );
    });
    drawing.setAttribute("aria-label", `${readers[reader]}: ${rows.map(([text, p]) => `${text} ${ui.fixed(p, 2)}`).join(", ")}`);
    return ui.html("div", {}, ui.html("p", { class: "fm-reader" }, readers[reader]), drawing,
      ui.html("p", { class: "fm-truth" }, `${word("truth")}: `, ui.number(`truth[${reader}]`, truth[0], ui.fixed(truth[0], 4)),
        `, ${word("rank")} `, ui.number(`rank[${reader}]`, truth[1], String(truth[1]))));
  }

  const first = () => model.set("place", Math.min(...Object.keys(guesses[model.get("sentence")]).map(Number)));
  model.on("change:sentence", first);
  let shown = null;
  const stop = ui.watch(model, ["sentence", "place"], () => {
    const sentence = model.get("sentence"), place = model.get("place");
    if (!(String(place) in guesses[sentence])) return;
    if (shown !== sentence) choices(sentence);
    shown = sentence;
    const truth = sentences[sentence][place].replace(/^##/, "");
    line.querySelectorAll("button").forEach((button) => {
      const here = Number(button.dataset.place) === place;
      button.setAttribute("aria-pressed", String(here));
      button.textContent = here ? "\u2588\u2588\u2588" : sentences[sentence][Number(button.dataset.place)].replace(/^##/, "");
    });
    const rows = guesses[sentence][place].map((row) => row.map(([text, p]) => [text, p, text === sentences[sentence][place]]));
    panels.replaceChildren(
      ui.html("p", { class: "fm-whole" }, `${word("hidden")}: `, ui.html("strong", {}, truth)),
      ...rows.map((row, reader) => panel(reader, row, truths[sentence][place][reader])));
    table.replaceChildren(ui.table(word("table"), [word("reader"), word("word"), word("probability")],
      rows.flatMap((row, reader) => row.map(([text, p, right]) => [readers[reader], right ? `${text} (${word("right")})` : text, ui.fixed(p, 4)]))));
    figure.say(`${word("hidden")}: ${truth}. ${rows.map((row, reader) => `${readers[reader]}: ${row[0][0]} ${ui.fixed(row[0][1], 2)}`).join("; ")}`);
  });
  return () => { model.off("change:sentence", first); stop(); };
}
export default { render };
