// Goal: mknet.sh finds the right ENI, says the right thing to Docker, and changes nothing when it should not.
// Method: the script itself with the real ip and curl, in a machine made of namespaces, against the simulator's
// IMDSv2; docker is a stand-in that writes down what it was asked (mknet.engine.test.ts has the real one).
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { createAdaptorServer } from '@hono/node-server';
import { parseInstanceId } from '../../src/domain/ids.ts';
import { createImdsApi } from '../../src/simulator/imds/imds-api.ts';
import { buildVpc } from '../../src/simulator/model/world.ts';
import {
  execute,
  linesOf,
  type Machine,
  MKNET,
  machineUnavailable,
  must,
  type Result,
  ruleOf,
  startMachine,
  until,
} from '../kit/docker/netns.ts';
import { assert, suite } from '../kit/uvu.ts';

const INSTANCE = parseInstanceId('i-0123456789abcdef0');

const usage = suite('mknet.sh: the command line');
const wrong: [line: string, complaint: RegExp][] = [
  ['--bogus', /unknown option --bogus/],
  ['-n', /-n needs a value/],
  ['-n -x', /'-x' is no name for a network/],
  ['-m l4', /l4 is no ipvlan mode; l2, l3 and l3s are accepted/],
  ['--mtu 575', /575 is out of range; 576 to 9001/],
  ['--mtu 9002', /9002 is out of range/],
  ['--mtu 1e3', /1e3 is out of range/],
  ['--driver bridge', /bridge is unknown; ipvlan and macvlan/],
  ['eth1 eth1', /eth1 is named twice/],
  ['--link eth1', /--link takes no other option/],
  ['--primary --persist', /--persist and --primary exclude each other/],
];
for (const [line, complaint] of wrong)
  usage(`${line}: is wrong usage, exit 2, one line`, async () => {
    const { code, stdout, stderr } = await execute('bash', [MKNET, ...line.split(' ')]);
    assert.equal([code, stdout], [2, '']);
    assert.match(stderr, complaint);
    assert.match(stderr, /^mknet\.sh: .+\n$/);
  });
usage('--help: tells every option and every exit status', async () => {
  const { code, stdout } = await execute('bash', [MKNET, '--help']);
  assert.is(code, 0);
  const options = ['-n', '-m', '--mtu', '--persist', '--link', '--primary', '--driver'];
  for (const text of [...options, '3 another network']) assert.ok(stdout.includes(text), text);
});
usage.run();

interface Eni {
  id: string;
  device: number;
  cidr: string;
  /** Of an ENI without an IPv4 address: its type. */
  withoutIpv4?: string;
}
const PRIMARY_MAC = '02:00:00:00:00:0a';
const MAC = '02:00:00:00:00:0b';
const SECOND_MAC = '02:00:00:00:00:0c';
let enis: Record<string, Eni> = {};

function vpc() {
  const cidrs = [...new Set(Object.values(enis).map(eni => eni.cidr))];
  const subnets = cidrs.map((cidr, index) => ({ id: `subnet-0${index}`, cidr }));
  const world = {
    subnets,
    instances: [{ id: INSTANCE, type: 'm5.4xlarge' }],
    enis: Object.entries(enis).map(([mac, { id, device, cidr, withoutIpv4 }]) => ({
      id,
      mac,
      subnet: subnets[cidrs.indexOf(cidr)]?.id,
      attachment: { instance: INSTANCE, deviceIndex: device },
      ...(withoutIpv4 === undefined ? {} : { primary: null, interfaceType: withoutIpv4 }),
    })),
  };
  return buildVpc(world, { now: () => 0, random: Math.random });
}
let metadata: ReturnType<typeof createImdsApi>; // of the VPC that a case describes, from its first request on
let described = '';
const imds = createAdaptorServer({
  overrideGlobalObjects: false,
  fetch: request => {
    if (described !== JSON.stringify(enis))
      metadata = createImdsApi(vpc(), { instance: INSTANCE, wallClock: () => 0 });
    described = JSON.stringify(enis);
    return metadata.fetch(request);
  },
});

