// Small things that a reload finds again, in the tab's session store where there is one.

/** What this page has written itself: newer than the store where that is full. */
const spare = new Map();

/** The value kept under this name, or nothing. */
export function recall(name) {
  if (spare.has(name)) return spare.get(name);
  try {
    return JSON.parse(sessionStorage.getItem(name)) ?? undefined;
  } catch {
    return undefined;
  }
}

/** Keeps a value; null forgets it. */
export function remember(name, value = null) {
  spare.set(name, value ?? undefined);
  try {
    // First, so that a full store does not hand an old value to a reload.
    sessionStorage.removeItem(name);
    if (value !== null) sessionStorage.setItem(name, JSON.stringify(value));
  } catch {
    // Full or forbidden: the spare one has it.
  }
}
