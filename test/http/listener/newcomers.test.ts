// Goal: however many clients connect and say nothing, one that speaks is served, an idle one that has spoken is left
// alone, and the log stays short. Method: sockets that are nothing but a name, and a clock that the test moves; then
// real sockets.
import { EventEmitter, once } from 'node:events';
import { createNewcomers, NEWCOMER_BOUNDS } from '../../../src/http/listener/newcomers.ts';
import { createSeldom } from '../../../src/http/seldom.ts';
import { Clock } from '../../kit/clock.ts';
import { range } from '../../kit/rows.ts';
import { LOCAL, PLAIN, TLS } from '../../kit/servers/transports.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { until } from '../../kit/wait.ts';
import { app, begin, bytesOf, mute, post, serve, serverSuite, wire } from '../server.ts';

class FakeSocket extends EventEmitter {
  readonly remoteAddress: string | undefined;
  readonly remotePort: number | undefined;
  isDestroyed = false;
  constructor(address?: string, port?: number) {
    super();
    this.remoteAddress = address;
    this.remotePort = port;
  }
  destroy(): this {
    this.isDestroyed = true;
    this.emit('close');
    return this;
  }
}

function scene(bounds = { silentMaxMs: 30_000, totalMax: 6, ofAddressMax: 3 }) {
  const clock = new Clock();
  const lines: [string, unknown][] = [];
  const later = (work: () => void, ms: number) => void clock.wait(ms).then(work);
  const newcomers = createNewcomers(
    (_, message, fields) => void lines.push([message, fields]),
    bounds,
    () => clock.now,
    later,
  );
  let ports = 0;
  const come = (address?: string) => {
    const socket = new FakeSocket(address, address === undefined ? undefined : ++ports);
    newcomers.came(socket);
    return socket;
  };
  const ended = (sockets: readonly FakeSocket[]) =>
    sockets.map(({ isDestroyed }) => Number(isDestroyed)).join('');
  return { clock, lines, newcomers, come, ended };
}

const newcomers = suite('newcomers');

newcomers('the oldest silent one of an address makes room for the newest, and no other', () => {
  const { come, ended, lines } = scene();
  const other = come('10.0.0.2');
  const silent = range(5).map(() => come('10.0.0.1'));
  assert.is(ended([other, ...silent]), '011000');
  assert.equal(lines[0], [
    'connection closed: over 3 of one address have sent no request',
    { peer: '10.0.0.1' },
  ]);
});

newcomers('all together have a bound too, also on a unix socket, where none has an address', () => {
  const { come, ended } = scene();
  const silent = range(8).map(i => come(`10.0.0.${i}`));
  assert.is(ended(silent), '11000000');
  const unix = scene();
  assert.is(unix.ended(range(8).map(() => unix.come())), '11000000');
});

newcomers('one that has spoken is never closed, nor counted', async () => {
  const { clock, newcomers: some, come, ended } = scene();
  const spoken = range(3).map(() => come('10.0.0.1'));
  // With TLS it is another object.
  for (const { remoteAddress, remotePort } of spoken) some.spoke(new FakeSocket(remoteAddress, remotePort));
  const silent = range(3).map(() => come('10.0.0.1'));
  assert.is(ended([...spoken, ...silent]), '000000');
  await clock.advance(10_000_000);
  assert.is(ended([...spoken, ...silent]), '000111');
});

newcomers('one that says nothing is closed at its time, not before', async () => {
  const { clock, come, ended, lines } = scene();
  const first = come('10.0.0.1');
  await clock.advance(20_000);
  const second = come('10.0.0.1');
  await clock.advance(9_999);
  assert.is(ended([first, second]), '00');
  await clock.advance(1);
  assert.is(ended([first, second]), '10');
  await clock.advance(20_000);
  assert.is(ended([first, second]), '11');
  assert.equal(lines[0], ['connection closed: no request within 30 s', { peer: '10.0.0.1' }]);
  const third = come('10.0.0.1');
  await clock.advance(30_000);
  assert.ok(third.isDestroyed, 'the timer begins anew');
});

newcomers('a server without other bounds: has 1,000 of an address and 4,000 in all, for 30 s', async () => {
  const { come, ended, clock } = scene(NEWCOMER_BOUNDS);
  const same = range(1001).map(() => come('10.0.0.1'));
  assert.is(ended(same), `1${'0'.repeat(1000)}`);
  const others = range(3001).map(i => come(`10.1.${i >> 8}.${i & 255}`));
  assert.is(ended(same), `11${'0'.repeat(999)}`);
  await clock.advance(29_999);
  assert.is(ended(others), '0'.repeat(3001));
  await clock.advance(1);
  assert.is(ended(others), '1'.repeat(3001));
});

