// Code blocks: a bar with the language and a copy button, and highlighting by highlight.js in a worker, which is stopped when it
// takes long (its patterns can run away on text made for that); the code then stays plain.
import {copyText, h, icon} from './dom.js';
import {t} from './i18n.js';
import {sanitize} from './markdown.js';

const kTimeLimit = 2000;  // ms for one block
const kMaxLength = 100_000;

const policy = globalThis.trustedTypes?.createPolicy('llama2zh', {
  createScriptURL(address) {
    if (new URL(address).origin !== location.origin) throw new TypeError(`not a script of this page: ${address}`);
    return address;
  },
});

let worker = null, queue = Promise.resolve();

function highlightNow(code, language) {
  return new Promise(resolve => {
    if (!worker) {
      const address = new URL('highlight_worker.js', import.meta.url).href;
      worker = new Worker(policy ? policy.createScriptURL(address) : address, {type: 'module'});
    }
    const give_up = () => {
      worker.terminate();
      worker = null;
      resolve(null);
    };
    const timer = setTimeout(give_up, kTimeLimit);
    worker.onmessage = event => {
      clearTimeout(timer);
      resolve(event.data);
    };
    worker.onerror = () => {
      clearTimeout(timer);
      give_up();
    };
    worker.postMessage({code, language});
  });
}

/** Highlighted HTML of `code`, or null where the language is unknown or it took too long. One block at a time. */
function highlight(code, language) {
  const result = queue.then(() => highlightNow(code, language));
  queue = result;
  return result;
}

async function copyCode(button, code) {
  const copied = await copyText(code.textContent);
  button.replaceChildren(icon(copied ? 'check' : 'close'), t(copied ? 'copied' : 'copyFailed'));
  setTimeout(() => button.replaceChildren(icon('copy'), t('copy')), 1500);
}

/** Gives the code blocks below `root` (pre > code.language-x) their bar. final: the code is complete, so highlight it. */
export function decorateCode(root, {final}) {
  for (const code of root.querySelectorAll('pre > code')) {
    const language = [...code.classList].find(name => name.startsWith('language-'))?.slice('language-'.length) ?? '';
    const pre = code.parentElement;
    const copy = h('button', {type: 'button', class: 'copy-code', onclick: () => copyCode(copy, code)}, icon('copy'), t('copy'));
    const block = h('div', {class: 'code-block'}, h('div', {class: 'code-bar'}, h('span', {}, language || t('code')), copy));
    pre.replaceWith(block);
    pre.tabIndex = 0;  // a wide block scrolls with the keyboard too
    block.append(pre);
    const text = code.textContent;
    if (!final || !language || text.length > kMaxLength) continue;
    highlight(text, language.toLowerCase()).then(html => {
      if (html !== null && code.textContent === text) code.replaceChildren(sanitize(html));
    });
  }
}
