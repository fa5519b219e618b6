// Goal: packets reach the containers that the ledger says, and only those. Method: a machine whose kernel has ipvlan
// (test/vpc/machine.ts) holds a VPC of two Docker hosts on a wire that drops what EC2 drops, installed by the commands
// of the READMEs; the evidence is what it prints. VPC_SCENARIOS names parts of the scenarios to run, with commas.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { build } from 'esbuild';
import { ROOT } from '../../scripts/tiers.ts';
import { installData } from '../kit/databases/mariadb.ts';
import { byLength } from '../kit/length.ts';
import { PAGES } from '../kit/pages.ts';
import { makeCertificates } from '../kit/servers/certificates.ts';
import { assert, suite } from '../kit/uvu.ts';
import { type Files, runMachine } from './machine.ts';
import { PAGES_FOLDER } from './readme.ts';
import { SCENARIOS } from './scenarios.ts';
import { INSTANCES } from './site.ts';

const LIMIT_S = 1_620;
const KEPT = join(tmpdir(), 'ec2-ipam-vpc-failed');
const MYSQL_SHARE = '/usr/share/mariadb';

const all = SCENARIOS.map(({ name }) => name);
const naming = (parts: readonly string[]) => all.filter(name => parts.some(part => name.includes(part)));
const SHORT = naming(['the wire drops']);
const LEFT_OUT = all.filter(name => !SHORT.includes(name));
const chosen =
  process.env.VPC_SCENARIOS === undefined
    ? byLength({ full: all, short: SHORT, leftOut: LEFT_OUT.map(name => `"${name}"`).join(', ') })
    : naming(process.env.VPC_SCENARIOS.split(','));
const folder = mkdtempSync(join(tmpdir(), 'ec2-ipam-vpc-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
const at = (name: string): string => join(folder, name);

const vpc = suite('packets in a VPC');
/** By scenario: `ok`, or what went wrong. */
let outcomes: Record<string, string> = {};

vpc.before(async () => {
  let said = '';
  const show = (text: string): void => {
    said += text;
    process.stdout.write(text);
  };
  try {
    const status = await runMachine(folder, await filesOfMachine(), LIMIT_S, show);
    if (existsSync(at('out/outcomes.json')))
      outcomes = JSON.parse(readFileSync(at('out/outcomes.json'), 'utf8'));
    if (status !== 0) show(`the machine's program ended with ${status}\n`);
  } catch (error) {
    show(`${(error as Error).stack}\n`);
  }
  if (chosen.some(name => outcomes[name] !== 'ok')) keepLogs(said);
});

/** What the machine's disk needs beside commands: the program, the bundle, the READMEs, a database, certificates. */
async function filesOfMachine(): Promise<Files> {
  await build({
    entryPoints: [join(ROOT, 'test/vpc/guest.ts')],
    outfile: at('guest.mjs'),
    bundle: true,
    platform: 'node',
    format: 'esm',
    define: { SCENARIOS_WANTED: JSON.stringify(chosen) },
    logLevel: 'error',
  });
  installData(at('mysql'), '--innodb-log-file-size=10M');
  const { ca, server, sign, remove } = makeCertificates(['DNS:ipam.internal', 'DNS:db.internal']);
  process.once('exit', remove);
  return {
    '/vpc/guest.mjs': at('guest.mjs'),
    '/vpc/dist': join(ROOT, 'dist'),
    ...Object.fromEntries(PAGES.map(page => [join(PAGES_FOLDER, page), join(ROOT, page)])),
    '/vpc/certificates/ca.pem': ca,
    '/vpc/certificates/server.pem': server.cert,
    '/vpc/certificates/server.key': server.key,
    ...Object.fromEntries(
      INSTANCES.flatMap(({ id }) => {
        const { cert, key } = sign('host', `URI:ec2-ipam://instance/${id}`);
        return [
          [`/vpc/certificates/${id}.pem`, cert],
          [`/vpc/certificates/${id}.key`, key],
        ];
      }),
    ),
    '/var/lib/mysql': at('mysql'),
    [`${MYSQL_SHARE}/english`]: `${MYSQL_SHARE}/english`,
    [`${MYSQL_SHARE}/charsets`]: `${MYSQL_SHARE}/charsets`,
  };
}

/** Keeps what the machine left and said, for whoever looks for the cause; only of the last failure. */
function keepLogs(said: string): void {
  rmSync(KEPT, { recursive: true, force: true });
  if (existsSync(at('out'))) cpSync(at('out'), KEPT, { recursive: true });
  else mkdirSync(KEPT);
  writeFileSync(join(KEPT, 'console.log'), said);
  console.log(`what it left is in ${KEPT}`);
}

for (const name of chosen) vpc(name, () => assert.is(outcomes[name] ?? 'it did not run', 'ok'));
vpc.run();
