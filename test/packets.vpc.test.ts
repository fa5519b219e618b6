// Goal: packets reach the containers that the ledger says, and only those. Method: a machine whose kernel has ipvlan
// (test/vpc/machine.ts) plays a VPC of two Docker hosts on a wire that drops what EC2 drops, by the README's own
// commands; the evidence is what it prints. VPC_SCENARIOS names parts of the scenarios to run, with commas.
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { makeCertificates } from './certificates.ts';
import { installData } from './mariadb.ts';
import { assert, suite } from './uvu.ts';
import { runMachine } from './vpc/machine.ts';
import { SCENARIOS } from './vpc/scenarios.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const LIMIT_S = 600;
const MYSQL_SHARE = '/usr/share/mariadb';

const wanted = (process.env.VPC_SCENARIOS ?? '').split(',').filter(Boolean);
const chosen = SCENARIOS.filter(
  ({ name }) => wanted.length === 0 || wanted.some(part => name.includes(part)),
);
const folder = mkdtempSync(join(tmpdir(), 'ec2-ipam-vpc-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));

const vpc = suite('packets in a VPC');
let outcomes: Record<string, string | null> = {};

vpc.before(async () => {
  const at = (name: string) => join(folder, name);
  await build({
    entryPoints: [join(ROOT, 'test/vpc/guest.ts')],
    outfile: at('guest.mjs'),
    bundle: true,
    platform: 'node',
    format: 'esm',
    define: { SCENARIOS_WANTED: JSON.stringify(chosen.map(({ name }) => name)) },
    logLevel: 'error',
  });
  installData(at('mysql'), '--innodb-log-file-size=10M');
  const certificates = makeCertificates(['DNS:ipam.internal', 'DNS:db.internal']);
  mkdirSync(at('certificates'));
  const { ca, server, client } = certificates;
  for (const [from, to] of [
    [ca, 'ca.pem'],
    [server.cert, 'server.pem'],
    [server.key, 'server.key'],
    [client.cert, 'host.pem'],
    [client.key, 'host.key'],
  ] as const)
    cpSync(from, join(at('certificates'), to));
  certificates.remove();
  const share = Object.fromEntries(
    ['english', 'charsets'].map(name => [join(MYSQL_SHARE, name), join(MYSQL_SHARE, name)]),
  );
  const files = {
    '/vpc/guest.mjs': at('guest.mjs'),
    '/vpc/dist': join(ROOT, 'dist'),
    '/vpc/README.md': join(ROOT, 'README.md'),
    '/vpc/certificates': at('certificates'),
    '/var/lib/mysql': at('mysql'),
    ...share,
  };
  const status = await runMachine(folder, files, LIMIT_S, text => process.stdout.write(text));
  const file = join(folder, 'out/outcomes.json');
  if (existsSync(file)) outcomes = JSON.parse(readFileSync(file, 'utf8'));
  if (status !== 0 || Object.values(outcomes).some(outcome => outcome !== null)) keepLogs();
});

/** What the machine left, for whoever looks for the cause. */
function keepLogs(): void {
  const kept = mkdtempSync(join(tmpdir(), 'ec2-ipam-vpc-failed-'));
  cpSync(join(folder, 'out'), kept, { recursive: true });
  console.log(`the logs are in ${kept}`);
}

for (const { name } of chosen)
  vpc(name, () => {
    assert.ok(name in outcomes, 'it did not run');
    assert.is(outcomes[name], null);
  });
vpc.run();
