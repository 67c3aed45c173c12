// Shows the static twins of fmcourse.widgets on a page with no kernel: reads the state that the page carries and hands the
// figure's ES module a model with the part of anywidget's interface that our figures use.
function makeModel(state) {
  const listeners = new Map();
  const of = (event) => listeners.get(event) ?? listeners.set(event, new Set()).get(event);
  return {
    get: (name) => state[name],
    set(name, value) {
      if (!(name in state)) throw new Error(`this figure has no state "${name}"`);
      if (Object.is(state[name], value)) return;
      state[name] = value;
      [...of(`change:${name}`), ...of("change")].forEach((listener) => listener());
    },
    on: (event, listener) => { of(event).add(listener); },
    off: (event, listener) => { of(event).delete(listener); },
    save_changes() {},
  };
}

async function show(figure) {
  const view = figure.querySelector(":scope > .fm-view");
  const model = makeModel(JSON.parse(figure.querySelector(':scope > script[type="application/json"]').textContent));
  const { default: widget } = await import(new URL(`widgets/${figure.dataset.module}.mjs`, import.meta.url));
  view.replaceChildren();
  await widget.render({ model, el: view });
  figure.dataset.ready = "true";
}

const seen = new WeakSet();
const showOnce = (figure) => {
  if (seen.has(figure)) return;
  seen.add(figure);
  show(figure).catch((error) => { figure.dataset.ready = "failed"; throw error; });
};
const observer = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) showOnce(target);
}, { rootMargin: "600px" });
const figures = document.querySelectorAll(".fm-widget[data-module]");
figures.forEach((figure) => observer.observe(figure));
addEventListener("beforeprint", () => figures.forEach(showOnce));
