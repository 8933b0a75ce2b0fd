// Runs before the page is drawn: the remembered theme and the font, so that neither flashes.
(() => {
  "use strict";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // a browser that keeps nothing follows the system
    }
  };
  const system = () => (dark.matches ? "dark" : "light");

  const apply = () => {
    const chosen = remembered();
    if (chosen) root.dataset.theme = chosen;
    else delete root.dataset.theme;
  };

  // The font comes from its npm package; without it the page uses the system's.
  const source = document.currentScript.dataset.font;
  if (source) {
    const about = { weight: "100 900", display: "swap" };
    document.fonts.add(new FontFace("Inter", `url("${source}")`, about));
  }

  const name = (button) => {
    const next = (remembered() || system()) === "dark" ? "light" : "dark";
    button.setAttribute("aria-label", `Switch to the ${next} theme`);
  };

  const toggle = (button) => {
    const next = (remembered() || system()) === "dark" ? "light" : "dark";
    // Choosing what the system says anyway means following the system again.
    if (next === system()) localStorage.removeItem("theme");
    else localStorage.setItem("theme", next);
    apply();
    name(button);
    document.dispatchEvent(new Event("themechange"));
  };

  apply();
  dark.addEventListener("change", () => document.dispatchEvent(new Event("themechange")));
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    name(button);
    button.addEventListener("click", () => toggle(button));
  });
})();
