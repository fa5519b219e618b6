// Goal: Docker's protocol on the wire. Method: the app called directly, and over a socket where the socket matters.
import { once } from 'node:events';
import { connect } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import type { Ipv4 } from '../../src/domain/address.ts';
import { IpamError } from '../../src/domain/error.ts';
import type { Observer } from '../../src/domain/observer.ts';
import { UNANSWERED_MAX_MS } from '../../src/domain/suspects.ts';
import { createDriver, type Service } from '../../src/http/driver.ts';
import { createInFlight } from '../../src/http/in-flight.ts';
import { listen } from '../../src/http/listener/listen.ts';
import { toldIn } from '../kit/failures.ts';
import { range } from '../kit/rows.ts';
import { dockerds } from '../kit/servers/raw-http.ts';
import { assert, suite } from '../kit/uvu.ts';
import { ENI_A, ROOMY, SUBNET } from '../kit/vpcs.ts';
import { until } from '../kit/wait.ts';
import { NOT_WARM, pooled, type World, world } from '../kit/world.ts';

const appOf = (
  w: World,
  opened: Service['opened'] = async () => {},
  options: Parameters<typeof createDriver>[2] = {},
) => createDriver({ pools: w.pools, allocator: w.allocator, opened }, w.context.log, options);
type App = ReturnType<typeof appOf>;

async function post(app: App, path: string, body: unknown): Promise<Record<string, unknown>> {
  const text = body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body);
  const answer = await app.request(path, { method: 'POST', body: text });
  assert.is(answer.status, 200);
  return (await answer.json()) as Record<string, unknown>;
}
/** Asks for an address of ENI A. */
const ask = (app: App, more: object = {}) =>
  post(app, '/IpamDriver.RequestAddress', { PoolID: 'eni-0a', Address: '', ...more });
const POOL = {
  AddressSpace: 'ec2-ipam',
  Pool: '10.0.1.0/24',
  SubPool: '',
  Options: { 'eni-id': ENI_A },
  V6: false,
};

const protocol = suite('driver');

protocol('says what it is without waiting for anything', async () => {
  const app = appOf(world(), () => new Promise(() => {}));
  assert.equal(await post(app, '/Plugin.Activate', undefined), { Implements: ['IpamDriver'] });
  assert.equal(await post(app, '/IpamDriver.GetCapabilities', undefined), {
    RequiresMACAddress: false,
    RequiresRequestReplay: false,
  });
  const spaces = await post(app, '/IpamDriver.GetDefaultAddressSpaces', undefined);
  assert.is(spaces.LocalDefaultAddressSpace, spaces.GlobalDefaultAddressSpace);
});

protocol(
  'of 201 requests at once for one ENI the last is refused at once, and those of others are served',
  async () => {
    const w = await pooled({ vpc: ROOMY });
    const hold = Promise.withResolvers<void>();
    const app = appOf(w, () => hold.promise);
    const waiting = range(200).map(() => ask(app, { PoolID: 'eni-0a;range=10.0.1.128/25' }));
    await turn();
    const { Error: error } = await ask(app);
    assert.match(String(error), /^200 requests for eni-0a wait already; nothing was changed: start fewer/);
    const other = ask(app, { PoolID: 'eni-0b' });
    assert.equal(await post(app, '/Plugin.Activate', undefined), { Implements: ['IpamDriver'] });
    const released = post(app, '/IpamDriver.ReleaseAddress', { PoolID: 'eni-0a', Address: '10.0.1.77' });
    hold.resolve();
    assert.equal(await released, {}, 'a release has a place of its own');
    await Promise.all([...waiting, other]);
    assert.not.match(String((await ask(app)).Error), /wait already/, 'the places are free again');
  },
);

protocol(
  'of 1,001 releases at once for one ENI the last is refused, and those are one line in the log',
  async () => {
    const w = await pooled({ vpc: ROOMY });
    const hold = Promise.withResolvers<void>();
    const app = appOf(w, () => hold.promise);
    const release = () => post(app, '/IpamDriver.ReleaseAddress', { PoolID: 'eni-0a', Address: '10.0.1.77' });
    const waiting = range(1000).map(release);
    await turn();
    for (const { Error: error } of await Promise.all(range(20).map(release)))
      assert.match(String(error), /^1000 requests for eni-0a wait already;/);
    assert.is(w.linesOf('request refused'), 1);
    hold.resolve();
    for (const answer of await Promise.all(waiting)) assert.equal(answer, {});
    assert.equal(await release(), {}, 'the places are free again');
  },
);

