// Goal: a stop loses no answer, whatever clients send meanwhile, and no client that is silent or sends ahead holds it
// up. Method: node:http as the client, raw sockets where it hides too much.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { Agent } from 'node:http';
import { Agent as TlsAgent } from 'node:https';
import { connect } from 'node:net';
import { join } from 'node:path';
import process from 'node:process';
import { text } from 'node:stream/consumers';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Listener, type Listening, listen } from '../../../src/http/listener/listen.ts';
import { range } from '../../kit/rows.ts';
import { KeepAliveClient } from '../../kit/servers/keep-alive.ts';
import {
  folder,
  LOCAL,
  PLAIN,
  portOf,
  socketPath,
  TLS,
  toward,
  unixAt,
} from '../../kit/servers/transports.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { until } from '../../kit/wait.ts';
import {
  app,
  ask,
  BOUND_MS,
  begin,
  bytesOf,
  failed,
  mute,
  post,
  serve,
  serverSuite,
  wire,
} from '../server.ts';

const NODE = fileURLToPath(new URL('../../../node_modules/.bin/node', import.meta.url));
const CONNECT_MANY = fileURLToPath(new URL('connect-many.ts', import.meta.url));

// Takes its time, so it begins first: node:http's own bounds are 5 s for an idle connection, and a look around every
// 30 s for slow ones.
const IDLE_MS = 6500;
const idling = staysOpen();
idling.catch(() => {});

const stop = serverSuite('a stop', { certificates: true });
// Bun and Deno tell less of what waits in the accept queue, and lose a few.
if (!('Deno' in globalThis) && process.versions.bun === undefined)
  stop('serves who connects while a request is being dealt with', async () => {
    let busy = 0;
    const late: Promise<string>[] = [];
    let address = '';
    let begun = () => {};
    const working = {
      async fetch(asked: Request): Promise<Response> {
        if (new URL(asked.url).pathname === '/work') {
          begun();
          await asked.text();
          const until = performance.now() + 5;
          late.push(post(address, 'late', { agent: new Agent() }).catch(error => error.code));
          while (performance.now() < until) busy++; // as a commit that blocks
        }
        return new Response('done');
      },
    };
    for (let round = 0; round < 60; round++) {
      const server = await listen(working, LOCAL);
      address = server.address;
      const socket = await mute(address);
      socket.once('data', () => socket.destroy());
      const beginning = new Promise<void>(resolve => {
        begun = resolve;
      });
      socket.write(bytesOf('body', '/work').slice(0, -1));
      await beginning;
      const closed = server.close(BOUND_MS);
      await wait(Math.floor(round / 12));
      socket.write('y');
      await closed;
    }
    assert.ok(busy > 0);
    const answers = new Set(await Promise.all(late));
    answers.delete('ECONNREFUSED'); // it knows that it was not heard, and asks elsewhere
    assert.equal([...answers], ['done']);
  });

stop('ends the accepting where clients connect anew for each request', async () => {
  const working = {
    async fetch(): Promise<Response> {
      const until = performance.now() + 3;
      while (performance.now() < until); // as a commit that blocks
      return new Response('done');
    },
  };
  const server = await listen(working, LOCAL);
  const ends: string[] = [];
  let answers = 0;
  async function client(): Promise<void> {
    for (;;) {
      const answer = await post(server.address, '', { agent: new Agent() }).catch(error => error.code);
      if (answer !== 'done') return void ends.push(answer);
      answers++;
    }
  }
  const clients = range(20).map(client);
  await until('all are served', () => answers >= 2 * clients.length);
  const before = answers;
  const closed = server.close(BOUND_MS);
  await Promise.all(clients);
  await closed;
  assert.equal([...new Set(ends)], ['ECONNREFUSED']);
  // One that it was dealing with, and one that waited.
  assert.ok(answers - before <= 2 * clients.length, `${answers - before} answers`);
});

stop('lets a request in flight finish, accepts nothing new, and says that the connection ends', async () => {
  const { address, close } = await serve(LOCAL);
  const agent = new Agent({ keepAlive: true });
  const { sent: answer } = await begin(() => ask(address, 'last', { path: '/slow', agent }));
  const closed = close(BOUND_MS);
  await refused(portOf(address));
  app.finish();
  const answered = await answer;
  assert.is(answered.headers.connection, 'close');
  assert.is(await text(answered), 'POST last');
  await closed;
  agent.destroy();
});

