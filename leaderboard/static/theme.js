// The reader's choice of light or dark, kept in this browser; without one, the system's. Read before anything is drawn.
"use strict";

{
  const KEY = "theme";
  const NEXT = { auto: "light", light: "dark", dark: "auto" };
  let chosen = "auto";
  try {
    chosen = localStorage.getItem(KEY) ?? "auto";
  } catch { /* storage is forbidden: the choice lasts as long as the page */ }
  if (!(chosen in NEXT)) chosen = "auto";

  const show = (button) => {
    document.documentElement.dataset.theme = chosen;
    if (!button) return;
    button.textContent = `Theme: ${chosen}`;
    button.hidden = false;
  };
  show(null);

  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    show(button);
    button.addEventListener("click", () => {
      chosen = NEXT[chosen];
      try {
        localStorage.setItem(KEY, chosen);
      } catch { /* as above */ }
      show(button);
    });
  });
}