protocol('each call: is told once to whoever watches, with how it ended', async () => {
  const w = await pooled({ vpc: ROOMY });
  const told: string[] = [];
  const observer = {
    answered(path, result, ms) {
      assert.ok(ms >= 0);
      told.push(`${path} ${result}`);
    },
  } as Pick<Observer, 'answered'> as Observer;
  const app = appOf(w, undefined, { observer });
  await post(app, '/Plugin.Activate', undefined);
  const { Address } = await ask(app);
  await ask(app, { Address: String(Address).split('/')[0] });
  await ask(app, { PoolID: 'nonsense' });
  await post(app, '/IpamDriver.ReleaseAddress', { PoolID: 'eni-0a', Address: 'nonsense' });
  await app.request('/nowhere');
  assert.equal(told, [
    '/Plugin.Activate ok',
    '/IpamDriver.RequestAddress ok',
    '/IpamDriver.RequestAddress conflict',
    '/IpamDriver.RequestAddress bad-request',
    '/IpamDriver.ReleaseAddress bad-request',
    '/nowhere bad-request',
  ]);
});

protocol('a pool carries the gateway that engine 29 does not ask for', async () => {
  const answer = await post(appOf(world({ vpc: ROOMY })), '/IpamDriver.RequestPool', POOL);
  assert.equal(answer, {
    PoolID: 'eni-0a',
    Pool: '10.0.1.0/24',
    Data: { 'com.docker.network.gateway': '10.0.1.1/24' },
  });
});

protocol("an address has the subnet's prefix length and the container's name", async () => {
  const w = await pooled({ vpc: ROOMY });
  const Options = { 'com.docker.network.endpoint.name': 'web', 'some.other': 'thing' };
  const { Address } = await ask(appOf(w), { Options });
  assert.match(String(Address), /^10\.0\.1\.\d+\/24$/);
  assert.is((await w.rowOf(String(Address).split('/')[0] ?? '')).holder, 'web');
});

protocol('a name from outside: is cleaned and cut before the ledger has it', async () => {
  const w = await pooled({ vpc: ROOMY });
  const named = async (name: string) => {
    const { Address } = await ask(appOf(w), { Options: { 'com.docker.network.endpoint.name': name } });
    return (await w.rowOf(String(Address).split('/')[0] ?? '')).holder;
  };
  assert.is(await named('web\u001b[2J\nhost'), 'web [2J host');
  assert.is(await named('x'.repeat(15_000)), 'x'.repeat(255));
});

protocol('a value from outside: is quoted clean and cut in the error', async () => {
  const long = `\u001b]0;owned\u0007${'x'.repeat(15_000)}`;
  const app = appOf(await pooled({ vpc: ROOMY }));
  const pool = (more: object) => post(app, '/IpamDriver.RequestPool', { ...POOL, ...more });
  const answers = [
    await pool({ Pool: long }),
    await pool({ SubPool: long }),
    await pool({ Options: { 'eni-id': long } }),
    await pool({ Options: { 'eni-id': ENI_A, 'instance-id': long } }),
    await ask(app, { Address: long }),
    await ask(app, { PoolID: long }),
    await ask(app, { PoolID: `eni-0a;${long}` }),
    await post(app, '/IpamDriver.ReleaseAddress', { PoolID: 'eni-0a', Address: long }),
  ];
  for (const { Error: told } of answers) {
    assert.match(String(told), /owned/);
    assert.not.match(String(told), /\p{Cc}/u);
    assert.ok(String(told).length < 250, String(told));
  }
});

protocol('Options may be null or absent', async () => {
  const app = appOf(await pooled({ vpc: ROOMY }));
  assert.ok((await ask(app, { Options: null })).Address);
  assert.ok((await ask(app)).Address);
});

