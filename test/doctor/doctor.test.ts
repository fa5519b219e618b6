// Goal: each thing that keeps containers from their addresses is named with its remedy, and nothing else is; what is
// hostile, garbled or hangs is a finding too. Method: a host that is made up, healthy, and spoilt in one way at a time.
import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { examine } from '../../src/doctor/doctor.ts';
import type { Finding, State } from '../../src/doctor/finding.ts';
import { isBroken, reportText } from '../../src/doctor/report.ts';
import { IpamError } from '../../src/domain/error.ts';
import { cleaned } from '../../src/domain/text.ts';
import { makeCertificates } from '../kit/servers/certificates.ts';
import { seeded } from '../kit/simulated.ts';
import { assert, suite } from '../kit/uvu.ts';
import { CASES, networkd, OTHER, SPEC, type Spoil } from './cases.ts';
import {
  cloudEni,
  INSTANCE,
  MAC,
  type MadeHost,
  makeHost,
  NOW,
  network,
  PRIMARY,
  partsOf,
  SOCKET,
  subnetWith,
} from './made-host.ts';

const doctor = suite('doctor');

async function findingsOf(spoil: (host: MadeHost) => void) {
  const host = makeHost();
  spoil(host);
  const findings = await examine(partsOf(host));
  return { host, findings };
}
const line = ({ check, what }: { check: string; what: string }) => `${check}: ${what}`;

const plugins = '/etc/docker/plugins/ec2-ipam';
doctor('localhost and 127.0.0.1 with one port: are one driver, with two ports or schemes two', async () => {
  const judged = async (first: string, second: string) => {
    const { findings } = await findingsOf(({ files }) => {
      files.delete(SOCKET);
      files.set(`${plugins}.spec`, first).set(`${plugins}.json`, `{"Addr":"${second}"}`);
    });
    return findings.filter(({ check }) => check === 'plugin').map(({ state, what }) => `${state} ${what}`);
  };
  const one = (url: string) => [`ok Docker finds ${url}, by ${plugins}.spec and ${plugins}.json`];
  const local = 'http://localhost:8031';
  const address = 'http://127.0.0.1:8031';
  assert.equal(await judged(local, `${address}/`), one(local));
  assert.equal(await judged('tcp://127.0.0.1:8031', 'tcp://LOCALHOST:8031'), one(address));
  for (const other of ['http://localhost:8032', 'https://localhost:8031', 'http://localhost.example:8031'])
    assert.match((await judged(address, other))[0] ?? '', /^broken two drivers/, other);
});

doctor('secrets in the address of a plugin: are neither shown nor sent, as by Docker', async () => {
  for (const addr of ['http://127.0.0.1:8031/?token=hunter2', 'http://hunter2@127.0.0.1:8031/x#hunter2']) {
    const host = makeHost();
    host.files.delete(SOCKET);
    host.files.set(`${plugins}.json`, `{"Addr":"${addr}"}`);
    const asked: string[] = [];
    const parts = partsOf(host);
    const findings = await examine({
      ...parts,
      activate: async plugin => {
        asked.push(plugin.url);
        return await parts.activate(plugin);
      },
    });
    assert.match(reportText(findings), /ok +plugin: Docker finds http:\/\/127\.0\.0\.1:8031, by/);
    assert.not.match(reportText(findings), /hunter2/);
    assert.equal(asked, ['http://127.0.0.1:8031']);
  }
});

doctor('a healthy host: everything is ok', async () => {
  const { findings } = await findingsOf(() => {});
  assert.equal(findings.filter(one => one.state !== 'ok').map(line), []);
  assert.equal(
    findings.map(({ check }) => check.split(' ')[0]),
    'runtime metadata ENI interface managers kernel docker network plugin answer ledger room subnet rights rights clock permissions'.split(
      ' ',
    ),
  );
  assert.not.ok(isBroken(findings));
  assert.match(
    reportText(findings),
    /^ok +runtime: node 24\.1\.0\nok [\s\S]*\n17 ok, 0 warning, 0 broken, 0 not checked\n$/,
  );
});

for (const [what, spoil, finding, says] of CASES)
  doctor(`${what}: is named with what to do`, async () => {
    const { findings } = await findingsOf(spoil);
    const shown = reportText(findings);
    const isIt = (one: Finding) => `${one.state} ${one.check}` === finding;
    const found = findings.find(
      one => isIt(one) && contains(`${one.what}\nto do: ${one.fix}`, says.split('…')),
    );
    assert.ok(found && found.fix !== null, shown);
    const others = findings.filter(
      one => one.check !== found?.check && ['broken', 'warning'].includes(one.state),
    );
    assert.equal(others.map(line), [], shown);
    assert.is(isBroken(findings), found?.state === 'broken');
    assert.ok(findings.every(one => [one.what, one.fix ?? ''].every(text => cleaned(text, 1_000) === text)));
  });

