// Conversations on disk: IndexedDB, one record each. Where the browser refuses it (private windows, policies), memory, and the page says so.

const kDatabase = 'llama2zh', kStore = 'conversations';
let database = null;
const memory = new Map();

const settled = request => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

/** Opens the store. Returns false where conversations will be lost with the tab. */
export async function openStore() {
  try {
    const request = indexedDB.open(kDatabase, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(kStore, {keyPath: 'id'});
    database = await settled(request);
    database.onversionchange = () => database.close();  // a newer page in another tab wants to upgrade
    return true;
  } catch {
    return false;
  }
}

const store = mode => database.transaction(kStore, mode).objectStore(kStore);

export const loadAll = () => database ? settled(store('readonly').getAll()) : Promise.resolve([...memory.values()]);
export const load = id => database ? settled(store('readonly').get(id)) : Promise.resolve(memory.get(id));

/** Resolves when the transaction is complete, since running out of quota shows only then (DOMException QuotaExceededError). */
async function write(change) {
  const transaction = database.transaction(kStore, 'readwrite');
  const complete = new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onabort = () => reject(transaction.error ?? new DOMException('aborted', 'AbortError'));
  });
  change(transaction.objectStore(kStore));
  await complete;
}

export async function save(conversation) {
  if (database) await write(records => records.put(conversation));
  else memory.set(conversation.id, conversation);
}

export async function remove(id) {
  if (database) await write(records => records.delete(id));
  else memory.delete(id);
}