protocol('the gateway is answered and given back by arithmetic', async () => {
  const w = await pooled({ vpc: ROOMY });
  const app = appOf(w);
  const Options = { RequestAddressType: 'com.docker.network.gateway' };
  for (const Address of ['', '10.0.1.1'])
    assert.is((await ask(app, { Address, Options })).Address, '10.0.1.1/24');
  assert.match(String((await ask(app, { Address: '10.0.1.7', Options })).Error), /not the VPC router/);
  assert.equal(await post(app, '/IpamDriver.ReleaseAddress', { PoolID: 'eni-0a', Address: '10.0.1.1' }), {});
  assert.is(await w.statusOf('10.0.1.1'), 'reserved');
});

protocol('a pool is released with success, whatever it is', async () => {
  const app = appOf(world());
  assert.equal(await post(app, '/IpamDriver.ReleasePool', { PoolID: 'eni-0a' }), {});
  assert.equal(await post(app, '/IpamDriver.ReleasePool', { PoolID: 'nonsense' }), {});
});

protocol('a release that is refused: the log names the address and its ENI', async () => {
  const w = world();
  const away = () => Promise.reject(new IpamError('unavailable', 'the server stops'));
  const told = await post(appOf(w, away), '/IpamDriver.ReleaseAddress', {
    PoolID: `${ENI_A};range=10.0.1.0/25`,
    Address: '10.0.1.7',
  });
  assert.is(toldIn(told), 'the server stops');
  const [line] = w.lines.filter(({ message }) => message === 'request refused');
  assert.is(line?.fields.eni, ENI_A);
  assert.is(line?.fields.ip, '10.0.1.7');
});

protocol('each log line of a request has its id, and so has the error that its user sees', async () => {
  const w = await pooled({ vpc: ROOMY, policy: NOT_WARM });
  const app = appOf(w);
  await ask(app, { Address: '10.0.1.7' });
  for (let count = 1; count < 9; count++) await ask(app);
  w.time.now += 60_000;
  await post(app, '/IpamDriver.ReleaseAddress', { PoolID: 'eni-0a', Address: '10.0.1.7' });
  await ask(app);
  const { Error: line } = await ask(app);
  const ids = ['assigned', 'early reuse', 'request refused'].map(message => {
    const [first] = w.lines.filter(one => one.message === message);
    return first?.fields.request;
  });
  for (const id of ids) assert.match(String(id), /^[0-9a-f]{8}$/);
  assert.is(new Set(ids).size, 3, 'each of another request');
  assert.match(String(line), ` (request ${ids[2]})`);
});

protocol('what a request gives and a release ends: is in the history with their ids', async () => {
  const w = await pooled({ vpc: ROOMY });
  const app = appOf(w);
  const ip = String((await ask(app)).Address).split('/')[0] as Ipv4;
  await post(app, '/IpamDriver.ReleaseAddress', { PoolID: 'eni-0a', Address: ip });
  const [tenure] = (await w.store.history(SUBNET, ip, 10)).rows;
  assert.equal([tenure?.isHeld, tenure?.endedBy], [false, 'release']);
  assert.match(String(tenure?.request), /^[0-9a-f]{8}$/);
  assert.match(String(tenure?.endRequest), /^[0-9a-f]{8}$/);
  assert.is.not(tenure?.request, tenure?.endRequest);
});

const BAD: [what: string, body: unknown, error: RegExp][] = [
  [
    'an empty body',
    undefined,
    /without a body, as dockerd repeats it after a broken connection; nothing was changed/,
  ],
  ['white space', ' \n', /without a body/],
  ['no JSON', '{"PoolID":', /not JSON/],
  ['a list', '[]', /not a request/],
  ['null', 'null', /not a request/],
  ['a number as PoolID', { PoolID: 7, Address: '10.0.1.7' }, /PoolID/],
  [
    'an address with a prefix',
    { PoolID: 'eni-0a', Address: '10.0.1.7/24' },
    /"10\.0\.1\.7\/24" is not an IPv4 address/,
  ],
  ['an address with a leading zero', { PoolID: 'eni-0a', Address: '010.0.1.7' }, /is not an IPv4 address/],
  ['a foreign PoolID', { PoolID: 'pool-7', Address: '10.0.1.7' }, /PoolID/],
  ['a megabyte', 'x'.repeat(1_000_000), /larger than 16384 bytes/],
];
for (const path of ['/IpamDriver.RequestAddress', '/IpamDriver.ReleaseAddress'])
  for (const [what, body, error] of BAD)
    protocol(`${path} refuses ${what} in one line and touches nothing`, async () => {
      const w = world({ vpc: ROOMY });
      const answer = await post(appOf(w), path, body);
      assert.match(String(answer.Error), error);
      assert.not.match(String(answer.Error), /\n| {4}at /);
      assert.equal(await w.store.tally(), []);
    });

