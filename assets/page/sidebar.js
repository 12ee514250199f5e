// The list of conversations at the side (a drawer on a phone), and the menus for one and for all of them.
import * as chat from './chat.js';
import {conversations, titleOf} from './conversations.js';
import {byId, h, iconButton} from './dom.js';
import {currentLanguage, t} from './i18n.js';
import {confirmed, showMenu, toast} from './notices.js';
import {exportJson, exportMarkdown, importFile} from './transfer.js';

const drawer = {
  set(open) {
    document.body.classList.toggle('drawer-open', open);
    byId('open-sidebar').setAttribute('aria-expanded', String(open));
    (open ? byId('close-sidebar') : byId('open-sidebar')).focus({preventScroll: true});
  },
  close() { if (document.body.classList.contains('drawer-open')) this.set(false); },
};

export function initSidebar() {
  byId('open-sidebar').addEventListener('click', () => drawer.set(true));
  byId('close-sidebar').addEventListener('click', () => drawer.set(false));
  byId('scrim').addEventListener('click', () => drawer.set(false));
  document.addEventListener('keydown', event => { if (event.key === 'Escape') drawer.close(); });
  byId('new-chat').addEventListener('click', newChat);
  byId('chat-menu-button').addEventListener('click', event => showMenu(event.currentTarget, itemMenu(conversations.current)));
  byId('data-button').addEventListener('click', event => showMenu(event.currentTarget, dataMenu()));
  byId('import-file').addEventListener('change', importChosen);
  conversations.addEventListener('list', drawList);
  document.addEventListener('keydown', event => {
    if (!((event.ctrlKey || event.metaKey) && event.shiftKey && event.code === 'KeyO')) return;
    event.preventDefault();
    newChat();
  });
}

export function newChat() {
  conversations.select(null);
  drawer.close();
  byId('input').focus();
}

export function drawList() {
  const {current} = conversations;
  byId('title').textContent = conversations.has(current.id) ? titleOf(current) : '';
  let day = '';
  const rows = [];
  for (const conversation of conversations.list()) {
    const group = dayOf(conversation.updated);
    if (group !== day) rows.push(h('li', {class: 'day', role: 'presentation'}, day = group));
    rows.push(h('li', {class: 'conversation', 'data-id': conversation.id},
      h('button', {
        type: 'button', class: 'conversation-name', 'aria-current': conversation.id === current.id && 'true', title: titleOf(conversation),
        onclick: () => { conversations.select(conversation.id); drawer.close(); },
      }, titleOf(conversation)),
      iconButton('more', t('chatMenu'), event => showMenu(event.currentTarget, itemMenu(conversation)), {'aria-haspopup': 'menu'})));
  }
  byId('conversation-list').replaceChildren(...rows);
}

function dayOf(time) {
  const days = Math.floor((new Date().setHours(24, 0, 0, 0) - time) / 86_400_000);
  if (days <= 0) return t('today');
  if (days === 1) return t('yesterday');
  if (days < 7) return t('thisWeek');
  return new Date(time).toLocaleDateString(currentLanguage() === 'zh' ? 'zh-CN' : 'en', {year: 'numeric', month: 'long'});
}

function itemMenu(conversation) {
  if (!conversations.has(conversation.id)) return [{label: t('import'), action: () => byId('import-file').click()}];
  return [
    {label: t('rename'), action: () => rename(conversation)},
    {label: t('exportMarkdown'), action: () => exportMarkdown(conversation)},
    {label: t('exportJson'), action: () => exportJson([conversation], titleOf(conversation))},
    {label: t('clear'), action: () => clear(conversation)},
    {label: t('delete'), danger: true, action: () => removeOne(conversation)},
  ];
}

function dataMenu() {
  const count = conversations.list().length;
  const all = [
    {label: t('exportAll'), action: () => exportJson(conversations.list(), 'llama2zh')},
    {label: t('deleteAll'), danger: true, action: async () => {
      if (await confirmed(t('deleteAllQuestion', {count}), t('deleteAll'))) {
        await Promise.all(conversations.list().map(chat.stop));
        await conversations.removeAll();
      }
    }},
  ];
  return [{label: t('import'), action: () => byId('import-file').click()}, ...(count > 0 ? all : [])];
}

function rename(conversation) {
  if (matchMedia('(max-width: 760px)').matches) drawer.set(true);
  const row = byId('conversation-list').querySelector(`[data-id="${conversation.id}"]`);
  const field = h('input', {class: 'rename-field', 'aria-label': t('rename'), maxlength: 200});
  field.value = titleOf(conversation);
  let open = true;
  const end = keep => {
    if (!open) return;
    open = false;
    if (keep && field.value.trim()) conversation.title = field.value.trim();
    conversations.save(conversation, {touch: false});
  };
  field.addEventListener('blur', () => end(true));
  field.addEventListener('keydown', event => {
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === 'Enter') end(true);
    if (event.key === 'Escape') { event.stopPropagation(); end(false); }
  });
  row.replaceChildren(field);
  field.select();
}

async function clear(conversation) {
  await chat.stop(conversation);
  const snapshot = structuredClone(conversation);
  Object.assign(conversation, {messages: [], skip: 0});
  conversations.save(conversation, {touch: false});
  conversations.select(conversation.id);
  toast(t('cleared'), {undo: () => conversations.restore(snapshot)});
}

async function removeOne(conversation) {
  await chat.stop(conversation);  // its end would save it once more
  const snapshot = structuredClone(conversation);
  conversations.remove(conversation.id);
  toast(t('deleted', {title: titleOf(conversation)}), {undo: () => conversations.restore(snapshot)});
}

async function importChosen(event) {
  const [file] = event.target.files;
  event.target.value = '';
  if (!file) return;
  try {
    toast(t('imported', {count: await importFile(file)}));
  } catch (error) {
    toast(t('importFailed', {reason: error.message}), {error: true});
  }
}
