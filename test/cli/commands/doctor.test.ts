// Goal: `doctor` reads what its settings name, changes nothing, and tells by its exit status. Method: main() in this
// process, with the simulator's EC2 and metadata on loopback. The rest of this machine is whatever it is.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import process from 'node:process';
import { assemble } from '../../../src/assemble.ts';
import { main } from '../../../src/cli/cli.ts';
import type { Finding } from '../../../src/doctor/finding.ts';
import type { Vpc } from '../../../src/simulator/model/vpc.ts';
import { createSimulator } from '../../../src/simulator/simulator.ts';
import { keptIo } from '../../kit/cli.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { makeCertificates } from '../../kit/servers/certificates.ts';
import { ETH1, INSTANCE, type Served, SUBNET, serve, simulated } from '../../kit/simulated.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN } from '../../kit/vpcs.ts';

const SET = {
  AWS_REGION: 'eu-central-1',
  AWS_ACCESS_KEY_ID: 'AKIA',
  AWS_SECRET_ACCESS_KEY: 'secret',
};
const KEYS = [...Object.keys(SET), 'AWS_ENDPOINT_URL_EC2', 'AWS_EC2_METADATA_SERVICE_ENDPOINT'];
const before = Object.fromEntries(KEYS.map(key => [key, process.env[key]]));

interface Context {
  folder: string;
  vpc: Vpc;
  served: Served;
}
const doctor = suite<Context>('doctor, the command');
doctor.before.each(async context => {
  context.folder = tempFolder();
  context.vpc = simulated({ now: Date.now, bucketScale: null });
  context.served = await serve(createSimulator(context.vpc, { instance: INSTANCE }));
  const { url } = context.served;
  Object.assign(process.env, SET, { AWS_ENDPOINT_URL_EC2: url, AWS_EC2_METADATA_SERVICE_ENDPOINT: url });
});
doctor.after.each(({ folder, served }) => {
  served.close();
  removeFolder(folder);
  for (const key of KEYS) {
    if (before[key] === undefined) delete process.env[key];
    else process.env[key] = before[key];
  }
});

async function examined({ folder }: Context, more: readonly string[] = []) {
  const { io, written } = keptIo();
  const line = ['doctor', '--json', '--eni', ETH1, '--docker-socket', 'off', '--state-dir', folder, ...more];
  const status = await main(line, {}, io, assemble);
  const { works, findings } = JSON.parse(written.out || '{}') as { works: boolean; findings: Finding[] };
  assert.is(status, works ? 0 : 1, written.all);
  const of = (check: string) =>
    findings.filter(one => one.check.startsWith(check)).map(({ state, what }) => `${state}: ${what}`);
  return { written, findings, of };
}

doctor('asks EC2 and metadata, and changes nothing', async context => {
  const had = [...context.vpc.network.eni(ETH1).secondaries];
  const { of } = await examined(context);
  assert.equal(of('metadata'), [`ok: instance metadata answers by version 2: ${INSTANCE}`]);
  assert.equal(of('ENI'), [`ok: ${ETH1} is attached to ${INSTANCE}`]);
  assert.match(of('room')[0] ?? '', /^ok: eni-\S+ holds \d+ of \d+ addresses/);
  assert.match(of(`subnet ${SUBNET}`)[0] ?? '', /^ok/);
  assert.equal(
    of('rights').map(one => one.slice(0, 6)),
    ['ok: ec', 'ok: ec'],
  );
  assert.equal(of('clock'), ["ok: the clock of this host is EC2's"]);
  assert.match(of('ledger')[0] ?? '', /^ok: there is no ledger at .* yet/);
  assert.equal(of('docker'), ['not checked: --docker-socket is off']);
  assert.equal(context.vpc.network.eni(ETH1).secondaries, had);
  assert.equal(readdirSync(context.folder), []);
});

doctor('a denied right, and a clock ahead: are broken, with status 1', async context => {
  context.vpc.denied.add(ASSIGN);
  context.vpc.dayAheadMs = -60_000;
  const { of } = await examined(context);
  assert.match(of('rights')[1] ?? '', /^broken: ec2:AssignPrivateIpAddresses is denied/);
  assert.match(of('clock')[0] ?? '', /^broken: the clock of this host is (59|60|61) s ahead/);
});

doctor(
  'a configuration with a password that others can read: is a finding, and the password is not shown',
  async context => {
    const file = join(context.folder, 'c; d.json');
    writeFileSync(file, '{"store":"mysql://ipam:hunter2@127.0.0.1:1/ipam?ssl=off"}');
    chmodSync(file, 0o644);
    const { of, written } = await examined(context, ['--config', file]);
    assert.match(
      of('permissions')[0] ?? '',
      new RegExp(`^broken: --config: ${file} is open to users other than its owner$`),
    );
    assert.match(of('ledger')[0] ?? '', /^broken: the ledger at 127\.0\.0\.1:1 does not answer/);
    assert.not.match(written.all, /hunter2/);
    const { io, written: other } = keptIo();
    assert.is(await main(['status', '--config', file], {}, io, assemble), 2);
    assert.match(other.err, /is open to users other than its owner/);
  },
);

