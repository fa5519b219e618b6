/** What Docker and the kernel answer to the witness: it is read as it is meant, or is an error. */
import { parseIpv4 } from '../../src/domain/address.ts';
import { IpamError } from '../../src/domain/error.ts';
import { createDockerClient, type DockerView } from '../../src/witness/docker-client.ts';
import { createKernel, interfacesIn } from '../../src/witness/kernel.ts';
import { addressesIn, inodeIn, mountedNetns } from '../../src/witness/proc.ts';
import { answersOf, ENGINES, serveDocker } from '../kit/docker/samples.ts';
import { DOCKERD, fakeProc, fibTrie, SOCKET } from '../kit/proc.ts';
import type { Hostile } from './hostile.ts';
import { checkedLine, type Part, type Scene, type Target } from './part.ts';

const decoder = new TextDecoder();
const encoder = new TextEncoder();
const spoilt = (hostile: Hostile, text: string): string =>
  decoder.decode(hostile.spoilt(encoder.encode(text)));

const TRIE = fibTrie(['127.0.0.1', '10.0.1.7', '10.0.1.8']);
const MOUNTS =
  '90 22 0:4 net:[4026532001] /run/docker/netns/a\\040b rw - nsfs nsfs rw\n22 1 0:5 / /proc rw - proc proc rw\n';
const LINKS = '2: ens5: <UP> mtu 9001 state UP\\    link/ether 02:0a:1b:2c:3d:00 brd ff:ff:ff:ff:ff:ff\n';
const CGROUP = `0::/docker/${'c0ffee'.padEnd(64, '0')}\n`;

async function openTexts({ note }: Scene): Promise<Target> {
  return {
    input(hostile) {
      const texts = [TRIE, MOUNTS, LINKS].map(text =>
        hostile.chance(0.9) ? spoilt(hostile, text) : hostile.text().repeat(50),
      );
      const [trie = '', mounts = '', links = ''] = texts;
      note(`${addressesIn(trie).length} addresses`);
      mountedNetns(mounts);
      inodeIn(spoilt(hostile, 'net:[4026532001]'));
      for (const { mac } of interfacesIn(links))
        if (!/^[0-9a-f:]{17}$/.test(mac)) throw new Error(`the MAC address ${mac}`);
    },
    async end() {},
  };
}

async function outcome<T>(work: Promise<T>, note: Scene['note']): Promise<T | null> {
  try {
    const value = await work;
    note('read');
    return value;
  } catch (error) {
    if (!(error instanceof IpamError)) throw error;
    checkedLine(error.line);
    note(error.code);
    return null;
  }
}

async function openKernel({ note }: Scene): Promise<Target> {
  const proc = fakeProc();
  const run = async ([command]: readonly string[]) => ({
    code: 0,
    stdout: command === 'ip' ? LINKS : TRIE,
    stderr: '',
  });
  proc.process(200, '4026532001', ['10.0.1.7']);
  const kernel = createKernel({ socketPath: SOCKET, run, proc: proc.path });
  const files: readonly (readonly [name: string, text: string])[] = [
    ['200/net/fib_trie', TRIE],
    ['200/cgroup', CGROUP],
    ['200/cmdline', 'runc\0init\0'],
    [`${DOCKERD}/mountinfo`, MOUNTS],
    ['self/net/unix', `Num\n0000: 00000002 00000000 00010000 0001 01 4711 ${SOCKET}\n`],
    ['sys/kernel/random/boot_id', 'boot-1\n'],
  ];
  return {
    async input(hostile) {
      const [name, text] = hostile.oneOf(files);
      proc.write(name, hostile.chance(0.8) ? spoilt(hostile, text) : hostile.text().repeat(3));
      const view = await outcome(kernel.read(AbortSignal.timeout(10_000)), note);
      for (const { ip, place } of view?.addresses ?? []) {
        parseIpv4(ip);
        checkedLine(place.command ?? '');
      }
      await kernel.bootId();
      proc.write(name, text);
    },
    async end() {
      proc.close();
    },
  };
}

async function openDocker({ note }: Scene): Promise<Target> {
  const answers = answersOf(ENGINES[0]);
  const good = { ...answers };
  const server = await serveDocker(answers);
  const client = createDockerClient(server.socketPath);
  return {
    async input(hostile) {
      const { networks, network, containers, info } = good;
      const [id = ''] = Object.keys(network);
      const all: readonly (readonly [path: string, value: unknown])[] = [
        ['/info', info],
        ['/networks', networks],
        [`/networks/${id}`, network[id]],
        ['/containers/json?all=1', containers],
      ];
      const [wrong, value] = hostile.oneOf(all);
      const body = decoder.decode(hostile.body(value));
      const status = hostile.chance(0.95) ? 200 : hostile.oneOf([204, 301, 404, 500]);
      answers.instead = path => (path.endsWith(wrong) ? { status, body } : undefined);
      const view = await outcome(client.read(AbortSignal.timeout(10_000)), note);
      if (view !== null) checkView(view);
    },
    end: () => server.close(),
  };
}

function checkView({ endpoints, containers, networks, engine }: DockerView): void {
  for (const { ip } of endpoints) parseIpv4(ip);
  for (const { ips } of containers) for (const ip of ips) parseIpv4(ip);
  for (const { name } of [...endpoints, ...containers]) if (name !== null) checkedLine(name);
  for (const { image } of containers) if (image !== null) checkedLine(image);
  for (const { driver, parent } of networks)
    if (driver.length + parent.length > 1e6) throw new Error('overlong');
  if (engine === '') throw new Error('an engine without an id');
}

export const TEXTS: Part = { name: 'texts of the kernel', share: 70, lanes: 1, open: openTexts };
export const KERNEL: Part = { name: 'kernel', share: 1, lanes: 1, open: openKernel };
export const DOCKER: Part = { name: 'docker', share: 3, lanes: 1, open: openDocker };
