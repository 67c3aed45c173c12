/* global ui */
// The same arithmetic as fmcourse.widgets.architecture_calculator.count_parts.
const linear = (nIn, nOut, bias) => nIn * nOut + (bias ? nOut : 0);
function countParts(s) {
  const both = s.family === "encoder-decoder", bias = !both, d = s.d_model, hidden = s.ff_ratio * d;
  const [stacks, attentions] = both ? [2, 3] : [1, 1];
  const [embeddings, head] = {
    encoder: () => [(s.vocab_size + s.context + 2) * d, linear(d, d, bias)],
    decoder: () => [(s.vocab_size + s.context) * d, 0],
    "encoder-decoder": () => [s.vocab_size * d + 2 * 32 * s.n_heads, 0],
    vision: () => [linear(3 * s.patch ** 2, d, bias) + (2 + Math.floor(s.image / s.patch) ** 2) * d, linear(d, 1000, bias)],
  }[s.family]();
  return {
    embeddings,
    attention: attentions * s.n_layers * 4 * linear(d, d, bias),
    feed_forward: stacks * s.n_layers * (linear(d, hidden, bias) + linear(hidden, d, bias)),
    norms: ((stacks + attentions) * s.n_layers + stacks) * (d + (bias ? d : 0)),
    head,
  };
}

const FAMILIES = ["encoder", "decoder", "encoder-decoder", "vision"];
const SIZES = ["family", "n_layers", "d_model", "n_heads", "ff_ratio", "vocab_size", "context", "image", "patch"];
const HIDDEN = { encoder: ["image", "patch"], decoder: ["image", "patch"], "encoder-decoder": ["image", "patch", "context"], vision: ["vocab_size", "context"] };
const VALUES = {
  n_heads: [1, 2, 4, 6, 8, 12, 16, 20, 24, 25, 32, 40, 48, 64, 96],
  vocab_size: [256, 1000, 4000, 8000, 16000, 30522, 32128, 50257, 64000, 100000, 128256, 151936, 256000],
  context: [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072],
  image: [32, 64, 96, 128, 160, 192, 224, 256, 384, 512],
  patch: [4, 8, 14, 16, 32],
};
const exact = (x) => x.toLocaleString("en-GB");

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model), presets = Object.fromEntries(model.get("presets").map((p) => [p.name, p]));
  const ranges = { n_layers: [1, 128, 1], d_model: [64, 12288, 64], ff_ratio: [1, 8, 1] };
  const control = {};
  for (const name of SIZES.slice(1)) {
    const [min, max, step] = ranges[name] || [];
    control[name] = ui.slider(model, name, { label: word(name), min, max, step, values: VALUES[name] || null, format: exact });
  }
  figure.controls(
    ui.select(model, "preset", { label: word("preset"), options: [["", word("custom")], ...Object.keys(presets).map((p) => [p, p])] }),
    ui.select(model, "family", { label: word("family"), options: FAMILIES.map((f) => [f, word(f)]) }),
  );
  figure.controls(...Object.values(control));
  const bar = ui.html("div", { class: "fm-stack", role: "img" }), total = ui.html("p"), note = ui.html("p"), table = ui.html("div");
  figure.add(total, bar, table, note);

  const sizes = () => Object.fromEntries(SIZES.map((name) => [name, model.get(name)]));
  const same = (preset, now) => SIZES.every((name) => (name === "ff_ratio" ? now[name] === 4 : !(name in preset) || preset[name] === now[name]));
  // A preset sets the sizes; a size set by hand is no preset any more.
  let setting = false;
  const choose = () => {
    const preset = presets[model.get("preset")];
    if (!preset || setting) return;
    setting = true;
    for (const name of SIZES) if (name === "ff_ratio" || name in preset) model.set(name, name === "ff_ratio" ? 4 : preset[name]);
    setting = false;
    model.save_changes();
  };
  model.on("change:preset", choose);

  const draw = () => {
    if (setting) return;
    const now = sizes(), name = model.get("preset");
    if (name && !same(presets[name], now)) {
      setting = true;
      ui.put(model, "preset", "");
      setting = false;
    }
    for (const [key, box] of Object.entries(control)) box.hidden = HIDDEN[now.family].includes(key);
    const parts = countParts(now), sum = Object.values(parts).reduce((a, b) => a + b, 0);
    const fits = now.d_model % now.n_heads === 0, preset = presets[model.get("preset")];
    total.replaceChildren(`${word("total")}: `, ui.number("total", sum, exact(sum)),
      preset ? ` (${model.get("preset")}, ${word("published")} ${exact(preset.published / 1e6)}\u202fM)` : "");
    const words = Object.entries(parts).map(([part, n]) => `${word(part)} ${ui.percent(n / sum, 1)}`).join(", ");
    bar.setAttribute("aria-label", `${word("total")}: ${exact(sum)}. ${words}`);
    const colour = (i) => `var(--fm-${i + 1})`;
    bar.replaceChildren(...Object.entries(parts).map(([, n], i) => ui.html("span", { style: `width:${(100 * n) / sum}%;background:${colour(i)}` })));
    table.replaceChildren(ui.html("table", { class: "fm-parts" },
      ui.html("thead", {}, ui.html("tr", {}, ["part", "parameters", "share"].map((h) => ui.html("th", { scope: "col" }, word(h))))),
      ui.html("tbody", {}, Object.entries(parts).map(([part, n], i) => ui.html("tr", {},
        ui.html("th", { scope: "row" }, ui.html("i", { style: `background:${colour(i)}` }), word(part)),
        ui.html("td", {}, ui.number(part, n, exact(n))), ui.html("td", {}, ui.number(`share_${part}`, n / sum, ui.percent(n / sum, 1))))))));
    const places = Math.floor(now.image / now.patch) ** 2 + 1;
    note.replaceChildren(fits ? `${word("head_width")}: ${exact(now.d_model / now.n_heads)}` : word("must_divide"),
      now.family === "vision" ? ` \u00b7 ${word("positions")}: ${exact(places)}` : "");
    figure.say(`${word("total")}: ${exact(sum)}. ${words}${fits ? "" : `. ${word("must_divide")}`}`);
  };
  const stop = ui.watch(model, [...SIZES, "preset"], draw);
  return () => { stop(); model.off("change:preset", choose); };
}
export default { render };
