// The worker of code.js: {code, language} -> highlighted HTML, or null for a language that highlight.js does not know.
import './lib/highlight.js';  // a classic script: it sets a global

const {hljs} = globalThis;
hljs.configure({hideUpgradeWarningAcceptNoSupportOrSecurityUpdates: true});  // it is kept apart here, under a time limit

onmessage = ({data: {code, language}}) => {
  try {
    postMessage(hljs.getLanguage(language) ? hljs.highlight(language, code, true).value : null);
  } catch {
    postMessage(null);
  }
};
