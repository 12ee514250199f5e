// The server and its models: waits until it is there and has loaded, then offers the models and adapters it lists.
import {isReady, listModels, setApiKey} from './api.js';
import {conversations} from './conversations.js';
import {byId, h} from './dom.js';
import {t} from './i18n.js';
import {announce, askForKey, toast} from './notices.js';

let models = [];

export const connected = () => models.length > 0;
export const modelOf = conversation => models.find(model => model.id === conversation.settings.model);

/** Resolves when there are models to choose from. Shows in the banner what is waited for. */
export async function connect() {
  for (let attempt = 0; ; ++attempt) {
    try {
      if (await isReady()) {
        models = await listModels();
        break;
      }
      banner(t('serverLoading'));
    } catch (error) {
      if (error.kind === 'auth') await askUntilGiven();
      else if (error.kind === 'request') banner(`${t('error_request')} ${error.detail}`);  // refused: by its name, or its origin
      else banner(t(error.kind === 'loading' ? 'serverLoading' : 'serverUnreachable', {detail: error.detail ?? String(error)}));
      if (error.kind === 'auth') continue;
    }
    await new Promise(resolve => setTimeout(resolve, Math.min(500 * 1.5 ** attempt, 5000)));
  }
  banner(models.length > 0 ? '' : t('noModels'));
  showModels();
}

async function askUntilGiven() {
  const key = await askForKey();
  if (key) return setApiKey(key);
  banner(t('keyNeeded'), h('button', {type: 'button', class: 'link-button', id: 'enter-key'}, t('keyEnter')));
  await new Promise(resolve => byId('enter-key').addEventListener('click', resolve, {once: true}));
  return askUntilGiven();
}

function banner(text, ...more) {
  const element = byId('banner');
  if (element.textContent !== text) {
    element.replaceChildren(text, ...more);
    if (text) announce(text);
  }
  element.hidden = text === '';
}

/** Base models, each followed by its adapters. The conversation's model is chosen; one that the server lacks gives way to the first. */
export function showModels() {
  const select = byId('model');
  if (!connected()) {
    select.replaceChildren(h('option', {}, t('connecting')));
    select.disabled = true;
    return;
  }
  const bases = models.filter(({parent}) => !models.some(({id}) => id === parent));
  const option = ({id, parent}) => h('option', {value: id}, parent ? `${id} (${t('adapter')})` : id);
  select.replaceChildren(...bases.flatMap(base => [option(base), ...models.filter(({parent}) => parent === base.id).map(option)]));
  select.disabled = false;
  const {current} = conversations;
  if (!modelOf(current)) {
    if (current.settings.model) toast(t('modelGone', {model: current.settings.model}));
    conversations.changeSettings(current, {...current.settings, model: models[0].id});
  }
  select.value = current.settings.model;
}

export function initModels() {
  byId('model').addEventListener('change', event => {
    const {current} = conversations;
    conversations.changeSettings(current, {...current.settings, model: event.target.value});
  });
}
