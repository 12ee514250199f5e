// The settings sheet: system prompt, sliders and seed of the current conversation. Changes hold at once.
import {conversations} from './conversations.js';
import {byId, h} from './dom.js';
import {t} from './i18n.js';
import {kSliders, defaultSettings} from './settings_values.js';

const change = values => conversations.changeSettings(conversations.current, {...conversations.current.settings, ...values});

/** maxModelLength() is the context length of the chosen model, or null. */
export function initSettings(maxModelLength) {
  const sheet = byId('settings');
  byId('settings-button').addEventListener('click', () => {
    fill(maxModelLength());
    sheet.showModal();
  });
  sheet.addEventListener('click', event => { if (event.target === sheet) sheet.close(); });
  byId('system').addEventListener('input', () => change({system: byId('system').value}));
  byId('seed').addEventListener('input', () => {
    const text = byId('seed').value.trim();
    if (/^\d{0,15}$/.test(text)) change({seed: text === '' ? null : Number(text)});
  });
  byId('reset-settings').addEventListener('click', () => {
    const {model, system} = conversations.current.settings;
    change({...defaultSettings(), model, system});
    fill(maxModelLength());
  });
}

function fill(maxModelLength) {
  const {settings} = conversations.current;
  byId('system').value = settings.system;
  byId('seed').value = settings.seed ?? '';
  byId('sliders').replaceChildren(...kSliders.map(slider => sliderField(slider, settings[slider.key], maxModelLength)));
}

function sliderField({key, min, max, step}, value, maxModelLength) {
  const top = key === 'max_tokens' && maxModelLength ? Math.max(min, maxModelLength) : max;
  const range = h('input', {type: 'range', id: key, min, max: top, step, 'aria-describedby': `${key}-help`});
  const number = h('input', {type: 'number', min, max: top, step: key === 'max_tokens' ? 1 : 'any', 'aria-label': t(key)});
  range.value = number.value = value;
  range.addEventListener('input', () => {
    number.value = range.value;
    change({[key]: Number(range.value)});
  });
  number.addEventListener('change', () => {
    const clamped = Math.min(top, Math.max(min, Number(number.value) || min));
    range.value = number.value = clamped;
    change({[key]: key === 'max_tokens' ? Math.round(clamped) : clamped});
  });
  return h('div', {class: 'field'},
    h('div', {class: 'slider-head'}, h('label', {for: key}, t(key)), number), range, h('p', {class: 'note', id: `${key}-help`}, t(`${key}_help`)));
}
