// Run as a process of its own: connects so many times, writes the text on each connection, says `connected`, and holds
// what the server does not close until it is killed. Arguments: where to, as JSON for node:net; how many; the text.
import { once } from 'node:events';
import { connect } from 'node:net';
import process from 'node:process';
import { setTimeout as pause } from 'node:timers/promises';

const [to = '', count, text = ''] = process.argv.slice(2);
const AT_ONCE = 200;
const PAUSE_MS = 5;
let left = Number(count);
async function connectSome(): Promise<void> {
  while (left-- > 0) {
    const socket = connect(JSON.parse(to)).resume();
    const isConnected = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.on('error', () => {});
    if (!isConnected)
      left++; // the server accepts no faster
    else if (text !== '') socket.write(text);
    if (!isConnected) await pause(PAUSE_MS);
  }
}
await Promise.all(Array.from({ length: AT_ONCE }, connectSome));
process.stdout.write('connected\n');
setInterval(() => {}, 60_000);
