/** The least that a server on this stack can be: Hono and its Node adapter, one POST, in a bundle of its own. */
import { join } from 'node:path';
import { build } from 'esbuild';
import { BUNDLING, plugins } from '../bundling.ts';
import { ROOT } from '../tiers.ts';
import { NOOP_PATH } from './load.ts';

const SOURCE = `
import process from 'node:process';
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
const app = new Hono();
app.post('${NOOP_PATH}', c => c.json({ LocalDefaultAddressSpace: 'noop', GlobalDefaultAddressSpace: 'noop' }));
serve({ fetch: app.fetch, hostname: '127.0.0.1', port: Number(process.argv[2]), overrideGlobalObjects: false });
process.on('SIGTERM', () => process.exit(0));
`;

/** Writes it to the folder, made with the settings of scripts/build.ts; answers its path. */
export async function buildNoop(folder: string): Promise<string> {
  const outfile = join(folder, 'noop.mjs');
  await build({
    stdin: { contents: SOURCE, resolveDir: ROOT },
    outfile,
    ...BUNDLING,
    plugins: plugins.filter(({ name }) => name === 'node-prefix'),
  });
  return outfile;
}
