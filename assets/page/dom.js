// Small helpers over the DOM. Nothing here takes HTML as text: the page's policy (Trusted Types) forbids it.

export const byId = id => document.getElementById(id);

/** An element: h('button', {class: 'x', onclick: f, 'aria-label': 'y'}, 'text', child). Properties that are null or false are left out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter(child => child !== null && child !== undefined));
  return element;
}

/** One of the icons that index.html draws. */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.setAttribute('aria-hidden', 'true');
  svg.append(use);
  return svg;
}

export const iconButton = (name, label, onclick, extra = {}) =>
  h('button', {class: 'icon-button', type: 'button', 'aria-label': label, title: label, onclick, ...extra}, icon(name));

/** Ids that need no secure context (crypto.randomUUID does, and the page is also used over plain http in a local network). */
export const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), byte => byte.toString(16).padStart(2, '0')).join('');

/** Copies text; over plain http the clipboard API is not there and the old way serves. Returns whether it worked. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = h('textarea', {class: 'visually-hidden', 'aria-hidden': 'true'});
    field.value = text;
    (document.querySelector('dialog[open]') ?? document.body).append(field);
    field.select();
    const copied = document.execCommand('copy');
    field.remove();
    return copied;
  }
}

export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], {type}));
  h('a', {href: url, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Grows a textarea with its text, up to the height that the style sheet allows. */
export function autoGrow(field) {
  field.style.height = 'auto';
  field.style.height = `${field.scrollHeight + 2}px`;
}

/** Enter that means "send": not the one that ends the input method's word (229 is Safari's and old Chrome's sign of that), not Shift+Enter. */
export const isSendKey = event =>
  event.key === 'Enter' && !event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey && !event.isComposing && event.keyCode !== 229;
