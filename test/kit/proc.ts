/** A folder that looks like /proc of a host with dockerd and containers. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

const HOST_NETNS = '4026531840';
export const SOCKET = '/run/docker.sock';
const SOCKET_INODE = '4711';
const ID = 'c0ffee'.padEnd(64, '0');

export interface FakeProc {
  readonly path: string;
  /** A process in a namespace that has these addresses. */
  process(pid: number, netns: string, ips: readonly string[], command?: string): void;
  /** Writes a file, or a link, below the folder. */
  write(name: string, text: string): void;
  link(name: string, target: string): void;
  remove(name: string): void;
  close(): void;
}

/** The process with this id is dockerd. */
export const DOCKERD = 100;

export function fakeProc(): FakeProc {
  const path = mkdtempSync(join(tmpdir(), 'ec2-ipam-proc-'));
  const write = (name: string, text: string) => {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    writeFileSync(join(path, name), text);
  };
  const remove = (name: string) => rmSync(join(path, name), { recursive: true, force: true });
  const link = (name: string, target: string) => {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    remove(name);
    symlinkSync(target, join(path, name));
  };
  const proc: FakeProc = {
    path,
    write,
    link,
    remove,
    process(pid, netns, ips, command = 'sleep\0') {
      write(`${pid}/comm`, 'sleep\n');
      write(`${pid}/cmdline`, command);
      write(`${pid}/cgroup`, netns === HOST_NETNS ? '0::/init.scope\n' : `0::/docker/${ID}\n`);
      write(`${pid}/net/fib_trie`, fibTrie(ips));
      link(`${pid}/ns/net`, `net:[${netns}]`);
      link(`${pid}/ns/pid`, 'pid:[4026531836]');
    },
    close: () => rmSync(path, { recursive: true, force: true }),
  };
  write('sys/kernel/random/boot_id', 'boot-1\n');
  write('self/net/unix', `Num\n0000: 00000002 00000000 00010000 0001 01 ${SOCKET_INODE} ${SOCKET}\n`);
  link('self/ns/net', `net:[${HOST_NETNS}]`);
  link('self/ns/pid', 'pid:[4026531836]');
  proc.process(1, HOST_NETNS, ['127.0.0.1', '10.0.1.4'], 'init\0');
  proc.process(DOCKERD, HOST_NETNS, ['127.0.0.1', '10.0.1.4'], 'dockerd\0');
  write(`${DOCKERD}/comm`, 'dockerd\n');
  link(`${DOCKERD}/fd/3`, `socket:[${SOCKET_INODE}]`);
  write(`${DOCKERD}/mountinfo`, '22 1 0:5 / /proc rw - proc proc rw\n');
  return proc;
}

/** The file that the kernel makes of these addresses, as far as it is read. */
export function fibTrie(ips: readonly string[]): string {
  const leaves = ips.map(ip => `        |-- ${ip}\n           /32 host LOCAL\n`).join('');
  const rest =
    '     |-- 10.0.1.0\n        /24 link UNICAST\n     |-- 10.0.1.255\n        /32 link BROADCAST\n';
  return `Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n${rest}Local:\n${leaves}${rest}`;
}
