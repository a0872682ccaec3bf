// Reads a PNG: its size, and the texts that say how it was drawn.

import assert from 'node:assert/strict';
import zlib from 'node:zlib';

/** Width, height and texts of a PNG whose pixels are all there. */
export function png(bytes) {
  assert.equal(bytes.subarray(0, 8).toString('latin1'), '\x89PNG\r\n\x1a\n', 'it is a PNG');
  const pixels = [];
  const texts = {};
  let width;
  let height;
  for (let at = 8; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at);
    const kind = bytes.subarray(at + 4, at + 8).toString('latin1');
    const chunk = bytes.subarray(at + 8, at + 8 + length);
    if (kind === 'IHDR') [width, height] = [chunk.readUInt32BE(0), chunk.readUInt32BE(4)];
    if (kind === 'IDAT') pixels.push(chunk);
    if (kind === 'tEXt') {
      const [keyword, text] = chunk.toString('latin1').split('\0');
      texts[keyword] = text;
    }
    at += length + 12;
  }
  assert.equal(zlib.inflateSync(Buffer.concat(pixels)).length, height * (1 + 3 * width), 'its pixels are all there');
  return { width, height, texts };
}

/** The seed that a PNG says it was drawn with. */
export function seedOf(bytes) {
  return Number(png(bytes).texts['pixart:seed']);
}
