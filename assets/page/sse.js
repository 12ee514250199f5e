// Server-sent events from a fetch body: https://html.spec.whatwg.org/multipage/server-sent-events.html, the `data` field only.

/** Yields the data of each event. Lines may end in LF, CRLF or CR; characters and lines may be cut anywhere between network reads. */
export async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = '', data = [];
  try {
    for (;;) {
      const {done, value} = await reader.read();
      if (done) return;  // an event without its empty line was cut off and does not count
      buffer += value;
      for (;;) {
        const end = buffer.search(/[\r\n]/);
        if (end < 0 || (buffer[end] === '\r' && end + 1 === buffer.length)) break;  // a CR at the end may be half a CRLF
        const line = buffer.slice(0, end);
        buffer = buffer.slice(end + (buffer.startsWith('\r\n', end) ? 2 : 1));
        if (line.startsWith('data:')) {
          data.push(line.slice(line[5] === ' ' ? 6 : 5));
        } else if (line === '' && data.length > 0) {
          yield data.join('\n');
          data = [];
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});  // leaving the loop early closes the connection: the server stops generating
  }
}