const DOCKER = `#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$FAKE/docker.log"
case "$1 $2" in
  'network ls') if [[ -e $FAKE/down ]]; then cat "$FAKE/down" >&2; exit 1; fi; cat "$FAKE/networks" ;;
  'network inspect') cat "$FAKE/inspect-\${!#}" ;;
  'network create') if [[ -e $FAKE/refusal ]]; then cat "$FAKE/refusal" >&2; exit 1; fi; echo 0123456789ab ;;
esac
`;
const SYSTEMCTL = '#!/usr/bin/env bash\n[[ -e $FAKE/networkd-runs ]]\n';
const NETWORKCTL = '#!/usr/bin/env bash\necho "networkctl $*" >>"$FAKE/networkctl.log"\n';

let machine: Machine;
let fake = ''; // what the stand-ins read and write, new for each case
let networkd = '';
let interfaces: { name: string; remove(): Promise<void> }[] = [];

const missing = await machineUnavailable();
const mknet = suite('mknet.sh: the host');
const rule = ruleOf(mknet, missing);

mknet.before(async () => {
  if (missing !== null) return;
  machine = await startMachine();
  mkdirSync(join(machine.folder, 'bin'));
  for (const [name, text] of Object.entries({ docker: DOCKER, systemctl: SYSTEMCTL, networkctl: NETWORKCTL }))
    writeFileSync(join(machine.folder, 'bin', name), text, { mode: 0o755 });
  const socket = join(machine.folder, 'imds.sock');
  await new Promise<void>(resolve => imds.listen(socket, resolve));
  await machine.expose('169.254.169.254', 80, socket);
});
mknet.before.each(() => {
  enis = {};
  fake = join(machine.folder, 'fake');
  networkd = join(machine.folder, 'network');
  for (const folder of [fake, networkd]) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
  }
  write('networks', '');
});
mknet.after.each(async () => {
  for (const one of interfaces) await one.remove();
  interfaces = [];
});
mknet.after(async () => {
  imds.close();
  await machine?.close();
});

// The names say nothing of the order or the role of an ENI, as after a reboot.
const addLink = async (mac: string, name: string) =>
  void interfaces.push(await machine.makeParent(mac, name));
async function attach(mac: string, name: string, eni: Eni): Promise<void> {
  enis[mac] = eni;
  await addLink(mac, name);
}
const attachPrimary = () => attach(PRIMARY_MAC, 'lan9', { id: 'eni-0aaa', device: 0, cidr: '10.0.0.0/24' });
const attachOne = (cidr = '10.0.1.0/24') => attach(MAC, 'lan3', { id: 'eni-0bbb', device: 1, cidr });
const attachTwo = async () => {
  await attachOne();
  await attach(SECOND_MAC, 'lan1', { id: 'eni-0ccc', device: 2, cidr: '10.0.2.0/24' });
};

const environment = (env: Record<string, string> = {}): Record<string, string> => ({
  FAKE: fake,
  EC2_IPAM_NETWORKD_DIR: networkd,
  PATH: `${join(machine.folder, 'bin')}:${process.env.PATH}`,
  AWS_EC2_METADATA_SERVICE_ENDPOINT: '',
  http_proxy: 'http://127.0.0.1:1', // instance metadata is never reached through a proxy
  ...env,
});
/** Runs the script with the arguments of the line; fails unless it ends with the status. */
async function run(line: string, status: number, env?: Record<string, string>): Promise<Result> {
  const result = await machine.run(['bash', MKNET, ...line.split(' ').filter(Boolean)], environment(env));
  assert.is(result.code, status, result.stderr);
  return result;
}
const succeeds = async (line: string, says: RegExp | string = '', env?: Record<string, string>) =>
  assert.match((await run(line, 0, env)).stdout, says);
const warns = async (line: string, says: RegExp | string, env?: Record<string, string>) =>
  assert.match((await run(line, 0, env)).stderr, says);
const fails = async (line: string, status: number, says: RegExp | string, env?: Record<string, string>) =>
  assert.match((await run(line, status, env)).stderr, says);
const write = (name: string, text: string): void => writeFileSync(join(fake, name), text);
const read = (name: string): string =>
  existsSync(join(fake, name)) ? readFileSync(join(fake, name), 'utf8') : '';
