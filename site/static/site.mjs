// Formulas and drawings wider than the screen scroll inside themselves; then the keyboard must reach and scroll them.
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
for (const image of document.querySelectorAll(".bd-article figure > img")) {
  const box = document.createElement("div");
  box.className = "figure-scroll";
  image.replaceWith(box);
  box.append(image);
  sizes.observe(box);
}
// MathJax replaces window.MathJax, the settings, by itself when it has loaded.
const typeset = window.MathJax && (() => (MathJax.startup?.promise ? MathJax.startup.promise : new Promise((again) => setTimeout(again, 50)).then(typeset)));
if (typeset) {
  await typeset();
  document.querySelectorAll('mjx-container[display="true"]').forEach((formula) => sizes.observe(formula));
}
