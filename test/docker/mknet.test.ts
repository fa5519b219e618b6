// Goal: mknet.sh finds the right ENI, says the right thing to Docker, and changes nothing when it should not.
// Method: the script itself with the real ip and curl, in a machine made of namespaces, against the simulator's
// IMDSv2; docker is a stand-in that writes down what it was asked (mknet.engine.test.ts has the real one).
import { readdirSync } from 'node:fs';
import * as host from '../kit/docker/mknet-host.ts';
import { execute, MKNET, must } from '../kit/docker/netns.ts';
import { assert, suite } from '../kit/uvu.ts';

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

const { rule, mknet } = host.hostSuite('mknet.sh: the networks');

rule('the only ENI besides the primary: is taken, brought up, and named to Docker', async () => {
  await host.attachPrimary();
  await host.attachOne();
  await host.succeeds('', 'network ec2: created on lan3 (eni-0bbb), 10.0.1.0/24, router 10.0.1.1');
  assert.equal(host.creates(), [host.ONE()]);
  assert.equal(await host.link('lan3'), { mtu: 9001, up: true });
  assert.equal(await host.link('lan9'), host.UNTOUCHED);
});

const routers: [cidr: string, router: string][] = [
  ['172.31.16.0/20', '172.31.16.1'],
  ['10.255.255.240/28', '10.255.255.241'],
  ['10.8.0.0/16', '10.8.0.1'],
  ['192.168.9.128/25', '192.168.9.129'],
];
for (const [cidr, router] of routers)
  rule(`the router of ${cidr}: is ${router}`, async () => {
    await host.attachOne(cidr);
    await host.succeeds('');
    assert.equal(host.creates(), [host.created('ec2', 'lan3', 'eni-0bbb', cidr, router)]);
  });

rule('ENIs without an IPv4 address: are passed over; one that is named is told what it is', async () => {
  await host.attachPrimary();
  await host.attachOne();
  for (const [index, withoutIpv4] of ['interface', 'efa-only'].entries()) {
    const eni = { id: `eni-0dd${index}`, device: 2 + index, cidr: '10.0.1.0/24', withoutIpv4 };
    await host.attach(`02:00:00:00:00:1${index}`, `lan7${index}`, eni);
  }
  await host.succeeds('');
  assert.equal(host.creates(), [host.ONE()]);
  for (const index of [0, 1]) {
    const eni = `eni-0dd${index} (lan7${index})`;
    await host.fails(`lan7${index}`, 2, `${eni} has no IPv4 address (EFA-only or IPv6-only); name another`);
  }
});

rule('several ENIs: none is guessed, they are listed, exit 2', async () => {
  await host.attachPrimary();
  await host.attachTwo();
  const { stderr } = await host.run('', 2);
  assert.match(stderr, /lan1 {2}eni-0ccc {2}02:00:00:00:00:0c {2}10\.0\.2\.0\/24\n {2}lan3 {2}eni-0bbb/);
  assert.not.match(stderr, 'eni-0aaa');
  assert.equal(host.creates(), []);
});

rule('several named interfaces: get a network each, called NAME-IFACE', async () => {
  await host.attachTwo();
  await host.succeeds('-n vpc lan3 lan1');
  assert.equal(host.creates(), [
    host.created('vpc-lan3', 'lan3', 'eni-0bbb', '10.0.1.0/24', '10.0.1.1'),
    host.created('vpc-lan1', 'lan1', 'eni-0ccc', '10.0.2.0/24', '10.0.2.1'),
  ]);
});

rule('one named interface of several: gets the plain name', async () => {
  await host.attachTwo();
  await host.succeeds('lan1');
  assert.equal(host.creates(), [host.created('ec2', 'lan1', 'eni-0ccc', '10.0.2.0/24', '10.0.2.1')]);
});

