// The input at the bottom: sending, stopping, and the context meter below it.
import * as chat from './chat.js';
import {conversations} from './conversations.js';
import {autoGrow, byId, icon, isSendKey} from './dom.js';
import {formatNumber, t} from './i18n.js';
import {editLastQuestion} from './messages.js';
import {connected, modelOf} from './models.js';
import {announce, toast} from './notices.js';

const touch = matchMedia('(pointer: coarse)');  // there Enter is a new line: the send button is at hand, Shift is not

export function initComposer() {
  const input = byId('input');
  byId('composer').addEventListener('submit', event => {
    event.preventDefault();
    submit();
  });
  input.addEventListener('input', () => { autoGrow(input); showState(); });
  input.addEventListener('keydown', event => {
    if (isSendKey(event) && !touch.matches) {
      event.preventDefault();
      submit({key: true});
    } else if (event.key === 'ArrowUp' && input.value === '' && !event.isComposing) {
      event.preventDefault();
      editLastQuestion();
    }
  });
  document.addEventListener('keydown', event => {
    if (event.key === 'Escape' && !event.isComposing && !document.querySelector('dialog[open]')) chat.stop(conversations.current);
  });
  for (const name of ['start', 'end']) chat.events.addEventListener(name, showState);
  conversations.addEventListener('current', showState);
}

function submit({key = false} = {}) {
  const input = byId('input'), text = input.value.trim(), {current} = conversations;
  if (chat.runOf(current)) {
    if (!key) chat.stop(current);
    else if (text) toast(t('stillWriting'));
    return;
  }
  if (text === '') return;
  if (!connected()) {
    toast(t('notConnected'), {error: true});
    return;
  }
  input.value = '';
  autoGrow(input);
  announce(t('generating'));
  chat.send(current, text);
}

/** The button sends or stops; the meter shows how full the context is. */
export function showState() {
  const running = Boolean(chat.runOf(conversations.current)), button = byId('send');
  button.classList.toggle('stop', running);
  button.replaceChildren(icon(running ? 'stop' : 'send'));
  button.title = t(running ? 'stop' : 'send');
  button.setAttribute('aria-label', button.title);
  button.disabled = !running && byId('input').value.trim() === '';
  showMeter();
}

function showMeter() {
  const {current} = conversations;
  const usage = current.messages.findLast(message => message.usage)?.usage;
  const used = usage ? usage.prompt + usage.completion : 0;
  const size = modelOf(current)?.max_model_len;
  byId('meter').hidden = !usage;
  if (!usage) return;
  byId('meter-text').textContent = size ? t('contextOf', {used: formatNumber(used), size: formatNumber(size)}) : t('contextUsed', {used: formatNumber(used)});
  const track = byId('meter-track'), share = size ? Math.min(1, used / size) : 0;
  track.hidden = !size;
  track.setAttribute('aria-valuemax', size ?? 0);
  track.setAttribute('aria-valuenow', used);
  track.classList.toggle('nearly-full', share > 0.85);
  byId('meter-fill').style.width = `${100 * share}%`;
}
