/** Ways to spoil a healthy host, and the finding for each. */
import type { State } from '../../src/doctor/finding.ts';
import { IpamError } from '../../src/domain/error.ts';
import type { EniId, InstanceId } from '../../src/domain/ids.ts';
import {
  cloudEni,
  ENI,
  type Entry,
  folder,
  linksWith,
  type MadeHost,
  network,
  PERSISTED,
  SOCKET,
  slave,
  socket,
  subnetWith,
} from './made-host.ts';

export type Spoil = (host: MadeHost) => void;
const set =
  (changes: Partial<MadeHost>): Spoil =>
  host =>
    Object.assign(host, changes);
const put =
  (path: string, entry: Entry): Spoil =>
  ({ files }) =>
    files.set(path, entry);
const drop =
  (path: string): Spoil =>
  ({ files }) =>
    files.delete(path);

/** systemd-networkd runs, has this file, and none of mknet.sh. */
export const networkd =
  (path: string, text: string): Spoil =>
  ({ files }) => {
    files.delete(PERSISTED);
    files.set('/proc/7/comm', 'systemd-network\n').set(path, text);
  };
export const OTHER = 'i-0b' as InstanceId;
export const SPEC =
  '{"Name":"x","Addr":"https://ipam:8031","TLSConfig":{"CAFile":"/etc/d/ca.pem","KeyFile":"/etc/d/k"}}';

/** What is wrong; state and check of the finding; and parts of it, then of its remedy, with … for what is between. */
type Case = [what: string, spoil: Spoil, finding: `${State} ${string}`, says: string];

