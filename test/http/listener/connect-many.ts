// Run as a process of its own: connects so many times, writes a request on each connection, makes a file when all of
// that is done, and prints what came until the connections ended. Arguments: where to, as JSON for node:net; how many
// times; the file.
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import process from 'node:process';

const [to = '', count, file = ''] = process.argv.slice(2);
const request = 'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nqueued';
const received = await Promise.all(
  Array.from({ length: Number(count) }, async () => {
    const socket = connect(JSON.parse(to));
    let text = '';
    socket.setEncoding('latin1').on('data', chunk => {
      text += chunk;
    });
    const ended = new Promise(resolve => socket.on('error', () => {}).once('close', resolve));
    await once(socket, 'connect');
    await new Promise(resolve => socket.write(request, resolve));
    return { ended, text: () => text };
  }),
);
writeFileSync(file, '');
await Promise.all(received.map(one => one.ended));
process.stdout.write(JSON.stringify(received.map(one => one.text())));