protocol('RequestPool refuses what it cannot serve, and says what to add', async () => {
  const app = appOf(world());
  const asked: [body: unknown, error: RegExp][] = [
    [undefined, /without a body/],
    [{ ...POOL, Options: null }, /add --ipam-opt eni-id=/],
    [{ ...POOL, V6: true, Pool: 'fd00::/64' }, /leave out --ipv6/],
  ];
  for (const [body, error] of asked)
    assert.match(String((await post(app, '/IpamDriver.RequestPool', body)).Error), error);
});

protocol('an error that nobody foresaw shows nothing of itself', async () => {
  const w = world();
  const broken = {
    ...w.allocator,
    request: () => Promise.reject(new TypeError('secret SELECT * FROM allocation')),
  };
  const app = createDriver({ pools: w.pools, allocator: broken, opened: async () => {} }, w.context.log);
  const line = toldIn(await ask(app));
  assert.is(line, 'ec2-ipam: internal error; look into the log of the server');
  assert.ok(w.lines.some(one => one.level === 'error'));
});

protocol('waits for the ledger, and says why in vain', async () => {
  const down = async () => {
    throw new IpamError('store-down', 'db.example:3306 does not answer', { hint: 'see that it runs' });
  };
  const line = toldIn(await ask(appOf(world(), down)));
  assert.is(line, 'db.example:3306 does not answer; see that it runs');
});

const AGENTS = {
  'ec2-ipam-request-id': '0a1b2c3d-0000-4000-8000-000000000001',
  'ec2-ipam-sent-ms-ago': '0',
};

protocol(
  'one too many of an agent: Docker is told of a request at once, and a release is repeated',
  async () => {
    const app = appOf(await pooled({ vpc: ROOMY }), () => new Promise(() => {}));
    const calls: [name: string, max: number, status: number][] = [
      ['RequestAddress', 200, 200],
      ['ReleaseAddress', 1000, 503],
    ];
    for (const [name, max, status] of calls) {
      const body = JSON.stringify({ PoolID: 'eni-0a', Address: '10.0.1.77' });
      const send = () => app.request(`/IpamDriver.${name}`, { method: 'POST', body, headers: AGENTS });
      for (let i = 0; i < max; i++) void send();
      await turn();
      const answer = await send();
      assert.equal([answer.status, /wait already/.test(await answer.text())], [status, true]);
    }
  },
);

protocol('a ledger that is away: an agent is told by a status, so that it asks another server', async () => {
  const waits: unknown[] = [];
  const app = appOf(world(), async (_, withinMs) => {
    waits.push(withinMs);
    throw new IpamError('store-down', 'db.example:3306 does not answer');
  });
  const headers = AGENTS;
  const calls: [path: string, body: object][] = [
    ['/IpamDriver.RequestPool', POOL],
    ['/IpamDriver.RequestAddress', { PoolID: 'eni-0a' }],
    ['/IpamDriver.ReleaseAddress', { PoolID: 'eni-0a', Address: '10.0.1.7' }],
  ];
  for (const [path, body] of calls)
    for (const [more, status] of [
      [{ headers }, 503],
      [{}, 200],
    ] as const) {
      const answer = await app.request(path, { method: 'POST', body: JSON.stringify(body), ...more });
      assert.is(answer.status, status);
      assert.match(await answer.text(), /db\.example:3306 does not answer/);
    }
  assert.is(waits.length, 6);
});