doctor('with --server: looks at the agent, and asks EC2 nothing', async context => {
  const { of } = await examined(context, ['--server', 'https://127.0.0.1:1']);
  assert.match(of('certificate')[0] ?? '', /^broken: this host has no certificate/);
  assert.match(of('servers')[0] ?? '', /^broken: https:\/\/127\.0\.0\.1:1 does not answer: .*ECONNREFUSED/);
  assert.equal(of('EC2'), ['not checked: a central server asks it, not this host']);
  assert.equal([...context.vpc.calls.keys()], []);
});

doctor('with --server and an authority that is not there, or a pipe: says so', async context => {
  const pipe = join(context.folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  for (const path of [join(context.folder, 'none'), pipe]) {
    const { of } = await examined(context, ['--server', 'https://127.0.0.1:1', '--server-ca', path]);
    assert.match(of('servers')[0] ?? '', new RegExp(`^broken: .*--server-ca ${path} cannot be read`));
  }
});

/** A named pipe, and one who would write the file to it. A reader that waits gets the text, so that no test hangs. */
function pipeWith(path: string, source: string): ChildProcess {
  execFileSync('mkfifo', ['-m', '600', path]);
  return spawn('sh', ['-c', 'cat "$0" > "$1"', source, path]);
}

doctor('a configuration or a password in a named pipe: is not waited for, and named', async ({ folder }) => {
  const [text, pipe] = [join(folder, 'text'), join(folder, 'pipe')];
  writeFileSync(text, '{"logLevel":"warn"}', { mode: 0o600 });
  const writer = pipeWith(pipe, text);
  try {
    for (const [flags, env] of [
      [['--config', pipe], {}],
      [[], { EC2_IPAM_STORE_PASSWORD_FILE: pipe }],
    ] as const) {
      const { io, written } = keptIo();
      assert.is(await main(['doctor', ...flags], env, io, assemble), 2, written.all);
      assert.match(written.err, new RegExp(`^ec2-ipam: ${pipe} is a named pipe.*; give a file\n$`));
    }
  } finally {
    writer.kill();
  }
});

doctor('a certificate of an agent that is a named pipe: is none', async context => {
  const { ca, sign, remove } = makeCertificates();
  const own = sign('host', `URI:ec2-ipam://instance/${INSTANCE}`);
  const both = join(context.folder, 'both');
  writeFileSync(both, readFileSync(own.key, 'utf8') + readFileSync(own.cert, 'utf8'));
  const writer = pipeWith(join(context.folder, 'agent.pem'), both);
  try {
    const { of, written } = await examined(context, ['--server', 'https://127.0.0.1:1', '--server-ca', ca]);
    assert.match(of('certificate')[0] ?? '', /^broken: this host has no certificate/);
    assert.match(written.err, /saved certificate not used.*agent\.pem.*not a regular file/);
  } finally {
    writer.kill();
    remove();
  }
});

doctor(
  'with the certificate of an agent: says until when it is valid, and that the server answers',
  async context => {
    const { ca, server, sign, remove } = makeCertificates();
    const own = sign('host', `URI:ec2-ipam://instance/${INSTANCE}`);
    const text = (path: string) => readFileSync(path, 'utf8');
    const file = join(context.folder, 'agent.pem');
    writeFileSync(file, text(own.key) + text(own.cert), { mode: 0o600 });
    const asked: string[] = [];
    const tls = { ca: text(ca), cert: text(server.cert), key: text(server.key) };
    const central = createServer(
      { ...tls, requestCert: true, rejectUnauthorized: true },
      (request, response) => {
        asked.push(`${request.method} ${request.url}`);
        response.end('{"Implements":["IpamDriver"]}');
      },
    );
    await new Promise<void>(resolve => central.listen(0, '127.0.0.1', resolve));
    const { port } = central.address() as AddressInfo;
    try {
      const { of } = await examined(context, ['--server', `https://127.0.0.1:${port}`, '--server-ca', ca]);
      assert.match(
        of('certificate')[0] ?? '',
        new RegExp(`^ok: the certificate of ${INSTANCE} is valid until 20`),
      );
      assert.equal(of('servers'), [`ok: https://127.0.0.1:${port} answers`]);
      assert.equal(asked, ['POST /Plugin.Activate']);
      const unnamed = await examined(context);
      assert.match(unnamed.of('certificate')[0] ?? '', /^ok/);
      assert.equal(unnamed.of('servers'), ['not checked: which servers the agent has is not known']);
    } finally {
      central.close();
      central.closeAllConnections();
      remove();
    }
  },
);

doctor('an ENI that is no id: is wrong usage', async context => {
  const { io, written } = keptIo();
  assert.is(await main(['doctor', '--eni', 'eth1', '--state-dir', context.folder], {}, io, assemble), 2);
  assert.match(written.err, /--eni "eth1" is not an id/);
});
doctor.run();
