// Goal: whatever one client sends, or does not send, others are served as before and memory stays small. Method: the
// bundle alone on each runtime before a simulated EC2, floods of raw bytes, and beside them a host that starts
// containers, or only asks who answers.
import { once } from 'node:events';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ROOT, RUNTIMES, type Runtime } from '../../scripts/tiers.ts';
import { byLength } from '../kit/length.ts';
import { range } from '../kit/rows.ts';
import { type Alone, bundleAlone } from '../kit/servers/alone.ts';
import { ec2Env } from '../kit/servers/bundle.ts';
import { type Certificates, makeCertificates } from '../kit/servers/certificates.ts';
import { call } from '../kit/servers/checker.ts';
import { type Program, startProgram } from '../kit/servers/process.ts';
import { dockerds, exchange } from '../kit/servers/raw-http.ts';
import { eniName, worldOf } from '../kit/servers/site.ts';
import { tlsClient } from '../kit/servers/tls-client.ts';
import { assert, suite } from '../kit/uvu.ts';
import { pause, until } from '../kit/wait.ts';

const NODE = join(ROOT, 'node_modules/.bin/node');
const SILENT_CLIENTS = fileURLToPath(new URL('silent-clients.ts', import.meta.url));
const SETTINGS = {
  EC2_IPAM_WARM_MIN: '0',
  EC2_IPAM_WARM_MAX: '0',
  EC2_IPAM_EC2_SHARE: '50%', // as for a server of several hosts
  EC2_IPAM_LOG_FORMAT: 'json',
};
const RSS_MAX_MB = 300;
const ANSWER_MAX_MS = 1000;
const MANY = { connections: 12, requests: 25_000 };
/** Of a flood, where it does not end by itself. */
const FLOOD_MS = byLength({ full: 5_000, short: 1_500, leftOut: '3.5 of 5 s of each flood of requests' });
const SILENT = byLength({
  full: 10_000,
  short: 3000,
  leftOut: '7,000 of 10,000 silent clients on each listener',
});
const FLOODS = byLength({ full: 4, short: 2, leftOut: '2 of 4 kinds of flooding requests' });
/** Cold starts in quiet, and beside each flood. */
const STARTS = 7;
const PIPELINED = 2000;
/** Few enough for the server to go on reading. */
const WINDOW = 90;

interface Served {
  readonly server: Program;
  readonly url: string;
  readonly tls: { readonly host: string; readonly port: number };
  readonly socket: string;
}

async function serve(alone: Alone, runtime: Runtime, certificates: Certificates): Promise<Served> {
  writeFileSync(join(alone.folder, 'world.json'), JSON.stringify(worldOf(80)));
  const simulator = alone.start('node', 'simulate --listen http://127.0.0.1:0 --world world.json'.split(' '));
  const [, endpoint = ''] = await simulator.says(/ at (http:\S+);/);
  const files = { cert: certificates.server.cert, key: certificates.server.key, ca: certificates.ca };
  for (const [name, path] of Object.entries(files)) copyFileSync(path, join(alone.folder, name));
  const socket = join(alone.folder, 's.sock');
  const listen = `--listen http://127.0.0.1:0 --listen https://127.0.0.1:0 --listen unix:${socket}`;
  const at = (name: string) => join(alone.folder, name);
  const tls = `--tls-cert ${at('cert')} --tls-key ${at('key')} --tls-client-ca ${at('ca')}`;
  const args = `serve ${listen} ${tls} --state-dir ${alone.folder}`.split(' ');
  const server = alone.start(runtime, args, { ...SETTINGS, ...ec2Env(endpoint) });
  await server.says('ledger opened');
  const portOf = async (kind: string) =>
    Number((await server.says(new RegExp(`"listening on ${kind}://127\\.0\\.0\\.1:(\\d+)`)))[1]);
  return {
    server,
    url: `http://127.0.0.1:${await portOf('http')}`,
    tls: { host: '127.0.0.1', port: await portOf('https') },
    socket,
  };
}

/** Of the process now, and at its most, in megabytes. */
const peakMb = ({ pid }: Program): number =>
  Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1000;
