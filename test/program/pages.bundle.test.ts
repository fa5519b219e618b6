// Goal: the pages are the same on Node, Bun and Deno, a /16 too, and tell what moves. Method: the bundle alone, before a
// simulated VPC with a subnet of 65,536 addresses.
import { writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { RUNTIMES, type Runtime } from '../../scripts/tiers.ts';
import { type Alone, bundleAlone } from '../kit/servers/alone.ts';
import { ec2Env } from '../kit/servers/bundle.ts';
import { call } from '../kit/servers/checker.ts';
import { INSTANCE, SUBNET } from '../kit/servers/site.ts';
import { assert, suite } from '../kit/uvu.ts';

const ENI = 'eni-0a1b2c3d4e5f60001';
const CIDR = '10.0.0.0/16';
const ADDRESS = '10.0.77.9';
const WORLD = {
  subnets: [{ id: SUBNET, cidr: CIDR }],
  instanceTypes: { 'test.big': { enis: 2, addressesPerEni: 50 } },
  instances: [{ id: INSTANCE, type: 'test.big' }],
  enis: [
    { id: ENI, subnet: SUBNET, primary: '10.0.0.10', attachment: { instance: INSTANCE, deviceIndex: 1 } },
  ],
};
const PAGE_BYTES_MAX = 50_000;

interface Server {
  readonly driver: string;
  readonly admin: string;
  stop(): Promise<(number | null)[]>;
}

async function startOn(runtime: Runtime, alone: Alone): Promise<Server> {
  writeFileSync(join(alone.folder, 'world.json'), JSON.stringify(WORLD));
  const start = (line: string, env = {}) => alone.start(runtime, line.split(' '), env);
  const simulator = start('simulate --listen http://127.0.0.1:0 --world world.json');
  const [, endpoint = ''] = await simulator.says(/ at (http:\S+);/);
  const listen = '--listen http://127.0.0.1:0 --admin-listen http://127.0.0.1:0';
  const server = start(`serve ${listen} --state-dir ${alone.folder} --log-format json`, ec2Env(endpoint));
  const [, driver = ''] = await server.says(/"listening on (http:[^"]+)"/);
  const [, admin = ''] = await server.says(/"admin listener on (http:[^"]+)"/);
  await server.says('ledger opened');
  return { driver, admin, stop: async () => [await server.stop(), await simulator.stop()] };
}

async function answered(driver: string, method: string, body: object): Promise<void> {
  const answer = await call(driver, method, body);
  assert.is(answer.kind, 'answered', JSON.stringify(answer));
}

/** The page as text, and its weight on the wire. */
async function load(url: string): Promise<{ text: string; bytes: number; ms: number }> {
  const sentAt = performance.now();
  const body = await new Promise<Buffer>((resolve, reject) => {
    const sent = request(url, { headers: { 'accept-encoding': 'gzip' } }, answer => {
      const chunks: Buffer[] = [];
      answer.on('data', chunk => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        const isRight = answer.statusCode === 200 && answer.headers['content-encoding'] === 'gzip';
        if (isRight) resolve(Buffer.concat(chunks));
        else reject(new Error(`${url}: ${answer.statusCode} ${Buffer.concat(chunks)}`));
      });
    });
    sent.on('error', reject).end();
  });
  const ms = performance.now() - sentAt;
  return { text: gunzipSync(body).toString(), bytes: body.length, ms };
}

/** Reads the events until one names the address. */
async function untilMoved(url: string, address: string): Promise<void> {
  const ending = new AbortController();
  const events = await fetch(url, { signal: ending.signal });
  const reader = events.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  while (!text.includes(`"address":"${address}","status":"allocated"`)) {
    const read = await reader?.read();
    if (read === undefined || read.done) throw new Error(`the events ended: ${text}`);
    text += read.value;
  }
  ending.abort();
}

const pages = suite('pages of the bundle');
for (const runtime of RUNTIMES)
  pages(`${runtime}: shows a /16 as 256 bars, a block of it as cells, and tells what moves`, async () => {
    const alone = bundleAlone();
    try {
      const { driver, admin, stop } = await startOn(runtime, alone);
      await answered(driver, 'IpamDriver.RequestPool', { Pool: CIDR, Options: { 'eni-id': ENI } });
      const home = await load(admin);
      assert.match(home.text, `/subnets/${SUBNET}`);
      const large = await load(`${admin}/subnets/${SUBNET}`);
      assert.is(large.text.match(/\?block=/g)?.length, 256);
      assert.ok(large.bytes < PAGE_BYTES_MAX, `${large.bytes} bytes`);
      const block = await load(`${admin}/subnets/${SUBNET}?at=${ADDRESS}`);
      assert.is(block.text.match(/data-ip=/g)?.length, 256);
      const [, live = ''] = /data-live="([^"]+)"/.exec(block.text) ?? [];
      const moved = untilMoved(admin + live.replaceAll('&amp;', '&'), ADDRESS);
      moved.catch(() => {}); // it is awaited below
      await answered(driver, 'IpamDriver.RequestAddress', { PoolID: ENI, Address: ADDRESS });
      await moved;
      for (const [, path] of home.text.matchAll(/(?:href|src)="(\/assets\/(?:style|script)[^"]+)"/g))
        await load(admin + path);
      console.log(`  ${runtime}: a /16 in ${large.ms.toFixed(0)} ms and ${large.bytes} bytes`);
      assert.equal(await stop(), [0, 0]);
    } finally {
      await alone.remove();
    }
  });
pages.run();
