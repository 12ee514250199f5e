// The conversations: what they are, and every change to them. A change is saved at once and told to the page ('list', 'current') and to
// other tabs.
//
// {id, title, created, updated, settings, skip, messages: [{id, role, content, time, status, error, usage, speed, wait, model}]}
// skip: how many messages from the start are no longer sent. status: done | streaming | stopped | length | error (with `error` {kind, detail}).
import {newId} from './dom.js';
import {t} from './i18n.js';
import {preference, setPreference} from './preferences.js';
import {defaultSettings, validSettings} from './settings_values.js';
import * as store from './store.js';

class Conversations extends EventTarget {
  #all = new Map(); #current = null; #channel = null;

  /** Returns false where the browser keeps nothing. `isRunning(id)`: whether this tab is writing that conversation. */
  async open(isRunning) {
    const kept = await store.openStore();
    for (const conversation of await store.loadAll()) this.#adopt(conversation);
    if ('BroadcastChannel' in globalThis) {
      this.#channel = new BroadcastChannel('llama2zh');
      this.#channel.onmessage = async ({data: id}) => {
        if (isRunning(id)) return;
        const conversation = await store.load(id);
        if (conversation) this.#adopt(conversation, {elsewhere: true});
        else this.#all.delete(id);
        if (this.#current?.id === id) this.select(id);
        this.#tell('list');
      };
    }
    this.select(preference('current'));
    return kept;
  }

  // A streaming answer that was saved belongs to a page that was closed or reloaded meanwhile; elsewhere: to another tab that goes on.
  #adopt(conversation, {elsewhere = false} = {}) {
    for (const message of conversation.messages) {
      if (message.status === 'streaming') Object.assign(message, elsewhere ? {status: 'done'} : {status: 'error', error: {kind: 'left', detail: ''}});
    }
    conversation.settings = validSettings(conversation.settings);
    this.#all.set(conversation.id, conversation);
  }

  #tell(what) { this.dispatchEvent(new CustomEvent(what)); }

  get current() { return this.#current; }
  has(id) { return this.#all.has(id); }
  list() { return [...this.#all.values()].sort((a, b) => b.updated - a.updated); }

  /** Shows a conversation; a new, empty one (saved with its first message) for an id that is not there. */
  select(id) {
    this.#current = this.#all.get(id) ?? {
      id: newId(), title: '', created: Date.now(), updated: Date.now(), settings: lastSettings(), skip: 0, messages: [],
    };
    setPreference('current', this.#current.id);
    this.#tell('current');
    this.#tell('list');
  }

  /** Saves; failures (a full disk) are told as event 'failed'. touch: it moves to the top of the list. */
  async save(conversation, {touch = true} = {}) {
    if (touch) conversation.updated = Date.now();
    this.#all.set(conversation.id, conversation);
    this.#tell('list');
    try {
      await store.save(structuredClone(conversation));
      this.#channel?.postMessage(conversation.id);
    } catch (error) {
      this.dispatchEvent(new CustomEvent('failed', {detail: error}));
    }
  }

  async remove(id) {
    this.#all.delete(id);
    if (this.#current.id === id) this.select(null);
    this.#tell('list');
    await store.remove(id);
    this.#channel?.postMessage(id);
  }

  async removeAll() {
    for (const id of [...this.#all.keys()]) await this.remove(id);
  }

  /** Puts an earlier state back (undo). */
  async restore(snapshot) {
    await this.save(snapshot, {touch: false});
    this.select(snapshot.id);
  }

  async changeSettings(conversation, settings) {
    conversation.settings = settings;
    setPreference('settings', JSON.stringify(settings));
    if (this.#all.has(conversation.id)) await this.save(conversation, {touch: false});
  }
}

/** New conversations go on with the settings that were used last. */
function lastSettings() {
  try {
    return validSettings(JSON.parse(preference('settings')));
  } catch {
    return defaultSettings();
  }
}

export const titleOf = conversation => conversation.title || t('newChat');

/** A title from the first question: its first line, shortened. */
export function suggestTitle(text) {
  const line = text.trim().split('\n')[0].trim();
  return [...line].length > 30 ? `${[...line].slice(0, 30).join('')}…` : line;
}

export const conversations = new Conversations();
