"use strict";
// Conveniences only: everything can be read without them.
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const words = { "": "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };
  const show = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    button.textContent = words[theme];
  };
  let theme = "";
  try {
    theme = localStorage.getItem("routerwise-theme") || "";
  } catch {} // a page from a file may have no storage
  show(theme in words ? theme : "");
  button.hidden = false;
  button.addEventListener("click", () => {
    const themes = Object.keys(words);
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    show(theme);
    try {
      localStorage.setItem("routerwise-theme", theme);
    } catch {}
  });
  if (!navigator.clipboard) return;
  for (const box of document.querySelectorAll(".copyable")) {
    const text = box.firstElementChild;
    const copy = document.createElement("button");
    copy.type = "button";
    copy.className = "copy";
    copy.textContent = "Copy";
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text.textContent);
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "Not allowed here";
      }
      setTimeout(() => (copy.textContent = "Copy"), 1500);
    });
    box.append(copy);
  }
})();
