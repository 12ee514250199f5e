// The messages on the screen: the current conversation's list, the answer that is being written, actions under each message.
import * as chat from './chat.js';
import {conversations} from './conversations.js';
import {autoGrow, byId, copyText, h, icon, iconButton, isSendKey} from './dom.js';
import {formatNumber, t} from './i18n.js';
import {announce, toast} from './notices.js';
import {StreamRenderer, renderMarkdown} from './render.js';

let live = null;  // {run, element, body, note, renderer}: the answer on the screen that is still growing

export function initMessages() {
  chat.events.addEventListener('start', ({detail: run}) => { if (run.conversation === conversations.current) showConversation(); });
  chat.events.addEventListener('delta', ({detail: run}) => { if (run === live?.run) update(run); });
  chat.events.addEventListener('end', ({detail: run}) => { if (run === live?.run) finish(run); });
}

/** Draws the current conversation anew. */
export function showConversation() {
  live = null;
  const {messages, skip} = conversations.current;
  const list = byId('messages');
  list.replaceChildren(...messages.map((message, index) => element(message, index)));
  if (skip > 0) list.children[skip]?.before(h('p', {class: 'skip-line'}, t('skipped')));
}

function element(message, index) {
  return message.role === 'user' ? questionElement(message, index) : answerElement(message, index);
}

function questionElement(message, index) {
  const article = h('article', {class: 'message question', 'aria-label': t('user')}, h('div', {class: 'bubble'}, message.content));
  article.append(h('div', {class: 'actions'}, copyButton(message),
    iconButton('edit', t('edit'), () => edit(article, message, index), {'data-action': 'edit'})));
  return article;
}

function answerElement(message, index) {
  const body = h('div', {class: 'prose'});
  const note = h('div', {class: 'answer-note'});
  const article = h('article', {class: 'message answer', 'aria-label': t('assistant')}, body, note);
  const run = chat.runOf(conversations.current);
  if (run?.message === message) {
    article.classList.add('streaming');
    live = {run, element: article, body, note, renderer: new StreamRenderer(body), index};
    update(run);
  } else {
    renderMarkdown(body, message.content);
    complete(article, note, message, index);
  }
  return article;
}

function update(run) {
  const {message, waiting} = run;
  live.renderer.update(message.content);
  live.element.classList.toggle('thinking', message.content === '' && !waiting);
  if (waiting) {
    live.note.replaceChildren(h('span', {}, t(waiting.reason === 'busy' ? 'waitingBusy' : 'waitingLoading', {seconds: waiting.seconds})),
      h('button', {type: 'button', class: 'link-button', onclick: () => run.wake()}, t('retryNow')));
  } else {
    live.note.textContent = message.speed ? t('speed', {speed: message.speed.toFixed(1)}) : '';
  }
}

function finish(run) {
  const {element: article, body, note, renderer, index} = live;
  live = null;
  renderer.finish(run.message.content);
  article.classList.remove('streaming', 'thinking');
  body.normalize();
  complete(article, note, run.message, index);
  announce(run.message.status === 'error' ? t(`error_${run.message.error.kind}`) : t('answerComplete'));
}

// What stands under a complete answer: how it ended, figures, actions.
function complete(article, note, message, index) {
  note.replaceChildren();
  if (message.status === 'error') article.append(errorBox(message, index));
  if (message.status === 'length') {
    note.append(h('span', {}, t('stoppedAtLength')), h('button', {type: 'button', class: 'link-button', onclick: continueAnswer}, t('continue')));
  }
  if (message.status === 'stopped') note.append(h('span', {}, t('stopped')));
  article.append(h('div', {class: 'actions'}, copyButton(message),
    iconButton('redo', t('regenerate'), () => regenerate(index), {'data-action': 'regenerate'}), figures(message)));
}

function figures({usage, speed, wait, model}) {
  const parts = [];
  if (usage) parts.push(t('tokens', {count: formatNumber(usage.completion)}));
  if (speed) parts.push(t('speed', {speed: speed.toFixed(1)}));
  if (wait) parts.push(t('firstToken', {seconds: wait.toFixed(2)}));
  if (model) parts.push(model);
  return h('span', {class: 'figures'}, parts.join(' · '));
}

function errorBox({content, error}, index) {
  const buttons = [h('button', {type: 'button', class: 'retry', onclick: () => regenerate(index, {undo: content !== ''})}, t('retry'))];
  if (error.kind === 'context') {
    buttons.push(h('button', {type: 'button', onclick: () => {
      if (chat.skipEarliestTurn(conversations.current)) regenerate(index, {undo: false});
      else toast(t('nothingToSkip'), {error: true});
    }}, t('skipEarliest')));
  }
  return h('div', {class: 'error-box', role: 'alert'}, h('p', {}, t(`error_${error.kind}`)),
    error.detail && h('p', {class: 'error-detail'}, error.detail), h('div', {class: 'row'}, ...buttons));
}

function copyButton(message) {
  const button = iconButton('copy', t('copy'), async () => {
    const copied = await copyText(message.content);
    button.replaceChildren(icon(copied ? 'check' : 'close'));
    announce(t(copied ? 'copied' : 'copyFailed'));
    setTimeout(() => button.replaceChildren(icon('copy')), 1500);
  }, {'data-action': 'copy'});
  return button;
}

function ready() {
  if (!chat.runOf(conversations.current)) return true;
  toast(t('stillWriting'));
  return false;
}

function withUndo(lost, text, change) {
  const snapshot = structuredClone(conversations.current);
  change();
  if (lost) {
    toast(text, {undo: async () => {
      await chat.stop(snapshot);
      await conversations.restore(snapshot);
    }});
  }
}

function regenerate(index, {undo = true} = {}) {
  if (!ready()) return;
  withUndo(undo, t('answerReplaced'), () => chat.regenerate(conversations.current, index));
}

function continueAnswer() {
  if (ready()) chat.send(conversations.current, t('continueMessage'));
}

function edit(article, message, index) {
  if (!ready()) return;
  const field = h('textarea', {class: 'edit-field', 'aria-label': t('edit'), rows: 1});
  field.value = message.content;
  const leave = () => {
    article.replaceWith(questionElement(message, index));
    byId('input').focus();
  };
  const resend = () => {
    const text = field.value.trim();
    if (text === '' || !ready()) return;
    const later = conversations.current.messages.length > index + 2;
    withUndo(true, t(later ? 'laterRemoved' : 'answerReplaced'), () => chat.editAndResend(conversations.current, index, text));
  };
  field.addEventListener('input', () => autoGrow(field));
  field.addEventListener('keydown', event => {
    if (event.key === 'Escape' && !event.isComposing) leave();
    if (!isSendKey(event)) return;
    event.preventDefault();
    resend();
  });
  article.replaceChildren(h('div', {class: 'edit-box'}, field, h('div', {class: 'row'},
    h('button', {type: 'button', class: 'quiet', onclick: leave}, t('cancel')),
    h('button', {type: 'button', class: 'primary', 'data-action': 'resend', onclick: resend}, t('resend')))));
  autoGrow(field);
  field.focus();
}

/** The last question's edit field (arrow up in an empty input). */
export function editLastQuestion() {
  const {messages} = conversations.current;
  const index = messages.findLastIndex(message => message.role === 'user');
  if (index >= 0) edit(byId('messages').querySelectorAll('.message')[index], messages[index], index);
}