rule('the primary ENI: is refused by name and by default, and nothing is touched', async () => {
  await host.attachPrimary();
  for (const line of ['', 'lan9']) await host.fails(line, 2, /--primary/);
  assert.equal(host.creates(), []);
  assert.equal(await host.link('lan9'), host.UNTOUCHED);
});

rule('--primary: takes the primary ENI, and no other', async () => {
  await host.attachPrimary();
  await host.attachOne();
  await host.succeeds('--primary');
  assert.equal(host.creates(), [host.created('ec2', 'lan9', 'eni-0aaa', '10.0.0.0/24', '10.0.0.1')]);
  await host.run('--primary lan3', 2);
});

rule('an interface that is missing or no ENI: is told so', async () => {
  await host.attachOne();
  await host.addLink(host.SECOND_MAC, 'lan1');
  await host.fails('lan7', 2, /there is no interface lan7/);
  await host.fails('lan1', 1, /lan1 \(02:00:00:00:00:0c\) is no ENI/);
});

rule('an ENI whose interface is not here yet: is told so', async () => {
  host.enis[host.MAC] = { id: 'eni-0bbb', device: 1, cidr: '10.0.1.0/24' };
  await host.fails('', 1, /eni-0bbb is attached, but no interface has its MAC/);
});

rule('--driver macvlan: leaves out the ipvlan mode; -m and --mtu are passed on', async () => {
  await host.attachOne();
  await host.succeeds('--driver macvlan --mtu 1500');
  assert.match(host.creates()[0] ?? '', /^network create -d macvlan -o parent=lan3 --ipam-driver/);
  assert.is((await host.link('lan3')).mtu, 1500);
  await host.succeeds('-m l3s');
  assert.match(host.creates()[1] ?? '', /-o ipvlan_mode=l3s /);
});

const RIGHT: [fact: string, value: string][] = [
  ['driver', 'ipvlan'],
  ['IPAM driver', 'ec2-ipam'],
  ['parent', 'lan3'],
  ['ipvlan_mode', 'l2'],
  ['subnet', '10.0.1.0/24 '],
  ['gateway', '10.0.1.1 '],
  ['eni-id', 'eni-0bbb'],
  ['instance-id', host.INSTANCE],
];
/** A network that is there, and right but for what is said of it. */
function exists(name: string, but: Record<string, string> = {}): void {
  host.write('networks', `fedcba ec2x\nabc123 ${name}\n`);
  host.write('inspect-abc123', RIGHT.map(([fact, value]) => `${but[fact] ?? value}\n`).join(''));
}

rule('a network that is there and right: is left alone, and the link is seen to', async () => {
  await host.attachOne();
  exists('ec2');
  await host.succeeds('', 'network ec2: exists and is correct; not changed');
  assert.equal(host.creates(), []);
  assert.equal(await host.link('lan3'), { mtu: 9001, up: true });
});

rule('a network made without a mode: is an l2 network', async () => {
  await host.attachOne();
  exists('ec2', { ipvlan_mode: '' });
  await host.succeeds('');
  await host.run('-m l3', 3);
});

for (const [fact, value] of RIGHT)
  rule(`another ${fact}: expected and found are said, exit 3, nothing is changed`, async () => {
    await host.attachOne();
    exists('ec2', { [fact]: 'other' });
    const { stderr } = await host.run('--persist', 3);
    assert.match(stderr, `  ${fact}: expected ${value.trim()}, found other\n`);
    assert.is(stderr.match(/expected/g)?.length, 1, stderr);
    assert.equal(host.creates(), []);
    assert.equal(await host.link('lan3'), host.UNTOUCHED);
    assert.equal(readdirSync(host.networkd), []);
  });

rule('what an existing network lacks: is found as nothing', async () => {
  await host.attachOne();
  exists('ec2', { 'instance-id': '' });
  await host.fails('', 3, `instance-id: expected ${host.INSTANCE}, found nothing`);
});

rule('one wrong network of several: keeps all from being made', async () => {
  await host.attachTwo();
  exists('ec2-lan1');
  await host.run('lan3 lan1', 3);
  assert.equal(host.creates(), []);
});

