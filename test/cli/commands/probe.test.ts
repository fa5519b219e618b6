// Goal: what `probe` and `simulate --check` do with files, ledger and exit status. Method: main() in this process, over
// the SDK, with the simulator on loopback; the pauses pass at once.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { assemble } from '../../../src/assemble.ts';
import { COMMANDS, main } from '../../../src/cli/cli.ts';
import { probeWith } from '../../../src/cli/commands/probe.ts';
import type { Vpc } from '../../../src/simulator/model/vpc.ts';
import { createSimulator } from '../../../src/simulator/simulator.ts';
import { createStore } from '../../../src/store/create-store.ts';
import { keptIo, type Written } from '../../kit/cli.ts';
import { removeFolder, tempFolder } from '../../kit/folders.ts';
import { ETH1, INSTANCE, ip, type Served, SUBNET, serve, simulated } from '../../kit/simulated.ts';
import { assert, suite } from '../../kit/uvu.ts';
import { ASSIGN } from '../../kit/vpcs.ts';

const KEYS = ['AWS_ENDPOINT_URL_EC2', 'AWS_REGION', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'] as const;
const before = Object.fromEntries(KEYS.map(key => [key, process.env[key]]));

interface Context {
  folder: string;
  vpc: Vpc;
  served: Served;
}
const probing = suite<Context>('probe');
probing.before.each(async context => {
  context.folder = tempFolder();
  context.vpc = simulated({ now: Date.now, bucketScale: null });
  context.served = await serve(createSimulator(context.vpc, { instance: INSTANCE }));
  Object.assign(process.env, {
    AWS_ENDPOINT_URL_EC2: context.served.url,
    AWS_REGION: 'eu-central-1',
    AWS_ACCESS_KEY_ID: 'AKIA',
    AWS_SECRET_ACCESS_KEY: 'secret',
  });
});
probing.after.each(({ folder, served }) => {
  served.close();
  removeFolder(folder);
  for (const key of KEYS) {
    if (before[key] === undefined) delete process.env[key];
    else process.env[key] = before[key];
  }
});

async function run({ folder }: Context, line: string, status: number): Promise<Written> {
  const { io, written } = keptIo();
  let now = 0;
  const wait = async (ms: number) => {
    now += ms;
  };
  const virtual = probeWith({ clock: () => now, wait });
  const commands = COMMANDS.map(one => (one.name === 'probe' ? virtual : one)) as typeof COMMANDS;
  const env = { EC2_IPAM_STORE: `sqlite:${folder}/ledger`, EC2_IPAM_LOG_FORMAT: 'json' };
  assert.is(await main(line.split(' '), env, io, assemble, commands), status, `${line}: ${written.all}`);
  return written;
}
const path = ({ folder }: Context, file: 'journal' | 'transcript') => join(folder, file);
const lineOf = (context: Context, more = '') =>
  `probe --eni ${ETH1} --transcript ${path(context, 'transcript')} --journal ${path(context, 'journal')}${more}`;
const changesOf = ({ vpc }: Context): number =>
  [...vpc.calls].reduce((sum, [action, count]) => sum + (/^(Una|A)ssign/.test(action) ? count : 0), 0);
const secondaries = ({ vpc }: Context) => vpc.network.eni(ETH1).secondaries;

probing('without --yes: prints the plan, and changes and writes nothing', async context => {
  const { out } = await run(context, lineOf(context, ' --prefixes'), 0);
  assert.match(
    out,
    /^eni-0a1b2c3d4e5f60001 in subnet-0a1b2c3d4e5f60001, 10\.0\.1\.0\/24: primary 10\.0\.1\.11, /,
  );
  assert.match(out, /^no ledger was asked, since there is none at \S+\/ledger: --store names another$/m);
  assert.match(out, /^ {2}a named address: AssignPrivateIpAddresses 10\.0\.1\.\d+ on eni-/m);
  assert.match(out, /^ {2}an IPv4 prefix: AssignPrivateIpAddresses 10\.0\.1\.\d+\/28 on eni-/m);
  assert.match(out, /^nothing was changed: --yes carries it out\n$/m);
  assert.is(changesOf(context), 0);
  assert.not.ok(existsSync(path(context, 'journal')) || existsSync(path(context, 'transcript')));
});

probing('with --yes: leaves a clean ENI and a transcript that the simulator agrees with', async context => {
  const { out, err } = await run(context, lineOf(context, ' --prefixes --yes'), 0);
  assert.match(err, /^eni-0a1b2c3d4e5f60001: \d+ of 16 steps$/m);
  assert.match(out, /^14 tried, 0 otherwise than expected, 2 left out$/m);
  assert.match(out, /^eni-0a1b2c3d4e5f60001 is as before\n$/m);
  assert.equal(secondaries(context), []);
  assert.equal(context.vpc.network.eni(ETH1).prefixes, []);
  assert.not.ok(existsSync(path(context, 'journal')));
  const file = path(context, 'transcript');
  assert.match(
    (await run(context, `simulate --check ${file}`, 0)).out,
    /^14 compared, 0 differ, 0 not compared\n$/m,
  );
  writeFileSync(
    file,
    readFileSync(file, 'utf8').replaceAll('"PrivateIpAddressLimitExceeded"', '"LimitExceeded"'),
  );
  assert.match(
    (await run(context, `simulate --check ${file}`, 1)).out,
    /^DIFFERS {2}over the limit: code, meaning$/m,
  );
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), tried: [] }));
  const { err: why } = await run(context, `simulate --check ${file}`, 2);
  assert.match(why, /has nothing that was tried; run the probe again\n$/);
});

