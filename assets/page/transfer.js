// Export and import of conversations.
import {conversations, titleOf} from './conversations.js';
import {download, newId} from './dom.js';
import {t} from './i18n.js';
import {validSettings} from './settings_values.js';

const kFormat = 'llama2zh-conversations';
const kMaxImport = 64 << 20;  // bytes

const fileName = (title, ending) => `${title.replace(/[\\/:*?"<>|\s]+/g, '_').slice(0, 40) || 'llama2zh'}.${ending}`;

export function exportJson(list, title) {
  const content = {format: kFormat, version: 1, exported: new Date().toISOString(), conversations: list};
  download(fileName(title, 'json'), 'application/json', `${JSON.stringify(content, null, 1)}\n`);
}

export function exportMarkdown(conversation) {
  const parts = [`# ${titleOf(conversation)}`];
  if (conversation.settings.system) parts.push(`## ${t('systemPrompt')}\n\n${conversation.settings.system}`);
  for (const {role, content} of conversation.messages) parts.push(`## ${t(role)}\n\n${content}`);
  download(fileName(titleOf(conversation), 'md'), 'text/markdown', `${parts.join('\n\n')}\n`);
}

const text = (value, limit) => typeof value === 'string' ? value.slice(0, limit) : '';
const time = value => Number.isFinite(value) ? value : Date.now();

function validMessage(message) {
  if (!['user', 'assistant'].includes(message?.role) || typeof message.content !== 'string') throw new Error(t('importBadMessage'));
  const known = ['done', 'stopped', 'length'].includes(message.status) ? message.status : 'done';
  return {id: newId(), role: message.role, content: message.content, time: time(message.time), status: known, model: text(message.model, 200)};
}

function validConversation(conversation) {
  if (!Array.isArray(conversation?.messages)) throw new Error(t('importBadFile'));
  const messages = conversation.messages.map(validMessage);
  const skip = Number.isInteger(conversation.skip) && conversation.skip >= 0 && conversation.skip <= messages.length ? conversation.skip : 0;
  return {
    id: newId(), title: text(conversation.title, 200), created: time(conversation.created), updated: time(conversation.updated),
    settings: validSettings(conversation.settings), skip, messages,
  };
}

/** Adds the conversations of an exported file beside those that are here; returns how many. Throws Error with words for the user. */
export async function importFile(file) {
  if (file.size > kMaxImport) throw new Error(t('importTooBig'));
  let content;
  try { content = JSON.parse(await file.text()); } catch { throw new Error(t('importBadFile')); }
  if (content?.format !== kFormat || !Array.isArray(content.conversations)) throw new Error(t('importBadFile'));
  const list = content.conversations.map(validConversation);  // all are checked before one is added
  for (const conversation of list) await conversations.save(conversation, {touch: false});
  if (list.length > 0) conversations.select(list[0].id);
  return list.length;
}
