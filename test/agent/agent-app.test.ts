// Goal: Docker is answered at once where nothing must be asked, and an address that Docker has not received goes back.
// Method: the app on a real socket, before a server that is a function.
import { request } from 'node:http';
import { join } from 'node:path';
import { createAgentApp } from '../../src/agent/agent-app.ts';
import type { Forwarding } from '../../src/agent/forward.ts';
import { IpamError } from '../../src/domain/error.ts';
import { createInFlight } from '../../src/http/in-flight.ts';
import { type Listening, listen } from '../../src/http/listener/listen.ts';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { assert, suite } from '../kit/uvu.ts';
import { until } from '../kit/wait.ts';

interface Context {
  folder: string;
  listening: Listening;
  calls: [path: string, body: unknown][];
  /** The ids of the calls. */
  ids: string[];
  lines: { message: string; request: unknown }[];
  /** What the server answers. */
  answer: Forwarding['forward'];
  /** What was given back, and the id of its request. */
  returned: [body: unknown, answer: unknown, id: string][];
  /** How often it was said that Docker has released an address. */
  releases: number;
  /** How much later the host's clock is. */
  aheadMs: number;
  ask(path: string, body?: object): { answer: Promise<unknown>; hangUp(): void };
}

const agent = suite<Context>('the agent before Docker');
agent.before.each(async context => {
  context.folder = tempFolder();
  context.calls = [];
  context.returned = [];
  context.ids = [];
  context.lines = [];
  context.aheadMs = 0;
  context.releases = 0;
  context.answer = async () => ({});
  let ids = 0;
  const app = createAgentApp({
    forwarding: {
      async forward(path, body, id) {
        context.calls.push([path, JSON.parse(body)]);
        context.ids.push(id);
        return await context.answer(path, body, id);
      },
      giveBack: async (body, answer, id) => void context.returned.push([JSON.parse(body), answer, id]),
    },
    boundMs: 120_000,
    deadlineClock: () => performance.now() + context.aheadMs,
    inFlight: createInFlight(),
    newId: () => `0000000${++ids}-uuid`,
    released: () => void context.releases++,
    log: (_, message, fields) => void context.lines.push({ message, request: fields?.request }),
  });
  const path = join(context.folder, 'x.sock');
  context.listening = await listen(app, { kind: 'unix', path, mode: 0o600 });
  context.ask = (name, body = {}) => {
    const sent = request({ socketPath: path, path: `/${name}`, method: 'POST' });
    const answer = new Promise<unknown>((resolve, reject) => {
      sent.on('error', reject).on('response', async response => {
        let text = '';
        for await (const chunk of response) text += chunk;
        resolve(JSON.parse(text));
      });
    });
    answer.catch(() => {}); // of those that hang up
    sent.end(JSON.stringify(body));
    return { answer, hangUp: () => void sent.destroy() };
  };
});
agent.after.each(async ({ listening, folder }) => {
  await listening.close(0);
  removeFolder(folder);
});

const CONSTANTS: [name: string, answer: object][] = [
  ['Plugin.Activate', { Implements: ['IpamDriver'] }],
  ['IpamDriver.GetCapabilities', { RequiresMACAddress: false, RequiresRequestReplay: false }],
  [
    'IpamDriver.GetDefaultAddressSpaces',
    { LocalDefaultAddressSpace: 'ec2-ipam', GlobalDefaultAddressSpace: 'ec2-ipam' },
  ],
];
for (const [name, answer] of CONSTANTS)
  agent(`${name}: is answered here`, async ({ ask, calls }) => {
    assert.equal(await ask(name).answer, answer);
    assert.equal(calls, []);
  });

for (const name of ['RequestPool', 'ReleasePool', 'RequestAddress', 'ReleaseAddress'])
  agent(`${name}: is sent on as it is, and the answer is the server's`, async context => {
    context.answer = async () => ({ Error: 'what the server says' });
    const body = { PoolID: 'eni-0a', Options: { x: 'y' } };
    assert.equal(await context.ask(`IpamDriver.${name}`, body).answer, { Error: 'what the server says' });
    assert.equal(context.calls, [[`/IpamDriver.${name}`, body]]);
  });

/** Asks for an address, and does something before the server answers. */
async function meanwhile(context: Context, happening: (asked: { hangUp(): void }) => void): Promise<unknown> {
  const given = Promise.withResolvers<object>();
  context.answer = async path => (path.endsWith('RequestAddress') ? await given.promise : {});
  const asked = context.ask('IpamDriver.RequestAddress', { PoolID: 'eni-0a;range=10.0.1.0/25' });
  await until('it is sent on', () => context.calls.length === 1);
  happening(asked);
  await context.ask('Plugin.Activate').answer; // what was sent before has arrived
  given.resolve({ Address: '10.0.1.20/24', Data: {} });
  return asked.answer;
}
const RETURNED = [
  [{ PoolID: 'eni-0a;range=10.0.1.0/25' }, { Address: '10.0.1.20/24', Data: {} }, '00000001-uuid'],
];

agent('a caller that has gone: its address is released', async context => {
  await meanwhile(context, asked => asked.hangUp()).catch(() => {});
  await until('it is given back', () => context.returned.length > 0);
  assert.equal(context.returned, RETURNED);
});

agent('no server answers: the error and the log have the id under which the call was sent', async context => {
  context.answer = async () => {
    throw new IpamError('unavailable', 'no answer from a.example.com');
  };
  const answer = context.ask('IpamDriver.ReleasePool', { PoolID: 'eni-0a' }).answer;
  assert.equal(await answer, { Error: 'no answer from a.example.com (request 00000001)' });
  assert.equal(context.ids, ['00000001-uuid']);
  assert.equal(context.lines, [{ message: 'request refused', request: '00000001-uuid' }]);
});

agent(
  'a host that was suspended: does not hand over an address that may have been released',
  async context => {
    const answer = await meanwhile(context, () => {
      context.aheadMs = 3_600_000;
    });
    assert.match(JSON.stringify(answer), /suspended/);
    assert.equal(context.returned, RETURNED);
  },
);

agent('an address that is received: is not released', async context => {
  const answer = await meanwhile(context, () => {});
  assert.equal(answer, { Address: '10.0.1.20/24', Data: {} });
  assert.equal(context.returned, []);
});
agent('a release: is told of once it is made, so that the host is read', async context => {
  const made = Promise.withResolvers<unknown>();
  context.answer = () => made.promise;
  const { answer } = context.ask('IpamDriver.ReleaseAddress', { PoolID: 'eni-0a', Address: '10.0.1.9' });
  await until('it is sent on', () => context.calls.length === 1);
  assert.is(context.releases, 0);
  made.resolve({});
  await answer;
  context.answer = async () => ({});
  await context.ask('IpamDriver.ReleasePool', { PoolID: 'eni-0a' }).answer;
  assert.is(context.releases, 1);
});

agent.run();
