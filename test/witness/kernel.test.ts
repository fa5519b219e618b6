// Goal: every address that the kernel has is found, with who has it; and where a part cannot be read, or belongs to
// another host's view, that is an error, never "nothing there". Method: a folder in the place of /proc.
import type { Ran } from '../../src/witness/commands.ts';
import { createKernel, interfacesIn } from '../../src/witness/kernel.ts';
import { addressesIn, mountedNetns } from '../../src/witness/proc.ts';
import { DOCKERD, type FakeProc, fakeProc, fibTrie, SOCKET } from '../kit/proc.ts';
import { assert, suite } from '../kit/uvu.ts';

const LINKS =
  '2: ens5: <UP> mtu 9001 state UP mode DEFAULT group default qlen 1000\\    link/ether 02:0a:1b:2c:3d:00 brd ff:ff:ff:ff:ff:ff\n' +
  '3: ens6@if4: <UP> mtu 9001 state UP\\    link/ether 02:0a:1b:2c:3d:01 brd ff:ff:ff:ff:ff:ff\n';
const SIGNAL = () => AbortSignal.timeout(5_000);

const kernel = suite<{ proc: FakeProc }>('kernel');
kernel.before.each(context => {
  context.proc = fakeProc();
});
kernel.after.each(({ proc }) => proc.close());

/** `entered`: what a command in a mounted namespace answers. */
function of(proc: FakeProc, entered: (path: string) => Ran | Promise<Ran> = () => answer('')) {
  const run = async ([command, option = '']: readonly string[]) =>
    command === 'ip' ? answer(LINKS) : await entered(option.replace('--net=', ''));
  return createKernel({ socketPath: SOCKET, run, proc: proc.path });
}
const answer = (stdout: string, code = 0, stderr = ''): Ran => ({ code, stdout, stderr });

async function failure(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => 'it did not fail',
    error => `${error.message}; ${error.hint}`,
  );
}

kernel("addresses: of the host and of containers, with the container's process", async ({ proc }) => {
  proc.process(200, '4026532001', ['127.0.0.1', '10.0.1.7'], 'runc\0init\0');
  proc.process(201, '4026532001', ['127.0.0.1', '10.0.1.7']);
  proc.process(202, '4026532002', ['10.0.1.8', '10.0.1.9']);
  const { addresses, interfaces } = await of(proc).read(SIGNAL());
  assert.equal(addresses.map(({ ip, place }) => `${ip} ${place.isHost} ${place.pid}`).sort(), [
    '10.0.1.4 true 1',
    '10.0.1.7 false 200',
    '10.0.1.8 false 202',
    '10.0.1.9 false 202',
  ]);
  const place = addresses.find(({ ip }) => ip === '10.0.1.7')?.place;
  assert.is(place?.command, 'runc init');
  assert.is(place?.container, 'c0ffee'.padEnd(64, '0'));
  assert.equal(
    interfaces.map(({ name, mac }) => `${name} ${mac}`),
    ['ens5 02:0a:1b:2c:3d:00', 'ens6 02:0a:1b:2c:3d:01'],
  );
});

kernel('a namespace that is only mounted: is entered, by the path that dockerd has', async ({ proc }) => {
  proc.process(200, '4026532001', ['10.0.1.7']);
  proc.write(
    `${DOCKERD}/mountinfo`,
    [
      '90 22 0:4 net:[4026532001] /run/docker/netns/with-process rw - nsfs nsfs rw',
      '91 22 0:4 net:[4026532002] /run/docker/netns/a\\040b rw - nsfs nsfs rw',
      '92 22 0:4 net:[4026532002] /var/run/docker/netns/again rw - nsfs nsfs rw',
    ].join('\n'),
  );
  const entered: string[] = [];
  const view = await of(proc, path => {
    entered.push(path);
    return answer(fibTrie(['10.0.1.9']));
  }).read(SIGNAL());
  assert.equal(entered, [`${proc.path}/${DOCKERD}/root/run/docker/netns/a b`]);
  const place = view.addresses.find(({ ip }) => ip === '10.0.1.9')?.place;
  assert.is(place?.pid, null);
  assert.is(place?.isHost, false);
  assert.match(place?.path ?? '', '/run/docker/netns/a b');
});