const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

async function askPool(url: string, eni: string): Promise<void> {
  const answer = await call(url, 'IpamDriver.RequestPool', {
    Pool: '10.0.0.0/22',
    Options: { 'eni-id': eni },
  });
  assert.is(answer.kind, 'answered', JSON.stringify(answer));
}
/** A container's start on an ENI that has no address ready, on a host that is new to the server. */
const coldStart = (url: string, eni: string) =>
  timed(async () => {
    await askPool(url, eni);
    const answer = await call(url, 'IpamDriver.RequestAddress', { PoolID: eni, Address: '' });
    assert.is(answer.kind, 'answered', JSON.stringify(answer));
  });

const unknown = (i: number): string => `eni-${(0xdef0000 + i).toString(16).padStart(17, '0')}`;
const request = (method: string, body: object) => dockerds(`/IpamDriver.${method}`, JSON.stringify(body));
const KINDS: readonly [string, (i: number) => string][] = [
  [
    'networks on ENIs that are not there',
    i => request('RequestPool', { Pool: '10.0.0.0/22', Options: { 'eni-id': unknown(i) } }),
  ],
  [
    'releases of what nobody has',
    i => request('ReleaseAddress', { PoolID: eniName(0), Address: `10.0.1.${i & 255}` }),
  ],
  [
    'starts with addresses of their own',
    i => request('RequestAddress', { PoolID: eniName(0), Address: `10.0.${1 + ((i >> 8) & 1)}.${i & 255}` }),
  ],
  ['starts', () => request('RequestAddress', { PoolID: eniName(0), Address: '' })],
];

const allOf = (make: (i: number) => string, count: number, first = 0): string =>
  range(count, first).map(make).join('');

function dial(url: string) {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname).on('error', () => {});
  return { socket, over: new Promise<void>(resolve => socket.once('close', () => resolve())) };
}

/** Sends it all at once. */
function pour(url: string, bytes: string) {
  const { socket, over } = dial(url);
  socket.resume().write(bytes);
  return { over, end: () => void socket.destroy() };
}

/** Sends so many requests on one connection, never more than WINDOW ahead of the answers. */
function keepFull(url: string, make: (i: number) => string, count: number) {
  const { socket, over } = dial(url);
  let [sent, answered] = [0, 0];
  const send = () => {
    const more = Math.min(count, answered + WINDOW) - sent;
    if (more > 0) socket.write(allOf(make, more, sent));
    sent += Math.max(0, more);
  };
  socket.setEncoding('latin1').on('data', (text: unknown) => {
    answered += String(text).split('HTTP/1.1 ').length - 1;
    send();
  });
  send();
  return { over, end: () => void socket.destroy() };
}

const activate = dockerds('/Plugin.Activate', '');
/** The longest wait of a host that asks who answers, again and again until the end of something. */
async function longestAnswer(url: string, until: Promise<unknown>): Promise<number> {
  let isOver = false;
  const end = () => {
    isOver = true;
  };
  until.then(end, end);
  let longest = 0;
  while (!isOver) {
    longest = Math.max(longest, await timed(() => call(url, 'Plugin.Activate', '')));
    await pause(10);
  }
  return longest;
}

/** Asks on a unix socket. Its accept queue may be full for a moment, which a client is told at once. */
async function knock(path: string): Promise<string> {
  for (;;) {
    const socket = connect(path);
    const isConnected = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    if (isConnected)
      return await exchange(
        socket.on('error', () => {}),
        activate,
      );
    await pause(10);
  }
}

