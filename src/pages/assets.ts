/** The stylesheet and the script of the pages. In the bundle this module is replaced by what it makes. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { buildSync, transformSync } from 'esbuild';

export interface Asset {
  /** Its path on the server, with a hash of its text, so that a browser may keep it for good. */
  readonly path: string;
  readonly type: string;
  readonly text: string;
}

const fileAt = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

function asset(name: string, type: string, text: string): Asset {
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 10);
  const [stem, ending] = name.split('.');
  return { path: `/assets/${stem}.${hash}.${ending}`, type, text };
}

function script(): string {
  const { outputFiles } = buildSync({
    entryPoints: [fileAt('browser/main.ts')],
    bundle: true,
    minify: true,
    write: false,
    format: 'iife',
    target: 'es2022',
    legalComments: 'none',
  });
  return outputFiles[0]?.text ?? '';
}

const stylesheet = (): string =>
  transformSync(readFileSync(fileAt('style.css'), 'utf8'), { loader: 'css', minify: true }).code;

export const STYLE: Asset = asset('style.css', 'text/css; charset=utf-8', stylesheet());
export const SCRIPT: Asset = asset('script.js', 'text/javascript; charset=utf-8', script());
