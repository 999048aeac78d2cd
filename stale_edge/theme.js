// Switches between the light and the dark look; the system's is the first. Whatever draws itself listens to "look".
(() => {
  "use strict";
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

  const show = () => {
    root.dataset.look = isDark() ? "dark" : "light";
    button.textContent = isDark() ? "Light look" : "Dark look";
    button.setAttribute("aria-pressed", String(isDark()));
    document.dispatchEvent(new Event("look"));
  };

  button.addEventListener("click", () => {
    const wanted = !isDark();
    // Who comes back to what the system prefers follows it again.
    if (wanted === system.matches) delete root.dataset.theme;
    else root.dataset.theme = wanted ? "dark" : "light";
    show();
  });
  system.addEventListener("change", show);
  show();
})();
