// Goal: a reading puts together what Docker and the kernel show, so that what really is in use counts as in use, and
// what only looks so in Docker's lists does not. Method: the answers of real engines for each state, with the kernel
// of that state, read and then weighed.
import type { Ipv4 } from '../../src/domain/address.ts';
import type { Allocation } from '../../src/domain/allocation.ts';
import { isInUse, type Verdict, WITNESS_AGE_MS, weigh } from '../../src/domain/witness.ts';
import type { Ran } from '../../src/witness/commands.ts';
import { createDockerClient } from '../../src/witness/docker-client.ts';
import { createKernel } from '../../src/witness/kernel.ts';
import { createWitness, type Witness } from '../../src/witness/witness.ts';
import {
  type Answers,
  answersOf,
  ENGINES,
  type FakeDocker,
  sample,
  serveDocker,
} from '../kit/docker/samples.ts';
import { type FakeProc, fakeProc, SOCKET } from '../kit/proc.ts';
import { ENI, rowWith } from '../kit/rows.ts';
import { assert, suite } from '../kit/uvu.ts';

const MAC = '02:0a:1b:2c:3d:01';
const START = 1_700_000_000_000;

interface Host {
  proc: FakeProc;
  answers: Answers;
  docker: FakeDocker;
  witness: Witness;
  /** The name of the interface with MAC. */
  link: string;
}
const reading = suite<Host>('reading');
reading.before.each(async context => {
  context.proc = fakeProc();
  context.link = 'eth1'; // that of Docker's network
});
reading.after.each(async ({ proc, docker }) => {
  proc.close();
  await docker.close();
});

async function open(host: Host, answers: Answers): Promise<Witness> {
  host.answers = answers;
  host.docker = await serveDocker(answers);
  const run = async (): Promise<Ran> => ({
    ...{
      code: 0,
      stdout: `3: ${host.link}: <UP>\\    link/ether ${MAC} brd ff:ff:ff:ff:ff:ff\n`,
      stderr: '',
    },
  });
  host.witness = createWitness('', {
    docker: createDockerClient(host.docker.socketPath),
    kernel: createKernel({ socketPath: SOCKET, run, proc: host.proc.path }),
  });
  return host.witness;
}

const rowsOf = (status: Allocation['status'], ...ips: string[]): Allocation[] =>
  ips.map(ip => rowWith({ ip: ip as Ipv4, status, movedAt: START - WITNESS_AGE_MS }));

/** Weighs two readings that are far enough apart. */
async function weighed(witness: Witness, rows: readonly Allocation[]): Promise<Verdict> {
  const enis = [{ id: ENI, mac: MAC, attachment: 'eni-attach-0a', tenant: null }];
  const rest = { rows, enis, engineSince: null, ageMs: WITNESS_AGE_MS };
  const first = weigh({ ...rest, before: [], now: START, reading: await witness.read() });
  const now = START + WITNESS_AGE_MS;
  return weigh({ ...rest, before: first.save, now, reading: await witness.read() });
}
const leaksOf = ({ leaks }: Verdict): Ipv4[] => leaks.map(({ row }) => row.ip);

