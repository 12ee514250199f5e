// Runs before the first paint, so that a page in the dark is never white for a moment. settings in localStorage: 'light', 'dark' or none (the system's).
(function () {
  let theme = null;
  try { theme = localStorage.getItem('llama2zh.theme'); } catch { /* storage is forbidden: the system's scheme */ }
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
})();
