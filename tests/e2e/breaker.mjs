// What may stand between a page and its server: a proxy that passes everything on, until a test makes it break something.

import { once } from 'node:events';
import http from 'node:http';

export const HTML = '<!doctype html><html><body><h1>Welcome to the hotel</h1><script>globalThis.pwned = 1</script></body></html>';

export class Breaker {
  #server;
  /** What to do instead of passing on: `(request, response, pass) => …`; nothing where it is undefined. */
  breaks = undefined;
  url = '';

  static async before(service) {
    const breaker = new Breaker();
    breaker.#server = http.createServer((request, response) => {
      const pass = (through = (answer) => answer.pipe(response)) => forward(service.url, request, response, through);
      if (breaker.breaks) breaker.breaks(request, response, pass);
      else pass();
    });
    breaker.#server.listen(0, '127.0.0.1');
    await once(breaker.#server, 'listening');
    breaker.url = `http://127.0.0.1:${breaker.#server.address().port}`;
    return breaker;
  }

  async close() {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/** Passes a request on with the Host that it came with: URLs of the answer lead here. A caller that leaves is left upstream too. */
function forward(url, request, response, through) {
  const { method, headers } = request;
  const onward = http.request(url + request.url, { method, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.rawHeaders);
    through(answer);
    answer.on('error', () => response.destroy());
  });
  onward.on('error', () => response.destroy());
  response.on('close', () => onward.destroy());
  request.pipe(onward);
}

/** Lets so many bytes of an answer through, and cuts the connection. */
export const cutAfter = (bytes, response) => (answer) => {
  let left = bytes;
  answer.on('data', (piece) => {
    response.write(piece.subarray(0, left), () => left <= 0 && response.destroy());
    left -= piece.length;
  });
  answer.on('end', () => response.destroy());
};

/** Hands on a stream event by event: `each` is given one as text, and writes what it likes of it. `open` never ends it. */
export const eventwise = (each, response, { open = false } = {}) => (answer) => {
  let told = '';
  answer.setEncoding('utf8').on('data', (piece) => {
    told += piece;
    for (let end = told.indexOf('\n\n'); end >= 0; end = told.indexOf('\n\n')) {
      each(told.slice(0, end + 2));
      told = told.slice(end + 2);
    }
  });
  answer.on('end', () => open || response.end());
};

/** Leaves those events out of a stream that `pattern` knows. */
export const without = (pattern, response) =>
  eventwise((event) => pattern.test(event) || response.write(event), response);

/** Breaks a stream off in the middle of the first event that `pattern` knows. */
export const upToHalfOf = (pattern, response) =>
  eventwise((event) => {
    if (response.writableEnded) return;
    if (!pattern.test(event)) response.write(event);
    else response.end(event.slice(0, event.length / 2));
  }, response);

/** Answers with a page of somebody else, as hotels and broken proxies do. */
export const html = (status) => (response) => {
  response.writeHead(status, { 'content-type': 'text/html' });
  response.end(HTML);
};

/** Answers with nothing at all. */
export const hangUp = (response) => response.destroy();

/** Says that all is well, and no more. */
export const empty = (response) => {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end();
};
