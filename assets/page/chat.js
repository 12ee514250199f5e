// Asking and answering: what is sent, the answer as it comes, stopping, waiting and trying again. A conversation has at most one run; it
// goes on when the user looks at another conversation. The view listens to 'start', 'delta' and 'end' (detail: the run).
import {ApiError, isReady, setApiKey, streamChat} from './api.js';
import {conversations, suggestTitle} from './conversations.js';
import {newId} from './dom.js';
import {askForKey} from './notices.js';
import {requestFields} from './settings_values.js';

const kMaxAttempts = 6;  // of one answer, while the server is busy
const kSaveEvery = 2000;  // ms while an answer grows

const runs = new Map();  // conversation id -> run
export const events = new EventTarget();
const tell = (what, run) => events.dispatchEvent(new CustomEvent(what, {detail: run}));

export const runOf = conversation => runs.get(conversation.id);
export const isRunning = id => runs.has(id);

/** Stops the conversation's answer; resolves when what had come is saved. */
export async function stop(conversation) {
  const run = runs.get(conversation.id);
  run?.controller.abort();
  await run?.ended;
}

/** What the model is sent: the system prompt, then what is not skipped, without answers that stayed empty. */
function requestMessages({settings, skip, messages}) {
  const system = settings.system.trim() ? [{role: 'system', content: settings.system}] : [];
  const sent = messages.slice(skip).filter(message => message.role === 'user' || message.content !== '');
  return [...system, ...sent.map(({role, content}) => ({role, content}))];
}

export function send(conversation, content) {
  if (!conversation.title) conversation.title = suggestTitle(content);
  conversation.messages.push({id: newId(), role: 'user', content, time: Date.now(), status: 'done'});
  return answer(conversation);
}

/** A new answer in the place of message `index` (an answer) and all that follows. */
export function regenerate(conversation, index) {
  conversation.messages.length = index;
  return answer(conversation);
}

/** The question at `index` in other words; all that followed goes. */
export function editAndResend(conversation, index, content) {
  conversation.messages.length = index;
  conversation.skip = Math.min(conversation.skip, index);
  return send(conversation, content);
}

/** No longer sends the earliest question and its answer. Returns false where only the last question is left. */
export function skipEarliestTurn(conversation) {
  const next = conversation.messages.findIndex((message, index) => index > conversation.skip && message.role === 'user');
  if (next < 0) return false;
  conversation.skip = next;
  return true;
}

function answer(conversation) {
  const request = {...requestFields(conversation.settings), messages: requestMessages(conversation)};
  const message = {id: newId(), role: 'assistant', content: '', time: Date.now(), status: 'streaming', model: conversation.settings.model};
  conversation.messages.push(message);
  const run = {conversation, message, controller: new AbortController(), waiting: null, wake: null, pieces: 0, firstAt: 0, lastAt: 0};
  runs.set(conversation.id, run);
  run.ended = follow(run, request);
  return run.ended;
}

// One answer from its request to its end, whatever the end is.
async function follow(run, request) {
  const {conversation, message} = run;
  tell('start', run);
  const saving = conversations.save(conversation);
  const saver = setInterval(() => conversations.save(conversation, {touch: false}), kSaveEvery);
  try {
    await saving;
    await attempt(run, request);
  } catch (error) {
    fail(message, error);
  }
  clearInterval(saver);
  runs.delete(conversation.id);
  await conversations.save(conversation);
  tell('end', run);
}

function fail(message, error) {
  if (error.name === 'AbortError') {
    message.status = 'stopped';
    return;
  }
  if (!(error instanceof ApiError)) console.error(error);
  Object.assign(message, {status: 'error', error: {kind: error.kind ?? 'page', detail: error.detail ?? String(error)}});
}

/** Streams into the run's message; waits and asks again while the server is busy or still loading, and after a key was given. */
async function attempt(run, request) {
  for (let attempts = 1; ; ++attempts) {
    try {
      return await stream(run, request);
    } catch (error) {
      if (error.kind === 'busy' && attempts < kMaxAttempts) {
        await pause(run, 'busy', error.retryAfter || Math.min(2 ** attempts, 30));
      } else if (error.kind === 'loading' && attempts < kMaxAttempts) {
        do await pause(run, 'loading', error.retryAfter || 2); while (!await isReady());
      } else if (error.kind === 'auth' && attempts < kMaxAttempts) {
        const key = await askForKey();
        if (!key) throw error;
        setApiKey(key);
      } else {
        throw error;
      }
    }
  }
}

/** Waits `seconds`, shown as a countdown (run.waiting), less when run.wake() is called; throws AbortError when the run is stopped. */
async function pause(run, reason, seconds) {
  const {signal} = run.controller;
  let woken = false;
  run.wake = () => { woken = true; };
  for (const end = performance.now() + 1000 * seconds; !woken && performance.now() < end;) {
    signal.throwIfAborted();
    run.waiting = {reason, seconds: Math.ceil((end - performance.now()) / 1000)};
    tell('delta', run);
    await new Promise(resolve => setTimeout(resolve, 100));
  }
  signal.throwIfAborted();
  run.waiting = null;
  tell('delta', run);
}

async function stream(run, request) {
  const {conversation, message, controller} = run;
  const start = performance.now();
  const {finishReason, usage} = await streamChat(request, {
    session: conversation.id,
    signal: controller.signal,
    onDelta(text) {
      run.lastAt = performance.now();
      run.firstAt ||= run.lastAt;
      ++run.pieces;
      message.content += text;
      message.wait = (run.firstAt - start) / 1000;
      message.speed = speed(run, run.pieces);
      tell('delta', run);
    },
  });
  message.status = finishReason === 'length' ? 'length' : 'done';
  if (!usage) return;
  message.usage = {prompt: usage.prompt_tokens, completion: usage.completion_tokens};
  message.speed = speed(run, usage.completion_tokens);
}

/** Tokens a second after the first; a streamed piece stands for a token until the server has counted. */
const speed = (run, tokens) => tokens > 1 && run.lastAt > run.firstAt ? 1000 * (tokens - 1) / (run.lastAt - run.firstAt) : 0;
