// The pictures of this browser, in its database: the oldest leave first where there is no room, and nothing breaks without one.

const MOST = 60;
const NAME = "pixart";
const TABLE = "pictures";

let opened;

function open() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" }).createIndex("created", "created");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("the database is held by another page"));
  });
  return opened;
}

/** Runs one change or question, and resolves when it is written. */
async function run(mode, act) {
  const database = await open();
  return new Promise((resolve, reject) => {
    const transaction = database.transaction(TABLE, mode);
    const request = act(transaction.objectStore(TABLE));
    transaction.oncomplete = () => resolve(request?.result);
    transaction.onabort = () => reject(transaction.error ?? new Error("not written"));
    transaction.onerror = () => reject(transaction.error);
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

/** Keeps one more. Resolves with the ids of those that had to leave, and with whether it is kept. */
export async function keep({ url: _url, ...picture }) {
  const gone = [];
  const letGo = async () => {
    const [oldest] = await run("readonly", (table) => table.index("created").getAllKeys(null, 1));
    if (oldest === undefined || oldest === picture.id) return false;
    await run("readwrite", (table) => table.delete(oldest));
    gone.push(oldest);
    return true;
  };
  try {
    while ((await run("readonly", (table) => table.count())) > MOST && (await letGo()));
    for (;;) {
      try {
        await run("readwrite", (table) => table.put(picture));
        return { gone, kept: true };
      } catch {
        // No room: the oldest makes some, as long as there is one.
        if (!(await letGo())) return { gone, kept: false };
      }
    }
  } catch {
    return { gone, kept: false };
  }
}

export const forget = (id) => run("readwrite", (table) => table.delete(id)).catch(() => {});

export const clear = () => run("readwrite", (table) => table.clear()).catch(() => {});