kernel('a mounted namespace that cannot be entered: is an error unless it is gone', async ({ proc }) => {
  const mountinfo = `${DOCKERD}/mountinfo`;
  proc.write(mountinfo, '91 22 0:4 net:[4026532002] /run/docker/netns/x rw - nsfs nsfs rw');
  const refused = () => answer('', 1, 'nsenter: reassociate to namespace failed: Operation not permitted');
  assert.match(await failure(of(proc, refused).read(SIGNAL())), 'cannot be entered: nsenter: reassociate');
  const { addresses } = await of(proc, () => {
    proc.write(mountinfo, '');
    return refused();
  }).read(SIGNAL());
  assert.is(addresses.length, 1);
});

kernel('a process that ends meanwhile: another of its namespace is read', async ({ proc }) => {
  proc.process(200, '4026532001', ['10.0.1.7']);
  proc.process(201, '4026532001', ['10.0.1.7']);
  proc.remove('200/net');
  const { addresses } = await of(proc).read(SIGNAL());
  assert.is(addresses.find(({ ip }) => ip === '10.0.1.7')?.place.pid, 201);
});

kernel('a namespace none of whose processes can be read: is an error, not an empty one', async ({ proc }) => {
  proc.process(200, '4026532001', ['10.0.1.7']);
  proc.remove('200/net');
  assert.match(await failure(of(proc).read(SIGNAL())), 'processes end faster than they can be read');
});

kernel(
  'a process that has entered another namespace: does not speak for the one before',
  async ({ proc }) => {
    proc.process(200, '4026532001', ['10.0.1.7']);
    proc.process(201, '4026532001', ['10.0.1.7']);
    const files = { scans: 0 };
    const view = await of(proc, () => answer('')).read(
      signalThat(() => {
        // While the namespaces are read, after all processes have been listed.
        if (++files.scans === PROCESSES) proc.process(200, '4026532009', ['10.0.1.9']);
      }),
    );
    assert.is(view.addresses.find(({ ip }) => ip === '10.0.1.7')?.place.pid, 201);
  },
);
/** Processes of the folder with two more. The signal is asked once for each of them, and then for each namespace. */
const PROCESSES = 4;
function signalThat(asked: () => void): AbortSignal {
  const signal = SIGNAL();
  signal.throwIfAborted = asked;
  return signal;
}

const blind: [what: string, spoil: (proc: FakeProc) => void, says: string][] = [
  [
    'dockerd is not visible',
    proc => proc.remove(`${DOCKERD}`),
    'no dockerd that listens on /run/docker.sock',
  ],
  ['another program listens', proc => proc.write(`${DOCKERD}/comm`, 'socat\n'), 'no dockerd'],
  ['dockerd has another socket', proc => proc.link(`${DOCKERD}/fd/3`, 'socket:[1]'), 'no dockerd'],
  [
    'dockerd is in another network namespace',
    proc => proc.link('self/ns/net', 'net:[4026532777]'),
    'another net namespace',
  ],
  [
    'dockerd is in another pid namespace',
    proc => proc.link('self/ns/pid', 'pid:[4026532778]'),
    'another pid namespace',
  ],
  ['/proc is not there', proc => proc.remove('.'), 'no dockerd'],
];
for (const [what, spoil, says] of blind)
  kernel(`${what}: is an error`, async ({ proc }) => {
    spoil(proc);
    const said = await failure(of(proc).read(SIGNAL()));
    assert.match(said, says);
    assert.match(said, /namespaces/);
  });

kernel('ip link that fails: is an error', async ({ proc }) => {
  const run = async () => answer('', 127, 'not found');
  const read = createKernel({ socketPath: SOCKET, run, proc: proc.path }).read(SIGNAL());
  assert.match(await failure(read), 'ip link: not found; install iproute2');
});

kernel('the boot id: is that of the kernel, or null', async ({ proc }) => {
  assert.is(await of(proc).bootId(), 'boot-1');
  proc.remove('sys');
  assert.is(await of(proc).bootId(), null);
});

kernel('fib_trie: only local addresses count', () => {
  assert.equal(addressesIn(fibTrie(['10.0.1.7', '10.0.1.8'])), ['10.0.1.7', '10.0.1.8']);
  assert.equal(addressesIn(''), []);
});
kernel('mountinfo: other mounts are left out', () => {
  assert.equal(
    mountedNetns('22 1 0:5 / /proc rw - proc proc rw\n91 22 0:4 mnt:[1] /x rw - nsfs nsfs rw\n'),
    [],
  );
});
kernel('ip link: interfaces without a MAC address are left out', () => {
  const lo = '1: lo: <UP>\\    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00\n';
  assert.equal(interfacesIn(`${lo}${LINKS}`), [
    { name: 'ens5', mac: '02:0a:1b:2c:3d:00' },
    { name: 'ens6', mac: '02:0a:1b:2c:3d:01' },
  ]);
});
kernel.run();
