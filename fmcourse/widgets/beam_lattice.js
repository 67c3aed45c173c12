/* global ui */
// The same search as fmcourse.beam_search.beam_search, on the log-probabilities that the figure carries.
const penalty = (length, alpha) => ((5 + length) / 6) ** alpha;

function prepare(nodes) {
  const children = new Map();
  nodes.forEach(([parent, token], i) => { if (i) children.set(`${parent} ${token}`, i); });
  return children;
}

// Every step: what was considered and what became of it, what goes on, and what is finished by then.
function search(nodes, children, { size, alpha, longest, end }) {
  let running = [{ node: 0, tokens: [], logp: 0, trail: [] }], finished = [], done = false;
  const steps = [];
  const finish = (tokens, logp, length, trail) => {
    finished = [...finished, { tokens, logp, length, score: logp / penalty(length, alpha), trail }];
    finished.sort((a, b) => b.score - a.score); // a stable sort, as Python's
    finished = finished.slice(0, size);
  };
  for (let step = 0; step < longest && !done; step++) {
    const every = running.flatMap((beam, b) => {
      const pairs = nodes[beam.node][2], out = [];
      for (let i = 0; i < pairs.length; i += 2) out.push({ beam: b, token: pairs[i], logp: beam.logp + pairs[i + 1] });
      return out;
    });
    every.sort((a, b) => b.logp - a.logp);
    const candidates = every.slice(0, 2 * size), next = [];
    candidates.forEach((candidate, rank) => {
      const { tokens, trail, node } = running[candidate.beam];
      candidate.tokens = candidate.token === end ? tokens : [...tokens, candidate.token];
      candidate.trail = [...trail, rank];
      if (candidate.token === end) {
        candidate.fate = rank < size ? "finished" : "late";
        if (rank < size) finish(tokens, candidate.logp, tokens.length + 1, candidate.trail);
      } else if (next.length < size) {
        candidate.fate = "kept";
        next.push({ node: children.get(`${node} ${candidate.token}`), tokens: candidate.tokens, logp: candidate.logp, trail: candidate.trail });
      } else candidate.fate = "dropped";
      candidate.from = trail.length ? trail[trail.length - 1] : null; // its parent's place among the candidates before
    });
    running = next;
    const reachable = running[0].logp / penalty(longest, alpha);
    done = finished.length === size && reachable <= finished[finished.length - 1].score;
    if (!done && step === longest - 1) running.forEach((beam) => finish(beam.tokens, beam.logp, beam.tokens.length, beam.trail));
    steps.push({ candidates, finished });
  }
  return steps;
}

