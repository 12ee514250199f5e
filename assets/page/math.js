// LaTeX in Markdown: $..$ and \(..\) inline, $$..$$ and \[..\] displayed. Markdown leaves the source in a span.math; KaTeX, loaded with
// the first formula, replaces it. A formula that KaTeX refuses stays as it was written.

const kMaxSource = 10_000;
const kInlineDollar = /^\$(?![\s$])((?:\\[^\n]|[^\\$\n])*?[^\s\\$]|(?:\\[^\n]))\$(?!\d)/;  // pandoc's rule: "$5 and $6" is money
const kInlineParenthesis = /^\\\(([^\n]+?)\\\)/;
const kDisplay = /^ {0,3}(?:\$\$(?:(?!\$\$)[^])+\$\$|\\\[(?:(?!\\\])[^])+\\\])[ \t]*(?:\n+|$)/;
const kDisplayInline = /^(?:\$\$([^\n$]+?)\$\$|\\\[([^\n]+?)\\\])/;
const kDisplayOpen = /^ {0,3}(?:\$\$(?:(?!\$\$)[^])*|\\\[(?:(?!\\\])[^])*)$/;

const escapeHtml = text => text.replace(/[&<>"]/g, c => ({'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;'})[c]);
const span = (raw, kind) => `<span class="math math-${kind}">${escapeHtml(raw)}</span>`;

/** Extensions for marked. `state.streaming`: a display formula that is not closed yet is held as one block. */
export const mathExtensions = state => [
  {
    name: 'displayMath',
    level: 'block',
    start: text => text.match(/\n {0,3}(?:\$\$|\\\[)/)?.index,
    tokenizer(text) {
      const match = kDisplay.exec(text);
      if (match) return {type: 'displayMath', raw: match[0], source: match[0].trim(), closed: true};
      if (state.streaming && kDisplayOpen.test(text)) return {type: 'displayMath', raw: text, source: text.trim(), closed: false};
      return undefined;
    },
    renderer: token => `<div class="math-line">${span(token.source, token.closed ? 'display' : 'open')}</div>\n`,
  },
  {
    name: 'inlineMath',
    level: 'inline',
    start: text => text.match(/\$|\\\(|\\\[/)?.index,
    tokenizer(text) {
      const display = kDisplayInline.exec(text);
      const match = display ?? kInlineDollar.exec(text) ?? kInlineParenthesis.exec(text);
      return match ? {type: 'inlineMath', raw: match[0], kind: display ? 'display' : 'inline'} : undefined;
    },
    renderer: token => span(token.raw, token.kind),
  },
];

/** The formula without its delimiters. */
const sourceOf = raw => raw.replace(/^(?:\$\$|\$|\\\(|\\\[)/, '').replace(/(?:\$\$|\$|\\\)|\\\])$/, '');

let loading = null;
const katex = () => loading ??= import('./lib/katex/katex.js').then(() => globalThis.katex);  // a classic script: it sets a global

// KaTeX builds elements and sets styles through the CSS object model, so that the page needs no 'unsafe-inline' in its policy.
const kOptions = {
  throwOnError: true, trust: false, strict: 'ignore', maxSize: 10, maxExpand: 500, output: 'htmlAndMathml', errorColor: 'var(--muted)',
};

function renderFormula(renderer, element) {
  const raw = element.textContent;
  if (element.dataset.done || raw.length > kMaxSource) return;
  element.dataset.done = '1';
  const holder = document.createElement('span');
  try {
    renderer.render(sourceOf(raw), holder, {...kOptions, displayMode: element.classList.contains('math-display')});
    element.replaceChildren(...holder.childNodes);
  } catch {
    element.classList.add('math-error');
  }
}

/** Renders the formulas below `root`: at once when KaTeX is here, else when it has come. */
export function renderMath(root) {
  const elements = root.querySelectorAll('.math-inline, .math-display');
  if (elements.length === 0) return;
  if (globalThis.katex) for (const element of elements) renderFormula(globalThis.katex, element);
  else katex().then(renderer => elements.forEach(element => renderFormula(renderer, element)), () => { loading = null; });
}
