/** The stylesheet, the script and the icon of the pages. In the bundle this module is replaced by what it makes. */
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

/** Four cells, as the map has them. */
export const ICON: Asset = asset(
  'icon.svg',
  'image/svg+xml',
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">' +
    '<path fill="#1d6fb8" d="M1 1h6v6H1zM9 9h6v6H9z"/><path fill="#7cc492" d="M9 1h6v6H9zM1 9h6v6H1z"/></svg>',
);
