// The theme before the first paint: auto, light or dark, as it was chosen last. No module, so that it runs at once.
(() => {
  const root = document.documentElement;
  const themes = ["auto", "light", "dark"];
  const stored = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null;
    }
  };
  const apply = (theme) => {
    root.dataset.theme = themes.includes(theme) ? theme : "auto";
  };
  apply(stored());
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const name = () => {
      button.title = `Theme: ${root.dataset.theme}`;
      button.setAttribute("aria-label", button.title);
    };
    name();
    button.addEventListener("click", () => {
      apply(themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length]);
      name();
      try {
        localStorage.setItem("theme", root.dataset.theme);
      } catch {
        // Without a store the choice lasts as long as the page.
      }
    });
  });
})();
