// Helpers shared by every figure. This text is put in front of each figure's own module (see widgets/__init__.py),
// which therefore uses `ui` without importing it. `model` is an anywidget model, or its stand-in on the static page.
const ui = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  let counter = 0;
  const uid = (prefix) => `fm-${prefix}-${++counter}-${Math.random().toString(36).slice(2, 7)}`;

  // node(document.createElement("p"), {class: "x", onclick: f}, "text", child): attributes, listeners, children.
  function fill(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value === undefined || value === null || value === false) continue;
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return node;
  }
  const html = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

  // The figure itself: a labelled group, its controls and drawing, its caption, and a polite live region.
  function frame(model, el) {
    const caption = html("figcaption", { class: "fm-caption" }, model.get("caption"));
    const live = html("p", { class: "fm-hidden", "aria-live": "polite" });
    const body = html("div", { class: "fm-body" });
    const root = html("figure", { class: "fm-figure", role: "group", "aria-label": model.get("label") }, body, live, caption);
    caption.hidden = !model.get("caption");
    el.classList.add("fm-widget");
    // Else JupyterLab takes the arrow keys for itself; it looks for the mark on the focused control, not around it.
    el.addEventListener("focusin", (event) => event.target.setAttribute("data-lm-suppress-shortcuts", ""));
    el.append(root);
    let timer;
    return {
      root,
      body,
      add: (...nodes) => body.append(...nodes),
      controls: (...nodes) => body.append(html("div", { class: "fm-controls" }, ...nodes)),
      // Announce a finding in words, once the reader has stopped moving a control.
      say(text) {
        clearTimeout(timer);
        timer = setTimeout(() => { live.textContent = text; }, 400);
      },
    };
  }

  // Call `draw` now and whenever one of the named traits changes, from the page or from Python.
  // Returns a function that stops it; return that from `render`.
  function watch(model, names, draw) {
    const events = names.map((name) => `change:${name}`);
    events.forEach((event) => model.on(event, draw));
    draw();
    return () => events.forEach((event) => model.off(event, draw));
  }

  function put(model, name, value) {
    model.set(name, value);
    model.save_changes();
  }

  // A word of the trait `labels`; a missing key is an error here, not an "undefined" on the page.
  function words(model) {
    const labels = model.get("labels");
    return (key) => {
      if (!(key in labels)) throw new Error(`labels has no word "${key}"`);
      return labels[key];
    };
  }

  // Controls are bound to a trait in both directions and are ordinary form elements, so the keyboard works.
  function slider(model, name, { label, min, max, step, format = String, values = null }) {
    // With `values`, the trait takes one of these and the slider moves over their positions.
    const nearest = (x) => values.reduce((best, v, i) => (Math.abs(v - x) < Math.abs(values[best] - x) ? i : best), 0);
    const id = uid(name);
    const input = html("input", {
      type: "range", id, min: values ? 0 : min, max: values ? values.length - 1 : max, step: values ? 1 : step, "data-trait": name,
      oninput: () => put(model, name, values ? values[Number(input.value)] : Number(input.value)),
    });
    const output = html("output", { for: id });
    const show = () => {
      const value = model.get(name);
      input.value = String(values ? nearest(value) : value);
      output.textContent = format(value);
      input.setAttribute("aria-valuetext", output.textContent);
    };
    model.on(`change:${name}`, show);
    show();
    return html("div", { class: "fm-control fm-slider" }, html("label", { for: id }, label), input, output);
  }

  // options: [[value, text], ...] or ["text", ...] (then the value is the position).
  function select(model, name, { label, options }) {
    const id = uid(name);
    const pairs = options.map((option, i) => (Array.isArray(option) ? option : [i, option]));
    const input = html("select", {
      id, "data-trait": name, onchange: () => put(model, name, pairs[input.selectedIndex][0]),
    }, pairs.map(([, text]) => html("option", {}, text)));
    const show = () => { input.selectedIndex = pairs.findIndex(([value]) => value === model.get(name)); };
    model.on(`change:${name}`, show);
    show();
    return html("div", { class: "fm-control" }, html("label", { for: id }, label), input);
  }

  function checkbox(model, name, { label }) {
    const id = uid(name);
    const input = html("input", { type: "checkbox", id, "data-trait": name, onchange: () => put(model, name, input.checked) });
    const show = () => { input.checked = Boolean(model.get(name)); };
    model.on(`change:${name}`, show);
    show();
    return html("div", { class: "fm-control fm-check" }, input, html("label", { for: id }, label));
  }

  const button = (label, onclick, attributes = {}) => html("button", { type: "button", class: "fm-button", onclick, ...attributes }, label);

  // A drawing that scales with the page and says in words what it shows. Redraw with `canvas.replaceChildren(...)`.
  const drawing = (width, height, label) => svg("svg", {
    viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "fm-drawing", style: `max-width:${width}px`,
  });

  // Numbers: shown rounded, exposed in full (data-name, data-value) so that tests compare them with Python's.
  function mark(node, name, value) {
    node.dataset.name = name;
    node.dataset.value = String(value);
    return node;
  }
  const number = (name, value, text) => mark(html("span", { class: "fm-number" }, text), name, value);
  const fixed = (x, digits = 2) => x.toFixed(digits).replace("-", "\u2212");
  const percent = (x, digits = 0) => `${(100 * x).toFixed(digits)}\u202f%`;
  // 1234567 -> "1.2 M": three short scales, as parameter counts are usually written.
  const short = (x, digits = 1) => {
    const units = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]];
    const unit = units.find(([size]) => Math.abs(x) >= size);
    return unit ? `${(x / unit[0]).toFixed(digits)}\u202f${unit[1]}` : String(x);
  };

  // scale([0, 1], [40, 300]) maps data to drawing; `log` for a logarithmic one.
  const scale = ([d0, d1], [r0, r1]) => (x) => r0 + ((x - d0) / (d1 - d0)) * (r1 - r0);
  const log = (domain, range) => { const s = scale(domain.map(Math.log10), range); return (x) => s(Math.log10(x)); };

  // Numerically safe softmax; entries equal to -Infinity get weight 0.
  function softmax(scores, temperature = 1) {
    const top = Math.max(...scores);
    const raised = scores.map((s) => Math.exp((s - top) / temperature));
    const sum = raised.reduce((a, b) => a + b, 0);
    return raised.map((r) => r / sum);
  }

  // A table of the drawn numbers, folded: the drawing's text alternative. One that is made anew stays open if it was.
  const opened = new Set();
  const remember = (event, summary) => { opened[event.target.open ? "add" : "delete"](summary); };
  const table = (summary, head, rows) => html("details", { class: "fm-table", open: opened.has(summary), ontoggle: (e) => remember(e, summary) },
    html("summary", {}, summary), html("div", { class: "fm-scroll", tabindex: 0, role: "region", "aria-label": summary },
      html("table", {}, html("thead", {}, html("tr", {}, head.map((h) => html("th", { scope: "col" }, h)))),
        html("tbody", {}, rows.map(([first, ...rest]) => html("tr", {}, html("th", { scope: "row" }, first), rest.map((c) => html("td", {}, c))))))));

  const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  return { html, svg, frame, watch, put, words, slider, select, checkbox, button, drawing, mark, number, fixed, percent, short,
    scale, log, softmax, table, still, uid };
})();
