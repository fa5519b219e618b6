// Goal: nobody can bring the server down or change the ledger by what he sends. Method: seeded nonsense on every
// endpoint, as bytes: types, sizes, depth, encodings, megabytes, broken HTTP, slow bodies, many connections; and
// nonsense in the configuration. Watched are the answers, the process, its memory and the ledger.
import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import process from 'node:process';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { byLength } from '../kit/length.ts';
import { range } from '../kit/rows.ts';
import { runBundle, type Simulator, startBundle, startSimulator } from '../kit/servers/bundle.ts';
import { call } from '../kit/servers/checker.ts';
import { freePort, type Program } from '../kit/servers/process.ts';
import { eniName, worldOf } from '../kit/servers/site.ts';
import { seeded } from '../kit/simulated.ts';
import { assert, suite } from '../kit/uvu.ts';
import { pause } from '../kit/wait.ts';

const SEED = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000_007);
const REQUESTS = 1500;
const CONNECTIONS = 2000;
const CONFIGS = byLength({ full: 24, short: 8, leftOut: '16 of 24 odd configurations' });
const MEGABYTES = 8;
const ANSWER_MAX_MS = 10_000;
const GROWTH_MAX_MB = 150;
const DRIVER =
  'GetCapabilities GetDefaultAddressSpaces RequestPool ReleasePool RequestAddress ReleaseAddress';