probing('an ENI of the ledger: is refused before EC2 is asked, by --undo too', async context => {
  const store = await createStore({ kind: 'sqlite', path: join(context.folder, 'ledger') });
  await store.migrate();
  const eni = {
    id: ETH1,
    subnet: SUBNET,
    primary: ip('10.0.1.11'),
    instance: INSTANCE,
    attachment: null,
    attachmentSeenAt: null,
    earlierAttachment: null,
    claimsEndBefore: null,
    tenant: null,
    mac: null,
    addressLimit: null,
    prefixes: 0,
    ours: false,
    releasedAt: null,
  };
  await store.saveEnis([eni]);
  assert.match(
    (await run(context, lineOf(context), 0)).out,
    /^the ledger was asked, and the ENI is not its own$/m,
  );
  await store.adopt(ETH1);
  await store.close();
  const calls = [...context.vpc.calls.values()].reduce((sum, count) => sum + count, 0);
  const journal = path(context, 'journal');
  writeFileSync(journal, `{"verb":"assign","kind":"addresses","eni":"${ETH1}","names":["10.0.1.20"]}\n`);
  for (const line of [lineOf(context, ' --yes'), `probe --undo ${journal}`])
    assert.match(
      (await run(context, line, 1)).err,
      /^ec2-ipam: eni-0a1b2c3d4e5f60001 is of the ledger: nothing was changed; [^\n]+\n$/,
    );
  assert.is(
    [...context.vpc.calls.values()].reduce((sum, count) => sum + count, 0),
    calls,
  );
});

probing('an ENI that is in use: is refused in one line', async context => {
  context.vpc.network.assign({ eni: ETH1, ips: [ip('10.0.1.50')] });
  const { err } = await run(context, lineOf(context, ' --yes'), 1);
  assert.match(
    err,
    /^ec2-ipam: eni-0a1b2c3d4e5f60001 has secondary addresses, such as 10\.0\.1\.50: nothing was changed; [^\n]+\n$/,
  );
  assert.equal(secondaries(context), ['10.0.1.50']);
  assert.is(changesOf(context), 0);
});

probing(
  'a change that had no answer: keeps the journal, says when to undo it, and writes the transcript',
  async context => {
    context.vpc.faults.add({ kind: 'lostReply', action: ASSIGN, times: 1 });
    const { err } = await run(context, lineOf(context, ' --yes'), 1);
    assert.match(
      err,
      /a change had no answer, and may be applied in the next 15 minutes; run `ec2-ipam probe --undo \S+` in 16 minutes\n$/,
    );
    assert.equal(secondaries(context), []);
    const file = path(context, 'transcript');
    assert.match(
      (await run(context, `simulate --check ${file}`, 0)).out,
      /^not compared {2}a named address: EC2 gave no answer$/m,
    );
    assert.match(
      (await run(context, lineOf(context, ' --yes'), 1)).err,
      /journal \S+ of an earlier probe is there; run `ec2-ipam probe --undo/,
    );
  },
);

probing(
  '--undo: takes off what the journal names, and does not take an unknown ENI for a clean one',
  async context => {
    const journal = path(context, 'journal');
    context.vpc.network.assign({ eni: ETH1, ips: [ip('10.0.1.20'), ip('10.0.1.21')] });
    const entry = (eni: string) =>
      `{"verb":"assign","kind":"addresses","eni":"${eni}","names":["10.0.1.20","10.0.1.22"]}\n`;
    writeFileSync(journal, entry(ETH1));
    assert.match(
      (await run(context, `probe --undo ${journal}`, 0)).out,
      /has nothing of the probe; \S+ is no longer needed\n$/,
    );
    assert.equal(secondaries(context), ['10.0.1.21']);
    writeFileSync(journal, entry('eni-0123456789abcdef0'));
    assert.match(
      (await run(context, `probe --undo ${journal}`, 1)).err,
      /is not known to be clean: EC2 does not show eni-0123456789abcdef0/,
    );
    writeFileSync(journal, '');
    assert.match(
      (await run(context, `probe --undo ${journal}`, 0)).out,
      /notes no change: nothing is to be undone\n$/,
    );
  },
);

probing('wrong usage: is status 2', async context => {
  assert.match((await run(context, 'probe', 2)).err, /probe needs --eni, or --undo/);
  assert.match((await run(context, 'probe --eni x', 2)).err, /--eni "x" is not an id/);
  assert.match((await run(context, 'simulate --check /nowhere', 2)).err, /--check \/nowhere cannot be read/);
});
probing.run();
