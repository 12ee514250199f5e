// An answer on the screen, cheaply while it grows. Blocks (paragraph, list, table, code, ...) that have another block behind them are
// finished: rendered once, never touched again. Only the last block is rendered anew, at most once a frame, and less often when one
// rendering takes long, so that writing never takes more than a quarter of the time.
import {decorateCode} from './code.js';
import {blocks, fragmentOf, normalize} from './markdown.js';
import {renderMath} from './math.js';

const kMaybeListItem = /^\s*\d{1,9}[.)]?\s*$/;

function renderInto(element, tokens, final) {
  const fragment = fragmentOf(tokens);
  decorateCode(fragment, {final});
  renderMath(fragment);
  element.append(fragment);
}

/** The whole of `text` as children of `element`. */
export function renderMarkdown(element, text) {
  element.replaceChildren();
  renderInto(element, blocks(normalize(text)), true);
}

export class StreamRenderer {
  #element; #tail; #text = ''; #offset = 0; #frame = 0; #timer = 0; #notBefore = 0; #openCode = null;

  /** Renders into `element`, which must be empty. */
  constructor(element) {
    this.#element = element;
    this.#tail = document.createElement('div');
    this.#tail.className = 'tail';
    element.append(this.#tail);
  }

  /** The text so far; what was given before must be a prefix of it. */
  update(text) {
    this.#text = text;
    if (this.#frame || this.#timer) return;
    const wait = this.#notBefore - performance.now();
    if (wait > 20) this.#timer = setTimeout(() => { this.#timer = 0; this.#schedule(); }, wait);
    else this.#schedule();
  }

  /** The last call: everything is rendered now. */
  finish(text) {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    this.#text = text;
    const pending = normalize(text).slice(this.#offset);
    this.#tail.remove();
    renderInto(this.#element, blocks(pending), true);
  }

  #schedule() {
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      const start = performance.now();
      this.#render();
      const now = performance.now();
      this.#notBefore = now + 3 * (now - start);
    });
  }

  #render() {
    const pending = normalize(this.#text.replace(/\r$/, '')).slice(this.#offset);
    const tokens = blocks(pending, {streaming: true});
    let last = tokens.findLastIndex(token => token.type !== 'space');
    // "1. a, empty line, 2" may become the list's second item.
    if (last > 0 && kMaybeListItem.test(tokens[last].raw)) last = Math.max(0, tokens.findLastIndex(token => token.type === 'list'));
    if (last > 0) {
      const finished = tokens.slice(0, last);
      const holder = document.createElement('div');
      renderInto(holder, finished, true);
      this.#tail.before(...holder.childNodes);
      this.#offset += finished.reduce((sum, token) => sum + token.raw.length, 0);
      this.#openCode = null;
    }
    if (last >= 0) this.#renderTail(tokens[last], tokens.slice(last));
  }

  #renderTail(token, tokens) {
    // A long code block grows by text alone.
    const open = this.#openCode;
    if (token.type === 'code' && open?.lang === token.lang && token.text.startsWith(open.node.data)) {
      open.node.appendData(token.text.slice(open.node.data.length));
      return;
    }
    this.#tail.replaceChildren();
    renderInto(this.#tail, tokens, false);
    const node = token.type === 'code' ? this.#tail.querySelector('code')?.firstChild : null;
    this.#openCode = node ? {lang: token.lang, node} : null;
    if (node) node.data = token.text;
  }
}