newcomers('one that has gone is not counted, and another with its name is', () => {
  const { come, ended, lines, newcomers: some } = scene();
  const [early] = range(2).map(() => come('10.0.0.3'));
  const late = new FakeSocket(early?.remoteAddress, early?.remotePort);
  some.came(late);
  early?.emit('close');
  for (const _ of range(2)) come('10.0.0.3');
  assert.is(lines.length, 1, 'the later one of that name is counted');
  lines.length = 0;
  for (const socket of range(3).map(() => come('10.0.0.1'))) socket.emit('close');
  const silent = range(3).map(() => come('10.0.0.1'));
  assert.is(ended(silent), '000');
  assert.equal(lines, []);
});
newcomers.run();

const seldom = suite('a log that is written seldom');
seldom('what happens ten thousand times in a second is two lines, the second with a count', async () => {
  const clock = new Clock();
  const lines: unknown[] = [];
  const log = createSeldom(
    (...line) => void lines.push(line),
    (work, ms) => void clock.wait(ms).then(work),
  );
  for (const i of range(10_000)) log('warn', 'refused', { i });
  log('warn', 'something else');
  assert.equal(lines, [
    ['warn', 'refused', { i: 0 }],
    ['warn', 'something else', {}],
  ]);
  await clock.advance(1000);
  assert.equal(lines.slice(2), [['warn', 'refused', { i: 9999, count: 9999 }]]);
  log('warn', 'refused', { i: 1 });
  assert.is(lines.length, 3, 'a second has not passed since that line');
  await clock.advance(1000);
  assert.is(lines.length, 4);
  await clock.advance(1000);
  log('warn', 'refused', { i: 2 });
  assert.equal(lines.at(-1), ['warn', 'refused', { i: 2 }]);
});
seldom.run();

const silent = serverSuite('silent clients', { certificates: true });
const BOUNDS = { silentMaxMs: 300, totalMax: 20, ofAddressMax: 10 };
for (const { name, listener, dial } of [...PLAIN, TLS]) {
  silent(`of ${name}: are closed after their time, and one that has spoken is not`, async () => {
    const { address } = await serve(listener(), undefined, BOUNDS);
    const spoken = dial(address);
    let received = '';
    spoken.on('data', chunk => {
      received += chunk;
    });
    const ask = () => spoken.write(bytesOf('hi'));
    ask();
    await until('the answer', () => received.includes('POST hi'));
    const [says, half] = [await mute(address), await mute(address)];
    half.write('POST / HTTP/1.1\r\nHo');
    await Promise.all([says, half].map(socket => socket.destroyed || once(socket, 'close')));
    ask();
    await until('the second answer', () => received.split('POST hi').length === 3);
    spoken.destroy();
  });

  silent(`of ${name}: many keep nobody out`, async () => {
    const lines: unknown[] = [];
    const log = (...line: unknown[]) => void lines.push(line);
    const { address } = await serve(listener(), log, { ...BOUNDS, silentMaxMs: 60_000 });
    const { sent: slow } = await begin(() => post(address, 'slow', { path: '/slow' }));
    const sockets = await Promise.all(range(60).map(() => mute(address)));
    await until('the oldest are closed', () => sockets.filter(one => one.destroyed).length >= 40);
    assert.is(await post(address, 'hello'), 'POST hello');
    app.finish();
    assert.is(await slow, 'POST slow');
    assert.ok(lines.length > 0 && lines.length < 20, `${lines.length} lines for 40 that were closed`);
    for (const socket of sockets) socket.destroy();
  });
}

silent('the rest of a later head is waited for as long as that of the first one', async () => {
  const { address } = await serve(LOCAL, undefined, BOUNDS);
  const one = wire(address);
  one.ask('hi');
  await one.answered();
  one.socket.write('POST / HTTP/1.1\r\nHost');
  await one.ended();
  const idle = wire(address);
  idle.ask('hi');
  await idle.answered();
  idle.socket.write('\r\n'); // as an old client does after a body
  const again = wire(address);
  again.ask('hi');
  await again.answered();
  again.socket.write('POST / HTTP/1.1\r\nHost');
  await again.ended();
  assert.not(idle.hasEnded);
  idle.ask('hi');
  await until('its second answer', () => idle.received.split('POST hi').length === 3);
});
silent.run();
