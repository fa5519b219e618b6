// Goal: a client that does not read costs no memory, and one that has gone takes no place. Method: a real listener, raw
// clients, and a count of the messages that the server has taken for them.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { HttpBindings } from '@hono/node-server';
import { Hono } from 'hono';
import { fromNumber, numberOf } from '../../../src/domain/address.ts';
import { eventStream } from '../../../src/http/admin/event-stream.ts';
import { type Listening, listen } from '../../../src/http/listener/listen.ts';
import { createLive, type Live } from '../../../src/views/live/live.ts';
import { ip, range, rowWith } from '../../kit/rows.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { pause, until } from '../../kit/wait.ts';

/** Each round is more than a socket holds: 500 cells have 130 kB. */
const ROUNDS = 60;
const CELLS = 500;

/** What is gathered is told at once; no beats. */
function soon(work: () => void, ms: number): () => void {
  const timer = ms < 1000 ? setTimeout(work, 0) : undefined;
  return () => clearTimeout(timer);
}

interface Context {
  live: Live;
  taken: number;
  listening: Listening;
  open(): Promise<Socket>;
}
const test = suite<Context>('a stream of events');
test.before.each(async context => {
  const live = createLive({ cooldownMs: 0, quarantineMs: 0 }, () => performance.now(), soon);
  const counted: Live = {
    ...live,
    open(options) {
      const reader = live.open(options);
      return (
        reader && {
          end: reader.end,
          next() {
            context.taken++;
            return reader.next();
          },
        }
      );
    },
  };
  const app = new Hono<{ Bindings: HttpBindings }>().get('/events', c =>
    eventStream(c, counted, { after: null, subnet: null }),
  );
  const listening = await listen(app, { kind: 'http', host: '127.0.0.1', port: 0 });
  const port = Number(new URL(listening.address).port);
  Object.assign(context, { live, taken: 0, listening });
  context.open = async () => {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    socket.write('GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n');
    return socket;
  };
});
test.after.each(async ({ live, listening }) => {
  live.close();
  await listening.close(0);
});

test('a client that reads nothing: nothing more is taken for it, and its end is noticed', async context => {
  const { live, open } = context;
  const socket = await open();
  socket.pause();
  await until('it to be served', () => context.taken >= 2);
  let [before, rounds] = [-1, 0];
  for (; rounds < ROUNDS && context.taken !== before; rounds++) {
    before = context.taken;
    live.publish(
      range(CELLS).map(i => rowWith({ ip: fromNumber(numberOf(ip(0)) + i), generation: rounds + 8 })),
    );
    await until('a flush', () => context.taken > before, 1000).catch(() => {}); // none when the socket is full
  }
  assert.ok(rounds < ROUNDS, `${context.taken} messages were taken for a client that reads nothing`);
  assert.is(live.readers(), 1);
  socket.destroy();
  await until('its place to be free', () => live.readers() === 0);
});

test('a client that hangs up while nothing moves: its place is free', async ({ live, open }) => {
  const socket = await open();
  await once(socket, 'data');
  assert.is(live.readers(), 1);
  socket.destroy();
  await until('its place to be free', () => live.readers() === 0);
});

test('the end of the server: ends the stream', async ({ live, open }) => {
  const socket = await open();
  await once(socket, 'data');
  socket.resume();
  live.close();
  await until('the end', async () => {
    await pause(1);
    return live.readers() === 0;
  });
});
test.run();