/** Whether the parts are in the text, one after the other. */
function contains(text: string, parts: readonly string[]): boolean {
  let at = 0;
  return parts.every(part => {
    const found = text.indexOf(part, at);
    at = found + part.length;
    return found >= 0;
  });
}

const harmless: [what: string, spoil: Spoil][] = [
  [
    'a file of networkd that is unmanaged',
    networkd(
      '/etc/systemd/network/10-a.network',
      '[Match]\nName=*\n[Link]\nUnmanaged=yes\n[Network]\nDHCP=yes\n',
    ),
  ],
  [
    'one for another interface',
    networkd('/etc/systemd/network/10-a.network', '[Match]\nName=eth* !ens6\n[Network]\nDHCP=yes\n'),
  ],
  [
    'one that another folder hides',
    h => {
      networkd('/usr/lib/systemd/network/80-ec2.network', '[Match]\nName=*\n[Network]\nDHCP=yes\n')(h);
      h.files.set('/etc/systemd/network/80-ec2.network', { to: '/dev/null' });
    },
  ],
  [
    'a pattern that is no expression',
    networkd('/etc/systemd/network/10-a.network', '[Match]\nName=([*\n[Network]\nDHCP=yes\n'),
  ],
];
for (const [what, spoil] of harmless)
  doctor(`${what}: nothing puts addresses on the interface`, async () => {
    const { findings } = await findingsOf(spoil);
    assert.equal(findings.filter(one => one.state === 'broken').map(line), []);
  });

doctor('NetworkManager that leaves the interface alone: is no trouble', async () => {
  const ways: [string, string][] = [
    ['/run/NetworkManager/devices/3', '[device]\nmanaged=false\n'],
    ['/etc/NetworkManager/conf.d/a.conf', `[keyfile]\nunmanaged-devices=interface-name:x;mac:${MAC}\n`],
  ];
  for (const [path, text] of ways) {
    const { findings } = await findingsOf(host => {
      host.files.set('/proc/8/comm', 'NetworkManager\n');
      host.files.set(path, text);
    });
    assert.not.ok(isBroken(findings), path);
  }
});

doctor('a network of another driver that names an ENI: does not say which is meant', async () => {
  const { findings } = await findingsOf(host => {
    host.networks = [network(), network({ name: 'x', parent: 'ens9', ipamDriver: 'other', eni: PRIMARY })];
  });
  assert.ok(findings.every(one => one.state === 'ok'));
  assert.not.ok(findings.some(one => one.what.includes(PRIMARY)));
});

doctor('a full ENI with ready addresses, in a full subnet: containers can start', async () => {
  const { findings } = await findingsOf(host => {
    Object.assign(host, { cloudEni: cloudEni(29), ready: 1, subnet: subnetWith(0) });
  });
  assert.not.ok(isBroken(findings));
  const [room] = findings.filter(({ check }) => check.startsWith('room'));
  assert.match(room?.what ?? '', /30 of 30 addresses, 1 of them ready/);
});

doctor('metadata that answers the second time only: is no trouble', async () => {
  let asked = 0;
  const { findings } = await findingsOf(host => {
    const { metadata } = partsOf(host);
    const slow = async (path: string) =>
      asked++ === 0 ? ({ kind: 'late', why: 'no answer' } as const) : await metadata(path);
    Object.assign(host, { withoutToken: true, parts: { metadata: slow } });
  });
  assert.ok(findings.every(one => one.state === 'ok'));
});

doctor('metadata that fail for the addresses of an ENI: do not say that it has none', async () => {
  const { findings } = await findingsOf(host => {
    host.networks = [];
    const { metadata } = partsOf(host);
    const failing = async (path: string) =>
      path.endsWith(`${MAC}/local-ipv4s`)
        ? ({ kind: 'late', why: 'HTTP status 500' } as const)
        : await metadata(path);
    Object.assign(host, { parts: { metadata: failing } });
  });
  const said = findings.map(line).join('\n');
  assert.match(
    said,
    `instance metadata gives no network/interfaces/macs/${MAC}/local-ipv4s: HTTP status 500`,
  );
  assert.not.match(said, /no ENI with an IPv4 address/);
});

