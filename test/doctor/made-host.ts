/** A Docker host that is made up: its files, commands, Docker, metadata, EC2 and ledger. It is healthy until changed. */
import type { CloudEni, CloudSubnet } from '../../src/cloud/cloud.ts';
import type { Rights } from '../../src/cloud/dry-run.ts';
import type { Metadata } from '../../src/cloud/imds.ts';
import type { FileStat, Files } from '../../src/doctor/host.ts';
import type { DoctorParts } from '../../src/doctor/parts.ts';
import { type Ipv4, parseCidr } from '../../src/domain/address.ts';
import { IpamError } from '../../src/domain/error.ts';
import type { EniId, InstanceId, SubnetId } from '../../src/domain/ids.ts';
import type { DockerNetworkInfo } from '../../src/witness/docker-client.ts';

export const INSTANCE = 'i-0a1b2c3d' as InstanceId;
export const ENI = 'eni-0a1b2c3d0001' as EniId;
export const PRIMARY = 'eni-0a1b2c3d0000' as EniId;
const SUBNET = 'subnet-0a1b2c3d' as SubnetId;
export const MAC = '02:0a:1b:2c:10:01';
const PRIMARY_MAC = '02:0a:1b:2c:10:00';
export const SOCKET = '/run/docker/plugins/ec2-ipam.sock';
export const NOW = Date.UTC(2026, 10, 26, 12);

/** A text is a regular file's; else what is there, or where a link leads. */
export type Entry = string | FileStat | { readonly to: string };
export const socket = (mode = 0o600): FileStat => ({ kind: 'socket', mode, uid: 0 });
export const folder = (mode = 0o700): FileStat => ({ kind: 'folder', mode, uid: 0 });

export interface MadeHost {
  readonly files: Map<string, Entry>;
  /** Outputs of `ip`. */
  links: string;
  addresses: string;
  ipFails: string | null;
  readonly metadata: Map<string, string>;
  metadataFails: Metadata | null;
  withoutToken: boolean;
  version: string | Error;
  networks: DockerNetworkInfo[] | Error;
  answer: Awaited<ReturnType<DoctorParts['activate']>>;
  cloudEni: CloudEni | IpamError;
  subnet: CloudSubnet;
  limit: number | null;
  rights: Rights | IpamError;
  ec2AheadMs: number | null;
  ready: number | null;
  outdated: string | null;
  storeFails: IpamError | null;
  storeAheadMs: number;
  isEmbedded: boolean;
  owner: InstanceId | null;
  /** What differs in the doctor's parts. */
  parts: Partial<DoctorParts>;
  /** What EC2 was asked. */
  readonly asked: string[];
}

const linkLine = (index: number, name: string, mac: string, flags: string, more = '') =>
  `${index}: ${name}: <BROADCAST,MULTICAST,${flags}> mtu 9001 qdisc mq ${more}state UP mode DEFAULT group default qlen 1000\\    link/ether ${mac} brd ff:ff:ff:ff:ff:ff promiscuity 0 allmulti 0 numtxqueues 2\n`;
export const linksWith = ({ flags = 'UP,LOWER_UP', more = '', slaves = '', mac = MAC } = {}) =>
  `1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN\\    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00\n` +
  linkLine(2, 'ens5', PRIMARY_MAC, 'UP,LOWER_UP') +
  linkLine(3, 'ens6', mac, flags, more) +
  slaves;
export const slave = (name: string, kind: string, mode: string) =>
  `9: ${name}@ens6: <BROADCAST,MULTICAST,UP> mtu 9001\\    link/ether ${kind === 'ipvlan' ? MAC : '02:00:00:00:00:09'} brd ff:ff:ff:ff:ff:ff promiscuity 0 \\    ${kind}  mode ${mode} bridge addrgenmode eui64\n`;

export const network = (more: Partial<DockerNetworkInfo> = {}): DockerNetworkInfo => ({
  name: 'ec2',
  driver: 'ipvlan',
  parent: 'ens6',
  mode: 'l2',
  ipamDriver: 'ec2-ipam',
  eni: ENI,
  ...more,
});

const metadataOf = (mac: string, eni: string, device: number): [string, string][] => [
  [`network/interfaces/macs/${mac}/interface-id`, eni],
  [`network/interfaces/macs/${mac}/device-number`, String(device)],
  [`network/interfaces/macs/${mac}/local-ipv4s`, '10.0.1.10'],
];

export const cloudEni = (secondaries: number, instance: InstanceId | null = INSTANCE): CloudEni => ({
  id: ENI,
  owner: null,
  subnet: SUBNET,
  vpc: 'vpc-1',
  mac: MAC,
  primary: '10.0.1.10' as Ipv4,
  secondaries: Array.from({ length: secondaries }, (_, i) => `10.0.1.${i + 20}` as Ipv4),
  prefixes: [],
  instance,
  attachment: null,
  attachedAt: null,
  attachedForMs: null,
  tenant: null,
});

export const subnetWith = (available: number): CloudSubnet => ({
  id: SUBNET,
  vpc: 'vpc-1',
  cidr: parseCidr('10.0.1.0/24'),
  available,
});

