// The request of a picture as one can send it oneself: curl, Python, JavaScript, each quoted by its own rules.

/** Characters that are not seen, or turn the direction of what stands around them: written as escapes. */
const UNSEEN = /[\u007f-\u00a0\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** As JSON, the unseen escaped. The same text is a literal of Python and of JavaScript, but for true, false and null. */
function literal(value) {
  return JSON.stringify(value).replace(UNSEEN, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Fields in lines, or one after the other. The seed is text, and stands there as a number. */
function fields(request, { separator, space }) {
  return Object.entries(request)
    .map(([name, value]) => `${space}${literal(name)}: ${name === "seed" ? BigInt(value) : literal(value)}`)
    .join(`,${separator}`);
}

/** For the shell: nothing is special between single quotes but the single quote. */
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const MEDIA = { png: "image/png", jpeg: "image/jpeg", webp: "image/webp" };

/** What a picture was drawn with, as a request for this one alone. */
function alone({ prompt, negative_prompt, size, num_inference_steps, guidance_scale, scheduler, decoder, output_format, seed }) {
  const request = { prompt, negative_prompt, size, num_inference_steps, guidance_scale, scheduler, decoder, output_format, seed };
  return Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined));
}

/** {curl, Python, JavaScript} of a request. With a key, it is read from the environment and never shown. */
export function snippets(full, base, hasKey) {
  const request = alone(full);
  const url = new URL("v1/images", base).href;
  const media = MEDIA[request.output_format] ?? "image/png";
  const file = `picture.${request.output_format === "jpeg" ? "jpg" : request.output_format}`;
  const line = `{${fields(request, { separator: " ", space: "" })}}`;
  const lines = (space) => fields(request, { separator: "\n", space });
  // JavaScript's numbers would round such a seed: the body is written out as text.
  const isExact = BigInt(request.seed) <= BigInt(Number.MAX_SAFE_INTEGER);
  return {
    curl: [
      `curl --fail-with-body ${shell(url)} \\`,
      ...(hasKey ? [`  --header "Authorization: Bearer $PIXART_KEY" \\`] : []),
      `  --header 'Accept: ${media}' \\`,
      `  --json ${shell(line)} \\`,
      `  --output ${file}`,
    ].join("\n"),
    Python: [
      "import json",
      ...(hasKey ? ["import os"] : []),
      "from urllib.request import Request, urlopen",
      "",
      "request = {",
      `${lines("    ")},`,
      "}",
      "headers = {",
      `    "Accept": ${literal(media)},`,
      `    "Content-Type": "application/json",`,
      ...(hasKey ? [`    "Authorization": "Bearer " + os.environ["PIXART_KEY"],`] : []),
      "}",
      `asked = Request(${literal(url)}, json.dumps(request).encode(), headers)`,
      `with urlopen(asked) as answer, open(${literal(file)}, "wb") as file:`,
      "    file.write(answer.read())",
    ].join("\n"),
    JavaScript: [
      `import { writeFile } from "node:fs/promises";`,
      "",
      `const answer = await fetch(${literal(url)}, {`,
      `  method: "POST",`,
      "  headers: {",
      `    Accept: ${literal(media)},`,
      `    "Content-Type": "application/json",`,
      ...(hasKey ? ["    Authorization: `Bearer ${process.env.PIXART_KEY}`,"] : []),
      "  },",
      ...(isExact ? ["  body: JSON.stringify({", `${lines("    ")},`, "  }),"] : [`  body: ${literal(line)},`]),
      "});",
      "if (!answer.ok) throw new Error(await answer.text());",
      `await writeFile(${literal(file)}, Buffer.from(await answer.arrayBuffer()));`,
    ].join("\n"),
  };
}