let certificates: Certificates;
for (const runtime of RUNTIMES) {
  const crowd = suite<{ alone: Alone; served: Served }>(`crowds before ${runtime}`);
  crowd.before(async context => {
    certificates = makeCertificates();
    context.alone = bundleAlone();
    context.served = await serve(context.alone, runtime, certificates);
  });
  crowd.after(async ({ alone }) => {
    await alone?.remove();
    certificates.remove();
  });

  crowd(
    `${PIPELINED} requests on one connection: another host's cold start takes less than 3 times as long`,
    async ({ served: { url } }) => {
      await askPool(url, eniName(0));
      let eni = 1;
      const starts = async () => {
        const took: number[] = [];
        while (took.length < STARTS) took.push(await coldStart(url, eniName(eni++)));
        return median(took);
      };
      await coldStart(url, eniName(eni++)); // the first one reads the subnet
      const quiet = await starts();
      for (const [what, make] of KINDS.slice(0, FLOODS)) {
        const { end } = keepFull(url, make, PIPELINED);
        const beside = await starts();
        end();
        console.log(`  ${runtime}: ${what}: ${beside.toFixed(0)} ms, quiet ${quiet.toFixed(0)} ms`);
        assert.ok(beside < 3 * quiet, `${what}: ${beside} ms, and ${quiet} ms in quiet`);
      }
    },
  );

  crowd(
    '300,000 requests on 12 connections: memory stays small, and others are answered',
    async ({ served: { url, server } }) => {
      const { connections, requests } = MANY;
      for (const make of [() => activate, KINDS[2]?.[1] ?? (() => activate)]) {
        const bytes = allOf(make, requests);
        const floods = range(connections).map(() => pour(url, bytes));
        const over = Promise.race([Promise.all(floods.map(one => one.over)), pause(FLOOD_MS)]);
        const longest = await longestAnswer(url, over);
        for (const { end } of floods) end();
        console.log(`  ${runtime}: ${peakMb(server).toFixed(0)} MB, longest answer ${longest.toFixed(0)} ms`);
        assert.ok(longest < ANSWER_MAX_MS, `${longest} ms`);
        assert.ok(peakMb(server) < RSS_MAX_MB, `${peakMb(server)} MB`);
      }
    },
  );

  crowd(`${SILENT} silent clients on each listener: a valid one is served`, async ({ served }) => {
    const { server, url, tls, socket } = served;
    const { hostname, port } = new URL(url);
    const valid = tlsClient(tls, certificates);
    const listeners: [string, object, string, () => Promise<unknown>][] = [
      ['TCP', { host: hostname, port: Number(port) }, '', () => call(url, 'Plugin.Activate', '')],
      [
        'TCP, half a head',
        { host: hostname, port: Number(port) },
        'POST / HTTP/1.1\r\nHo',
        () => call(url, 'Plugin.Activate', ''),
      ],
      ['TLS', tls, '', () => valid(activate)],
      ['a unix socket', { path: socket }, '', () => knock(socket)],
    ];
    for (const [name, to, text, ask] of listeners) {
      const clients = startProgram('sh', [
        '-c',
        `ulimit -n $(ulimit -Hn); exec "$@"`,
        'sh',
        NODE,
        SILENT_CLIENTS,
        JSON.stringify(to),
        `${SILENT}`,
        text,
      ]);
      await clients.says('connected', 60_000);
      const took = median([await timed(ask), await timed(ask), await timed(ask)]);
      await clients.kill9();
      console.log(
        `  ${runtime}: ${SILENT} silent on ${name}: ${took.toFixed(0)} ms, ${peakMb(server).toFixed(0)} MB`,
      );
      assert.ok(took < ANSWER_MAX_MS, `${name}: ${took} ms`);
    }
  });

  crowd(
    'failed handshakes log a line a second at most, with a count',
    async ({ served: { server, tls } }) => {
      const lines = () => server.output().split('client refused').length - 1;
      const [before, startedAt] = [lines(), performance.now()];
      const clients = startProgram(NODE, [
        SILENT_CLIENTS,
        JSON.stringify(tls),
        '1000',
        'POST / HTTP/1.1\r\n\r\n',
      ]);
      await clients.says('connected', 60_000);
      await until('the count', () => /client refused.*"count":\d+/.test(server.output()));
      await clients.kill9();
      const seconds = (performance.now() - startedAt) / 1000;
      assert.ok(lines() - before <= seconds + 2, `${lines() - before} lines in ${seconds} s`);
    },
  );
  crowd.run();
}
