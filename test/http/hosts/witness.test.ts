// Goal: only a host that proves which one it is can tell what it shows, within bounds, and what it says is clean. Method:
// the routes over real TLS, a socket and plain http, before a testimony that is a function.
import { IpamError } from '../../../src/domain/error.ts';
import type { InstanceId } from '../../../src/domain/ids.ts';
import type { HostReading } from '../../../src/domain/witness.ts';
import { createWitnessApp } from '../../../src/http/hosts/witness.ts';
import { createInFlight } from '../../../src/http/in-flight.ts';
import { type Listener, type Listening, listen } from '../../../src/http/listener/listen.ts';
import type { Testimony } from '../../../src/ipam/sync/testimony.ts';
import type { ProbeAnswer } from '../../../src/witness/witness.ts';
import { placeOf, readingWith, useWith } from '../../kit/readings.ts';
import type { Certificates } from '../../kit/servers/certificates.ts';
import {
  certificates,
  LOCAL,
  serverTls,
  socketPath,
  suiteWithFolders,
  unixAt,
} from '../../kit/servers/transports.ts';
import { assert } from '../../kit/uvu.ts';
import { until } from '../../kit/wait.ts';
import { ask } from '../server.ts';

const A = 'i-0a' as InstanceId;
const TICKET = '00000000-0000-4000-8000-000000000001';
const PATHS = ['/witness/begin', '/witness/readings', '/witness/probed'];

let hosts: Readonly<Record<'a' | 'b' | 'nobody', Certificates['client']>>;
let open: Listening[] = [];
const routes = suiteWithFolders('what agents tell, over the wire', { certificates: true });
routes.before(() => {
  hosts = {
    b: certificates.sign('host', 'URI:ec2-ipam://instance/i-0b'),
    a: certificates.sign('host', `URI:ec2-ipam://instance/${A}`),
    nobody: certificates.sign('host', 'DNS:host'),
  };
});
routes.after.each(async () => {
  for (const one of open) await one.close(0);
  open = [];
});

/** What the server was told. */
interface Heard {
  readonly calls: [host: string, ticket: string, said: HostReading | readonly ProbeAnswer[]][];
  begin: Testimony['begin'];
}

/** `everyMs`: how far the calls are apart. */
async function serve({ isOff = false, isOpen = true, listener = https(), everyMs = 1_000 } = {}) {
  const heard: Heard = {
    calls: [],
    begin: async host => ({ ticket: TICKET, enis: [{ mac: host, ips: [] }] }),
  };
  const testimony: Testimony = {
    begin: host => heard.begin(host),
    async readings(host, ticket, reading) {
      heard.calls.push([host, ticket, reading]);
      return [];
    },
    async probed(host, ticket, answers) {
      heard.calls.push([host, ticket, answers]);
    },
  };
  let now = 0;
  const lines: string[] = [];
  const log = (_: string, message: string) => void lines.push(message);
  const app = createWitnessApp(isOff ? null : testimony, log, {
    isOpen: () => isOpen,
    inFlight: createInFlight(),
    clock: () => {
      now += everyMs;
      return now;
    },
  });
  const listening = await listen(app, listener, log);
  open.push(listening);
  const post = async (path: string, body: unknown = {}, client: Certificates['client'] | null = hosts.a) => {
    const answer = await ask(listening.address, typeof body === 'string' ? body : JSON.stringify(body), {
      path,
      client,
    });
    let text = '';
    for await (const part of answer) text += part;
    return { status: answer.statusCode, body: JSON.parse(text) };
  };
  return { heard, lines, post };
}
const https = (): Listener => ({ ...LOCAL, kind: 'https', tls: serverTls() }) as Listener;

const READING = readingWith({
  uses: [
    useWith('10.0.1.9' as never, {
      isInNetworks: true,
      places: [placeOf({ path: '/run/x' }), placeOf({ pid: null })],
      container: { id: 'c1', name: 'web', image: null },
      endpoints: [
        { mac: '02:0a:1b:2c:3d:01', container: 'c0ffee'.padEnd(64, '0') },
        { mac: '02:0a:1b:2c:3d:01', container: null },
      ],
    }),
  ],
  unanswered: ['eni-0a' as never],
  incomplete: 'no dockerd',
});

