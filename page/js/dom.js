// Elements by id, and new ones. What people wrote goes in as text, never as HTML.

/** The element with this id, which the page has. */
export const byId = (id) => document.getElementById(id);

/** A new element with these attributes; strings among the children become text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      element.addEventListener(name, value);
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children);
  return element;
}

/** Before something vanishes or falls asleep: a focus that is in it goes on to the first of these that takes it. */
export function leave(element, ...onward) {
  if (!element.contains(document.activeElement)) return;
  for (const next of onward) {
    next?.focus({ preventScroll: true });
    if (document.activeElement === next) return;
  }
}

/** Says something to those who hear the page. */
export function say(text) {
  byId("say").textContent = text;
}

/** Where the page as a whole is: idle, waiting, drawing, done, failed. */
export function enter(state) {
  document.documentElement.dataset.state = state;
}

/** Copies text, also where the page has no secure origin and so no clipboard. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { class: "visually-hidden", "aria-hidden": "true", readonly: true });
    area.value = text;
    const focused = document.activeElement;
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return copied;
  }
}

/** Says on a button for a moment that it has done its work. */
export async function copyBy(button, text) {
  const words = (button.dataset.words ??= button.textContent);
  const copied = await copy(text);
  button.textContent = copied ? "Copied" : "Not copied";
  say(button.textContent);
  clearTimeout(button.timer);
  button.timer = setTimeout(() => (button.textContent = words), 1600);
}