const ENDPOINTS = ['Plugin.Activate', ...DRIVER.split(' ').map(method => `IpamDriver.${method}`)];
const FIELDS = 'PoolID Address Options Pool SubPool V6 AddressSpace __proto__ constructor'.split(' ');
const KEYS = 'listen store warmMin cooldown mysql aws logLevel socketMode nothing'.split(' ');
const INSIDES = /\b(select|update|insert into|delete from)\b[^"]*`|\.m?[jt]s:\d+|node:internal|\bat \w+ \(/i;

const random = seeded(SEED);
const below = (limit: number): number => Math.floor(random() * limit);
function oneOf<T>(list: readonly T[]): T {
  return list[below(list.length)] as T;
}

const ODD_TEXTS = [
  ...[
    '',
    ' ',
    '\u0000',
    '\ud800',
    '\u202e',
    '%00%0d%0a',
    '../../etc/passwd',
    'eni-',
    `eni-${'0'.repeat(4000)}`,
  ],
  ...['999.1.1.1', '10.0.0.4294967296', '0x0a000001', '010.0.0.1', '::1', '10.0.0.5/33'],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: what a template engine would fall for
  ...["' OR 1=1 --", '`; DROP TABLE allocation; --', '${7*7}'],
  ...[`${eniName(0)};range=`, `${eniName(0)};range=10.0.0.0/0;v6;v6`],
];
/** Any JSON. Nothing in it names an ENI or an address that the ledger would give or take back. */
function nonsense(depth: number): unknown {
  const kinds: (() => unknown)[] = [
    () => oneOf(ODD_TEXTS),
    () => oneOf([0, -1, 1e308, 2 ** 53, 0.1, -0]),
    () => oneOf([true, false, null]),
    () => 'x'.repeat(below(5000)),
    () => range(below(5)).map(() => nonsense(depth - 1)),
    () => Object.fromEntries(range(below(4)).map(() => [oneOf(FIELDS), nonsense(depth - 1)])),
  ];
  return oneOf(depth > 0 ? kinds : kinds.slice(0, 4))();
}

/** The body of a request: nonsense with a shape, or bytes without one. */
function oddBody(): Buffer {
  const shaped = () => {
    const fields = FIELDS.slice(0, 7).filter(() => random() < 0.6);
    return Buffer.from(JSON.stringify(Object.fromEntries(fields.map(name => [name, nonsense(3)]))));
  };
  const bodies: (() => Buffer)[] = [
    shaped,
    shaped,
    shaped,
    () => Buffer.from(JSON.stringify(nonsense(4)) ?? ''),
    () => Buffer.from(range(below(300)).map(() => below(256))),
    () => Buffer.from(`${'['.repeat(30_000)}${random() < 0.5 ? ']'.repeat(30_000) : ''}`),
    () => Buffer.from(`${'{"Options":'.repeat(5000)}1${'}'.repeat(5000)}`),
    () => shaped().subarray(0, below(40)),
    () => Buffer.from(`\ufeff${shaped()}`, 'utf16le'),
    () => Buffer.from(`{"PoolID":"${eniName(0)}","PoolID":7,"Address":"10.0.0.900"}`),
  ];
  return oneOf(bodies)();
}

/** A request as bytes; some are not even HTTP. */
function oddRequest(): Buffer {
  const path =
    random() < 0.9 ? `/${oneOf(ENDPOINTS)}` : oneOf(['/', '//', '/%ff', `/${'a'.repeat(9000)}`, '*']);
  const method = random() < 0.9 ? 'POST' : oneOf(['GET', 'PUT', 'HEAD', 'OPTIONS', 'TRACE', 'BREW']);
  const body = oddBody();
  const length = random() < 0.9 ? `${body.length}` : oneOf(['-1', '1e3', '99999999999999999999', '0', 'x']);
  const framing = random() < 0.9 ? `Content-Length: ${length}` : 'Transfer-Encoding: chunked';
  const extra = oneOf([
    '',
    '',
    'Content-Type: application/xml\r\n',
    'Content-Encoding: gzip\r\n',
    'Expect: 100-continue\r\n',
    `X-Long: ${'y'.repeat(below(20_000))}\r\n`,
    'Content-Length: 5\r\n',
    'Upgrade: h2c\r\nConnection: Upgrade\r\n',
  ]);
  const version = random() < 0.95 ? 'HTTP/1.1' : oneOf(['HTTP/1.0', 'HTTP/2.0', 'HTTP/9']);
  const head = `${method} ${path} ${version}\r\nHost: localhost\r\n${framing}\r\n${extra}Connection: close\r\n\r\n`;
  return random() < 0.03 ? body : Buffer.concat([Buffer.from(head), body]);
}

/** Sends the bytes on a connection of their own; returns what comes back until it closes or nothing more comes. */
function exchange(port: number, bytes: Buffer, quietMs: number): Promise<string> {
  return new Promise(resolve => {
    let heard = '';
    const socket = connect(port, '127.0.0.1');
    socket.setTimeout(quietMs, () => socket.destroy());
    socket.on('data', chunk => {
      heard += chunk.toString('latin1');
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(heard));
    socket.write(bytes);
  });
}

/** How a request begins, before its framing. */
const REQUEST_ADDRESS = 'POST /IpamDriver.RequestAddress HTTP/1.1\r\nHost: localhost\r\n';

const fuzz = suite(`nonsense, seed ${SEED} (FUZZ_SEED=${SEED} repeats it)`);
const folder = tempFolder();
let ec2: Simulator;
let server: Program;
let port = 0;
let ledgerBefore = '';

const ledger = async (): Promise<string> => {
  const { stdout } = await runBundle(['status', '--json'], { EC2_IPAM_STATE_DIR: folder });
  const { subnets, holders } = JSON.parse(stdout);
  return JSON.stringify([subnets, holders.map((one: { ip: string }) => one.ip)]);
};
const residentMb = (): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'))?.[1]) / 1024;
const url = () => `http://127.0.0.1:${port}`;
const isAnswered = async (method: string, body: unknown) =>
  assert.is((await call(url(), method, body)).kind, 'answered');
const RequestAddress = { PoolID: eniName(0), Address: '', Options: null };

fuzz.before(async () => {
  ec2 = await startSimulator(worldOf(1));
  port = await freePort();
  const env = { ...ec2.env, EC2_IPAM_STATE_DIR: folder, EC2_IPAM_RECONCILE_EVERY: '24h' };
  server = await startBundle(['serve', '--listen', url()], env, 'ledger opened');
  for (let i = 0; i < 3; i++) await isAnswered('IpamDriver.RequestAddress', RequestAddress);
  await pause(2000); // what the keeper does beside a first request
  ledgerBefore = await ledger();
});
fuzz.after(async () => {
  await server?.stop();
  await ec2?.stop();
  removeFolder(folder);
});

/** The server lives, gives no insides away, and the ledger is as it was. */
async function unharmed(before: number): Promise<number> {
  await isAnswered('Plugin.Activate', '');
  assert.is(await ledger(), ledgerBefore);
  const growth = residentMb() - before;
  assert.ok(growth < GROWTH_MAX_MB, `grew by ${growth.toFixed(0)} MB`);
  return growth;
}

fuzz(`${REQUESTS} odd requests: no 5xx, no stack or SQL in an answer, the ledger unchanged`, async () => {
  const before = residentMb();
  const statuses = new Map<string, number>();
  const lane = async () => {
    for (let i = 0; i < REQUESTS / 10; i++) {
      const request = oddRequest();
      const answer = await exchange(port, request, 400);
      const status = answer === '' ? 'none' : answer.slice(9, 12);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      const shown = request.toString('latin1').slice(0, 400);
      assert.not.match(status, /^5/, shown);
      assert.not.match(answer, INSIDES, shown);
    }
  };
  await Promise.all(range(10).map(lane));
  const growth = await unharmed(before);
  const counts = [...statuses].sort().map(([status, count]) => `${status}: ${count}`);
  console.log(`  fuzz: seed ${SEED}, ${counts.join(', ')}, memory +${growth.toFixed(0)} MB`);
});

fuzz(`bodies of ${MEGABYTES} MB, with and without their length: are refused and not kept`, async () => {
  const before = residentMb();
  const chunk = Buffer.alloc(64 * 1024, 0x20);
  const big = (framing: string, piece: Buffer) => {
    const head = Buffer.from(`${REQUEST_ADDRESS}${framing}\r\n\r\n`);
    return exchange(port, Buffer.concat([head, ...range((MEGABYTES * 1024) / 64).map(() => piece)]), 2000);
  };
  const chunked = Buffer.concat([Buffer.from('10000\r\n'), chunk, Buffer.from('\r\n')]);
  for (let i = 0; i < 5; i++) {
    const answers = await Promise.all([
      big(`Content-Length: ${MEGABYTES * 1024 * 1024}`, chunk),
      big('Transfer-Encoding: chunked', chunked),
    ]);
    for (const answer of answers) assert.match(answer, /larger than 16384 bytes|^$/); // or cut before it was read
  }
  await unharmed(before);
});

fuzz(`${CONNECTIONS} connections that say nothing, or half of something: keep nobody waiting`, async () => {
  const before = residentMb();
  const sockets = range(CONNECTIONS).map(i => {
    const socket = connect(port, '127.0.0.1').on('error', () => {});
    if (i % 3 === 1) socket.write('POST /IpamDriver.RequestAddress HT');
    if (i % 3 === 2) socket.write(`${REQUEST_ADDRESS}Content-Length: 100\r\n\r\n{"PoolID"`);
    return socket;
  });
  const drip = setInterval(() => {
    for (const socket of sockets.slice(0, 100)) socket.write(' ');
  }, 100);
  const startedAt = performance.now();
  for (let i = 0; i < 20; i++) await isAnswered('Plugin.Activate', '');
  const tookMs = performance.now() - startedAt;
  const held = residentMb() - before;
  clearInterval(drip);
  for (const socket of sockets) socket.destroy();
  assert.ok(tookMs < ANSWER_MAX_MS, `20 answers took ${tookMs} ms`);
  const growth = await unharmed(before);
  console.log(
    `  fuzz: ${CONNECTIONS} connections, +${held.toFixed(0)} MB while open, +${growth.toFixed(0)} MB after, ` +
      `20 answers meanwhile in ${tookMs.toFixed(0)} ms`,
  );
});

fuzz('after all that: an address is given as before, and the server has logged no bug', async () => {
  await isAnswered('IpamDriver.RequestAddress', RequestAddress);
  assert.not.match(server.output(), /internal error|"level":"error"/);
});

fuzz(`${CONFIGS} odd configurations: exit 2, a line for each complaint, no stack`, async () => {
  const file = join(folder, 'odd.json');
  for (let i = 0; i < CONFIGS; i++) {
    const settings = Object.fromEntries(KEYS.filter(() => random() < 0.5).map(key => [key, nonsense(2)]));
    // One that is surely wrong, among those that may be.
    const text = random() < 0.7 ? JSON.stringify({ ...settings, cooldown: 'soon' }) : oddBody().toString();
    writeFileSync(file, text.trim() === '' ? '[' : text);
    const { code, stdout, stderr } = await runBundle(['serve', '--config', file], {
      EC2_IPAM_STATE_DIR: folder,
      EC2_IPAM_WARM_MAX: oneOf(ODD_TEXTS.filter(odd => odd !== '' && !odd.includes('\u0000'))),
      EC2_IPAM_REQUEST_TIMEOUT: oneOf(['-1s', '1', '1e9h', 'NaN', '١s']),
    });
    const shown = `${text.slice(0, 300)} → ${stdout}${stderr}`;
    assert.is(code, 2, shown);
    assert.not.match(stderr, INSIDES, shown);
    assert.match(stderr, /REQUEST_TIMEOUT/, shown);
    for (const line of stderr.trim().split('\n')) assert.ok(line.length < 1000, shown);
  }
});
fuzz.run();