export const CASES: Case[] = [
  [
    'an old runtime',
    set({ parts: { runtime: { name: 'node 20', unsupported: 'this is node 20' } } }),
    'broken runtime',
    'node 20…Node 22.18',
  ],
  ['not root', set({ parts: { isRoot: false } }), 'warning runtime', 'not run as root…sudo'],
  [
    'an interface that is down',
    set({ links: linksWith({ flags: 'x' }) }),
    'broken interface ens6',
    'ens6 is down…mknet.sh ens6',
  ],
  [
    'one without carrier',
    set({ links: linksWith({ flags: 'NO-CARRIER,UP' }) }),
    'warning interface ens6',
    'no carrier…attached',
  ],
  [
    'one with an address of a container',
    h => {
      h.addresses += '3: ens6    inet 10.0.1.20/32 scope global ens6\n';
    },
    'broken interface ens6',
    '10.0.1.20/32…flush dev ens6',
  ],
  [
    'one with the primary address',
    h => {
      h.addresses += '3: ens6    inet 10.0.1.10/24 scope global ens6\n';
    },
    'warning interface ens6',
    '10.0.1.10/24: the host takes part…flush dev ens6',
  ],
  [
    'one with an address of IPv6',
    h => {
      h.addresses += '3: ens6    inet6 2001:db8::7/64 scope global\n';
    },
    'warning interface ens6',
    '2001:db8::7/64…flush dev ens6',
  ],
  [
    'no interface for the ENI',
    set({ links: linksWith({ mac: '02:ff:ff:ff:ff:ff' }) }),
    `broken interface ${ENI}`,
    'no interface has the MAC…attach',
  ],
  [
    'an interface in a bridge',
    set({ links: linksWith({ more: 'master br0 ' }) }),
    'broken network ens6',
    'part of br0…nomaster',
  ],
  [
    'a macvlan of the host',
    set({ links: linksWith({ slaves: slave('mv0', 'macvlan', 'bridge') }) }),
    'broken network ens6',
    'mv0 is a macvlan…ip link delete mv0',
  ],
  [
    'an ipvlan of the host in another mode',
    set({ links: linksWith({ slaves: slave('iv0', 'ipvlan', 'l3') }) }),
    'broken network ens6',
    'iv0…mode l3…ip link delete iv0',
  ],
  [
    'the wrong parent',
    set({ networks: [network({ parent: 'ens5' })] }),
    'broken network ens6',
    'its parent is ens5, not ens6…docker network rm ec2',
  ],
  [
    'another network on the parent',
    set({
      networks: [network(), network({ name: 'lan', driver: 'macvlan', ipamDriver: 'default', eni: null })],
    }),
    'broken network ens6',
    'parent of network lan…network rm lan',
  ],
  [
    'a macvlan network',
    set({ networks: [network({ driver: 'macvlan' })] }),
    'broken network ens6',
    'EC2 drops…mknet.sh -n ec2',
  ],
  ['mode l3', set({ networks: [network({ mode: 'l3' })] }), 'warning network ens6', 'mode l3…-m l2'],
  ['no network', set({ networks: [] }), 'warning network ens6', 'no Docker network…mknet.sh'],
  ['nothing persisted', drop(PERSISTED), 'warning managers ens6', 'next boot…--persist ens6'],
  [
    'networkd',
    networkd('/etc/systemd/network/70-all.network', '[Match]\nName=en*\n\n[Network]\nDHCP=yes\n'),
    'broken managers ens6',
    'systemd-networkd…70-all…--persist ens6',
  ],
  [
    'networkd, behind a file that is for nothing',
    host => {
      networkd('/etc/systemd/network/70-all.network', '[Match]\nName=en*\n[Network]\nDHCP=yes\n')(host);
      host.files.set('/etc/systemd/network/10-none.network', { to: '/dev/null' });
    },
    'broken managers ens6',
    '70-all…--persist ens6',
  ],
  [
    'networkd that is enabled only, by netplan',
    h => {
      networkd(
        '/run/systemd/network/10-netplan-ens6.network',
        '[Match]\nName=ens6\n[Network]\nDHCP=ipv4\n',
      )(h);
      h.files.delete('/proc/7/comm');
      h.files.set('/etc/systemd/system/dbus-org.freedesktop.network1.service', { to: '/usr/lib/x' });
    },
    'broken managers ens6',
    'of netplan…--persist',
  ],
  [
    'amazon-ec2-net-utils',
    h => {
      networkd(
        '/usr/lib/systemd/network/80-ec2.network',
        '[Match]\nDriver=ena ena_ll\n[Network]\nDHCP=yes\n',
      )(h);
      h.files.set('/usr/bin/setup-policy-routes', '#!');
      h.files.set('/sys/class/net/ens6/device/driver', { to: '../../../bus/pci/drivers/ena' });
    },
    'broken managers ens6',
    'of amazon-ec2-net-utils…--persist',
  ],
  [
    'NetworkManager',
    put('/proc/8/comm', 'NetworkManager\n'),
    'broken managers ens6',
    'NetworkManager…unmanaged-devices+=mac:02:0a:1b:2c:10:01',
  ],
  [
    'NetworkManager without a profile for it',
    host => {
      host.files.set('/proc/8/comm', 'NetworkManager\n');
      host.files.set('/run/NetworkManager/devices/3', '[device]\nmanaged=true\n');
    },
    'warning managers ens6',
    'may put addresses…99-ec2-ipam-ens6.conf',
  ],
  [
    'ifupdown',
    put('/etc/network/interfaces.d/50-cloud-init', 'auto ens6\niface ens6 inet dhcp\n'),
    'broken managers ens6',
    '50-cloud-init…flush',
  ],
  [
    'amazon-ec2-net-utils of Amazon Linux 2',
    put('/etc/udev/rules.d/53-ec2-network-interfaces.rules', ''),
    'broken managers ens6',
    'every address…EC2SYNC=no',
  ],
  [
    'a kernel without ipvlan',
    h => {
      h.files.set('/proc/modules', 'x');
      h.files.set('/lib/modules/6.12.0-cloud/modules.dep', 'kernel/a.ko:\n');
    },
    'broken kernel',
    'no ipvlan…CONFIG_IPVLAN',
  ],
  [
    'ipvlan that modprobe may not load',
    h => {
      h.files.set('/proc/modules', '');
      h.files.set('/lib/modules/6.12.0-cloud/modules.dep', 'kernel/drivers/net/ipvlan/ipvlan.ko.xz: a.ko\n');
      h.files.set('/etc/modprobe.d/hard.conf', 'install ipvlan /bin/false\n');
    },
    'broken kernel',
    'hard.conf forbids…hard.conf',
  ],
  [
    'Docker away',
    h => {
      h.version = new Error('Docker at /x cannot be read: ENOENT');
      h.networks = h.version;
    },
    'broken docker',
    'does not listen…systemctl start docker',
  ],
  [
    'Docker that hangs',
    h => {
      h.version = Object.assign(new Error('x'), { name: 'TimeoutError' });
      h.networks = h.version;
    },
    'broken docker',
    'no answer in time…status docker',
  ],
  [
    'a Docker socket that may not be used',
    h => {
      h.version = new Error('EACCES');
      h.networks = h.version;
    },
    'broken docker',
    'may not be used…root',
  ],
  ['an old engine', set({ version: '24.0.7' }), 'warning docker', 'older than 25…upgrade'],
  ['a version that is none', set({ version: '\u001b[31mdev' }), 'warning docker', 'version "…tried'],
  ['no plugin', drop(SOCKET), 'broken plugin', 'finds no plugin…systemctl restart ec2-ipam'],
  [
    'a spec that is no JSON',
    put('/etc/docker/plugins/ec2-ipam.json', '{'),
    'broken plugin',
    'names no address…ec2-ipam.json',
  ],
  [
    'two drivers',
    h => {
      h.files.set('/etc/docker/plugins/ec2-ipam.json', SPEC);
      h.files.set('/etc/d/k', { kind: 'file', mode: 0o600, uid: 0 });
    },
    'broken plugin',
    'two drivers…rm /etc/docker/plugins/ec2-ipam.json',
  ],
  [
    'a dead socket',
    set({ answer: { why: 'ECONNREFUSED' } }),
    'broken answer',
    'nothing answers…systemctl restart',
  ],
  [
    'another program on the socket',
    set({ answer: { status: 200, text: '<html>' } }),
    'broken answer',
    'no IPAM driver…listens',
  ],
  [
    'another plugin on the socket',
    set({ answer: { status: 200, text: '{"Implements":["VolumeDriver"]}' } }),
    'broken answer',
    'no IPAM driver…listens',
  ],
  ['a full ENI', set({ cloudEni: cloudEni(29), ready: 0 }), `broken room ${ENI}`, '30 of 30…another ENI'],
  [
    'a full ENI without a ledger',
    set({ cloudEni: cloudEni(29), ready: null }),
    `warning room ${ENI}`,
    '30 of 30…another ENI',
  ],
  [
    'a limit that is not known',
    set({ limit: null }),
    `not checked room ${ENI}`,
    'limit is not known…DescribeInstanceTypes',
  ],
  [
    'an ENI that EC2 shows elsewhere',
    set({ cloudEni: cloudEni(3, OTHER) }),
    `broken room ${ENI}`,
    'on i-0b…attach',
  ],
  [
    'a full subnet',
    set({ subnet: subnetWith(0), ready: 0 }),
    'broken subnet subnet-0a1b2c3d',
    '0 of 256…recycle',
  ],
  [
    'a nearly full subnet',
    set({ subnet: subnetWith(12) }),
    'warning subnet subnet-0a1b2c3d',
    '12 of 256…recycle',
  ],
  [
    'no right to assign',
    set({ rights: { unassign: { kind: 'allowed' }, assign: { kind: 'denied' } } }),
    `broken rights ${ENI}`,
    'ec2:AssignPrivateIpAddresses is denied…policy',
  ],
  [
    'no right to unassign',
    set({ rights: { unassign: { kind: 'denied' }, assign: null } }),
    `broken rights ${ENI}`,
    'ec2:UnassignPrivateIpAddresses is denied…policy',
  ],
  [
    'an endpoint without DryRun',
    set({ rights: { unassign: { kind: 'ignored' }, assign: null } }),
    `not checked rights ${ENI}`,
    'does not know DryRun…AWS_ENDPOINT_URL_EC2',
  ],
  [
    'no right to read',
    set({ cloudEni: new IpamError('ec2-denied', 'EC2 refused: no', { hint: 'check the rights' }) }),
    `broken EC2 ${ENI}`,
    'EC2 refused…check the rights',
  ],
  ['a clock ahead', set({ ec2AheadMs: 60_000 }), 'broken clock', '60 s ahead…chrony'],
  ['a clock behind', set({ ec2AheadMs: -60_000 }), 'warning clock', '60 s behind…chrony'],
  [
    'a store with another clock',
    set({ isEmbedded: false, storeAheadMs: 20_000 }),
    'warning ledger',
    '20 s ahead of the store…chrony',
  ],
  ['an outdated ledger', set({ outdated: 'its schema is old' }), 'broken ledger', 'schema is old…migrate'],
  [
    'a ledger that is away',
    set({ storeFails: new IpamError('store-down', 'refused', { hint: 'start it' }) }),
    'broken ledger',
    'does not answer: refused…start it',
  ],
  ['a ledger of another instance', set({ owner: OTHER }), 'warning ledger', 'that of i-0b…serve'],
  ['a socket for everybody', put(SOCKET, socket(0o666)), 'warning permissions', 'every user…chmod 600'],
  [
    'a state directory for everybody',
    put('/var/lib/ec2-ipam', folder(0o755)),
    'warning permissions',
    'mode 0755…chmod 700',
  ],
  [
    "Docker's socket for everybody",
    put('/var/run/docker.sock', socket(0o666)),
    'warning permissions',
    'as good as root…chmod 660',
  ],
  [
    'a password for everybody',
    set({ parts: { exposed: [{ message: '--config: /x is open to others', hint: 'chmod 600 /x' }] } }),
    'broken permissions',
    '/x is open…to do: chmod 600 /x',
  ],
  [
    'a spec that names a file which is not there',
    set({ answer: { unread: '/none/ca.pem' } }),
    'broken answer',
    `${SOCKET} names /none/ca.pem, which cannot be read…to do: put the file there`,
  ],
  [
    'metadata turned off',
    set({ metadataFails: { kind: 'absent', why: 'HTTP status 403', got: 403 } }),
    'broken metadata',
    'turned off…--http-endpoint enabled',
  ],
  [
    'metadata whose failure has the number 403 in its text',
    set({ metadataFails: { kind: 'late', why: 'connect 10.0.1.20:4030 timed out' } }),
    'broken metadata',
    'cannot be read: connect…firewall',
  ],
  [
    'a hop limit that is too small',
    set({
      metadataFails: { kind: 'late', why: 'no answer within 5000 ms', got: 'timeout' },
      withoutToken: true,
    }),
    'broken metadata',
    'hop limit…hop-limit 2',
  ],
  [
    'metadata that answers with an error',
    set({ metadataFails: { kind: 'late', why: 'HTTP status 503', got: 503 }, withoutToken: true }),
    'broken metadata',
    'cannot be read: HTTP status 503…proxy',
  ],
  [
    'metadata that is blocked',
    set({ metadataFails: { kind: 'late', why: 'no answer within 5000 ms', got: 'timeout' } }),
    'broken metadata',
    'cannot be read…firewall',
  ],
  [
    'metadata that is garbled',
    h => {
      h.metadata.set('instance-id', '<html>\u001b]0;');
    },
    'broken metadata',
    'is not an id…try again',
  ],
  [
    'no second ENI',
    h => {
      h.networks = [];
      h.metadata.set('network/interfaces/macs/', '02:0a:1b:2c:10:00/');
    },
    'broken ENI',
    'no ENI…besides…attach',
  ],
  [
    'an ENI that is elsewhere',
    set({ parts: { eni: 'eni-0ff' as EniId } }),
    'broken ENI',
    'eni-0ff is not attached…attach eni-0ff',
  ],
];
