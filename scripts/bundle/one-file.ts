/** Makes one file of a program: the code of the start, and packed what `import()` loads later. A runtime parses all code
 *  of a file before it runs any of it, which takes time, and about ten times its size in memory. */
import { basename } from 'node:path';
import { brotliCompressSync } from 'node:zlib';
import { type BuildOptions, build, type Metafile, type Plugin, transform } from 'esbuild';

/** The module that load.ts is called in, and the name of `import()` there. */
const LOADER = './loader.js';
const LOAD = '__load';

/** Returns the code of the file, of which `startBytes` are not packed. */
export async function inOneFile(entryPoint: string, options: BuildOptions, banner: string) {
  const split = { outdir: '.', entryNames: '[name]', splitting: true, metafile: true, write: false } as const;
  const { outputFiles, metafile } = await build({ ...options, entryPoints: { main: entryPoint }, ...split });
  const imports = importsIn(metafile);
  const codes = new Map(
    outputFiles.map(({ path, text }) => [nameOf(path), text.replaceAll(/\bimport\((?="\.\/)/g, `${LOAD}(`)]),
  );
  const atStart = closure('./main.js', imports);
  const start = new Map<string, string>();
  const later: string[] = [];
  const shared = new Set<string>();
  for (const [name, code] of codes) {
    if (atStart.has(name)) {
      start.set(name, `import { ${LOAD} } from '${LOADER}';\n${code}`);
      continue;
    }
    later.push(`'${name}': () => '${await packed(code, options)}'`);
    for (const needed of imports.get(name) ?? []) if (atStart.has(needed)) shared.add(needed);
  }
  start.set(LOADER, loaderOf(later, [...shared]));
  const {
    outputFiles: [file],
  } = await build({
    ...options,
    entryPoints: ['./main.js'],
    ...{ outfile: 'main.js', write: false as const, banner: { js: banner }, plugins: [fromMemory(start)] },
  });
  const code = file?.contents ?? new Uint8Array();
  return { code, startBytes: code.length - later.join().length, metafile };
}

const nameOf = (path: string): string => `./${basename(path)}`;

/** By the name of an output, the others that it can't begin without. */
const importsIn = ({ outputs }: Metafile): ReadonlyMap<string, readonly string[]> =>
  new Map(
    Object.entries(outputs).map(([path, { imports }]) => [
      nameOf(path),
      imports.filter(one => !one.external && one.kind === 'import-statement').map(one => nameOf(one.path)),
    ]),
  );

function closure(from: string, imports: ReadonlyMap<string, readonly string[]>): ReadonlySet<string> {
  const found = new Set([from]);
  for (const name of found) for (const next of imports.get(name) ?? []) found.add(next);
  return found;
}

/** Returns a part as load.ts wants it. */
async function packed(code: string, { target = [] }: BuildOptions): Promise<string> {
  const asFunction = { format: 'cjs', platform: 'node', supported: { 'dynamic-import': false } } as const;
  const { code: commonJs } = await transform(code, {
    ...asFunction,
    target,
    minify: true,
    legalComments: 'none',
  });
  return brotliCompressSync(commonJs).toString('base64');
}

const loaderOf = (later: readonly string[], shared: readonly string[]): string =>
  [
    "import { createLoad } from './load.ts';",
    ...shared.map((name, i) => `import * as shared${i} from '${name}';`),
    `const shared = {${shared.map((name, i) => `'${name}': () => shared${i}`)}};`,
    `export const ${LOAD} = createLoad({${later}}, shared, require);`,
  ].join('\n');

const fromMemory = (codes: ReadonlyMap<string, string>): Plugin => ({
  name: 'from-memory',
  setup(build) {
    build.onResolve({ filter: /^\.\// }, ({ path }) =>
      codes.has(path) ? { path, namespace: 'memory' } : undefined,
    );
    build.onLoad({ filter: /^/, namespace: 'memory' }, ({ path }) => ({
      contents: codes.get(path) ?? '',
      resolveDir: import.meta.dirname,
    }));
  },
});
