/* global ui */
// The same steps as fmcourse.tokenizers.BPETokenizer.encode: cut into words, spell in bytes, join by the merges.

// GPT-2's words. JavaScript's \s is not Unicode's white space (it has U+FEFF and lacks U+0085), so it is spelled out.
const SPACE = "\\p{White_Space}";
const WORD = new RegExp(
  `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${SPACE}\\p{L}\\p{N}]+|${SPACE}+(?!\\P{White_Space})|${SPACE}+`, "gu");
const LONE = /[\ud800-\udfff]+/gu; // with the u flag, a pair is one character and does not match

// A printable sign for every byte (GPT-2's table), in the order of the bytes.
function byteSymbols() {
  const prints = (b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(prints(b) ? b : next++));
}
const SYMBOLS = byteSymbols();
const BYTE_OF = new Map(SYMBOLS.map((symbol, byte) => [symbol, byte]));

// UTF-8; a lone surrogate becomes three bytes, as in Python with "surrogatepass" (TextEncoder would replace it).
function utf8(text) {
  const bytes = [];
  for (const character of text) {
    const c = character.codePointAt(0);
    if (c < 0x80) bytes.push(c);
    else if (c < 0x800) bytes.push(0xc0 | (c >> 6), 0x80 | (c & 63));
    else if (c < 0x10000) bytes.push(0xe0 | (c >> 12), 0x80 | ((c >> 6) & 63), 0x80 | (c & 63));
    else bytes.push(0xf0 | (c >> 18), 0x80 | ((c >> 12) & 63), 0x80 | ((c >> 6) & 63), 0x80 | (c & 63));
  }
  return bytes;
}

function tokenizer(merges) {
  const ids = new Map([...SYMBOLS].sort((a, b) => a.charCodeAt(0) - b.charCodeAt(0)).map((symbol, i) => [symbol, i]));
  const ranks = new Map();
  merges.forEach((merge, rank) => {
    ranks.set(merge, rank);
    const joined = merge.replace(" ", "");
    if (!ids.has(joined)) ids.set(joined, ids.size);
  });
  // Join the pair that was learned first, the leftmost of several, until no pair is left that was learned.
  function join(symbols) {
    const rank = (i) => ranks.get(`${symbols[i]} ${symbols[i + 1]}`) ?? Infinity;
    const pairs = symbols.slice(1).map((_, i) => rank(i));
    while (pairs.length) {
      let best = 0;
      for (let i = 1; i < pairs.length; i++) if (pairs[i] < pairs[best]) best = i;
      if (pairs[best] === Infinity) break;
      symbols.splice(best, 2, symbols[best] + symbols[best + 1]);
      pairs.splice(best, 1);
      if (best > 0) pairs[best - 1] = rank(best - 1);
      if (best < pairs.length) pairs[best] = rank(best);
    }
    return symbols;
  }
  const spell = (text) => utf8(text).map((byte) => SYMBOLS[byte]);
  function encode(text) {
    const out = [];
    const words = (run) => { for (const word of run.match(WORD) ?? []) out.push(...join(spell(word))); };
    let end = 0;
    for (const lone of text.matchAll(LONE)) {
      words(text.slice(end, lone.index));
      out.push(...spell(lone[0])); // the library takes no lone surrogates: byte by byte, without merges
      end = lone.index + lone[0].length;
    }
    words(text.slice(end));
    return out.map((symbol) => [ids.get(symbol), symbol]);
  }
  return encode;
}

// What a token looks like: its text with spaces made visible, or its bytes where they are no whole characters.
function face(symbol) {
  const bytes = [...symbol].map((s) => BYTE_OF.get(s));
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(new Uint8Array(bytes));
    const hidden = (c) => `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
    const seen = text.replace(/ /g, "\u2423").replace(/\n/g, "\u23ce").replace(/[\p{C}\p{White_Space}\p{M}]/gu, hidden);
    return { seen, whole: true };
  } catch {
    return { seen: bytes.map((b) => b.toString(16).toUpperCase().padStart(2, "0")).join("\u00a0"), whole: false };
  }
}

function render({ model, el }) {
  const figure = ui.frame(model, el), word = ui.words(model), id = ui.uid("text");
  figure.root.classList.add("fm-tokenizer");
  const most = Math.max(...model.get("merges").map((merges) => merges.length));
  const area = ui.html("textarea", {
    id, rows: 3, maxlength: 1000, spellcheck: "false", autocapitalize: "off", "data-trait": "text",
    oninput: () => ui.put(model, "text", area.value),
  });
  const short = (text) => { const all = [...text]; return all.length > 34 ? `${all.slice(0, 33).join("")}\u2026` : text; };
  figure.controls(ui.select(model, "example", { label: word("example"), options: model.get("examples").map(short) }));
  figure.add(ui.html("div", { class: "fm-control fm-text" }, ui.html("label", { for: id }, word("text")), area));
  figure.controls(
    ui.select(model, "vocabulary", { label: word("vocabulary"), options: model.get("names") }),
    ui.slider(model, "n_merges", { label: word("n_merges"), min: 0, max: most, step: 1 }),
  );
  const facts = ui.html("p"), list = ui.html("ol", { class: "fm-tokens", "aria-label": word("tokens") }), table = ui.html("div");
  figure.add(facts, list, table);
  let encode = null, made = "";
  const start = () => ui.put(model, "text", model.get("examples")[model.get("example")]);
  model.on("change:example", start);
  const stop = ui.watch(model, ["text", "vocabulary", "n_merges", "merges"], () => {
    const text = model.get("text"), n = model.get("n_merges"), which = model.get("vocabulary");
    if (area.value !== text) area.value = text;
    if (made !== `${which} ${n}`) encode = tokenizer(model.get("merges")[which].slice(0, n));
    made = `${which} ${n}`;
    const tokens = encode(text), characters = [...text].length, bytes = utf8(text).length;
    const rate = characters ? tokens.length / characters : 0;
    facts.replaceChildren(
      ui.number("tokens", tokens.length, String(tokens.length)), ` ${word("count")} \u00b7 `,
      ui.number("characters", characters, String(characters)), ` ${word("characters")} \u00b7 `,
      ui.number("bytes", bytes, String(bytes)), ` ${word("bytes")} \u00b7 `,
      ui.number("tokens_per_character", rate, ui.fixed(rate, 2)), ` ${word("per_character")}`,
    );
    const faces = tokens.map(([, symbol]) => face(symbol));
    list.replaceChildren(...(tokens.length ? faces.map(({ seen, whole }, i) => ui.html("li", {
      class: whole ? "fm-token" : "fm-token fm-partial", title: whole ? null : word("partial"), "data-id": tokens[i][0],
    }, seen)) : [ui.html("li", {}, word("none"))]));
    table.replaceChildren(ui.table(word("table"), [word("token"), word("id"), word("bytes")], faces.map(({ seen }, i) => [
      seen, String(tokens[i][0]), [...tokens[i][1]].map((s) => BYTE_OF.get(s).toString(16).toUpperCase().padStart(2, "0")).join(" "),
    ])));
    figure.say(`${tokens.length} ${word("count")}, ${ui.fixed(rate, 2)} ${word("per_character")}`);
  });
  return () => { model.off("change:example", start); stop(); };
}
export default { render };
