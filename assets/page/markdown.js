// Markdown of a model -> elements that are safe to show. What a model writes is untrusted: raw HTML is shown as text, images become links
// (nothing is fetched from elsewhere), links go to http, https and mailto only, and DOMPurify lets through only what is listed here.
import {Tokenizer, lexer, marked, parser} from './lib/marked.js';
import DOMPurify from './lib/purify.js';
import {mathExtensions} from './math.js';

const escapeHtml = text => text.replace(/[&<>"']/g, c => ({'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;'})[c]);

const kHarmlessTag = /^<\/?(?:br|sub|sup|kbd|u)\s*\/?>$/i;
const kCjk = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\u3000-\u303f\uff00-\uffef\u2018-\u201d\u2026\u2014]/u;
const kBeforeCjk = new RegExp(`[!-)+-/:-@[-^\`{-~](?=\\*+${kCjk.source})`, 'gu');
const kUpToCjk = new RegExp(`^(?:(?!${kCjk.source})[^])*`, 'u');

const state = {streaming: false};

marked.use({
  gfm: true, breaks: true, headerIds: false, mangle: false,
  extensions: mathExtensions(state),
  tokenizer: {
    // CommonMark wants a space or punctuation around ** next to punctuation: "**f(x)**是" would stay as it is, since Chinese has no spaces.
    emStrong(source, masked, previous = '') {
      return Tokenizer.prototype.emStrong.call(this, source, masked.replace(kBeforeCjk, 'a'), kCjk.test(previous) ? '' : previous);
    },
    // A bare address ends where Chinese begins: "见https://example.com。谢谢".
    url(source, mangle) {
      return Tokenizer.prototype.url.call(this, kUpToCjk.exec(source)[0], mangle);
    },
  },
  renderer: {
    html: text => kHarmlessTag.test(text.trim()) ? text : escapeHtml(text),
    table: (header, body) => `<div class="table-box"><table><thead>${header}</thead>${body && `<tbody>${body}</tbody>`}</table></div>\n`,
    checkbox: checked => checked ? '☑ ' : '☐ ',
    image: (href, title, text) => `<a class="image-link" href="${escapeHtml(href ?? '')}">${text || escapeHtml(href ?? '')}</a>`,
  },
});

const kPolicy = {
  ALLOWED_TAGS: ['a', 'blockquote', 'br', 'code', 'del', 'div', 'em', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'hr', 'kbd', 'li', 'ol', 'p', 'pre',
    'span', 'strong', 'sub', 'sup', 'table', 'tbody', 'td', 'th', 'thead', 'tr', 'u', 'ul', '#text'],
  ALLOWED_ATTR: ['align', 'class', 'href', 'start', 'title'],
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  ADD_URI_SAFE_ATTR: ['align', 'start'],  // whose values are not addresses
  ALLOW_ARIA_ATTR: false, ALLOW_DATA_ATTR: false, RETURN_DOM_FRAGMENT: true,
};
const kClasses = /^(?:language-\S+|math|math-(?:inline|display|open|line)|image-link|table-box|hljs-[\w-]+)$/;

// Debian's 2.4.1+dfsg+~2.4.0-2+deb12u1 patched CVE-2024-47875 with a check that reads an undeclared variable, so that every call throws. With
// a variable that holds nothing the check finds nothing, as upstream, which has no check there; nesting is limited node by node as meant.
globalThis.shadowNode ??= {};

DOMPurify.addHook('uponSanitizeAttribute', (node, data) => {
  if (data.attrName === 'class') data.attrValue = data.attrValue.split(/\s+/).filter(name => kClasses.test(name)).join(' ');
});
DOMPurify.addHook('afterSanitizeAttributes', node => {
  if (node.tagName !== 'A' || !node.hasAttribute('href')) return;
  node.setAttribute('target', '_blank');
  node.setAttribute('rel', 'noopener noreferrer');
});

/** Only the listed elements and attributes of `html`, as a fragment. */
export const sanitize = html => DOMPurify.sanitize(html, kPolicy);

/** Line ends and leading tabs as marked itself would turn them, so that the tokens' `raw` add up to this text. */
export const normalize = text => text.replace(/\r\n?/g, '\n').replace(/^( *)(\t+)/gm, (_, spaces, tabs) => spaces + '    '.repeat(tabs.length));

/** The blocks of normalized text. streaming: the text's end is still to come. */
export function blocks(text, {streaming = false} = {}) {
  state.streaming = streaming;
  try {
    return lexer(`${text}\n`);  // marked takes an open code fence for one only when its last line has ended
  } finally {
    state.streaming = false;
  }
}

/** Tokens of `blocks` as a fragment, math and code not yet rendered. */
export const fragmentOf = tokens => sanitize(parser(tokens));
