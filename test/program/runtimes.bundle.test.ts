// Goal: the one bundle, alone, says the same bytes on Node, Bun and Deno. Method: the same requests, raw, to a server
// with an empty ledger before a simulated VPC, both run from a folder that holds nothing else; the first runtime's
// responses are what the others' must be.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { RUNTIMES, type Runtime } from '../../scripts/tiers.ts';
import { type Alone, bundleAlone } from '../kit/servers/alone.ts';
import { ec2Env } from '../kit/servers/bundle.ts';
import { open } from '../kit/servers/raw-http.ts';
import { assert, suite } from '../kit/uvu.ts';
import { REQUESTS, WORLD } from './requests.ts';

interface Heard {
  readonly responses: readonly string[];
  readonly statuses: readonly (number | null)[];
}
const TRANSPORTS = ['unix', 'tcp'] as const;
type Transport = (typeof TRANSPORTS)[number];

/** Time decides nothing here: nothing rests long enough, no token runs short, nothing is compared. */
const SETTINGS = {
  EC2_IPAM_COOLDOWN: '1h',
  // What is assigned in the background depends on how quick a runtime is.
  EC2_IPAM_WARM_MIN: '0',
  EC2_IPAM_WARM_MAX: '0',
  EC2_IPAM_RECONCILE_EVERY: '24h',
  EC2_IPAM_EC2_SHARE: '100%',
  EC2_IPAM_LOG_FORMAT: 'json',
};

/** Without the date, and without the ids that EC2 gives to its answers and the server to its calls. */
const lasting = (response: string): string =>
  response
    .replace(/^date: .*\r\n/im, '')
    .replace(/request [0-9a-f-]{36}/, 'request ID')
    .replace(/\(request [0-9a-f]{8}\)/, '(request ID)');

async function hear(runtime: Runtime, transport: Transport): Promise<Heard> {
  const alone = bundleAlone();
  try {
    return await converse(alone, runtime, transport);
  } finally {
    await alone.remove();
  }
}

async function converse(alone: Alone, runtime: Runtime, transport: Transport): Promise<Heard> {
  writeFileSync(join(alone.folder, 'world.json'), JSON.stringify(WORLD));
  const start = (line: string, env = {}) => alone.start(runtime, line.split(' '), env);
  const simulator = start('simulate --listen http://127.0.0.1:0 --world world.json');
  const [, endpoint = ''] = await simulator.says(/ at (http:\S+);/);
  const path = join(alone.folder, 's.sock');
  const listen = transport === 'unix' ? `unix:${path}` : 'http://127.0.0.1:0';
  const args = `serve --listen ${listen} --state-dir ${alone.folder}`;
  const server = start(args, { ...SETTINGS, ...ec2Env(endpoint) });
  const [, port] = await server.says(/"listening on (?:unix:|http:\/\/127\.0\.0\.1:(\d+))/);
  const to = transport === 'unix' ? { path } : { host: '127.0.0.1', port: Number(port) };
  const responses: string[] = [];
  const connection = await open(to);
  for (const request of REQUESTS) responses.push(lasting(await connection.exchange(request)));
  connection.close();
  return { responses, statuses: [await server.stop(), await simulator.stop()] };
}

const runtimes = suite('one bundle, three runtimes');
for (const transport of TRANSPORTS) {
  let first: Heard;
  for (const runtime of RUNTIMES)
    runtimes(`${runtime} over ${transport}: the same responses, and a stop in good order`, async () => {
      const heard = await hear(runtime, transport);
      assert.equal(heard.statuses, [0, 0]);
      first ??= heard;
      assert.is(heard.responses.length, REQUESTS.length);
      for (const [i, response] of heard.responses.entries())
        assert.is(response, first.responses[i], `${REQUESTS[i]?.slice(0, 500)}`);
    });
}
runtimes.run();
