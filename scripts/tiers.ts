// What the tiers of tests need, where they run and how long they may take.
import { existsSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** Where commands are looked up: the runtimes of this repository first. */
export const PATH = [join(ROOT, 'node_modules/.bin'), process.env.PATH, '/usr/sbin', '/sbin'].join(delimiter);

export const RUNTIMES = ['node', 'bun', 'deno'] as const;
export type Runtime = (typeof RUNTIMES)[number];
export interface Tier {
  readonly name: string;
  readonly runtimes: readonly Runtime[];
  /** Commands in PATH, files of the repository (with a slash), or `root`. */
  readonly needs: readonly string[];
  /** Of one run under one runtime; past it the run is killed with all that it started. */
  readonly limitMs: number;
  /** About how long its short run takes on Node beside others, in seconds; on Bun and Deno half of that. */
  readonly shortS: number;
  /** Whether it runs with no other tier beside it. */
  readonly alone?: 'always' | 'at full length';
  /** The files that a short run takes on Bun and Deno, where these are not all, and what they leave out. */
  readonly shortElsewhere?: { readonly files: RegExp; readonly leftOut: string };
}
export const MINUTE_MS = 60_000;
export const TIERS: readonly Tier[] = [
  {
    name: 'fast',
    runtimes: RUNTIMES,
    needs: [],
    shortS: 165,
    limitMs: 20 * MINUTE_MS,
    shortElsewhere: {
      files: /^test\/(agent|http|store|trust|witness)|serve/,
      leftOut: 'on Bun and Deno all but listeners, connections, TLS, files and processes, and the stores',
    },
  },
  {
    name: 'mariadb',
    runtimes: RUNTIMES,
    needs: ['mariadbd', 'mariadb-install-db'],
    shortS: 90,
    limitMs: 20 * MINUTE_MS,
    shortElsewhere: { files: /store\.mariadb/, leftOut: 'on Bun and Deno all but the contract of a store' },
  },
  {
    name: 'faults',
    runtimes: ['node'],
    needs: ['./dist/ec2-ipam.mjs', 'mariadbd', 'mariadb-install-db'],
    shortS: 285,
    limitMs: 25 * MINUTE_MS,
    alone: 'at full length',
  },
  {
    name: 'galera',
    runtimes: ['node'],
    needs: ['root', './dist/ec2-ipam.mjs', 'mariadbd', 'rsync', '/usr/lib/galera/libgalera_smm.so'],
    shortS: 105,
    limitMs: 15 * MINUTE_MS,
    alone: 'at full length',
  },
  { name: 'simulation', runtimes: ['node'], needs: [], shortS: 70, limitMs: 40 * MINUTE_MS },
  { name: 'fuzz', runtimes: RUNTIMES, needs: [], shortS: 15, limitMs: 15 * MINUTE_MS },
  { name: 'moto', runtimes: ['node'], needs: ['/usr/bin/moto_server'], shortS: 12, limitMs: 5 * MINUTE_MS },
  {
    name: 'bundle',
    runtimes: RUNTIMES,
    needs: ['./dist/ec2-ipam.mjs'],
    shortS: 75,
    limitMs: 15 * MINUTE_MS,
    shortElsewhere: { files: /fuzz|streams/, leftOut: 'clients and a terminal on Bun and Deno' },
  },
  {
    name: 'browser',
    runtimes: ['node'],
    needs: ['./dist/ec2-ipam.mjs', 'chromium', 'mariadbd', 'mariadb-install-db'],
    shortS: 70,
    limitMs: 10 * MINUTE_MS,
  },
  {
    name: 'monitoring',
    runtimes: ['node'],
    needs: ['./dist/ec2-ipam.mjs', 'promtool'],
    shortS: 5,
    limitMs: 5 * MINUTE_MS,
  },
  {
    name: 'bench',
    runtimes: ['node'],
    needs: ['./dist/ec2-ipam.mjs', 'mariadbd', 'mariadb-install-db'],
    shortS: 90,
    limitMs: 10 * MINUTE_MS,
    alone: 'at full length',
  },
  {
    name: 'engine',
    runtimes: ['node'],
    needs: ['root', 'dockerd', 'docker', 'ip', 'unshare', 'nsenter', 'systemd-analyze'],
    shortS: 150,
    limitMs: 20 * MINUTE_MS,
    alone: 'at full length',
  },
  {
    name: 'vpc',
    runtimes: ['node'],
    needs: [
      './dist/ec2-ipam.mjs',
      './node_modules/.cache/kernel/vmlinuz',
      'qemu-system-x86_64',
      'dockerd',
      'docker',
      '/usr/libexec/docker/cli-plugins/docker-compose',
      'mariadbd',
      'nft',
      'bridge',
      'curl',
      'busybox',
      'depmod',
      'mke2fs',
      'unxz',
    ],
    shortS: 60,
    limitMs: 30 * MINUTE_MS,
    alone: 'always',
  },
];

/** What the tier needs and this machine lacks. */
export const missing = (tier: Tier): string[] => tier.needs.filter(need => !isThere(need));

function isThere(need: string): boolean {
  if (need === 'root') return process.getuid?.() === 0;
  if (need.includes('/')) return existsSync(resolve(ROOT, need));
  return PATH.split(delimiter).some(folder => existsSync(join(folder, need)));
}
