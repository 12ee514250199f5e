// Toasts (with undo), questions, the pop-up menu, and what is said to screen readers.
import {byId, h, iconButton} from './dom.js';
import {t} from './i18n.js';

/** Said by a screen reader, not shown. */
export function announce(text) {
  byId('announcer').textContent = text;
}

/** A short notice at the bottom; with `undo`, a button that takes the change back. */
export function toast(text, {undo = null, error = false} = {}) {
  const close = () => element.remove();
  const element = h('div', {class: `toast${error ? ' toast-error' : ''}`, role: error ? 'alert' : 'status'}, h('span', {}, text),
    undo && h('button', {type: 'button', class: 'toast-action', onclick: () => { close(); undo(); }}, t('undo')),
    iconButton('close', t('close'), close));
  byId('toasts').replaceChildren(element);
  setTimeout(close, error || undo ? 10_000 : 4000);
}

/** Whether the user agrees. */
export function confirmed(question, action) {
  const dialog = byId('confirm-dialog');
  byId('confirm-text').textContent = question;
  byId('confirm-ok').textContent = action;
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise(resolve => dialog.addEventListener('close', () => resolve(dialog.returnValue === 'ok'), {once: true}));
}

/** The API key the user types, or null. */
export function askForKey() {
  const dialog = byId('key-dialog');
  byId('key').value = '';
  byId('key-cancel').onclick = () => dialog.close('');
  dialog.returnValue = '';
  if (!dialog.open) dialog.showModal();
  return new Promise(resolve =>
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'ok' ? byId('key').value.trim() : null), {once: true}));
}

/** A menu at `anchor`: items {label, action, danger}. Arrow keys move in it, Escape closes it. */
export function showMenu(anchor, items) {
  const menu = byId('menu');
  menu.replaceChildren(...items.map(({label, action, danger}) => h('button', {
    type: 'button', role: 'menuitem', class: danger && 'danger-item',
    onclick: () => { menu.hidePopover(); action(); },
  }, label)));
  menu.onkeydown = event => {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (!step) return;
    event.preventDefault();
    const buttons = [...menu.children];
    buttons[(buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length].focus();
  };
  menu.showPopover();
  const place = anchor.getBoundingClientRect(), size = menu.getBoundingClientRect();
  const below = place.bottom + 4 + size.height < innerHeight;
  menu.style.left = `${Math.max(8, Math.min(place.right - size.width, innerWidth - size.width - 8))}px`;
  menu.style.top = `${below ? place.bottom + 4 : Math.max(8, place.top - size.height - 4)}px`;
  menu.firstElementChild.focus();
}
