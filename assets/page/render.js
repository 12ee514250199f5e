// An answer on the screen, cheaply while it grows. Blocks (paragraph, list, table, code, ...) that have another block behind them are
// finished: rendered once, never touched again. Only the last block is rendered anew, at most once a frame, and less often when one
// rendering takes long, so that writing never takes more than a quarter of the time. Of a growing list only items that changed are rendered.
import {decorateCode} from './code.js';
import {blocks, fragmentOf, normalize} from './markdown.js';
import {renderMath} from './math.js';

const kMaybeListItem = /^\s*\d{1,9}[.)]?\s*$/;  // "1. a, empty line, 2" may become the list's second item
const isBlock = token => token.type !== 'space';

function rendered(tokens, final) {
  const fragment = fragmentOf(tokens);
  decorateCode(fragment, {final});
  renderMath(fragment);
  return fragment;
}

/** The whole of `text` as children of `element`. */
export function renderMarkdown(element, text) {
  element.replaceChildren(rendered(blocks(normalize(text)), true));
}

// A list that grows: its element keeps the items whose source stays the same.
class GrowingList {
  #token; #sources = [];
  element = null;

  constructor(token) { this.#token = token; }

  continues(token) { return token.type === 'list' && token.ordered === this.#token.ordered && token.loose === this.#token.loose; }

  /** complete: the last item too has come to its end. */
  update(token, complete) {
    token.items.forEach((item, index) => {
      const done = complete || index + 1 < token.items.length;
      const source = `${done ? '' : 'open '}${item.raw.trimEnd()}`;
      if (this.#sources[index] === source) return;
      this.#sources[index] = source;
      const list = rendered([{...token, items: [item]}], done).firstElementChild;
      if (!this.element) this.element = list;
      else if (this.element.children[index]) this.element.children[index].replaceWith(list.firstElementChild);
      else this.element.append(list.firstElementChild);
    });
    while (this.element.children.length > token.items.length) this.element.lastElementChild.remove();
    this.#sources.length = token.items.length;
  }
}

export class StreamRenderer {
  #tail; #text = ''; #offset = 0; #frame = 0; #timer = 0; #notBefore = 0; #openCode = null; #list = null;

  /** Renders into `element`, which must be empty. */
  constructor(element) {
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
    const tokens = blocks(normalize(text).slice(this.#offset));
    this.#commit(tokens, tokens.length);
    this.#tail.remove();
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
    const pending = normalize(this.#text).slice(this.#offset);
    const tokens = blocks(pending, {streaming: true});
    let last = tokens.findLastIndex(isBlock);
    if (last > 0 && kMaybeListItem.test(tokens[last].raw)) last = Math.max(0, tokens.findLastIndex(token => token.type === 'list'));
    if (last > 0) this.#commit(tokens, last);
    if (last >= 0) this.#renderTail(tokens[last], tokens.slice(last + 1).filter(isBlock));
  }

  // The first `count` tokens are finished.
  #commit(tokens, count) {
    const first = tokens.findIndex(isBlock);
    let from = 0;
    if (this.#list && tokens[first] && this.#list.continues(tokens[first])) {
      this.#list.update(tokens[first], true);
      from = first + 1;
    } else {
      this.#list?.element.remove();
    }
    this.#tail.replaceChildren();
    this.#list = this.#openCode = null;
    this.#tail.before(rendered(tokens.slice(from, count), true));
    for (const token of tokens.slice(0, count)) this.#offset += token.raw.length;
  }

  // `token` grows; `more` is what may yet become part of it.
  #renderTail(token, more) {
    const open = this.#openCode;
    if (token.type === 'code' && open?.lang === token.lang && token.text.startsWith(open.node.data)) {
      open.node.appendData(token.text.slice(open.node.data.length));  // a long code block grows by text alone
      return;
    }
    this.#openCode = null;
    if (token.type === 'list') {
      const continued = this.#list?.continues(token);
      if (!continued) {
        this.#list?.element.remove();
        this.#list = new GrowingList(token);
      }
      this.#list.update(token, false);
      if (!continued) this.#tail.before(this.#list.element);  // where it stays: moving a long list lays all of it out again
      this.#tail.replaceChildren(rendered(more, false));
      return;
    }
    this.#list?.element.remove();
    this.#list = null;
    this.#tail.replaceChildren(rendered([token, ...more], false));
    const node = token.type === 'code' ? this.#tail.querySelector('code')?.firstChild : null;
    if (!node) return;
    node.data = token.text;
    this.#openCode = {lang: token.lang, node};
  }
}