export const PERSISTED = `/etc/systemd/network/05-ec2-ipam-${ENI}.network`;

export const makeHost = (): MadeHost => ({
  files: new Map<string, Entry>([
    [SOCKET, socket()],
    ['/var/run/docker.sock', socket(0o660)],
    ['/var/lib/ec2-ipam', folder()],
    ['/proc/sys/kernel/osrelease', '6.12.0-cloud\n'],
    ['/proc/modules', 'ipvlan 65536 0 - Live 0x0\n'],
    ['/proc/1/comm', 'systemd\n'],
    [PERSISTED, `[Match]\nMACAddress=${MAC}\nDriver=!ipvlan\n\n[Network]\nDHCP=no\n`],
  ]),
  links: linksWith(),
  addresses: '2: ens5    inet 10.0.0.10/24 brd 10.0.0.255 scope global ens5\\       valid_lft forever\n',
  ipFails: null,
  metadata: new Map([
    ['instance-id', INSTANCE],
    ['network/interfaces/macs/', `${PRIMARY_MAC}/\n${MAC}/`],
    ...metadataOf(PRIMARY_MAC, PRIMARY, 0),
    ...metadataOf(MAC, ENI, 1),
  ]),
  metadataFails: null,
  withoutToken: false,
  version: '28.5.2',
  networks: [network()],
  answer: { status: 200, text: '{"Implements":["IpamDriver"]}' },
  cloudEni: cloudEni(3),
  subnet: subnetWith(200),
  limit: 30,
  rights: { unassign: { kind: 'allowed' }, assign: { kind: 'allowed' } },
  ec2AheadMs: 300,
  ready: 2,
  outdated: null,
  storeFails: null,
  storeAheadMs: 0,
  isEmbedded: true,
  owner: INSTANCE,
  parts: {},
  asked: [],
});

export function partsOf(host: MadeHost): DoctorParts {
  const orThrow = <T>(value: T): Exclude<T, Error> => {
    if (value instanceof Error) throw value;
    return value as Exclude<T, Error>;
  };
  return {
    runtime: { name: 'node 24.1.0', unsupported: null },
    isRoot: true,
    files: filesOf(host.files),
    async run(command) {
      if (host.ipFails !== null) throw new IpamError('unavailable', host.ipFails);
      return { code: 0, stdout: command.includes('link') ? host.links : host.addresses, stderr: '' };
    },
    async metadata(path) {
      if (host.metadataFails !== null) return host.metadataFails;
      const text = host.metadata.get(path);
      return text === undefined ? { kind: 'absent', why: 'HTTP status 404' } : { kind: 'value', text };
    },
    answersWithoutToken: async () => host.withoutToken,
    docker: {
      socketPath: '/var/run/docker.sock',
      client: {
        version: async () => orThrow(host.version),
        networks: async () => orThrow(host.networks),
      },
    },
    activate: async () => host.answer,
    timeOfDay: () => NOW,
    eni: null,
    stateDir: '/var/lib/ec2-ipam',
    exposed: [],
    agent: null,
    own: {
      ec2: {
        reads: {
          async eni(id) {
            host.asked.push(id);
            return orThrow(host.cloudEni);
          },
          subnet: async () => host.subnet,
          instanceType: async () => (host.limit === null ? null : 'm5.large'),
          addressLimit: async () => host.limit,
        },
        async askRights({ eni }) {
          host.asked.push(`rights ${eni}`);
          return orThrow(host.rights);
        },
        now: () => (host.ec2AheadMs === null ? null : NOW - host.ec2AheadMs),
      },
      ledger: {
        place: '/var/lib/ec2-ipam/ledger.sqlite',
        isEmbedded: host.isEmbedded,
        exists: host.ready !== null,
        owner: async () => host.owner,
        store: {
          async outdated() {
            if (host.storeFails !== null) throw host.storeFails;
            return host.outdated;
          },
          servers: async () => ({ now: NOW - host.storeAheadMs, rows: [] }),
          eni: async () => ({}) as never,
          onEni: async () => ({ now: NOW, rows: Array(host.ready ?? 0).fill({ status: 'ready' }) }),
        },
      },
    },
    ...host.parts,
  };
}

function filesOf(entries: ReadonlyMap<string, Entry>): Files {
  const at = (path: string) => entries.get(path);
  return {
    async text(path) {
      const entry = at(path);
      return typeof entry === 'string' ? entry : null;
    },
    async names(path) {
      const names = [...entries.keys()].filter(key => key.startsWith(`${path}/`));
      return [...new Set(names.map(key => key.slice(path.length + 1).split('/')[0] ?? ''))].sort();
    },
    async stat(path) {
      const entry = at(path);
      if (entry === undefined) return null;
      return typeof entry === 'object' && 'kind' in entry ? entry : { kind: 'file', mode: 0o644, uid: 0 };
    },
    async link(path) {
      const entry = at(path);
      return typeof entry === 'object' && 'to' in entry ? entry.to : null;
    },
  };
}