const creates = (): string[] => linesOf(read('docker.log')).filter(line => line.startsWith('network create'));
/** The state of an interface. */
async function link(name: string): Promise<{ mtu: number; up: boolean }> {
  const [found] = JSON.parse(await must(machine, `ip -json link show dev ${name}`));
  return { mtu: found.mtu, up: found.flags.includes('UP') };
}
const UNTOUCHED = { mtu: 1500, up: false };
const created = (name: string, iface: string, eni: string, subnet: string, gateway: string): string =>
  `network create -d ipvlan -o parent=${iface} -o ipvlan_mode=l2 --ipam-driver ec2-ipam --subnet ${subnet}` +
  ` --gateway ${gateway} --ipam-opt eni-id=${eni} --ipam-opt instance-id=${INSTANCE} ${name}`;
const ONE = () => created('ec2', 'lan3', 'eni-0bbb', '10.0.1.0/24', '10.0.1.1');

rule(
  'the only ENI besides the primary: is taken, brought up with MTU 9001, and named to Docker',
  async () => {
    await attachPrimary();
    await attachOne();
    await succeeds('', 'network ec2: created on lan3 (eni-0bbb), 10.0.1.0/24, router 10.0.1.1');
    assert.equal(creates(), [ONE()]);
    assert.equal(await link('lan3'), { mtu: 9001, up: true });
    assert.equal(await link('lan9'), UNTOUCHED);
  },
);

const routers: [cidr: string, router: string][] = [
  ['172.31.16.0/20', '172.31.16.1'],
  ['10.255.255.240/28', '10.255.255.241'],
  ['10.8.0.0/16', '10.8.0.1'],
  ['192.168.9.128/25', '192.168.9.129'],
];
for (const [cidr, router] of routers)
  rule(`the router of ${cidr}: is ${router}`, async () => {
    await attachOne(cidr);
    await succeeds('');
    assert.equal(creates(), [created('ec2', 'lan3', 'eni-0bbb', cidr, router)]);
  });

rule('ENIs without an IPv4 address: are passed over; one that is named is told what it is', async () => {
  await attachPrimary();
  await attachOne();
  for (const [index, withoutIpv4] of ['interface', 'efa-only'].entries()) {
    const eni = { id: `eni-0dd${index}`, device: 2 + index, cidr: '10.0.1.0/24', withoutIpv4 };
    await attach(`02:00:00:00:00:1${index}`, `lan7${index}`, eni);
  }
  await succeeds('');
  assert.equal(creates(), [ONE()]);
  for (const index of [0, 1]) {
    const eni = `eni-0dd${index} (lan7${index})`;
    await fails(`lan7${index}`, 2, `${eni} has no IPv4 address (EFA-only or IPv6-only); name another`);
  }
});

rule('several ENIs: none is guessed, they are listed, exit 2', async () => {
  await attachPrimary();
  await attachTwo();
  const { stderr } = await run('', 2);
  assert.match(stderr, /lan1 {2}eni-0ccc {2}02:00:00:00:00:0c {2}10\.0\.2\.0\/24\n {2}lan3 {2}eni-0bbb/);
  assert.not.match(stderr, 'eni-0aaa');
  assert.equal(creates(), []);
});

rule('several named interfaces: get a network each, called NAME-IFACE', async () => {
  await attachTwo();
  await succeeds('-n vpc lan3 lan1');
  assert.equal(creates(), [
    created('vpc-lan3', 'lan3', 'eni-0bbb', '10.0.1.0/24', '10.0.1.1'),
    created('vpc-lan1', 'lan1', 'eni-0ccc', '10.0.2.0/24', '10.0.2.1'),
  ]);
});

rule('one named interface of several: gets the plain name', async () => {
  await attachTwo();
  await succeeds('lan1');
  assert.equal(creates(), [created('ec2', 'lan1', 'eni-0ccc', '10.0.2.0/24', '10.0.2.1')]);
});

rule('the primary ENI: is refused by name and by default, and nothing is touched', async () => {
  await attachPrimary();
  for (const line of ['', 'lan9']) await fails(line, 2, /--primary/);
  assert.equal(creates(), []);
  assert.equal(await link('lan9'), UNTOUCHED);
});

