// The images of this browser, in its database: the oldest leave first, and nothing breaks without one.

const MOST = 60;
const NAME = "pixart";
const TABLE = "pictures";

let opened;
/** The next one opens it anew. */
const shut = () => (opened = undefined);

function open() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" }).createIndex("created", "created");
    request.onsuccess = () => {
      request.result.onclose = shut;
      resolve(request.result);
    };
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("the database is held by another page"));
  });
  opened.catch(shut);
  return opened;
}

/** Runs one change or question, and resolves when it is written. */
async function run(mode, act) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(TABLE, mode);
    const request = act(transaction.objectStore(TABLE));
    transaction.oncomplete = () => resolve(request?.result);
    // What fails is aborted, and only then its reason is known.
    transaction.onabort = () => reject(transaction.error ?? new Error("not written"));
  });
}

/** All that are kept, the newest first. */
export async function all() {
  try {
    const pictures = await run("readonly", (table) => table.index("created").getAll());
    return pictures.reverse();
  } catch {
    return [];
  }
}

/** Keeps one more, if it can. Resolves with the ids of those that had to leave. */
export async function keep({ url: _url, ...picture }) {
  const gone = [];
  const letGo = async () => {
    const [oldest] = await run("readonly", (table) => table.index("created").getAllKeys(null, 1));
    if (oldest === undefined || oldest === picture.id) return false;
    await run("readwrite", (table) => table.delete(oldest));
    gone.push(oldest);
    return true;
  };
  const put = () =>
    run("readwrite", (table) => table.put(picture)).catch(async (error) => {
      // No room: the oldest makes some, as long as there is one. Whatever else is wrong, they cannot mend.
      if (error?.name !== "QuotaExceededError" || !(await letGo())) throw error;
      return put();
    });
  try {
    await put();
    while ((await run("readonly", (table) => table.count())) > MOST && (await letGo()));
  } catch {
    // It lasts as long as the page.
  }
  return gone;
}

export const forget = (id) => run("readwrite", (table) => table.delete(id)).catch(() => {});

export const clear = () => run("readwrite", (table) => table.clear()).catch(() => {});
