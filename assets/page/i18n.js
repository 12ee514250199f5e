// The page's words in Chinese and English.
import {preference, setPreference} from './preferences.js';
import en from './strings_en.js';
import zh from './strings_zh.js';

const tables = {zh, en};
let language = 'zh';

/** The word for `key`, {name} replaced from `values`. */
export function t(key, values = {}) {
  const text = tables[language][key];
  if (text === undefined) throw new Error(`i18n: no string "${key}" in ${language}`);
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export const currentLanguage = () => language;

/** The user's earlier choice, else the browser's first language: Chinese where it is Chinese. */
export function initLanguage() {
  language = preference('language') ?? (/^zh\b/i.test(navigator.language) ? 'zh' : 'en');
  if (!tables[language]) language = 'zh';
  applyStrings();
}

export function switchLanguage() {
  language = language === 'zh' ? 'en' : 'zh';
  setPreference('language', language);
  applyStrings();
}

/** Fills the elements of index.html that name a string: data-i18n (text), data-i18n-label (label and tooltip), data-i18n-placeholder. */
function applyStrings() {
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
  for (const element of document.querySelectorAll('[data-i18n]')) element.textContent = t(element.dataset.i18n);
  for (const element of document.querySelectorAll('[data-i18n-placeholder]')) element.placeholder = t(element.dataset.i18nPlaceholder);
  for (const element of document.querySelectorAll('[data-i18n-label]')) {
    element.setAttribute('aria-label', t(element.dataset.i18nLabel));
    if (element.tagName === 'BUTTON') element.title = t(element.dataset.i18nLabel);
  }
}

export const formatNumber = number => number.toLocaleString(language === 'zh' ? 'zh-CN' : 'en');