for (const [what, transport, makeAgent] of [
  ['', PLAIN[0], () => new Agent({ keepAlive: true })],
  [' of an https listener either', TLS, () => new TlsAgent({ keepAlive: true })],
] as const)
  stop(`does not wait for idle connections${what}`, async () => {
    const { address, close } = await serve(transport?.listener() ?? LOCAL);
    const agent = makeAgent();
    assert.is(await post(address, 'hello', { agent }), 'POST hello');
    await closesSoon(close);
    agent.destroy();
  });

stop('does not keep a connection whose answer had begun', async () => {
  const { address, close } = await serve(LOCAL);
  const agent = new Agent({ keepAlive: true });
  const answer = await ask(address, '', { path: '/stream', agent });
  const closed = closesSoon(close);
  app.finish();
  assert.is(await text(answer), 'half and rest');
  await closed;
  agent.destroy();
});

async function closesSoon(close: Listening['close']): Promise<void> {
  const startedAt = performance.now();
  await close(BOUND_MS);
  assert.ok(performance.now() - startedAt < BOUND_MS / 2, 'it waited for its bound');
}

/** Resolves when nobody listens at the port any more. */
async function refused(port: number): Promise<void> {
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const isRefused = await failed(once(socket, 'connect'));
    socket.destroy();
    if (isRefused) return;
    await wait(20); // the accept queue is empty at times
  }
}

stop('cuts at its bound what has not finished', async () => {
  const { address, close } = await serve(LOCAL);
  const { sent: answer } = await begin(() => failed(post(address, 'never', { path: '/slow' })));
  await close(50);
  assert.ok(await answer);
  app.finish();
});

stop('ends in its bound for clients that never shake hands', async () => {
  const { address, close } = await serve(TLS.listener());
  const client = await mute(address);
  const startedAt = performance.now();
  await close(100);
  assert.ok(performance.now() - startedAt < 2000, 'it waited for the client');
  client.destroy();
});

stop('lets a request on a unix socket finish too', async () => {
  const { address, close } = await serve(unixAt(socketPath()));
  const { sent: answer } = await begin(() => post(address, 'last', { path: '/slow' }));
  const closed = close(BOUND_MS);
  app.finish();
  assert.is(await answer, 'POST last');
  await closed;
});

/** A server, and one client of it. */
async function connection(listener: Listener) {
  const { address, close } = await serve(listener);
  return { close, one: wire(address), address };
}