rule('--primary: takes the primary ENI, and no other', async () => {
  await attachPrimary();
  await attachOne();
  await succeeds('--primary');
  assert.equal(creates(), [created('ec2', 'lan9', 'eni-0aaa', '10.0.0.0/24', '10.0.0.1')]);
  await run('--primary lan3', 2);
});

rule('an interface that is missing or no ENI: is told so', async () => {
  await attachOne();
  await addLink(SECOND_MAC, 'lan1');
  await fails('lan7', 2, /there is no interface lan7/);
  await fails('lan1', 1, /lan1 \(02:00:00:00:00:0c\) is no ENI/);
});

rule('an ENI whose interface is not here yet: is told so', async () => {
  enis[MAC] = { id: 'eni-0bbb', device: 1, cidr: '10.0.1.0/24' };
  await fails('', 1, /eni-0bbb is attached, but no interface has its MAC/);
});

rule('--driver macvlan: leaves out the ipvlan mode; -m and --mtu are passed on', async () => {
  await attachOne();
  await succeeds('--driver macvlan --mtu 1500');
  assert.match(creates()[0] ?? '', /^network create -d macvlan -o parent=lan3 --ipam-driver/);
  assert.is((await link('lan3')).mtu, 1500);
  await succeeds('-m l3s');
  assert.match(creates()[1] ?? '', /-o ipvlan_mode=l3s /);
});

const RIGHT: [fact: string, value: string][] = [
  ['driver', 'ipvlan'],
  ['IPAM driver', 'ec2-ipam'],
  ['parent', 'lan3'],
  ['ipvlan_mode', 'l2'],
  ['subnet', '10.0.1.0/24 '],
  ['gateway', '10.0.1.1 '],
  ['eni-id', 'eni-0bbb'],
  ['instance-id', INSTANCE],
];
/** A network that is there, and right but for what is said of it. */
function exists(name: string, but: Record<string, string> = {}): void {
  write('networks', `fedcba ec2x\nabc123 ${name}\n`);
  write('inspect-abc123', RIGHT.map(([fact, value]) => `${but[fact] ?? value}\n`).join(''));
}

rule('a network that is there and right: is left alone, and the link is seen to', async () => {
  await attachOne();
  exists('ec2');
  await succeeds('', 'network ec2: exists and is correct; not changed');
  assert.equal(creates(), []);
  assert.equal(await link('lan3'), { mtu: 9001, up: true });
});

rule('a network made without a mode: is an l2 network', async () => {
  await attachOne();
  exists('ec2', { ipvlan_mode: '' });
  await succeeds('');
  await run('-m l3', 3);
});

for (const [fact, value] of RIGHT)
  rule(`another ${fact}: expected and found are said, exit 3, nothing is changed`, async () => {
    await attachOne();
    exists('ec2', { [fact]: 'other' });
    const { stderr } = await run('--persist', 3);
    assert.match(stderr, `  ${fact}: expected ${value.trim()}, found other\n`);
    assert.is(stderr.match(/expected/g)?.length, 1, stderr);
    assert.equal(creates(), []);
    assert.equal(await link('lan3'), UNTOUCHED);
    assert.equal(readdirSync(networkd), []);
  });

rule('what an existing network lacks: is found as nothing', async () => {
  await attachOne();
  exists('ec2', { 'instance-id': '' });
  await fails('', 3, `instance-id: expected ${INSTANCE}, found nothing`);
});

rule('one wrong network of several: keeps all from being made', async () => {
  await attachTwo();
  exists('ec2-lan1');
  await run('lan3 lan1', 3);
  assert.equal(creates(), []);
});

rule(
  "Docker's refusal: is passed on in one line; a parent in use is told with its network's name",
  async () => {
    await attachOne();
    write('refusal', 'Error response from daemon: plugin "ec2-ipam" not found\n');
    await fails('', 1, /^mknet\.sh: cannot create network ec2: .*plugin "ec2-ipam" not found\n$/);
    write('refusal', 'Error: network di-0123456789ab is already using parent interface lan3');
    write('inspect-0123456789ab', 'older\n');
    await fails('', 1, /lan3 has network older already.*docker network rm older/);
  },
);