for (const engine of ENGINES) {
  const ip = (last: number) => (engine === '26.1.5' ? `10.26.0.${last}` : `10.29.0.${last}`);
  const running = ({ proc }: Host) => {
    proc.process(200, '4026532001', ['127.0.0.1', ip(77)]);
    proc.process(300, '4026532002', ['127.0.0.1', ip(4)]);
  };

  reading(
    `engine ${engine}: running and paused containers are in use, the wish of a created one is not`,
    async host => {
      running(host);
      const witness = await open(host, answersOf(engine));
      const { uses, incomplete, boot, macs } = await witness.read();
      assert.is(incomplete, null);
      assert.is(boot, 'boot-1');
      assert.equal(macs, [MAC]);
      const web = uses.find(use => use.ip === ip(77));
      assert.ok(web?.isInNetworks && web.isInContainers);
      assert.is(web?.container?.name, 'web');
      assert.is(web?.places[0]?.pid, 200);
      const rows = rowsOf('allocated', ip(77), ip(4), ip(99));
      assert.equal(leaksOf(await weighed(witness, rows)), [ip(99)]);
    },
  );

  const idOf = (name: string) => sample<{ Id: string }>(engine, `GET /containers/json?all=1, /${name}`).Id;
  const idsIn = ({ containers }: Verdict) => containers.map(({ row, id }) => [row.ip, id]);

  reading(`engine ${engine}: the ids of running and paused containers are known`, async host => {
    running(host);
    const witness = await open(host, answersOf(engine));
    const rows = rowsOf('allocated', ip(77), ip(4), ip(99));
    assert.equal(idsIn(await weighed(witness, rows)), [
      [ip(77), idOf('web')],
      [ip(4), idOf('paused')],
    ]);
  });

  reading(`engine ${engine}: on an interface that is not there no id is known`, async host => {
    running(host);
    host.link = 'eth10';
    const verdict = await weighed(await open(host, answersOf(engine)), rowsOf('allocated', ip(77)));
    assert.equal([idsIn(verdict), verdict.incomplete], [[], null]);
  });

  reading(`engine ${engine}: a container whose release is under way gives the next one no id`, async host => {
    running(host);
    const answers = answersOf(engine);
    const [id = ''] = Object.keys(answers.network);
    // Docker has deleted its endpoint, and lists it as running until the release is answered.
    answers.network[id] = { ...(answers.network[id] as object), Containers: {} };
    const witness = await open(host, answers);
    const web = (await witness.read()).uses.find(use => use.ip === ip(77));
    assert.equal([web?.isInContainers, web?.container?.id], [true, idOf('web')]);
    assert.equal(idsIn(await weighed(witness, rowsOf('allocated', ip(77)))), []);
    // And the next one is about to start.
    const starting = sample<Record<string, object>>(
      engine,
      'GET /networks/{id} .Containers: a start some ms',
    );
    const Containers = Object.fromEntries(
      Object.entries(starting).map(([key, one]) => [key, { ...one, IPv4Address: `${ip(77)}/24` }]),
    );
    answers.network[id] = { ...(answers.network[id] as object), Containers };
    assert.equal(idsIn(await weighed(witness, rowsOf('allocated', ip(77)))), []);
  });

  reading(`engine ${engine}: two containers with one address have no known id`, async host => {
    running(host);
    const answers = answersOf(engine);
    const [id = ''] = Object.keys(answers.network);
    const network = answers.network[id] as { Containers: Record<string, object> };
    const [[, web]] = Object.entries(network.Containers).filter(([key]) => key === idOf('web')) as [
      [string, object],
    ];
    const witness = await open(host, answers);
    for (const count of [1, 2]) {
      const more = Array.from({ length: count }, (_, i) => [`${i}`.repeat(64), web]);
      const Containers = { ...network.Containers, ...Object.fromEntries(more) };
      answers.network[id] = { ...network, Containers };
      const verdict = await weighed(witness, rowsOf('allocated', ip(77), ip(4)));
      assert.equal(idsIn(verdict), [[ip(4), idOf('paused')]]);
    }
  });

  reading(
    `engine ${engine}: a start whose container is not there yet is in use by the networks alone`,
    async host => {
      const answers = answersOf(engine);
      const [id = ''] = Object.keys(answers.network);
      const Containers = sample(engine, 'GET /networks/{id} .Containers: a start some ms after');
      answers.network[id] = { ...(answers.network[id] as object), Containers };
      answers.containers = [];
      const witness = await open(host, answers);
      assert.equal(leaksOf(await weighed(witness, rowsOf('allocated', ip(5)))), []);
    },
  );

  reading(
    `engine ${engine}: the address that a failed start left in Docker's list is not in use`,
    async host => {
      const phantom = sample(engine, 'GET /containers/json?all=1: failed start');
      const witness = await open(host, { ...answersOf(engine), containers: [phantom], networks: [] });
      const address = engine === '26.1.5' ? '10.26.1.4' : '10.29.1.4';
      assert.equal(leaksOf(await weighed(witness, rowsOf('allocated', address))), [address]);
    },
  );

  reading(`engine ${engine}: what Docker released and a process still has is withheld`, async host => {
    const what = 'dockerd killed in a start: released by Docker';
    const {
      ip: address,
      container,
      process,
      cgroup,
    } = sample<{
      ip: string;
      container: object;
      process: string;
      cgroup: string;
    }>(engine, what);
    host.proc.process(400, '4026532003', [address], process);
    host.proc.write('400/cgroup', cgroup);
    const Networks = (container as { Networks: object }).Networks;
    const listed = { Id: 'x', ...container, NetworkSettings: { Networks } };
    const witness = await open(host, { ...answersOf(engine), containers: [listed], networks: [] });
    const verdict = await weighed(witness, rowsOf('ready', address));
    assert.is(verdict.withheld.length, 1);
    const id = cgroup.match(/[0-9a-f]{12}/)?.[0] ?? '';
    assert.match(verdict.withheld[0]?.finding ?? '', `process 400 (${process}) of container ${id}`);
    assert.is(verdict.strays.length, 1);
    assert.equal(leaksOf(await weighed(witness, rowsOf('allocated', address))), [], 'nor is it a leak');
  });
}