doctor('several ENIs and no network: says which there are, and asks for one', async () => {
  const { findings } = await findingsOf(host => {
    host.networks = [];
    host.metadata.set('network/interfaces/macs/', `${MAC}/\n02:0a:1b:2c:10:02/`);
    for (const name of ['interface-id', 'device-number', 'local-ipv4s'])
      host.metadata.set(
        `network/interfaces/macs/02:0a:1b:2c:10:02/${name}`,
        { 'interface-id': 'eni-0a1b2c3d0002', 'device-number': '2' }[name] ?? '10.0.2.10',
      );
  });
  const [found] = findings.filter(({ check }) => check === 'ENI');
  assert.match(found?.what ?? '', /several .*eni-0a1b2c3d0001 \(ens6\), eni-0a1b2c3d0002/);
  assert.match(found?.fix ?? '', /--eni/);
});

doctor('the primary ENI, named: may have addresses and managers', async () => {
  const { findings } = await findingsOf(host => {
    host.parts = { eni: PRIMARY };
    host.networks = [network({ parent: 'ens5', eni: PRIMARY })];
    host.files.set('/proc/8/comm', 'NetworkManager\n');
  });
  assert.equal(findings.filter(one => one.state !== 'ok').map(line), []);
});

doctor('without `ip`: the interface is not checked, and the rest is', async () => {
  const { findings } = await findingsOf(host => {
    host.ipFails = 'ip cannot be run: ENOENT';
  });
  const [found] = findings.filter(({ check }) => check.startsWith('interface'));
  assert.equal([found?.state, found?.what], ['not checked', 'ip cannot be run: ENOENT']);
  const lines = reportText(findings).split('\n');
  assert.ok(lines.some(one => one.startsWith('not checked interface')));
  assert.not.ok(isBroken(findings));
});

doctor('a central server without an agent: this host asks EC2 and the ledger nothing', async () => {
  const { host, findings } = await findingsOf(made => {
    made.files.delete(SOCKET);
    made.files.set('/etc/docker/plugins/ec2-ipam.json', SPEC);
    made.files.set('/etc/d/k', { kind: 'file', mode: 0o644, uid: 0 });
    made.rights = { unassign: { kind: 'denied' }, assign: null };
  });
  assert.equal(host.asked, []);
  const notAsked = findings.filter(one => one.state === 'not checked').map(line);
  assert.equal(notAsked, [
    'ledger: https://ipam:8031 asks it, not this host',
    'EC2: https://ipam:8031 asks it, not this host',
  ]);
  const [key] = findings.filter(one => one.state === 'warning');
  assert.match(key?.what ?? '', /the key \/etc\/d\/k can be read/);
});

doctor('the certificate that a spec names: is judged by its end', async () => {
  const { server, remove } = makeCertificates();
  const pem = readFileSync(server.cert, 'utf8');
  remove();
  const end = Date.parse(new X509Certificate(pem).validTo);
  const day = 86_400_000;
  const ends: [pem: string | null, now: number, state: State, says: RegExp][] = [
    [pem, end - 15 * day, 'ok', /is valid until \d{4}-/],
    [pem, end - day, 'warning', /valid until .* only/],
    [pem, end, 'broken', /ended at/],
    ['-----BEGIN CERTIFICATE-----\nx', NOW, 'broken', /no certificate that can be read/],
    [null, NOW, 'broken', /no certificate/],
  ];
  for (const [text, now, state, says] of ends) {
    const { findings } = await findingsOf(host => {
      host.files.delete(SOCKET);
      host.files.set('/etc/docker/plugins/ec2-ipam.json', SPEC.replace('KeyFile', 'CertFile'));
      if (text !== null) host.files.set('/etc/d/k', text);
      host.parts = { timeOfDay: () => now };
    });
    const [found] = findings.filter(({ check }) => check === 'spec certificate');
    assert.is(found?.state, state);
    assert.match(found?.what ?? '', says);
  }
});