protocol('a crowd of refusals that anybody may cause: is one line and a count', async () => {
  const w = world();
  const app = appOf(w);
  for (let i = 0; i < 100; i++)
    await post(app, '/IpamDriver.ReleaseAddress', { PoolID: 'eni-0a', Address: 'none' });
  for (let i = 0; i < 100; i++) await post(app, '/IpamDriver.ReleasePool', { PoolID: 'nonsense' });
  assert.equal([w.linesOf('request refused'), w.linesOf('pool release not noted')], [1, 1]);
});

const onTheWire = suite('driver on a socket');

async function served(w: World, options: Parameters<typeof createDriver>[2] = {}) {
  const listening = await listen(appOf(w, undefined, options), { kind: 'http', host: '127.0.0.1', port: 0 });
  const port = Number(new URL(listening.address).port);
  const dial = () => {
    const client = { socket: connect(port, '127.0.0.1').on('error', () => {}), answer: '' };
    client.socket.on('data', chunk => {
      client.answer += chunk;
    });
    return client;
  };
  return { dial, close: () => listening.close(1000) };
}
const REQUEST = dockerds('/IpamDriver.RequestAddress', '{"PoolID":"eni-0a","Address":"","Options":null}\n');

onTheWire('answers dockerd, which sends no Content-Type', async () => {
  const w = await pooled({ vpc: ROOMY });
  const { dial, close } = await served(w);
  const client = dial();
  client.socket.write(REQUEST);
  await until('an answer', () => client.answer.includes('"Address"'));
  assert.match(client.answer, /^HTTP\/1\.1 200 OK\r\n/);
  assert.match(client.answer, /content-type: application\/vnd\.docker\.plugins\.v1\.2\+json\r\n/i);
  assert.match(client.answer, /"Address":"10\.0\.1\.\d+\/24"/);
  client.socket.destroy();
  await close();
});

onTheWire('a body that is announced as larger than the limit: is refused before it comes', async () => {
  const { dial, close } = await served(await pooled({ vpc: ROOMY }));
  const client = dial();
  const head = 'POST /IpamDriver.RequestAddress HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16385\r\n\r\n';
  client.socket.write(head);
  await until('an answer', () => client.answer.includes('"Error":"the body is larger than 16384 bytes'));
  client.socket.destroy();
  await close();
});

for (const [what, size] of [
  ['is taken', 100],
  ['is refused past the limit', 100_000],
] as const)
  onTheWire(`a body in chunks, without a Content-Length, ${what}`, async () => {
    const w = await pooled({ vpc: ROOMY });
    const { dial, close } = await served(w);
    const client = dial();
    const body = JSON.stringify({ PoolID: 'eni-0a', Address: '', Padding: 'x'.repeat(size) });
    client.socket.write(
      'POST /IpamDriver.RequestAddress HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n',
    );
    client.socket.write(`${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`);
    await until('an answer', () => /"(Address|Error)"/.test(client.answer));
    assert.match(
      client.answer,
      size < 1000 ? /"Address":"10/ : /"Error":"the body is larger than 16384 bytes/,
    );
    client.socket.destroy();
    await close();
  });

// Deno hears of them later than one turn of its event loop.
if (!('Deno' in globalThis))
  onTheWire('callers that have gone before they are heard leave no holder behind', async () => {
    const w = await pooled({ vpc: ROOMY });
    const undone: string[] = [];
    const quick: World['allocator'] = {
      ...w.allocator,
      async request(asked) {
        const given = await w.allocator.request(asked);
        await new Promise(setImmediate); // as a commit that joins others
        return given;
      },
      async undo(row) {
        await w.allocator.undo(row);
        undone.push(row.ip);
      },
    };
    const { dial, close } = await served({ ...w, allocator: quick });
    await ask(appOf(w)); // makes others ready
    const sockets = Array.from({ length: 4 }, () => dial().socket);
    await until('the connections', () => sockets.every(socket => !socket.connecting));
    for (const socket of sockets) {
      socket.write(REQUEST);
      socket.destroy();
    }
    await until('the undo', () => undone.length === sockets.length);
    assert.is((await w.ipsWith('allocated')).length, 1);
    await close();
  });