reading('Docker that does not answer: the kernel is read all the same, and nothing is a leak', async host => {
  host.proc.process(200, '4026532001', ['10.26.0.7']);
  const witness = await open(host, { ...answersOf('26.1.5'), instead: () => ({ status: 500, body: '' }) });
  const { incomplete, engine, uses } = await witness.read();
  assert.match(incomplete ?? '', 'Docker at');
  assert.is(engine, null);
  assert.ok(uses.some(use => use.ip === '10.26.0.7' && isInUse(use)));
  const verdict = await weighed(witness, [
    ...rowsOf('allocated', '10.26.0.9'),
    ...rowsOf('ready', '10.26.0.7'),
  ]);
  assert.equal(verdict.leaks, []);
  assert.equal(
    verdict.withheld.map(({ row }) => row.ip),
    ['10.26.0.7'],
  );
});

reading('a kernel that cannot be read: Docker is read all the same, and nothing is a leak', async host => {
  host.proc.remove('100');
  const witness = await open(host, answersOf('26.1.5'));
  const { incomplete, uses } = await witness.read();
  assert.match(incomplete ?? '', 'no dockerd');
  assert.is(uses.length, 2);
  assert.equal(leaksOf(await weighed(witness, rowsOf('allocated', '10.26.0.9'))), []);
});

reading('a boot id that cannot be read: the reading is not complete', async host => {
  host.proc.remove('sys');
  const answers = { ...answersOf('26.1.5'), containers: [], networks: [] };
  const { incomplete } = await (await open(host, answers)).read();
  assert.match(incomplete ?? '', 'boot id');
});

reading('a container that ends while it is read: a second look says so', async host => {
  const answers = answersOf('29.1.5');
  const { containers } = answers;
  let lists = 0;
  answers.instead = path => {
    if (path.includes('/containers/') && ++lists === 2) answers.containers = [];
    return undefined;
  };
  const { incomplete, uses } = await (await open(host, answers)).read();
  assert.is(lists, 2);
  assert.is(containers.length, 5);
  assert.is(incomplete, null);
  assert.ok(uses.every(use => !use.isInContainers));
});

reading('a running container that the kernel never shows: nothing is a leak', async host => {
  const witness = await open(host, answersOf('29.1.5'));
  const rows = rowsOf('allocated', '10.29.0.77', '10.29.0.9');
  const verdict = await weighed(witness, rows);
  assert.match(verdict.incomplete ?? '', '10.29.0.77 of the running container web');
  assert.equal(verdict.leaks, []);
});

reading('readings at the same time: are one', async host => {
  const witness = await open(host, { ...answersOf('29.1.5'), containers: [] });
  await Promise.all([witness.read(), witness.read()]);
  assert.is(host.docker.asked.filter(path => path.endsWith('/info')).length, 1);
  await witness.read();
  assert.is(host.docker.asked.filter(path => path.endsWith('/info')).length, 2);
});
reading.run();