rule('a Docker that does not answer: is told before anything is changed', async () => {
  await attachOne();
  write('down', 'Cannot connect to the Docker daemon');
  await fails('', 1, /Docker does not answer: Cannot connect to the Docker daemon; start it/);
  assert.is((await link('lan3')).up, false);
});

rule('addresses on the interface: are warned of, each', async () => {
  await attachOne();
  for (const address of ['10.0.1.10/24', '10.0.1.77/32'])
    await must(machine, `ip address add ${address} dev lan3`);
  const { stderr } = await run('', 0);
  assert.match(stderr, /warning: lan3 has 10\.0\.1\.10\/24 10\.0\.1\.77\/32: the host answers/);
  assert.match(stderr, /; run with --persist, then: ip address flush dev lan3\n$/);
  await warns('--persist', /; ip address flush dev lan3\n$/);
});

rule('instance metadata refused or silent: an error within seconds', async () => {
  await attachOne();
  await must(machine, 'ip address add 10.0.1.10/24 dev lan3');
  await must(machine, 'ip link set dev lan3 up');
  // With a neighbour that is known, packets leave and nothing ever comes back.
  await must(machine, `ip neighbour add 10.0.1.99 lladdr ${SECOND_MAC} dev lan3`);
  for (const endpoint of ['http://127.0.0.1:1/', 'http://10.0.1.99']) {
    const start = performance.now();
    const { stderr } = await run('', 1, { AWS_EC2_METADATA_SERVICE_ENDPOINT: endpoint });
    assert.match(stderr, `cannot read api/token from instance metadata at ${endpoint}: curl: (`);
    assert.match(stderr, /run this on an EC2 instance with IMDS enabled\n$/);
    assert.ok(performance.now() - start < 6_000, 'took too long');
  }
});

