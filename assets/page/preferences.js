// Small settings of this browser: localStorage below "llama2zh.", or nothing where storage is forbidden.

export function preference(name) {
  try { return localStorage.getItem(`llama2zh.${name}`); } catch { return null; }
}

/** null removes it. */
export function setPreference(name, value) {
  try {
    if (value === null) localStorage.removeItem(`llama2zh.${name}`);
    else localStorage.setItem(`llama2zh.${name}`, value);
  } catch { /* forbidden or full: it holds until the page is left */ }
}