for (const { name, listener } of PLAIN) {
  stop(`answers what comes on an idle connection of ${name}, and says that it ends`, async () => {
    const { address, close } = await serve(listener());
    const wires = Array.from({ length: 5 }, () => wire(address));
    for (const one of wires) one.ask('one');
    for (const one of wires) await one.answered();
    for (const one of wires) one.ask('again');
    const closed = closesSoon(close);
    await Promise.all(
      wires.map(async one => {
        let answers = 1;
        while (one.endsSaid() === 0) {
          await one.answered(++answers);
          if (one.endsSaid() === 0) one.ask('again');
        }
        await one.ended();
        assert.is(one.answers().length, answers);
      }),
    );
    await closed;
  });

  stop(`keeps a connection of ${name} that was used just now`, async () => {
    const { one, close } = await connection(listener());
    one.ask('one');
    await one.answered();
    const closed = closesSoon(close);
    await wait(200);
    one.ask('two');
    await closed;
    await one.ended();
    assert.equal(one.answers(), ['POST one', 'POST two']);
    assert.is(one.endsSaid(), 1);
  });

  stop(`serves the clients in the accept queue of ${name}`, async () => {
    const { address, close } = await serve(listener());
    const flag = join(folder, 'queued');
    const clients = spawn(NODE, [CONNECT_MANY, JSON.stringify(toward(address)), '50', flag], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const heard = text(clients.stdout);
    const deadline = performance.now() + BOUND_MS;
    while (!existsSync(flag) && performance.now() < deadline); // the server does not get to look
    await closesSoon(close);
    const received = JSON.parse(await heard) as string[];
    assert.is(received.length, 50);
    for (const answer of received) assert.match(answer, /POST queued$/);
  });

  stop(`waits on ${name} for the rest of a request that has begun, but not for ever`, async () => {
    const { address, close } = await serve(listener());
    const [late, never, silent] = [wire(address), wire(address), wire(address)];
    const bytes = bytesOf('late');
    for (const one of [late, never]) one.socket.write(bytes.slice(0, 20));
    await wait(50);
    const closed = closesSoon(close);
    await silent.ended();
    await wait(300); // a moment that the others would not outlast if they were taken for silent
    assert.not(late.hasEnded);
    late.socket.write(bytes.slice(20));
    await late.ended();
    assert.equal(late.answers(), ['POST late']);
    await closed;
    await never.ended();
    assert.is(never.received, '');
  });

  stop(`a client of ${name} that goes on sending meanwhile: reads all answers`, async () => {
    const { one, close } = await connection(listener());
    await begin(() => one.ask('last', '/slow'));
    one.socket.pause();
    const closed = closesSoon(close);
    app.handled = [];
    app.finish();
    for (let i = 0; i < 30; i++) {
      one.ask('more', '/more');
      await wait(10);
    }
    one.socket.resume();
    await closed;
    await one.ended();
    assert.is(one.answers()[0], 'POST last');
    assert.is(one.answers().length, app.handled.length + 1);
    assert.is(one.endsSaid(), 1);
    assert.is(one.error, null);
  });

  stop(`keeps a connection of ${name} whose answer did not say that it ends`, async () => {
    const { one, close } = await connection(listener());
    one.ask('', '/stream');
    await until('the first half', () => one.received.includes('half'));
    const closed = closesSoon(close);
    await wait(50);
    app.finish();
    await until('the rest', () => one.received.endsWith('0\r\n\r\n'));
    one.ask('next');
    await closed;
    await one.ended();
    assert.equal(one.answers(), ['POST next']);
    assert.is(one.endsSaid(), 1);
  });
}

stop('answers all that was sent at once, and says with the last that it ends', async () => {
  const { one, close, address } = await connection(LOCAL);
  await begin(() => one.ask('first', '/slow'));
  one.ask('second');
  const closed = closesSoon(close);
  await refused(portOf(address));
  app.finish();
  await closed;
  await one.ended();
  assert.equal(one.answers(), ['POST first', 'POST second']);
  assert.is(one.endsSaid(), 1);
  assert.ok(one.received.search(/^connection: close/im) > one.received.indexOf('POST first'));
});

stop('handles nothing that comes after the answer that says that the connection ends', async () => {
  const { one, close, address } = await connection(LOCAL);
  one.ask('one');
  await one.answered();
  app.handled = [];
  await begin(() => one.ask('two', '/early'));
  const closed = closesSoon(close);
  await refused(portOf(address));
  app.finish();
  await until('the head of the answer', () => one.endsSaid() === 1);
  one.ask('three');
  await wait(50);
  app.finish();
  await closed;
  assert.equal(app.handled, ['/early']);
});

stop('loses no request of clients that ask at once, on any transport', async () => {
  for (const { name, listener, dial } of [...PLAIN, TLS]) {
    const { address, close } = await serve(listener());
    const ready = name === 'TLS' ? 'secureConnect' : 'connect';
    const clients = Array.from(
      { length: 10 },
      () => new KeepAliveClient(() => ({ socket: dial(address), ready })),
    );
    let isOver = false;
    const asking = clients.map(async (client, i) => {
      while (!isOver) {
        await client.call('/', i).catch(() => {});
        if (!client.isConnected) return;
        await wait(Math.random() * i);
      }
    });
    await until('some answers', () => clients.every(one => one.answered > 2));
    await closesSoon(close);
    isOver = true;
    await Promise.all(asking);
    const broken = clients.flatMap(one => one.broken);
    assert.equal(broken, [], name);
  }
});
stop.run();

const ahead = serverSuite('a client that sends ahead');
const refusalsIn = ({ received }: ReturnType<typeof wire>) => received.match(/\{"Error":"[^"]*"\}/g) ?? [];

for (const { name, listener } of PLAIN) {
  ahead(
    `over ${name} is dealt with in turn, and told of the one that is too many, with which it ends`,
    async () => {
      const lines: unknown[][] = [];
      const { address } = await serve(listener(), (...line) => void lines.push(line));
      const one = wire(address);
      await begin(() => one.ask('', '/slow'));
      app.handled = [];
      // What comes behind that one is not looked at.
      one.socket.write(`${bytesOf('more', '/more').repeat(5000)}NO HTTP\r\n\r\n`);
      await until('the log', () => lines.length === 1);
      assert.equal(app.handled, [], 'the first is not answered yet');
      app.finish();
      await one.ended();
      assert.is(app.handled.length, 99, 'beside the first');
      assert.is(one.answers().length, 99);
      assert.equal(refusalsIn(one), [
        '{"Error":"100 requests wait on this connection: this one is not done; wait for answers, and send it again"}',
      ]);
      assert.is(one.endsSaid(), 1);
      assert.ok(one.received.lastIndexOf('Error') > one.received.lastIndexOf('POST more'), 'it is the last');
    },
  );
}

ahead(
  'many of them: have 5,000 requests in all, each its first, and all of them when these are over',
  async () => {
    const over = Promise.withResolvers<void>();
    let begun = 0;
    const lines: unknown[][] = [];
    const held = {
      async fetch() {
        begun++;
        await over.promise;
        return new Response('POST done');
      },
    };
    const { address, close } = await listen(held, LOCAL, (...line) => void lines.push(line));
    const crowd = range(51).map(() => wire(address));
    for (const one of crowd) one.socket.write(bytesOf('').repeat(100));
    await until('the refusal', () => lines.length > 0);
    const [, , fields] = lines[0] ?? [];
    assert.is((fields as { why: string }).why, '5000 requests wait on the server');
    await until('the first of each', () => begun === 51);
    over.resolve();
    await until('the answer', () => crowd.some(one => refusalsIn(one).length > 0));
    for (const one of crowd) one.socket.destroy();
    const later = wire(address);
    later.socket.write(bytesOf('').repeat(50));
    await later.answered(50);
    assert.equal(refusalsIn(later), []);
    later.socket.destroy();
    await close(0);
  },
);

ahead('lets others be served between two of its requests', async () => {
  const quick = { fetch: async ({ url }: Request) => new Response(new URL(url).pathname) };
  const { address, close } = await listen(quick, LOCAL);
  const [many, other] = [wire(address), wire(address)];
  await Promise.all([many, other].map(one => once(one.socket, 'connect')));
  many.socket.write(bytesOf('', '/many').repeat(90));
  other.socket.write(bytesOf('', '/other').repeat(9));
  let before = 90;
  other.socket.on('data', () => {
    before = Math.min(before, many.received.split('/many').length - 1);
  });
  await until('the answers', () => other.received.split('/other').length === 10);
  assert.ok(before < 45, `${before} answers to the one that sends many before the first to the other`);
  for (const one of [many, other]) one.socket.destroy();
  await close(0);
});

ahead('has begun nothing of what waits when it hangs up', async () => {
  const { address } = await serve(LOCAL);
  const one = wire(address);
  await begin(() => one.ask('', '/slow'));
  app.handled = [];
  one.ask('more', '/more');
  await wait(50); // it has arrived
  one.socket.destroy();
  await one.ended();
  assert.is(await post(address, 'hello'), 'POST hello');
  app.finish();
  assert.is(await post(address, 'hello'), 'POST hello');
  assert.equal(app.handled, ['/', '/']);
});

ahead.run();

const idle = suite('an idle connection');
idle('is never closed by the server', () => idling);
idle.run();

/** Asks, is silent for longer than node:http lets a connection be, and asks again. */
async function staysOpen(): Promise<void> {
  const { address, close } = await listen(app, LOCAL);
  const one = wire(address);
  const answers = () => one.received.split('POST hi').length - 1;
  for (const count of [1, 2]) {
    one.ask('hi');
    await until('an answer or the end', () => one.hasEnded || answers() === count);
    if (count === 1) await wait(IDLE_MS);
  }
  assert.is(answers(), 2, one.received);
  one.socket.destroy();
  await close(0);
}