onTheWire('a caller that hangs up before the answer leaves no holder behind', async () => {
  const w = await pooled({ vpc: ROOMY });
  const { promise: claim, resolve: claimed } = Promise.withResolvers<void>();
  const { promise: hold, resolve: proceed } = Promise.withResolvers<void>();
  const slow: World['allocator'] = {
    ...w.allocator,
    request: async asked => {
      const given = await w.allocator.request(asked);
      claimed();
      await hold;
      await until('the hang-up to arrive', () => asked.caller.aborted);
      return given;
    },
  };
  const { dial, close } = await served({ ...w, allocator: slow });
  const { socket } = dial();
  socket.write(REQUEST);
  await claim;
  assert.is((await w.ipsWith('allocated')).length, 1);
  socket.destroy();
  proceed();
  await until('the undo', async () => (await w.ipsWith('allocated')).length === 0);
  assert.is(w.secondariesOf(ENI_A).length, 9, 'and the addresses stay warm');
  await close();
});

for (const [what, head] of [
  ['with a Content-Length', 'Content-Length: 40'],
  ['in chunks', 'Transfer-Encoding: chunked'],
] as const)
  onTheWire(`half a body ${what} is waited for only so long: an error, and the connection ends`, async () => {
    const w = await pooled({ vpc: ROOMY });
    const { dial, close } = await served(w, { bodyMaxMs: 50 });
    const client = dial();
    const half = head.startsWith('T') ? '8\r\n{"PoolID\r\n' : '{"PoolID';
    client.socket.write(
      `POST /IpamDriver.RequestAddress HTTP/1.1\r\nHost: localhost\r\n${head}\r\n\r\n${half}`,
    );
    await until('the end of the connection', () => client.socket.closed);
    assert.match(
      client.answer,
      /"Error":"the body of the request did not come within 0.05 s; nothing was changed \(request [0-9a-f]{8}\)"/,
    );
    assert.match(client.answer, /^connection: close\r$/im);
    await close();
  });

onTheWire('a handler whose caller has hung up is in flight until it has undone its claim', async () => {
  const w = await pooled({ vpc: ROOMY });
  const inFlight = createInFlight();
  const { promise: undone, resolve: undo } = Promise.withResolvers<void>();
  let undoing = false;
  const slow: World['allocator'] = {
    ...w.allocator,
    request: async asked => {
      const given = await w.allocator.request(asked);
      await until('the hang-up to arrive', () => asked.caller.aborted);
      return given;
    },
    undo: async row => {
      undoing = true;
      await undone;
      await w.allocator.undo(row);
    },
  };
  const { dial, close } = await served({ ...w, allocator: slow }, { inFlight });
  const { socket } = dial();
  socket.write(REQUEST);
  await until('the claim', async () => (await w.ipsWith('allocated')).length === 1);
  socket.destroy();
  await until('the undo', () => undoing);
  await close();
  let ended = false;
  const all = inFlight.ended(10_000).then(() => {
    ended = true;
  });
  await inFlight.ended(20); // bounded, though it has not ended
  assert.not(ended, 'the undo is still under way');
  undo();
  await all;
  assert.is((await w.ipsWith('allocated')).length, 0);
});

onTheWire('an answer that was handed over stands, though the caller closes straight after', async () => {
  const w = await pooled({ vpc: ROOMY });
  const { dial, close } = await served(w);
  const { socket } = dial();
  socket.write(REQUEST);
  await once(socket, 'data');
  socket.destroy();
  await close();
  assert.is((await w.ipsWith('allocated')).length, 1);
});

protocol('a claim that is stale when it is to be told: is rolled back, and the reason is told', async () => {
  const w = await pooled({ vpc: ROOMY });
  const app = appOf(w);
  const back = w.intercept('move', move => async changes => {
    const moved = await move(changes);
    // The process is suspended after the claim, for longer than a claim may be unanswered.
    if (changes[0]?.move === 'claim') w.time.now += UNANSWERED_MAX_MS + 1;
    return moved;
  });
  const { Error: told } = await ask(app);
  back();
  assert.match(String(told), 'the server was suspended while it answered');
  const [line] = w.lines.filter(({ message }) => message === 'claim rolled back');
  assert.match(String(told), ` (request ${line?.fields.request})`);
  assert.equal(await w.ipsWith('allocated'), []);
  assert.is((await ask(app)).Error, undefined);
});

for (const s of [protocol, onTheWire]) s.run();