routes('a host with a certificate: is heard as the instance that it names', async () => {
  const { heard, post } = await serve();
  assert.equal(await post('/witness/begin'), {
    status: 200,
    body: { ticket: TICKET, enis: [{ mac: A, ips: [] }] },
  });
  assert.equal(await post('/witness/readings', { ticket: TICKET, reading: READING }), {
    status: 200,
    body: { probes: [] },
  });
  const answers = [
    { mac: '02:0a:1b:2c:3d:01', kind: 'not ipvlan' },
    { mac: '02:0a:1b:2c:3d:02', kind: 'probed', free: ['10.0.1.9'] },
    { mac: '02:0a:1b:2c:3d:03', kind: 'failed', why: 'no right to' },
  ];
  assert.equal(await post('/witness/probed', { ticket: TICKET, answers }), { status: 200, body: {} });
  assert.equal(heard.calls, [
    [A, TICKET, READING],
    [A, TICKET, answers],
  ] as never);
});

routes('an agent of the release before: is heard, and shows no endpoints', async () => {
  const { heard, post } = await serve();
  const [{ endpoints: _, ...use }] = READING.uses as [HostReading['uses'][number]];
  const reading = { ...READING, uses: [use] };
  assert.is((await post('/witness/readings', { ticket: TICKET, reading })).status, 200);
  assert.equal(heard.calls, [[A, TICKET, { ...READING, uses: [{ ...use, endpoints: [] }] }]] as never);
});

routes('a certificate without an instance: is refused each step', async () => {
  const { heard, post } = await serve();
  for (const path of PATHS) {
    const { status, body } = await post(path, { ticket: TICKET, reading: READING }, hosts.nobody);
    assert.is(status, 403);
    assert.match(body.Error, 'the client certificate cannot be used: it names no instance');
  }
  assert.equal(heard.calls, []);
});

for (const [name, listener] of [
  ['plain http', () => LOCAL],
  ['a unix socket', () => unixAt(socketPath())],
] as const)
  routes(`${name}: is refused each step`, async () => {
    const { heard, post } = await serve({ listener: listener() });
    for (const path of PATHS) {
      const { status, body } = await post(path, { ticket: TICKET, reading: READING }, null);
      assert.is(status, 403, path);
      assert.match(body.Error, 'this connection does not prove which host it comes from');
    }
    assert.equal(heard.calls, []);
  });

routes('--witness off: is answered so', async () => {
  const { post } = await serve({ isOff: true });
  assert.equal(await post('/witness/begin'), { status: 200, body: { witness: 'off' } });
});

routes('a ledger that is not open: is answered at once', async () => {
  const { post } = await serve({ isOpen: false });
  assert.is((await post('/witness/begin')).status, 503);
});

const ODD: [what: string, body: unknown][] = [
  ['no JSON', '{'],
  ['nothing', ''],
  ['no reading', { ticket: TICKET }],
  ['a ticket that is none', { ticket: 'x', reading: READING }],
  ['a number for a text', { ticket: TICKET, reading: { ...READING, boot: 7 } }],
  ['what is no address', { ticket: TICKET, reading: { ...READING, uses: [useWith('10.0.1.999' as never)] } }],
  ['what is no MAC address', { ticket: TICKET, reading: { ...READING, macs: ['x'.repeat(17)] } }],
  [
    'more addresses than a host has',
    { ticket: TICKET, reading: { ...READING, uses: Array(5_001).fill(useWith('10.0.1.9' as never)) } },
  ],
  [
    'a process id that is none',
    {
      ticket: TICKET,
      reading: { ...READING, uses: [useWith('10.0.1.9' as never, { places: [placeOf({ pid: 1.5 })] })] },
    },
  ],
];
const endpointsAre = (...endpoints: unknown[]) => ({
  ticket: TICKET,
  reading: { ...READING, uses: [{ ...useWith('10.0.1.9' as never), endpoints }] },
});
const MAC_ADDRESS = '02:0a:1b:2c:3d:01';
for (const container of ['', 'web', 'c0ffee', 'C'.repeat(64), 'c'.repeat(65), `${'c'.repeat(63)}\n`, 7])
  ODD.push([
    `what is no id of a container: ${JSON.stringify(container)}`,
    endpointsAre({ mac: MAC_ADDRESS, container }),
  ]);
ODD.push(
  ['an endpoint on no interface', endpointsAre({ mac: '', container: null })],
  ['many endpoints of one address', endpointsAre(...Array(3).fill({ mac: MAC_ADDRESS, container: null }))],
);
for (const [what, body] of ODD)
  routes(`a reading with ${what}: is refused`, async () => {
    const { heard, post } = await serve();
    assert.is((await post('/witness/readings', body)).status, 400);
    assert.equal(heard.calls, []);
  });

