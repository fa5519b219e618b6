// Options and plugins for esbuild that make one file for Node, Bun and Deno.
import { readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { readMigrationFiles } from 'drizzle-orm/migrator';
import type { BuildOptions, Plugin } from 'esbuild';

/** Gives every builtin its `node:`: outside a package Deno refuses `import "buffer"`. */
const nodePrefix: Plugin = {
  name: 'node-prefix',
  setup(build) {
    build.onResolve({ filter: /^[a-z_]+(\/[a-z_]+)*$/ }, ({ path }) =>
      isBuiltin(path) ? { path: `node:${path}`, external: true } : undefined,
    );
  },
};

/** Replaces the module that reads drizzle/, which is not beside the bundle, by the migrations that it reads. */
const embedMigrations: Plugin = {
  name: 'embed-migrations',
  setup(build) {
    let embedded = false;
    build.onLoad({ filter: /\/src\/store\/migrations\.ts$/ }, () => {
      embedded = true;
      const read = (dialect: string) => readMigrationFiles({ migrationsFolder: `drizzle/${dialect}` });
      const all = JSON.stringify({ mysql: read('mysql'), sqlite: read('sqlite') });
      return {
        loader: 'js',
        contents: `const all = ${all};\nexport const migrations = dialect => all[dialect];`,
      };
    });
    build.onEnd(() => {
      if (!embedded) throw new Error('no migrations were embedded: has src/store/migrations.ts moved?');
    });
  },
};

/** Replaces the module that makes stylesheet and script of the pages by what it makes. */
const embedAssets: Plugin = {
  name: 'embed-assets',
  setup(build) {
    let embedded = false;
    build.onLoad({ filter: /\/src\/pages\/assets\.ts$/ }, async () => {
      embedded = true;
      const assets = Object.entries(await import('../src/pages/assets.ts'));
      const lines = assets.map(([name, asset]) => `export const ${name} = ${JSON.stringify(asset)};`);
      return { loader: 'js', contents: lines.join('\n') };
    });
    build.onEnd(() => {
      if (!embedded) throw new Error('no assets were embedded: has src/pages/assets.ts moved?');
    });
  },
};

const EC2_SCHEMA_ROWS_MIN = 1000;
/** Lets esbuild drop the schemas that are not used: client-ec2 has 1.3 MB of them, with computed keys, which esbuild
 *  takes for side effects. Throws when the file no longer looks as expected. */
const pureSchemas: Plugin = {
  name: 'pure-ec2-schemas',
  setup(build) {
    build.onLoad({ filter: /client-ec2\/dist-es\/schemas\/schemas_\d+\.js$/ }, ({ path }) => {
      let rows = 0;
      const row = /^((?:export )?(?:var|const) [\w$]+ = )(\[[\s\S]*?\]);$/gm;
      const contents = readFileSync(path, 'utf8').replace(row, (_, left, right) => {
        rows++;
        return `${left}/* @__PURE__ */ (() => (${right}))();`;
      });
      if (rows < EC2_SCHEMA_ROWS_MIN)
        throw new Error(`client-ec2 schema layout changed: ${rows} rows matched`);
      return { contents, loader: 'js' };
    });
  },
};

/** Leaves out the tables of iconv-lite, 210 kB for Chinese, Japanese and Korean, 70 kB for code pages of one byte:
 *  connections are utf8mb4. */
const slimIconv: Plugin = {
  name: 'slim-iconv',
  setup(build) {
    build.onLoad({ filter: /iconv-lite\/encodings\/tables\/.*\.json$/ }, () => ({
      contents: '[]',
      loader: 'json',
    }));
    build.onLoad({ filter: /iconv-lite\/encodings\/sbcs-data-generated\.js$/ }, () => ({
      contents: 'module.exports = {};',
      loader: 'js',
    }));
  },
};

/** Leaves out the names of 1,900 errors of MySQL, 145 kB: we go by their numbers, and mysql2 itself uses three. */
const slimErrorNames: Plugin = {
  name: 'slim-error-names',
  setup(build) {
    build.onLoad({ filter: /mysql2\/lib\/constants\/errors\.js$/ }, ({ path }) => {
      const names = [
        'ER_OPTION_PREVENTS_STATEMENT',
        'ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION',
        'ER_READ_ONLY_MODE',
      ];
      const lines = readFileSync(path, 'utf8').split('\n');
      const kept = lines.filter(line => names.some(name => line.startsWith(`exports.${name} = `)));
      if (kept.length !== names.length)
        throw new Error(`error names of mysql2 changed: ${kept.length} found`);
      return { contents: kept.join('\n'), loader: 'js' };
    });
  },
};

/** Leaves out what libraries load for users of other libraries: the OpenAPI library knows five validators besides valibot,
 *  one of them half a megabyte. */
const slimVendors: Plugin = {
  name: 'slim-vendors',
  setup(build) {
    const others = /@standard-community\/.*\/(arktype|effect|sury|typebox|zod)-[^/]*\.js$/;
    build.onLoad({ filter: others }, () => ({ contents: 'export {};', loader: 'js' }));
  },
};

/** Leaves out the OpenTelemetry API, 22 kB: the library of metrics asks it for the current trace only when it writes
 *  exemplars, which are off. */
const slimTracing: Plugin = {
  name: 'slim-tracing',
  setup(build) {
    let isOut = false;
    build.onLoad({ filter: /@opentelemetry\/api\/dist\/index\.[cm]?js$/ }, () => {
      isOut = true;
      return { contents: '', loader: 'js' };
    });
    build.onEnd(() => {
      if (!isOut)
        throw new Error('prom-client does not load @opentelemetry/api any more: remove slim-tracing');
    });
  },
};

export const BUNDLING = {
  bundle: true,
  minify: true,
  format: 'esm',
  platform: 'node',
  target: ['es2023', 'node22'],
  // The CommonJS builds, which esbuild prefers for platform node, can't be shaken.
  mainFields: ['module', 'main'],
  conditions: ['import', 'module', 'node'],
  legalComments: 'none',
  logLevel: 'warning',
  define: { 'process.env.NODE_ENV': '"production"' },
} satisfies BuildOptions;

export const plugins: Plugin[] = [
  nodePrefix,
  embedMigrations,
  embedAssets,
  pureSchemas,
  slimIconv,
  slimErrorNames,
  slimVendors,
  slimTracing,
];
