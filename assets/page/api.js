// The server's OpenAI routes as the page uses them. Every failure is an ApiError with a kind that i18n has words for.
import {readEvents} from './sse.js';

const kKeyName = 'llama2zh.key';
const url = path => new URL(path, document.baseURI);  // relative: the page also works behind a proxy's path

/** kind: auth | busy | loading | context | request | missing | server | network | cut. `detail` is the server's own message. */
export class ApiError extends Error {
  constructor(kind, detail = '', {status = 0, retryAfter = 0} = {}) {
    super(detail || kind);
    Object.assign(this, {kind, detail, status, retryAfter});
  }
}

// The key lives as long as the tab does; where storage is forbidden, as long as the page.
let key = '';
try { key = sessionStorage.getItem(kKeyName) ?? ''; } catch { /* forbidden */ }
export function setApiKey(value) {
  key = value;
  try { sessionStorage.setItem(kKeyName, value); } catch { /* forbidden */ }
}

function kindOf(status, error) {
  if (status === 401) return 'auth';
  if (status === 429) return 'busy';
  if (status === 503) return 'loading';
  if (status === 404) return 'missing';
  if (error?.code === 'context_length_exceeded' || /context[ _]length/i.test(error?.message ?? '')) return 'context';
  return status >= 500 ? 'server' : 'request';
}

async function errorOf(response) {
  let error = null;
  try { error = (await response.json()).error; } catch { /* a proxy's HTML page, or nothing */ }
  const retryAfter = Math.min(Number(response.headers.get('Retry-After')) || 0, 600);
  return new ApiError(kindOf(response.status, error), error?.message ?? `HTTP ${response.status}`, {status: response.status, retryAfter});
}

async function request(path, {body, signal, headers = {}} = {}) {
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers['Content-Type'] = 'application/json';
  let response;
  try {
    response = await fetch(url(path), {method: body ? 'POST' : 'GET', headers, body: body && JSON.stringify(body), signal, cache: 'no-store'});
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError('network', error.message);
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

/** [{id, parent, max_model_len}]: base models first as the server lists them; an adapter's parent is its base. */
export async function listModels() {
  const answer = await (await request('v1/models')).json();
  return answer.data.map(({id, parent = null, max_model_len = null}) => ({id, parent, max_model_len}));
}

/** Whether the server has loaded its model. Throws ApiError('network') where nothing answers. */
export async function isReady() {
  try {
    return (await request('health')).ok;
  } catch (error) {
    if (error.kind === 'loading') return false;
    throw error;
  }
}

/**
 * One answer, streamed: onDelta(text) for each piece. Returns {finishReason, usage}; usage is null where the server sent none. `session` is
 * the conversation's id: a proxy can keep it at the replica that has its beginning in the prefix cache.
 * Throws ApiError, also for an error event in the stream and for a stream that ends without its end mark ('cut'); AbortError when stopped.
 */
export async function streamChat(parameters, {session, signal, onDelta}) {
  const response = await request('v1/chat/completions', {
    body: {...parameters, stream: true, stream_options: {include_usage: true}}, signal, headers: {'X-Session-Id': session},
  });
  let finishReason = null, usage = null;
  try {
    for await (const data of readEvents(response.body)) {
      if (data === '[DONE]') return {finishReason, usage};
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(kindOf(Number(chunk.error.code) || 500, chunk.error), chunk.error.message);
      usage = chunk.usage ?? usage;
      const choice = chunk.choices?.[0];
      if (choice?.delta?.content) onDelta(choice.delta.content);
      finishReason = choice?.finish_reason ?? finishReason;
    }
  } catch (error) {
    if (error.name === 'AbortError' || error instanceof ApiError) throw error;
    throw new ApiError('cut', error.message);
  }
  signal.throwIfAborted();
  throw new ApiError('cut');
}
