// Small things that a reload finds again, in the tab's session store. Where there is none, they last as long as the page.

const spare = new Map();

/** The value kept under this name, or nothing. */
export function recall(name) {
  try {
    const text = sessionStorage.getItem(name);
    return text === null ? spare.get(name) : JSON.parse(text);
  } catch {
    return spare.get(name);
  }
}

/** Keeps a value; null forgets it. */
export function remember(name, value) {
  if (value === null || value === undefined) spare.delete(name);
  else spare.set(name, value);
  try {
    if (value === null || value === undefined) sessionStorage.removeItem(name);
    else sessionStorage.setItem(name, JSON.stringify(value));
  } catch {
    // Full or forbidden: the spare one has it.
  }
}