const agentWith = (expiresIn: number, why: (string | null)[], instance = INSTANCE) => ({
  agent: {
    certificate: () => ({ instance, issuedAt: NOW - 10_000, expiresAt: NOW + expiresIn }),
    servers: why.map((reason, i) => ({ name: `https://s${i}:8031`, reach: async () => reason })),
  },
  own: null,
});
const agents: [what: string, parts: MadeHost['parts'], states: string, says: RegExp][] = [
  ['one that is well', agentWith(20_000, [null, null]), 'ok ok ok', /valid until 2026-11-26T12:00:20/],
  [
    'one server of two away',
    agentWith(20_000, [null, 'ECONNREFUSED']),
    'ok ok warning',
    /s1:8031 does not answer: ECONNREFUSED/,
  ],
  ['all servers away', agentWith(20_000, ['x', 'y']), 'ok broken broken', /s0:8031 does not answer/],
  ['a certificate that was not renewed', agentWith(2_000, [null]), 'warning ok', /not renewed/],
  ['one that ended', agentWith(-1, [null]), 'broken ok', /ended at/],
  ['that of another instance', agentWith(20_000, [null], OTHER), 'warning ok', /that of i-0b/],
  [
    'none',
    { agent: { certificate: () => null, servers: [] }, own: null },
    'broken not checked',
    /not enrolled/,
  ],
];
for (const [what, parts, states, says] of agents)
  doctor(`an agent, ${what}: certificate and servers are judged, EC2 is not asked`, async () => {
    const { host, findings } = await findingsOf(made => {
      made.parts = parts;
    });
    const own = findings.filter(({ check }) => ['certificate', 'servers'].includes(check));
    assert.is(own.map(({ state }) => state).join(' '), states);
    assert.ok(own.some(one => says.test(one.what)));
    assert.equal(host.asked, []);
  });

doctor('garbage in every text that is read: is never more than a finding', async () => {
  const bits = [
    '\0',
    '\u001b[2J',
    '\n',
    '[Match]\n',
    'Name=',
    '*',
    '(',
    '{"Addr":',
    '"unix://',
    '999999999999',
    'ens6',
    '=',
  ];
  bits.push(MAC, 'iface ', 'inet ', '\\', ' ', ': <UP>', '[]', 'null', '\u202e', 'i-', '/', '%', ';');
  for (let seed = 1; seed <= 300; seed++) {
    const random = seeded(seed);
    const garbage = () =>
      Array.from({ length: 1 + random() * 12 }, () => bits[Math.floor(random() * bits.length)]).join('');
    const { findings } = await findingsOf(host => {
      const paths = [...host.files.keys(), '/etc/network/interfaces', '/etc/systemd/network/10-a.network'];
      paths.push('/etc/docker/plugins/ec2-ipam.json', '/etc/docker/plugins/ec2-ipam.spec', '/proc/7/comm');
      for (const path of paths) if (random() < 0.3) host.files.set(path, garbage());
      for (const key of host.metadata.keys()) if (random() < 0.1) host.metadata.set(key, garbage());
      if (random() < 0.3) host.links += garbage();
      if (random() < 0.3) host.addresses = garbage();
      if (random() < 0.3) host.version = garbage();
      if (random() < 0.3) host.answer = { status: 200, text: garbage() };
      if (random() < 0.3) host.networks = [network({ name: garbage(), parent: garbage(), mode: garbage() })];
    });
    for (const { check, what, fix } of findings)
      assert.ok(
        [check, what, fix ?? ''].every(text => cleaned(text, 1_000) === text),
        `seed ${seed}: ${JSON.stringify({ check, what, fix })}`,
      );
    assert.ok(findings.length >= 10, `seed ${seed}`);
  }
});

doctor('what hangs, or throws: ends within its bound as not checked, and the rest is there', async () => {
  const never = new Promise<never>(() => {});
  const host = makeHost();
  const parts = partsOf(host);
  const findings = await examine({
    ...parts,
    boundMs: 50,
    activate: () => never,
    docker: { socketPath: '/x', client: { version: () => never, networks: () => never } },
    files: {
      ...parts.files,
      stat: async path =>
        path === '/var/lib/ec2-ipam' ? Promise.reject(new Error('odd')) : parts.files.stat(path),
    },
  });
  const late = findings.filter(one => /did not end within 0\.05 s/.test(one.what)).map(({ check }) => check);
  assert.equal(late, ['ENI', 'interface', 'docker', 'network', 'answer', 'EC2']);
  assert.ok(findings.some(one => one.check === 'permissions' && one.what === 'odd'));
  assert.ok(findings.some(one => one.check === 'ledger' && one.state === 'ok'));
});

doctor('texts from outside: bring no control characters, no lines and no password', async () => {
  const { findings } = await findingsOf(host => {
    host.networks = [network({ name: 'a\u001b[2J\nBROKEN', parent: 'ens5' })];
    host.storeFails = new IpamError('store-down', 'mysql://root:hunter2@db refused');
  });
  const shown = reportText(findings);
  assert.not.match(shown, /hunter2/);
  assert.not.ok(shown.includes('\u001b'));
  assert.is(shown.split('\n').filter(one => one.startsWith('BROKEN')).length, 2);
});
doctor.run();
