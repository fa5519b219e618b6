/** A host for mknet.sh: a machine made of namespaces with the ENIs that a test attaches, the simulator's IMDSv2, and
 *  stand-ins for docker, systemctl and networkctl that write down what they were asked. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { createAdaptorServer } from '@hono/node-server';
import { parseInstanceId } from '../../../src/domain/ids.ts';
import { createImdsApi } from '../../../src/simulator/imds/imds-api.ts';
import { buildVpc } from '../../../src/simulator/model/world.ts';
import { assert, suite } from '../uvu.ts';
import {
  linesOf,
  type Machine,
  MKNET,
  machineUnavailable,
  must,
  type Result,
  ruleOf,
  startMachine,
} from './netns.ts';

export const INSTANCE = parseInstanceId('i-0123456789abcdef0');

interface Eni {
  id: string;
  device: number;
  cidr: string;
  /** Of an ENI without an IPv4 address: its type. */
  withoutIpv4?: string;
}
const PRIMARY_MAC = '02:00:00:00:00:0a';
export const MAC = '02:00:00:00:00:0b';
export const SECOND_MAC = '02:00:00:00:00:0c';
/** By MAC. */
export let enis: Record<string, Eni> = {};

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
/** Statuses that the metadata service answers instead of values, by the ends of their paths. */
export const metadataFails = new Map<string, number>();
let metadata: ReturnType<typeof createImdsApi>; // of the VPC that a case describes, from its first request on
let described = '';
function serveMetadata() {
  return createAdaptorServer({
    overrideGlobalObjects: false,
    fetch: request => {
      if (described !== JSON.stringify(enis))
        metadata = createImdsApi(vpc(), { instance: INSTANCE, wallClock: () => 0 });
      described = JSON.stringify(enis);
      const { pathname } = new URL(request.url);
      const [, status] = [...metadataFails].find(([end]) => pathname.endsWith(end)) ?? [];
      return status === undefined ? metadata.fetch(request) : new Response('no\n', { status });
    },
  });
}

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

const STAND_INS = { docker: DOCKER, systemctl: SYSTEMCTL, networkctl: NETWORKCTL };

export let machine: Machine;
/** What the stand-ins read and write, new for each test; and networkd's folder. */
let fake = '';
export let networkd = '';
let interfaces: { name: string; remove(): Promise<void> }[] = [];
const missing = await machineUnavailable();

/** A suite whose tests share a machine. */
export function hostSuite(name: string) {
  const mknet = suite(name);
  const imds = serveMetadata();
  mknet.before(async () => {
    if (missing !== null) return;
    machine = await startMachine();
    mkdirSync(join(machine.folder, 'bin'));
    for (const [name, text] of Object.entries(STAND_INS))
      writeFileSync(join(machine.folder, 'bin', name), text, { mode: 0o755 });
    const socket = join(machine.folder, 'imds.sock');
    await new Promise<void>(resolve => imds.listen(socket, resolve));
    await machine.expose('169.254.169.254', 80, socket);
  });
  mknet.before.each(() => {
    enis = {};
    metadataFails.clear();
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
  return { rule: ruleOf(mknet, missing), mknet };
}

// The names say nothing of the order or the role of an ENI, as after a reboot.
export const addLink = async (mac: string, name: string) =>
  void interfaces.push(await machine.makeParent(mac, name));
export async function attach(mac: string, name: string, eni: Eni): Promise<void> {
  enis[mac] = eni;
  await addLink(mac, name);
}
export const attachPrimary = () =>
  attach(PRIMARY_MAC, 'lan9', { id: 'eni-0aaa', device: 0, cidr: '10.0.0.0/24' });
export const attachOne = (cidr = '10.0.1.0/24') => attach(MAC, 'lan3', { id: 'eni-0bbb', device: 1, cidr });
export const attachTwo = async () => {
  await attachOne();
  await attach(SECOND_MAC, 'lan1', { id: 'eni-0ccc', device: 2, cidr: '10.0.2.0/24' });
};

export const environment = (env: Record<string, string> = {}): Record<string, string> => ({
  FAKE: fake,
  EC2_IPAM_NETWORKD_DIR: networkd,
  PATH: `${join(machine.folder, 'bin')}:${process.env.PATH}`,
  AWS_EC2_METADATA_SERVICE_ENDPOINT: '',
  http_proxy: 'http://127.0.0.1:1', // instance metadata is never reached through a proxy
  ...env,
});
/** Runs the script with the arguments of the line; fails unless it ends with the status. */
export async function run(line: string, status: number, env?: Record<string, string>): Promise<Result> {
  const result = await machine.run(['bash', MKNET, ...line.split(' ').filter(Boolean)], environment(env));
  assert.is(result.code, status, result.stderr);
  return result;
}
type Text = RegExp | string;
export const succeeds = async (line: string, says: Text = '', env?: Record<string, string>) =>
  assert.match((await run(line, 0, env)).stdout, says);
export const warns = async (line: string, says: Text, env?: Record<string, string>) =>
  assert.match((await run(line, 0, env)).stderr, says);
export const fails = async (line: string, status: number, says: Text, env?: Record<string, string>) =>
  assert.match((await run(line, status, env)).stderr, says);
export const write = (name: string, text: string): void => writeFileSync(join(fake, name), text);
export const read = (name: string): string =>
  existsSync(join(fake, name)) ? readFileSync(join(fake, name), 'utf8') : '';
export const creates = (): string[] =>
  linesOf(read('docker.log')).filter(line => line.startsWith('network create'));
/** The state of an interface. */
export async function link(name: string): Promise<{ mtu: number; up: boolean }> {
  const [found] = JSON.parse(await must(machine, `ip -json link show dev ${name}`));
  return { mtu: found.mtu, up: found.flags.includes('UP') };
}
export const UNTOUCHED = { mtu: 1500, up: false };
export const created = (name: string, iface: string, eni: string, subnet: string, gateway: string): string =>
  `network create -d ipvlan -o parent=${iface} -o ipvlan_mode=l2 --ipam-driver ec2-ipam --subnet ${subnet}` +
  ` --gateway ${gateway} --ipam-opt eni-id=${eni} --ipam-opt instance-id=${INSTANCE} ${name}`;
export const ONE = () => created('ec2', 'lan3', 'eni-0bbb', '10.0.1.0/24', '10.0.1.1');