const FILE = '05-ec2-ipam-eni-0bbb.network';
const CONTENTS = `[Match]
MACAddress=${MAC}
Driver=!ipvlan

[Link]
MTUBytes=8500
ActivationPolicy=up
RequiredForOnline=no

[Network]
DHCP=no
IPv6AcceptRA=no
LinkLocalAddressing=no
`;
rule(
  '--persist: writes the file that networkd reads first, once, and reloads a networkd that runs',
  async () => {
    await attachOne();
    write('networkd-runs', '');
    await succeeds('--persist --mtu 8500');
    assert.equal(readdirSync(networkd), [FILE]);
    assert.is(statSync(join(networkd, FILE)).mode & 0o777, 0o644);
    assert.is(readFileSync(join(networkd, FILE), 'utf8').replace(/^#.*\n/gm, ''), CONTENTS);
    assert.is(read('networkctl.log'), 'networkctl reload\n');
    await succeeds('--persist --mtu 8500', /exists already/);
    assert.is(read('networkctl.log'), 'networkctl reload\n');
  },
);

rule('--persist: leaves a networkd that does not run alone', async () => {
  await attachOne();
  await succeeds('--persist');
  assert.equal([readdirSync(networkd), read('networkctl.log')], [[FILE], '']);
});

const NETWORKD = '/usr/lib/systemd/systemd-networkd';
/** Runs networkd until the interface is as it should be. */
async function withNetworkd(what: string, isSo: () => Promise<boolean>): Promise<void> {
  // It brings no bus and no udev: with a /sys that can't be written, networkd doesn't wait for udev.
  const program = await machine.start([NETWORKD], 'networkd.log', { SYSTEMD_LOG_LEVEL: 'info' });
  await until(what, 10_000, isSo);
  await program.signal('TERM');
  await program.ended;
}
const prepareNetworkd = `
  mount -t sysfs -o ro sysfs /sys
  mkdir -p /run/systemd/network /run/systemd/netif/{links,leases,lldp}
  chown -R systemd-network: /run/systemd/netif
  printf '%s\\n' '[Match]' 'Name=lan3' '[Network]' 'Address=10.0.1.10/24' 'Address=10.0.1.77/32' \
    >/run/systemd/network/70-lan3.network`;
const addresses = async (): Promise<number> => {
  const [found] = JSON.parse(await must(machine, 'ip -json -4 address show dev lan3'));
  return (found?.addr_info ?? []).length;
};
const networkdRule = process.getuid?.() === 0 && existsSync(NETWORKD) ? rule : mknet.skip;
networkdRule(
  "networkd after --persist: prefers our file to amazon-ec2-net-utils': no address, its MTU",
  async () => {
    await attachOne();
    await must(machine, ['bash', '-ec', prepareNetworkd]);
    await withNetworkd('networkd puts the addresses on', async () => (await addresses()) === 2);
    await warns('--persist --mtu 8500', /warning: lan3 has/, { EC2_IPAM_NETWORKD_DIR: '' });
    await must(machine, 'ip link set dev lan3 mtu 1500 down');
    await withNetworkd('networkd takes them off and brings the link up', async () => {
      const { mtu, up } = await link('lan3');
      return (await addresses()) === 0 && mtu === 8500 && up;
    });
  },
);

const persisted = (mac: string, mtu: number, name: string): void =>
  writeFileSync(
    join(networkd, `05-ec2-ipam-${name}.network`),
    `[Match]\nMACAddress=${mac}\n[Link]\nMTUBytes=${mtu}\n`,
  );

rule('--link: waits for an ENI that is late, and asks neither Docker nor instance metadata', async () => {
  persisted(MAC, 8000, 'eni-0bbb');
  const log = 'link.log';
  const env = environment({ AWS_EC2_METADATA_SERVICE_ENDPOINT: 'http://127.0.0.1:1' });
  // Tells each look at the interfaces, so that the ENI surely comes after the first.
  const ip = join(machine.folder, 'bin', 'ip');
  const telling = `#!/usr/bin/env bash\necho looked >>"$FAKE/ip.log"\nPATH='${process.env.PATH}' exec ip "$@"\n`;
  writeFileSync(ip, telling, { mode: 0o755 });
  try {
    const waiting = await machine.start(['bash', MKNET, '--link'], log, env);
    await until('it looks a second time', 5_000, async () => read('ip.log').includes('looked\nlooked'));
    await addLink(MAC, 'lan5');
    assert.is(await waiting.ended, 0);
  } finally {
    rmSync(ip);
  }
  assert.match(readFileSync(join(machine.folder, log), 'utf8'), `lan5 (${MAC}): up, MTU 8000`);
  assert.equal(await link('lan5'), { mtu: 8000, up: true });
  assert.is(read('docker.log'), '');
});

rule('--link: brings up the others when one ENI never comes, and names that one', async () => {
  persisted(SECOND_MAC, 9001, 'eni-0aaa');
  persisted(MAC, 9001, 'eni-0bbb');
  await addLink(MAC, 'lan5');
  const late = /no interface appeared within 1 s for 05-ec2-ipam-eni-0aaa\.network \(02:00:00:00:00:0c\)/;
  await fails('--link', 1, late, { EC2_IPAM_LINK_WAIT_S: '1' });
  assert.equal(await link('lan5'), { mtu: 9001, up: true });
});

rule('--link: brings up the others when one ENI refuses its MTU, and says so', async () => {
  persisted(SECOND_MAC, 70_000, 'eni-0aaa');
  persisted(MAC, 9001, 'eni-0bbb');
  await addLink(SECOND_MAC, 'lan4');
  await addLink(MAC, 'lan5');
  await fails('--link', 1, /^mknet\.sh: cannot bring lan4 up with MTU 70000: .*choose another --mtu\n$/);
  assert.equal(await link('lan5'), { mtu: 9001, up: true });
});

rule('--link without a persisted ENI: has nothing to do', () => succeeds('--link', /nothing to bring up/));

rule('--link: reads what --persist writes', async () => {
  await attachOne();
  await succeeds('--persist --mtu 7000');
  await must(machine, 'ip link set dev lan3 mtu 1500 down');
  await succeeds('--link');
  assert.equal(await link('lan3'), { mtu: 7000, up: true });
});
mknet.run();
