// Numbers in words: seconds, sizes, counts.

/** 0.4 → "less than a second", 3.21 → "3.2 seconds", 130 → "2 min 10 s". */
export function duration(seconds) {
  if (seconds < 0.95) return "less than a second";
  if (seconds < 9.95) return plural(Number(seconds.toFixed(1)), "second");
  if (seconds < 89.5) return plural(Math.round(seconds), "second");
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
}

/** 0.0123 → "12 ms", 1.23 → "1.2 s". */
export function brief(seconds) {
  if (seconds < 0.0005) return "under 1 ms";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 100 ? `${seconds.toFixed(1)} s` : duration(seconds);
}

/** 1500000000 → "1.5". */
export const gigabytes = (bytes) => (bytes / 1e9).toFixed(1);

export const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** "128x96" → "128 × 96". */
export const times = (size) => size.replace("x", " × ");

/** A message of the server as a sentence. */
export function sentence(message) {
  const text = message.trim();
  const end = /[.!?…]$/.test(text) ? "" : ".";
  // The name of a field stays as it is written.
  return (/^(\w*_|n )/.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1)) + end;
}
