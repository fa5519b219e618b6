// Goal: the probe asks about slaves of the right interface in the network's own mode, takes each address off again,
// and says "free" only where the kernel accepted it. Method: the commands that it runs, and what they answer.
import type { Ipv4 } from '../../src/domain/address.ts';
import type { DockerNetwork } from '../../src/witness/docker-client.ts';
import { probeIpvlan } from '../../src/witness/probe.ts';
import { assert, suite } from '../kit/uvu.ts';

const MAC = '02:0a:1b:2c:3d:01';
const LINKS = [
  '2: ens5: <UP> mtu 9001\\    link/ether 02:0a:1b:2c:3d:00 brd ff:ff:ff:ff:ff:ff',
  `3: ens6@if4: <UP> mtu 9001\\    link/ether ${MAC} brd ff:ff:ff:ff:ff:ff`,
].join('\n');
const IPVLAN: DockerNetwork = { driver: 'ipvlan', parent: 'ens6', mode: 'l2', flag: null };
const TAKEN = 'Error: ipvlan: Address already assigned to an ipvlan device.';
const ADD = 'nsenter --net=/proc/9/ns/net ip address add';

/** Probes .7 and .8; `answers`: what the commands that begin so write to stderr, with status 2. */
async function probe(networks: readonly DockerNetwork[], answers: Readonly<Record<string, string>> = {}) {
  const ran: string[] = [];
  const run = async (command: readonly string[]) => {
    const line = command.join(' ');
    ran.push(line);
    const [, stderr] = Object.entries(answers).find(([start]) => line.startsWith(start)) ?? [];
    return stderr === undefined ? { code: 0, stdout: LINKS, stderr: '' } : { code: 2, stdout: '', stderr };
  };
  const options = { run, networks, inNamespace: <T>(work: (pid: number) => Promise<T>) => work(9) };
  const ips = ['10.0.1.7', '10.0.1.8'] as Ipv4[];
  const probed = await probeIpvlan(options, MAC, ips, AbortSignal.timeout(5_000));
  return { probed, ran: ran.slice(1) };
}
const failure = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'it did not fail',
    error => error.message,
  );

const probing = suite('ipvlan probe');
probing('an address that the kernel accepts is free, and is taken off at once', async () => {
  const { probed, ran } = await probe([IPVLAN]);
  assert.equal(probed, { kind: 'probed', free: ['10.0.1.7', '10.0.1.8'] });
  assert.equal(ran, [
    'ip link add link ens6 name ec2ipamprobe0 netns 9 type ipvlan mode l2 bridge',
    `${ADD} 10.0.1.7/32 dev ec2ipamprobe0`,
    'nsenter --net=/proc/9/ns/net ip address del 10.0.1.7/32 dev ec2ipamprobe0',
    `${ADD} 10.0.1.8/32 dev ec2ipamprobe0`,
    'nsenter --net=/proc/9/ns/net ip address del 10.0.1.8/32 dev ec2ipamprobe0',
  ]);
});
probing('an address that a slave has is not free, in the words of new and old kernels', async () => {
  for (const words of [TAKEN, 'RTNETLINK answers: Address already in use']) {
    const { probed, ran } = await probe([IPVLAN], { [`${ADD} 10.0.1.7`]: words });
    assert.equal(probed, { kind: 'probed', free: ['10.0.1.8'] });
    assert.is(ran.filter(line => line.includes('10.0.1.7')).length, 1);
  }
});
probing(
  'the mode and the flag are always those of the network: another one would change all slaves',
  async () => {
    const { ran } = await probe([{ ...IPVLAN, mode: 'l3s' }]);
    assert.match(ran[0] ?? '', 'mode l3s bridge');
    assert.match((await probe([{ ...IPVLAN, flag: 'private' }])).ran[0] ?? '', 'mode l2 private');
    assert.match((await probe([{ ...IPVLAN, mode: null }])).ran[0] ?? '', 'mode l2');
    for (const other of [{ mode: 'l3' }, { flag: 'vepa' }])
      assert.match(await failure(probe([IPVLAN, { ...IPVLAN, ...other }])), 'different modes');
  },
);
probing('an interface with networks of another driver cannot be probed, and is said to be so', async () => {
  const { probed, ran } = await probe([{ ...IPVLAN, driver: 'macvlan' }]);
  assert.equal(probed, { kind: 'not ipvlan' });
  assert.equal(ran, []);
});
probing('an interface that Docker has no network on: is an error, since its mode is not known', async () => {
  assert.match(await failure(probe([{ ...IPVLAN, parent: 'ens5' }])), 'Docker has no network on ens6');
  assert.match(await failure(probe([])), 'no network');
});
probing('any other answer of the kernel: is an error, not "free" and not "taken"', async () => {
  assert.match(
    await failure(probe([IPVLAN], { [ADD]: 'RTNETLINK answers: Operation not permitted' })),
    'not permitted',
  );
  assert.match(await failure(probe([IPVLAN], { 'ip link add': 'Device or resource busy' })), 'busy');
  const del = 'nsenter --net=/proc/9/ns/net ip address del';
  assert.match(await failure(probe([IPVLAN], { [del]: 'no' })), 'failed: nsenter');
  assert.match(await failure(probe([IPVLAN], { 'ip -o link': 'no' })), 'ip link: no');
});
probing.run();