const BOX = { width: 84, height: 36, gap: 34, row: 44, left: 6, top: 26 };

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model);
  figure.root.classList.add("fm-lattice");
  const { texts, end, longest, nodes } = Object.fromEntries(["texts", "end", "longest", "nodes"].map((name) => [name, model.get(name)]));
  const children = nodes.map(prepare);
  const seen = (token) => (token === end ? `\u25a0 ${word("end")}` : texts[token].replace(/ /g, "\u2423"));
  const sentence = (tokens) => tokens.map((token) => texts[token]).join("") || word("nothing");
  const now = () => search(nodes[model.get("sentence")], children[model.get("sentence")],
    { size: model.get("beam_size"), alpha: model.get("alpha"), longest, end });
  figure.controls(ui.select(model, "sentence", { label: word("sentence"), options: model.get("sentences") }));
  figure.controls(
    ui.slider(model, "beam_size", { label: word("beam_size"), values: model.get("beam_sizes") }),
    ui.slider(model, "alpha", { label: word("alpha"), values: model.get("alphas"), format: (x) => ui.fixed(x, 1) }),
  );
  const go = (where) => () => ui.put(model, "step", where(model.get("step"), now().length));
  const buttons = {
    first: ui.button(word("first"), go(() => 1)), back: ui.button(word("back"), go((s) => Math.max(1, s - 1))),
    forward: ui.button(word("forward"), go((s, n) => Math.min(n, s + 1))), last: ui.button(word("last"), go((s, n) => n)),
  };
  const place = ui.html("span");
  figure.controls(...Object.values(buttons), place);
  const drawing = ui.svg("svg", { role: "img", class: "fm-drawing fm-steps" });
  const scroller = ui.html("div", { class: "fm-scroll", tabindex: 0, role: "region", "aria-label": word("drawing") }, drawing);
  const best = ui.html("p"), tables = ui.html("div", { class: "fm-both" });
  figure.add(scroller, best, tables);

  function draw(steps, step) {
    const size = model.get("beam_size"), x = (column) => BOX.left + column * (BOX.width + BOX.gap), y = (row) => BOX.top + row * BOX.row;
    const height = y(Math.max(...steps.slice(0, step).map(({ candidates }) => candidates.length), size)) + 4, width = x(step + 1);
    Object.entries({ viewBox: `0 0 ${width} ${height}`, width, height }).forEach(([key, value]) => drawing.setAttribute(key, value));
    drawing.replaceChildren();
    const last = step === steps.length, winner = steps[step - 1].finished[0];
    const onPath = (column, rank) => Boolean(last && winner && winner.trail[column] === rank);
    const box = (column, row, lines, fate, path) => {
      const left = x(column), top = y(row), look = { class: `fm-box fm-${fate}${path ? " fm-path" : ""}` };
      const rect = (inset) => ui.svg("rect", { ...look, x: left + inset, y: top + inset, width: BOX.width - 2 * inset, height: BOX.height - 2 * inset, rx: 5 });
      drawing.append(rect(0), ...(fate === "finished" ? [rect(3)] : []),
        ...lines.map((line, i) => ui.svg("text", { x: left + BOX.width / 2, y: top + (lines.length > 1 ? 15 + 15 * i : 22), "text-anchor": "middle", class: i ? "fm-small" : null }, line)));
    };
    const short = (text) => ([...text].length > 9 ? `${[...text].slice(0, 8).join("")}\u2026` : text);
    const edge = (column, from, to, path, fate) => {
      const ends = [x(column) + BOX.width, y(from) + BOX.height / 2, x(column + 1), y(to) + BOX.height / 2];
      const middle = (ends[0] + ends[2]) / 2;
      drawing.append(ui.svg("path", { d: `M${ends[0]} ${ends[1]}C${middle} ${ends[1]} ${middle} ${ends[3]} ${ends[2]} ${ends[3]}`, class: `fm-edge fm-${fate}${path ? " fm-path" : ""}` }));
    };
    box(0, 0, [word("start")], "kept", last && winner);
    const shown = (column, candidate) => column === step - 1 || ["kept", "finished"].includes(candidate.fate);
    // Boxes move up where dropped ones are no longer shown; `rows` remembers where each candidate stands.
    let before = new Map([[null, 0]]);
    steps.slice(0, step).forEach(({ candidates }, column) => {
      const rows = new Map();
      drawing.append(ui.svg("text", { x: x(column + 1) + BOX.width / 2, y: 16, "text-anchor": "middle", class: "fm-small" }, String(column + 1)));
      candidates.forEach((candidate, rank) => { if (shown(column, candidate)) rows.set(rank, rows.size); });
      rows.forEach((row, rank) => {
        const candidate = candidates[rank], path = onPath(column, rank);
        edge(column, before.get(candidate.from), row, path, candidate.fate);
        box(column + 1, row, [short(seen(candidate.token)), ui.fixed(candidate.logp, 2)], candidate.fate, path);
      });
      before = rows;
    });
    scroller.scrollLeft = Math.max(0, width - scroller.clientWidth);
  }

  function open(table, ids) {
    if (!open.done.has(ids)) table.open = true;
    open.done.add(ids);
    return table;
  }
  open.done = new Set();
  const restart = () => model.set("step", now().length);
  ["sentence", "beam_size", "alpha"].forEach((name) => model.on(`change:${name}`, restart));
  const stop = ui.watch(model, ["sentence", "beam_size", "alpha", "step"], () => {
    const steps = now(), step = Math.min(Math.max(1, model.get("step")), steps.length);
    const { candidates, finished } = steps[step - 1], over = step === steps.length;
    buttons.first.disabled = buttons.back.disabled = step === 1;
    buttons.forward.disabled = buttons.last.disabled = over;
    place.replaceChildren(`${word("step")} `, ui.number("step", step, String(step)), ` ${word("of")} `, ui.number("steps", steps.length, String(steps.length)));
    draw(steps, step);
    const winner = finished[0];
    best.replaceChildren(`${word("best")}: `, ...(winner ? [
      ui.html("strong", { "data-ids": winner.tokens.join(" "), lang: "de" }, sentence(winner.tokens)),
      ` (${word("log_probability")} `, ui.number("best_log_probability", winner.logp, ui.fixed(winner.logp, 3)),
      `, ${word("score")} `, ui.number("best_score", winner.score, ui.fixed(winner.score, 3)), ")",
    ] : [word("none_yet")]), over ? `; ${word("over")}.` : ".");
    tables.replaceChildren(
      open(ui.table(word("candidates"), [word("rank"), word("text"), word("log_probability"), word("fate")], candidates.map((c, i) => [
        String(i + 1), `${sentence(c.tokens)}${c.token === end ? " \u25a0" : ""}`, ui.number(`candidate[${i}]`, c.logp, ui.fixed(c.logp, 3)), word(c.fate)])), "candidates"),
      ...(finished.length ? [open(ui.table(word("finished_so_far"), [word("rank"), word("text"), word("log_probability"), word("tokens"), word("score")], finished.map((f, i) => [
        String(i + 1), ui.html("span", { "data-finished": f.tokens.join(" ") }, sentence(f.tokens)), ui.number(`log_probability[${i}]`, f.logp, ui.fixed(f.logp, 3)),
        ui.number(`length[${i}]`, f.length, String(f.length)), ui.number(`score[${i}]`, f.score, ui.fixed(f.score, 3))])), "finished")] : []),
    );
    const said = `${word("step")} ${step} ${word("of")} ${steps.length}. ${word("best")}: ${winner ? sentence(winner.tokens) : word("none_yet")}`;
    drawing.setAttribute("aria-label", said);
    figure.say(said);
  });
  return () => { ["sentence", "beam_size", "alpha"].forEach((name) => model.off(`change:${name}`, restart)); stop(); };
}
export default { render };