rule("Docker's refusal: is passed on in one line; a parent in use with its network's name", async () => {
  await host.attachOne();
  host.write('refusal', 'Error response from daemon: plugin "ec2-ipam" not found\n');
  await host.fails('', 1, /^mknet\.sh: cannot create network ec2: .*plugin "ec2-ipam" not found\n$/);
  host.write('refusal', 'Error: network di-0123456789ab is already using parent interface lan3');
  host.write('inspect-0123456789ab', 'older\n');
  await host.fails('', 1, /lan3 has network older already.*docker network rm older/);
});

rule('a Docker that does not answer: is told before anything is changed', async () => {
  await host.attachOne();
  host.write('down', 'Cannot connect to the Docker daemon');
  await host.fails('', 1, /Docker does not answer: Cannot connect to the Docker daemon; start it/);
  assert.is((await host.link('lan3')).up, false);
});

rule('addresses on the interface: are warned of, each', async () => {
  await host.attachOne();
  for (const address of ['10.0.1.10/24', '10.0.1.77/32'])
    await must(host.machine, `ip address add ${address} dev lan3`);
  const { stderr } = await host.run('', 0);
  assert.match(stderr, /warning: lan3 has 10\.0\.1\.10\/24 10\.0\.1\.77\/32: the host answers/);
  assert.match(stderr, /; run with --persist, then: ip address flush dev lan3\n$/);
  await host.warns('--persist', /; ip address flush dev lan3\n$/);
});

const failing: [path: string, status: number][] = [
  ['api/token', 404],
  ['api/token', 405],
  ['meta-data/instance-id', 500],
  [`macs/${host.MAC}/device-number`, 503],
];
for (const [path, status] of failing)
  rule(`instance metadata that answer ${path} with ${status}: one line, which says so`, async () => {
    await host.attachOne();
    host.metadataFails.set(path, status);
    const { stdout, stderr } = await host.run('', 1);
    assert.is(stdout, '');
    assert.match(stderr, /^mknet\.sh: cannot read .+\n$/);
    assert.match(stderr, `${path} from instance metadata at http://169.254.169.254: HTTP status ${status};`);
    assert.equal(host.creates(), []);
  });

for (const value of ['interface-id', 'device-number'])
  rule(
    `an ENI without its ${value} in the metadata yet: keeps no other one, that is named, back`,
    async () => {
      await host.attachTwo();
      host.metadataFails.set(`macs/${host.SECOND_MAC}/${value}`, 404);
      const says = new RegExp(
        `^mknet\\.sh: .*${host.SECOND_MAC}.*; a new ENI appears after some seconds: .*\\n$`,
      );
      await host.fails('', 1, says);
      await host.fails('lan1', 1, /a new ENI appears after some seconds/);
      assert.equal(host.creates(), []);
      await host.succeeds('lan3');
      assert.equal(host.creates(), [host.ONE()]);
    },
  );

rule('instance metadata refused or silent: an error within seconds', async () => {
  await host.attachOne();
  await must(host.machine, 'ip address add 10.0.1.10/24 dev lan3');
  await must(host.machine, 'ip link set dev lan3 up');
  // With a neighbour that is known, packets leave and nothing ever comes back.
  await must(host.machine, `ip neighbour add 10.0.1.99 lladdr ${host.SECOND_MAC} dev lan3`);
  for (const endpoint of ['http://127.0.0.1:1/', 'http://10.0.1.99']) {
    const start = performance.now();
    const { stderr } = await host.run('', 1, { AWS_EC2_METADATA_SERVICE_ENDPOINT: endpoint });
    assert.match(stderr, `cannot read api/token from instance metadata at ${endpoint}: curl: (`);
    assert.match(stderr, /run this on an EC2 instance with IMDS enabled\n$/);
    assert.ok(performance.now() - start < 6_000, 'took too long');
  }
});
mknet.run();
