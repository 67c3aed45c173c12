/* global ui */
// The figure of test_twin.py: one control of each kind, text that must not become markup, numbers that Python knows.
function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model);
  figure.controls(
    ui.slider(model, "temperature", { label: word("temperature"), min: 0.5, max: 4, step: 0.5, format: (x) => ui.fixed(x, 1) }),
    ui.slider(model, "size", { label: word("size"), values: [1, 10, 100, 1000], format: (x) => ui.short(x, 0) }),
    ui.select(model, "choice", { label: word("choice"), options: [["a", "first"], ["b", "second"]] }),
    ui.select(model, "row", { label: word("row"), options: model.get("tokens") }),
    ui.checkbox(model, "causal", { label: word("causal") }),
    ui.button(word("reset"), () => ui.put(model, "temperature", 1)),
  );
  const drawing = ui.drawing(300, 40, "");
  const list = ui.html("p", { class: "probe-tokens" }, model.get("tokens").join(" | "));
  const out = ui.html("p");
  figure.add(drawing, list, out, ui.table(word("table"), ["token"], model.get("tokens").map((t) => [t])));
  return ui.watch(model, ["temperature", "size", "choice", "row", "causal"], () => {
    const weights = ui.softmax(model.get("scores"), model.get("temperature"));
    drawing.replaceChildren(...weights.map((w, i) => ui.mark(ui.svg("rect", { x: 40 * i, width: 30, height: 40 * w }), `bar[${i}]`, w)));
    drawing.setAttribute("aria-label", `temperature ${model.get("temperature")}`);
    const state = [model.get("size"), model.get("choice"), model.get("row"), model.get("causal")].join(" ");
    out.replaceChildren(ui.number("top", Math.max(...weights), ui.fixed(Math.max(...weights))), ` ${state}`);
    figure.say(`temperature ${model.get("temperature")}`);
  });
}
export default { render };