routes('probes that are answered with something else: are refused', async () => {
  const { heard, post } = await serve();
  for (const answers of [
    undefined,
    [{ mac: '02:0a:1b:2c:3d:01', kind: 'free' }],
    [{ mac: '02:0a:1b:2c:3d:01', kind: 'probed', free: ['x'] }],
    [{ kind: 'not ipvlan' }],
  ])
    assert.is((await post('/witness/probed', { ticket: TICKET, answers })).status, 400);
  assert.equal(heard.calls, []);
});

routes('a body that is too large: is refused unread', async () => {
  const { heard, post } = await serve();
  const { status, body } = await post('/witness/readings', ' '.repeat(1024 * 1024 + 1));
  assert.is(status, 400);
  assert.match(body.Error, 'the body is larger than 1048576 bytes');
  assert.equal(heard.calls, []);
});

routes('texts: are cleaned and cut', async () => {
  const { heard, post } = await serve();
  const place = placeOf({ command: `a\u001b[31m${'b'.repeat(300)}`, path: '/x\u0000' });
  const container = { id: 'c'.repeat(99), name: 'n\r\n', image: 'i' };
  const uses = [useWith('10.0.1.9' as never, { places: [place], container })];
  const reading = { ...READING, uses, incomplete: 'x'.repeat(9_999) };
  assert.is((await post('/witness/readings', { ticket: TICKET, reading })).status, 200);
  const said = heard.calls[0]?.[2] as HostReading;
  const [use] = said.uses;
  assert.match(use?.places[0]?.command ?? '', /^a \[31mb{194}$/);
  assert.is(use?.places[0]?.path, '/x ');
  assert.equal(use?.container, { id: 'c'.repeat(64), name: 'n ', image: 'i' });
  assert.is(said.incomplete?.length, 500);
});

routes('what the testimony refuses: has the status of its kind, and is logged seldom', async () => {
  const { heard, lines, post } = await serve();
  for (const [code, status] of [
    ['conflict', 409],
    ['denied', 403],
    ['ec2-unknown', 503],
    ['store-down', 503],
    ['internal', 500],
  ] as const) {
    heard.begin = async () => {
      throw new IpamError(code, 'why');
    };
    assert.is((await post('/witness/begin')).status, status, code);
  }
  assert.is(lines.filter(line => line === 'reading of a host refused').length, 1);
});

routes(
  'a host that sends readings without end: is refused before they are read, and others are heard',
  async () => {
    const { heard, post } = await serve({ everyMs: 200 });
    const said = { ticket: TICKET, reading: READING };
    assert.is((await post('/witness/readings', said)).status, 200);
    const hasty = await post('/witness/readings', 'not JSON');
    assert.is(hasty.status, 503);
    assert.match(hasty.body.Error, 'the last reading of i-0a came less than 500 ms ago');
    assert.is((await post('/witness/readings', said, hosts.b)).status, 200);
    assert.is((await post('/witness/probed', { ticket: TICKET, answers: [] })).status, 200);
    assert.is((await post('/witness/readings', said)).status, 200);
    assert.is(heard.calls.length, 4);
  },
);

routes('a host that begins readings without end: is refused before the ledger is read', async () => {
  const { heard, post } = await serve({ everyMs: 200 });
  const { begin } = heard;
  let begun = 0;
  heard.begin = host => {
    begun++;
    return begin(host);
  };
  assert.is((await post('/witness/begin')).status, 200);
  const hasty = await post('/witness/begin');
  assert.is(hasty.status, 503);
  assert.match(hasty.body.Error, 'the last begin of i-0a came less than 500 ms ago');
  assert.is((await post('/witness/begin', {}, hosts.b)).status, 200);
  assert.is((await post('/witness/begin')).status, 200);
  assert.is(begun, 3);
});

routes('a host that begins many readings at a time: is refused all but two', async () => {
  const { heard, post } = await serve();
  const go = Promise.withResolvers<void>();
  let begun = 0;
  heard.begin = async () => {
    begun++;
    await go.promise;
    return { ticket: TICKET, enis: [] };
  };
  const asked = [post('/witness/begin'), post('/witness/begin')];
  await until('both are under way', () => begun === 2);
  const third = await post('/witness/begin');
  assert.is(third.status, 503);
  assert.match(third.body.Error, '2 requests of i-0a wait already');
  go.resolve();
  for (const one of asked) assert.is((await one).status, 200);
});
routes.run();
