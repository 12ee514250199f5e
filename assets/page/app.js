// Puts the page together.
import {isRunning, events} from './chat.js';
import {initComposer, showState} from './composer.js';
import {conversations} from './conversations.js';
import {byId, h} from './dom.js';
import {initLanguage, switchLanguage, t} from './i18n.js';
import {initMessages, showConversation} from './messages.js';
import {connect, initModels, modelOf, showModels} from './models.js';
import {toast} from './notices.js';
import {preference, setPreference} from './preferences.js';
import {initSettings} from './settings.js';
import {drawList, initSidebar} from './sidebar.js';

const kThemes = ['system', 'light', 'dark'];
const kNearBottom = 60;  // px: the view follows the answer while it is this close to the end

function initTheme() {
  const button = byId('theme-button');
  button.addEventListener('click', () => {
    const theme = kThemes[(kThemes.indexOf(preference('theme') ?? 'system') + 1) % kThemes.length];
    setPreference('theme', theme === 'system' ? null : theme);
    if (theme === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    labelTheme();
    toast(button.title);
  });
}

function labelTheme() {
  const button = byId('theme-button');
  button.title = t(`theme_${preference('theme') ?? 'system'}`);
  button.setAttribute('aria-label', button.title);
}

function initScrolling() {
  const scroller = byId('scroller');
  let follow = true, top = 0;
  const toBottom = () => { scroller.scrollTop = scroller.scrollHeight; };
  scroller.addEventListener('scroll', () => {
    const distance = scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop;
    if (distance < kNearBottom) follow = true;
    else if (scroller.scrollTop < top) follow = false;  // growing text moves nothing: the user has gone up
    top = scroller.scrollTop;
    byId('to-bottom').hidden = distance < 3 * kNearBottom;
  }, {passive: true});
  // Wheel and keys up leave the end at once, before the next piece of the answer pulls the view down again.
  scroller.addEventListener('wheel', event => { if (event.deltaY < 0) follow = false; }, {passive: true});
  const observer = new ResizeObserver(() => { if (follow) toBottom(); });
  observer.observe(byId('messages'));
  observer.observe(scroller);
  byId('to-bottom').addEventListener('click', toBottom);
  const start = () => requestAnimationFrame(() => { follow = true; toBottom(); });  // when the new messages are there
  conversations.addEventListener('current', start);
  events.addEventListener('start', start);
}

function showWelcome() {
  const empty = conversations.current.messages.length === 0;
  byId('welcome').hidden = !empty;
  byId('examples').replaceChildren(...[1, 2, 3, 4].map(number => h('button', {
    type: 'button', class: 'example',
    onclick: () => {
      byId('input').value = t(`example${number}`);
      byId('input').dispatchEvent(new Event('input'));
      byId('input').focus();
    },
  }, t(`example${number}`))));
}

function draw() {
  showConversation();
  showWelcome();
  showModels();
}

function drawAll() {
  draw();
  drawList();
  showState();
  labelTheme();
}

initLanguage();
initTheme();
const kept = await conversations.open(isRunning);
initScrolling();
initSidebar();
initModels();
initMessages();
initComposer();
initSettings(() => modelOf(conversations.current)?.max_model_len);
byId('language-button').addEventListener('click', () => { switchLanguage(); drawAll(); });
conversations.addEventListener('current', draw);
conversations.addEventListener('failed', ({detail}) =>
  toast(t(detail.name === 'QuotaExceededError' ? 'storageFull' : 'storageFailed', {detail: detail.message}), {error: true}));
events.addEventListener('start', showWelcome);

if (!kept) toast(t('storageNone'), {error: true});
drawAll();
byId('input').focus();
await connect();
showState();
